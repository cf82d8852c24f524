"""Names of the permissions of the emulated APIs.

https://cloud.google.com/iam/docs/permissions-reference
"""

from __future__ import annotations

import functools

_CRUD = "create delete get list update"
_IAM = " getIamPolicy setIamPolicy"
_READ = "get list"

# service -> resource -> verbs
CATALOGUE: dict[str, dict[str, str]] = {
    "artifactregistry": {
        "repositories": _CRUD + _IAM + " downloadArtifacts uploadArtifacts deleteArtifacts readViaVirtualRepository",
        "dockerimages": _READ,
        "files": "get list delete update",
        "locations": _READ,
        "packages": "get list delete update",
        "tags": _CRUD,
        "versions": "get list delete update",
        "projectsettings": "get update",
    },
    "billing": {
        "accounts": "close create get getIamPolicy list move redeemPromotion reopen setIamPolicy update",
        "resourceAssociations": "create delete list",
        "subscriptions": _CRUD,
    },
    "certificatemanager": {
        "certissuanceconfigs": _CRUD + " use",
        "certmapentries": _CRUD,
        "certmaps": _CRUD + " use",
        "certs": _CRUD + " use",
        "dnsauthorizations": _CRUD + " use",
        "locations": _READ,
        "operations": "cancel delete get list",
        "trustconfigs": _CRUD + " use",
    },
    "clientauthconfig": {
        "brands": _CRUD,
        "clients": "create createSecret delete get getWithSecret list listWithSecrets undelete update",
    },
    "cloudbuild": {"builds": "approve create get list update", "workerpools": _CRUD + " use"},
    "cloudkms": {
        "cryptoKeyVersions": "create destroy get list restore update useToDecrypt useToEncrypt",
        "cryptoKeys": "create get list update" + _IAM,
        "keyRings": "create get list" + _IAM,
        "locations": _READ,
    },
    "cloudsql": {
        "backupRuns": _CRUD,
        "databases": _CRUD,
        "users": _CRUD,
        "tiers": "list",
        "instances": _CRUD
        + " addServerCa clone connect demoteMaster executeSql export failover getDiskShrinkConfig import "
        "listServerCas login migrate performDiskShrink promoteReplica resetReplicaSize resetSslConfig restart restoreBackup "
        "rotateServerCa startReplica stopReplica truncateLog",
    },
    "compute": {
        "addresses": "create createInternal delete deleteInternal get list setLabels use useInternal",
        "autoscalers": _CRUD,
        "backendBuckets": _CRUD + _IAM + " use",
        "backendServices": _CRUD + _IAM + " setSecurityPolicy use",
        "disks": _CRUD + " createSnapshot resize setLabels use useReadOnly",
        "firewallPolicies": _CRUD + " use",
        "firewalls": _CRUD,
        "forwardingRules": _CRUD + " pscCreate setLabels setTarget use",
        "globalAddresses": "create createInternal delete deleteInternal get list setLabels use",
        "globalForwardingRules": _CRUD + " pscCreate setLabels setTarget",
        "globalNetworkEndpointGroups": "attachNetworkEndpoints create delete detachNetworkEndpoints get list use",
        "globalOperations": "delete get getIamPolicy list setIamPolicy",
        "healthChecks": _CRUD + " use useReadOnly",
        "images": "create delete get list setLabels update useReadOnly",
        "instances": _CRUD + " reset setMetadata setServiceAccount setTags start stop use",
        "networkEndpointGroups": "attachNetworkEndpoints create delete detachNetworkEndpoints get list use",
        "networks": _CRUD
        + " access addPeering getEffectiveFirewalls getRegionEffectiveFirewalls listPeeringRoutes mirror "
        "removePeering setFirewallPolicy switchToCustomMode updatePeering updatePolicy use useExternalIp",
        "organizations": "disableXpnHost disableXpnResource enableXpnHost enableXpnResource",
        "projects": "get setCommonInstanceMetadata setUsageExportBucket",
        "regionBackendServices": _CRUD + _IAM + " use",
        "regionHealthChecks": _CRUD + " use useReadOnly",
        "regionNetworkEndpointGroups": "attachNetworkEndpoints create delete detachNetworkEndpoints get list use",
        "regionOperations": "delete get list",
        "regionSecurityPolicies": _CRUD + " use",
        "regionSslCertificates": "create delete get list",
        "regionSslPolicies": _CRUD + " listAvailableFeatures use",
        "regionTargetHttpProxies": "create delete get list setUrlMap use",
        "regionTargetHttpsProxies": "create delete get list setSslCertificates setUrlMap update use",
        "regionUrlMaps": _CRUD + " invalidateCache use validate",
        "regions": _READ,
        "routers": _CRUD + " use",
        "routes": "create delete get list",
        "securityPolicies": _CRUD + " setLabels use",
        "sslCertificates": "create delete get list",
        "sslPolicies": _CRUD + " listAvailableFeatures use",
        "subnetworks": _CRUD + _IAM + " expandIpCidrRange mirror setPrivateIpGoogleAccess use useExternalIp",
        "targetHttpProxies": "create delete get list setUrlMap update use",
        "targetHttpsProxies": "create delete get list setCertificateMap setQuicOverride setSslCertificates setSslPolicy "
        "setUrlMap update use",
        "urlMaps": _CRUD + " invalidateCache use validate",
        "zoneOperations": "delete get list",
        "zones": _READ,
        "machineTypes": _READ,
        "snapshots": "create delete get list setLabels useReadOnly",
    },
    "dns": {
        "changes": "create get list",
        "managedZoneOperations": _READ,
        "managedZones": _CRUD + _IAM,
        "networks": "bindPrivateDNSZone targetWithPeeringZone",
        "projects": "get",
        "resourceRecordSets": _CRUD,
    },
    "iam": {
        "roles": "create delete get list undelete update",
        "serviceAccountKeys": "create delete disable enable get list",
        "serviceAccounts": _CRUD
        + _IAM
        + " actAs disable enable getAccessToken getOpenIdToken implicitDelegation signBlob "
        "signJwt undelete",
    },
    "iap": {
        "folders": "getSettings updateSettings",
        "organizations": "getSettings updateSettings",
        "projects": "getSettings updateSettings",
        "tunnel": "getIamPolicy setIamPolicy",
        "tunnelDestGroups": _CRUD + _IAM + " accessViaIAP",
        "tunnelInstances": "accessViaIAP getIamPolicy setIamPolicy",
        "web": "getIamPolicy getSettings setIamPolicy updateSettings",
        "webServiceVersions": "accessViaIAP getIamPolicy getSettings setIamPolicy updateSettings",
        "webServices": "getIamPolicy getSettings setIamPolicy updateSettings",
        "webTypes": "getIamPolicy getSettings setIamPolicy updateSettings",
    },
    "logging": {
        "logEntries": "create download list route",
        "logs": "delete list",
        "buckets": _CRUD,
        "views": "access get list listLogs listResourceKeys listResourceValues",
        "sinks": _CRUD,
        "privateLogEntries": "list",
        "logServices": "list",
        "logMetrics": _CRUD,
    },
    "monitoring": {
        "alertPolicies": _CRUD,
        "dashboards": _CRUD,
        "metricDescriptors": "create delete get list",
        "timeSeries": "create list",
        "monitoredResourceDescriptors": _READ,
        "notificationChannels": _CRUD,
        "uptimeCheckConfigs": _CRUD,
    },
    "oauthconfig": {"clientpolicy": "get", "testusers": "get update", "verification": "get submit update"},
    "orgpolicy": {"constraints": "list", "policies": _CRUD, "policy": "get set"},
    "privateca": {
        "caPools": _CRUD + _IAM + " use",
        "certificateAuthorities": _CRUD + _IAM,
        "certificates": "create createForSelf get getIamPolicy list setIamPolicy update",
        "locations": _READ,
        "operations": "cancel delete get list",
    },
    "resourcemanager": {
        "folders": "create delete get getIamPolicy list move setIamPolicy undelete update",
        "organizations": "get getIamPolicy setIamPolicy",
        "projects": "create createBillingAssignment delete deleteBillingAssignment get getIamPolicy list move setIamPolicy "
        "undelete update",
    },
    "run": {
        "configurations": _READ,
        "executions": "cancel delete get list",
        "jobs": _CRUD + _IAM + " run runWithOverrides",
        "locations": "list",
        "operations": "delete get list",
        "revisions": "delete get list",
        "routes": "get invoke list",
        "services": _CRUD + _IAM,
        "tasks": _READ,
        "workerpools": _CRUD + _IAM,
        "instances": "create delete get list start stop",
    },
    "secretmanager": {
        "locations": _READ,
        "secrets": _CRUD + _IAM + " createTagBinding deleteTagBinding listEffectiveTags listTagBindings",
        "versions": "access add destroy disable enable get list",
    },
    "servicenetworking": {
        "operations": "cancel delete get list",
        "services": "addDnsRecordSet addDnsZone addPeering addSubnetwork createPeeredDnsDomain deleteConnection "
        "deletePeeredDnsDomain disableVpcServiceControls enableVpcServiceControls get getConsumerConfig getVpcServiceControls "
        "listPeeredDnsDomains removeDnsRecordSet removeDnsZone updateConsumerConfig updateDnsRecordSet use",
    },
    "serviceusage": {
        "operations": "cancel delete get list",
        "quotas": "get update",
        "services": "disable enable get list use",
        "apiKeys": "create delete get getProjectForKey list regenerate revert update",
    },
    "storage": {
        "buckets": _CRUD
        + _IAM
        + " createTagBinding deleteTagBinding enableObjectRetention getIpFilter getObjectInsights "
        "listEffectiveTags listTagBindings restore setIpFilter relocate",
        "multipartUploads": "abort create list listParts",
        "objects": _CRUD + _IAM + " createContext deleteContext move overrideUnlockedRetention restore setRetention "
        "updateContext",
    },
    "vpcaccess": {"connectors": "create delete get list update use", "locations": "list", "operations": _READ},
}


@functools.lru_cache
def known() -> frozenset[str]:
    """All permissions of the catalog."""
    return frozenset(
        f"{s}.{r}.{v}" for s, kinds in CATALOGUE.items() for r, verbs in kinds.items() for v in verbs.split()
    )


def exists(permission: str) -> bool:
    """Whether a permission exists; for services outside the catalog, any well-formed one does."""
    service, _, rest = permission.partition(".")
    return permission in known() if service in CATALOGUE else rest.count(".") == 1 and all(rest.split("."))
