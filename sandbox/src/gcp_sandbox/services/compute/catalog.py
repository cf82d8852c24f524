"""The table of all resource kinds of the sandbox, with their specifics."""

from __future__ import annotations

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.services.compute import balancing, certificates, private_service_connect, routers, vpc
from gcp_sandbox.services.compute.engine import declare
from gcp_sandbox.services.compute.kinds import Kind


def _after_rule(cloud: Cloud, key: str, event: str) -> None:
    certificates.review(cloud, key, event)
    cloud.attachments.changed()


_BACKEND = ("backendServices", "backendBuckets")

declare(
    Kind(
        "networks",
        "network",
        {"networks": "global"},
        verbs="patch",
        output=("subnetworks", "peerings", "gatewayIPv4"),
        immutable=("autoCreateSubnetworks", "description"),
        defaults={"networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL"},
        with_id=True,
        types={"patch": "updateNetwork"},
        quota="NETWORKS",
        prepare=vpc.prepare_network,
        computed=vpc.network_fields,
        after=vpc.after_network,
        guard=vpc.guard_network,
    )
)
declare(
    Kind(
        "subnetworks",
        "subnetwork",
        {"subnetworks": "regions"},
        verbs="patch aggregatedList getIamPolicy setIamPolicy testIamPermissions",
        refs={"network": ("networks",)},
        defaults={
            "privateIpGoogleAccess": False,
            "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
            "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY",
            "state": "READY",
            "allowSubnetCidrRoutesOverlap": False,
        },
        output=("gatewayAddress", "state", "ipv6CidrRange"),
        required=("network",),
        immutable=("network", "ipCidrRange", "purpose"),
        fingerprint=True,
        long_types=("patch",),
        quota="SUBNETWORKS",
        setters={"setPrivateIpGoogleAccess": ("privateIpGoogleAccess", "privateIpGoogleAccess")},
        prepare=vpc.prepare_subnet,
        computed=vpc.subnet_fields,
        after=vpc.after_subnet,
        guard=vpc.guard_subnet,
    )
)
declare(
    Kind(
        "routes",
        "route",
        {"routes": "global"},
        verbs="testIamPermissions",
        refs={"network": ("networks",)},
        defaults={"priority": 1000},
        required=("network", "destRange"),
        quota="ROUTES",
        prepare=vpc.prepare_route,
        guard=vpc.guard_route,
    )
)
declare(
    Kind(
        "firewalls",
        "firewall",
        {"firewalls": "global"},
        verbs="patch update testIamPermissions",
        refs={"network": ("networks",)},
        defaults={
            "direction": "INGRESS",
            "priority": 1000,
            "disabled": False,
            "logConfig": {"enable": False},
            "description": "",
        },
        immutable=("network", "direction"),
        quota="FIREWALLS",
        prepare=vpc.prepare_firewall,
        computed=vpc.firewall_fields,
        beta=("enableLogging",),
    )
)
declare(
    Kind(
        "addresses",
        "address",
        {"globalAddresses": "global", "addresses": "regions"},
        verbs="aggregatedList setLabels testIamPermissions",
        refs={"network": ("networks",), "subnetwork": ("subnetworks",)},
        defaults={"description": "", "networkTier": "PREMIUM"},
        output=("status",),
        labels="insert",
        quota="STATIC_ADDRESSES",
        prepare=vpc.prepare_address,
        computed=vpc.address_fields,
        guard=vpc.guard_address,
    )
)
declare(
    Kind(
        "networkEndpointGroups",
        "networkEndpointGroup",
        {
            "regionNetworkEndpointGroups": "regions",
            "networkEndpointGroups": "zones",
            "globalNetworkEndpointGroups": "global",
        },
        verbs="aggregatedList",
        refs={"network": ("networks",), "subnetwork": ("subnetworks",)},
        output=("size",),
        long_types=("insert", "delete"),
        quota="NETWORK_ENDPOINT_GROUPS",
        prepare=balancing.prepare_neg,
    )
)
declare(
    Kind(
        "healthChecks",
        "healthCheck",
        {"healthChecks": "global", "regionHealthChecks": "regions"},
        verbs="patch update aggregatedList",
        defaults={"checkIntervalSec": 5, "timeoutSec": 5, "healthyThreshold": 2, "unhealthyThreshold": 2},
        quota="HEALTH_CHECKS",
        prepare=balancing.prepare_health_check,
    )
)
declare(
    Kind(
        "backendServices",
        "backendService",
        {"backendServices": "global", "regionBackendServices": "regions"},
        verbs="patch update aggregatedList getIamPolicy setIamPolicy testIamPermissions",
        refs={
            "healthChecks": ("healthChecks",),
            "network": ("networks",),
            "group": ("networkEndpointGroups",),
            "securityPolicy": ("securityPolicies",),
            "edgeSecurityPolicy": ("securityPolicies",),
        },
        defaults={
            "loadBalancingScheme": "EXTERNAL",
            "sessionAffinity": "NONE",
            "description": "",
            "affinityCookieTtlSec": 0,
            "connectionDraining": {"drainingTimeoutSec": 0},
        },
        setters={
            "setSecurityPolicy": ("securityPolicy", "securityPolicy"),
            "setEdgeSecurityPolicy": ("edgeSecurityPolicy", "securityPolicy"),
        },
        fingerprint=True,
        long_types=("setSecurityPolicy", "setEdgeSecurityPolicy"),
        quota="BACKEND_SERVICES",
        prepare=balancing.prepare_backend,
        computed=balancing.used_by,
    )
)
declare(
    Kind(
        "backendBuckets",
        "backendBucket",
        {"backendBuckets": "global", "regionBackendBuckets": "regions"},
        verbs="patch update aggregatedList getIamPolicy setIamPolicy testIamPermissions",
        refs={"edgeSecurityPolicy": ("securityPolicies",)},
        defaults={"enableCdn": False, "description": ""},
        required=("bucketName",),
        quota="BACKEND_BUCKETS",
        setters={"setEdgeSecurityPolicy": ("edgeSecurityPolicy", "securityPolicy")},
        prepare=balancing.prepare_bucket,
        computed=balancing.used_by,
    )
)
declare(
    Kind(
        "urlMaps",
        "urlMap",
        {"urlMaps": "global", "regionUrlMaps": "regions"},
        verbs="patch update aggregatedList",
        refs={"defaultService": _BACKEND, "service": _BACKEND, "backendService": _BACKEND, "errorService": _BACKEND},
        output=("status",),
        fingerprint=True,
        quota="URL_MAPS",
        prepare=balancing.prepare_url_map,
        computed=balancing.url_map_fields,
    )
)
declare(
    Kind(
        "sslCertificates",
        "sslCertificate",
        {"sslCertificates": "global", "regionSslCertificates": "regions"},
        verbs="aggregatedList",
        output=("expireTime", "subjectAlternativeNames"),
        quota="SSL_CERTIFICATES",
        prepare=certificates.prepare,
    )
)
declare(
    Kind(
        "sslPolicies",
        "sslPolicy",
        {"sslPolicies": "global", "regionSslPolicies": "regions"},
        verbs="patch aggregatedList",
        defaults={"profile": "COMPATIBLE", "minTlsVersion": "TLS_1_0"},
        output=("enabledFeatures", "warnings"),
        fingerprint=True,
        long_types=("patch",),
        prepare=balancing.prepare_ssl_policy,
    )
)
declare(
    Kind(
        "targetHttpProxies",
        "targetHttpProxy",
        {"targetHttpProxies": "global", "regionTargetHttpProxies": "regions"},
        verbs="patch aggregatedList",
        refs={"urlMap": ("urlMaps",)},
        required=("urlMap",),
        fingerprint=True,
        setters={"setUrlMap": ("urlMap", "urlMap")},
        types={"setUrlMap": "SetUrlMap"},
        quota="TARGET_HTTP_PROXIES",
    )
)
declare(
    Kind(
        "targetHttpsProxies",
        "targetHttpsProxy",
        {"targetHttpsProxies": "global", "regionTargetHttpsProxies": "regions"},
        verbs="patch aggregatedList",
        refs={"urlMap": ("urlMaps",), "sslCertificates": ("sslCertificates",), "sslPolicy": ("sslPolicies",)},
        required=("urlMap",),
        defaults={"tlsEarlyData": "DISABLED"},
        fingerprint=True,
        setters={
            "setUrlMap": ("urlMap", "urlMap"),
            "setSslCertificates": ("sslCertificates", "sslCertificates"),
            "setSslPolicy": ("sslPolicy", "sslPolicy"),
            "setQuicOverride": ("quicOverride", "quicOverride"),
            "setCertificateMap": ("certificateMap", "certificateMap"),
        },
        types={"setUrlMap": "SetUrlMap", "setSslCertificates": "SetSslCertificates"},
        long_types=("setQuicOverride", "setSslPolicy", "setCertificateMap"),
        quota="TARGET_HTTPS_PROXIES",
        prepare=balancing.prepare_https_proxy,
        after=certificates.review,
    )
)
declare(
    Kind(
        "targetGrpcProxies",
        "targetGrpcProxy",
        {"targetGrpcProxies": "global"},
        verbs="patch",
        refs={"urlMap": ("urlMaps",)},
        required=("urlMap",),
        fingerprint=True,
        with_id=True,
        long_types=("insert", "delete", "patch"),
    )
)
declare(
    Kind(
        "routers",
        "router",
        {"routers": "regions"},
        verbs="patch update aggregatedList",
        refs={
            "network": ("networks",),
            **dict.fromkeys(("natIps", "drainNatIps", "sourceNatActiveIps", "sourceNatDrainIps"), ("addresses",)),
            **dict.fromkeys(("sourceNatActiveRanges", "sourceNatDrainRanges"), ("subnetworks",)),
        },
        defaults={"encryptedInterconnectRouter": False},
        required=("network",),
        immutable=("network",),
        quota="ROUTERS",
        prepare=routers.prepare,
    )
)
declare(
    Kind(
        "forwardingRules",
        "forwardingRule",
        {"globalForwardingRules": "global", "forwardingRules": "regions"},
        verbs="patch aggregatedList setLabels",
        refs={
            "target": (*balancing.PROXIES, private_service_connect.ATTACHMENTS),
            "backendService": ("backendServices",),
            "network": ("networks",),
            "subnetwork": ("subnetworks",),
        },
        labels="later",
        fingerprint=True,
        defaults={"IPProtocol": "TCP", "networkTier": "PREMIUM", "description": ""},
        setters={"setTarget": ("target", "target")},
        types={
            "setTarget": "SetTarget",
            "insert": private_service_connect.rule_operation("createPSCServiceEndpoint"),
            "delete": private_service_connect.rule_operation("deletePscForwardingRule"),
        },
        immutable=("IPAddress", "portRange", "IPProtocol", "network", "subnetwork"),
        quota="FORWARDING_RULES",
        prepare=balancing.prepare_rule,
        after=_after_rule,
    )
)
declare(
    Kind(
        "securityPolicies",
        "securityPolicy",
        {"securityPolicies": "global", "regionSecurityPolicies": "regions"},
        verbs="patch aggregatedList setLabels",
        labels="insert",
        fingerprint=True,
        defaults={"type": "CLOUD_ARMOR"},
        types={"addRule": "AddRule", "removeRule": "RemoveRule", "patchRule": "PatchRule"},
        immutable=("type",),
        quota="SECURITY_POLICIES",
        prepare=balancing.prepare_security_policy,
    )
)
