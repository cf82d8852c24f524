"""Load balancing: specifics of backend services, URL maps, proxies, forwarding rules and certificates.

https://cloud.google.com/load-balancing/docs/https
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.compute import armor, balancer_proxies, private_service_connect
from gcp_sandbox.services.compute.base import NAME, Doc, find, invalid, key_of, link, missing, not_found, parse
from gcp_sandbox.services.compute.kinds import KINDS, Draft
from gcp_sandbox.services.compute.references import CERTIFICATE_MANAGER, references, shown_users
from gcp_sandbox.services.compute.vpc import external_address, internal_address

PROXIES = ("targetHttpProxies", "targetHttpsProxies", "targetGrpcProxies")
_MANAGED_CERTIFICATE = re.compile(rf"{CERTIFICATE_MANAGER}projects/[^/]+/locations/[^/]+/certificates/[^/]+")
_CERTIFICATE_MAP = re.compile(
    rf"(https:)?{CERTIFICATE_MANAGER}(v1/)?projects/[^/]+/locations/[^/]+/certificateMaps/[^/]+"
)


# -- network endpoint groups -----------------------------------------------


def prepare_neg(draft: Draft) -> None:
    doc = draft.doc
    kind = doc.setdefault("networkEndpointType", "SERVERLESS" if draft.region else "GCE_VM_IP_PORT")
    apps = [f for f in ("cloudRun", "cloudFunction", "appEngine", "serverlessDeployment") if f in doc]
    if kind == "SERVERLESS":
        if len(apps) != 1:
            raise ApiError(
                400,
                "Invalid value for field 'resource': ''. Exactly one of cloud_run, app_engine, cloud_function "
                "or serverless_deployment must be specified for a network endpoint group of type SERVERLESS.",
                reason="invalid",
            )
        run = doc.get("cloudRun", {"service": "x"})
        if not run.get("service") and not run.get("urlMask"):
            raise invalid("cloudRun", "", "Either service or url_mask must be specified.")
        for field in ("network", "subnetwork", "defaultPort"):
            if doc.get(field):
                raise invalid(
                    field, doc[field], f"{field} is not supported for network endpoint groups of type SERVERLESS."
                )
    elif apps:
        raise invalid(apps[0], "", f"It is not supported for network endpoint groups of type {kind}.")
    elif kind.startswith("GCE_VM") and not draft.region:
        doc.setdefault("network", link(f"projects/{draft.project}/global/networks/default"))
    doc.setdefault("size", 0)


# -- backend services ------------------------------------------------------


def _secret_hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def prepare_backend(draft: Draft) -> None:
    doc = draft.doc
    scheme = doc["loadBalancingScheme"]
    doc.setdefault("protocol", "TCP" if scheme == "INTERNAL" else "HTTP")
    doc.setdefault("timeoutSec", 30)
    if scheme == "EXTERNAL" or scheme != "INTERNAL" and doc["protocol"] not in ("TCP", "SSL"):
        doc.setdefault("portName", "http")
        doc.setdefault("port", 80)
    if scheme.startswith("EXTERNAL"):
        doc.setdefault("enableCDN", False)
    if doc.get("enableCDN"):
        _cdn(doc)
    old_scheme = (draft.old or doc)["loadBalancingScheme"]
    if old_scheme != scheme and (draft.old or {}).get("externalManagedMigrationState") != "TEST_ALL_TRAFFIC":
        raise invalid(
            "loadBalancingScheme", scheme, f"Load balancing scheme cannot be changed from {old_scheme} to {scheme}."
        )
    _iap(draft)
    tls = doc.get("securitySettings", {})
    if tls.get("clientTlsPolicy"):
        tls["clientTlsPolicy"] = _numbered(draft, tls["clientTlsPolicy"])
    log = doc.get("logConfig")
    if log and log.get("enable"):
        log.setdefault("sampleRate", 1.0)
        log.setdefault("optionalMode", "EXCLUDE_ALL_OPTIONAL")
        if not 0 <= log["sampleRate"] <= 1:
            raise invalid("logConfig.sampleRate", log["sampleRate"], "It must be between 0 and 1.")
    _backends(draft)


def _numbered(draft: Draft, name: str) -> str:
    """The full name of another service's resource as Google stores it: with the project's number."""
    before, part, after = name.partition("/projects/")
    project = projects.find(draft.cloud, after.partition("/")[0])
    return f"{before}{part}{project['projectNumber']}/{after.partition('/')[2]}" if project else name


def _cdn(doc: Doc) -> None:
    policy = doc.setdefault("cdnPolicy", {})
    mode = policy.setdefault("cacheMode", "CACHE_ALL_STATIC")
    for field, value in {
        "negativeCaching": False,
        "requestCoalescing": True,
        "serveWhileStale": 0,
        "signedUrlCacheMaxAgeSec": "0",
    }.items():
        policy.setdefault(field, value)
    if mode != "USE_ORIGIN_HEADERS":
        policy.setdefault("clientTtl", 3600)
        policy.setdefault("defaultTtl", 3600)
    if mode == "CACHE_ALL_STATIC":
        policy.setdefault("maxTtl", 86400)


def prepare_bucket(draft: Draft) -> None:
    if draft.doc["enableCdn"]:
        _cdn(draft.doc)


def _iap(draft: Draft) -> None:
    """oauth2ClientSecret is never returned, only its SHA-256."""
    doc = draft.doc
    iap = doc.get("iap")
    if iap is None:
        if draft.region or doc["loadBalancingScheme"] not in ("EXTERNAL", "EXTERNAL_MANAGED"):
            return
        iap = doc["iap"] = {"enabled": False}
    iap.setdefault("enabled", False)
    iap.setdefault("oauth2ClientId", "")
    before = (draft.old or {}).get("iap", {})
    secret = iap.pop("oauth2ClientSecret", None)
    if secret is None and before.get("oauth2ClientId") == iap["oauth2ClientId"]:
        iap["oauth2ClientSecretSha256"] = before["oauth2ClientSecretSha256"]
    else:
        secret = secret or ""
        iap["oauth2ClientSecretSha256"] = _secret_hash(secret)
        doc["_iapSecret"] = secret
    if iap["enabled"]:
        has_secret = iap["oauth2ClientSecretSha256"] != _secret_hash("")
        if bool(iap["oauth2ClientId"].strip()) != has_secret:
            absent = "oauth2ClientSecret" if not has_secret else "oauth2ClientId"
            raise invalid(
                f"iap.{absent}",
                "",
                "Both the OAuth2 client ID and the OAuth2 client secret must be specified, or neither of them.",
            )
        if doc.get("enableCDN"):
            raise invalid("iap", "", "IAP and Cloud CDN cannot both be enabled on a backend service.")


def _one_proxy(draft: Draft, neg: Doc) -> None:
    """Refuse Identity-Aware Proxy here where the Cloud Run service of a serverless NEG has it too.

    Google's documentation only says that both cannot be configured, not by which error:
    https://cloud.google.com/iap/docs/enabling-cloud-run#known_limitations
    """
    place, name = key_of(neg.get("selfLink", "")).split("/"), neg.get("cloudRun", {}).get("service")
    if not draft.doc.get("iap", {}).get("enabled") or not name:
        return
    service = draft.cloud.store.peek("run.services", f"projects/{place[1]}/locations/{place[3]}/services/{name}")
    if service and service.get("iapEnabled"):
        raise invalid(
            "iap", "", f"Identity-Aware Proxy cannot be enabled on both this and the Cloud Run service {name}."
        )


def _backends(draft: Draft) -> None:
    doc = draft.doc
    backends = doc.get("backends", [])
    groups = [
        (i, b.get("group", ""), find(draft.cloud, key_of(b["group"])) if b.get("group") else None)
        for i, b in enumerate(backends)
    ]
    for i, group, _ in groups:
        if not group:
            raise missing(f"resource.backends[{i}].group")
        if [g for _, g, _ in groups].count(group) > 1:
            raise invalid(f"backends[{i}].group", group, "Duplicate backend group.")
    serverless = [g for g in groups if g[2] and g[2].get("networkEndpointType") == "SERVERLESS"]
    if not serverless:
        for i, backend in enumerate(backends):
            backend.setdefault("balancingMode", "UTILIZATION")
            backend.setdefault("capacityScaler", 1.0)
            group_ = groups[i][2]
            if (
                group_
                and doc["loadBalancingScheme"].startswith("EXTERNAL")
                and not doc.get("healthChecks")
                and group_.get("networkEndpointType") not in ("INTERNET_FQDN_PORT", "INTERNET_IP_PORT")
            ):
                raise invalid(
                    "healthChecks", "", "A backend service must have a health check for this type of backend."
                )
        return
    if len(serverless) != len(groups):
        raise ApiError(
            400,
            "Serverless network endpoint groups cannot be mixed with other backends in a backend service.",
            reason="invalid",
        )
    what = "is not supported for a backend service with Serverless network endpoint groups."
    if doc.get("healthChecks"):
        raise invalid(
            "healthChecks",
            doc["healthChecks"][0],
            "A backend service cannot have a healthcheck with Serverless network endpoint group backends.",
        )
    if doc.get("timeoutSec", 30) != 30:
        raise invalid("timeoutSec", doc["timeoutSec"], f"Timeout sec {what}")
    if doc.get("portName", "http") != "http":
        raise invalid("portName", doc["portName"], f"Port name {what}")
    if doc["protocol"] not in ("HTTP", "HTTPS", "HTTP2", "H2C"):
        raise invalid("protocol", doc["protocol"], f"Protocol {what}")
    seen: set[str] = set()
    for i, group, neg in serverless:
        region = (neg or {})["region"]
        if draft.region and not region.endswith(f"/{draft.region}"):
            text = "The network endpoint group must be in the region of the backend service."
            raise invalid(f"backends[{i}].group", group, text)
        if region in seen:
            raise invalid(
                f"backends[{i}].group",
                group,
                "A backend service cannot have more than one Serverless network endpoint group per region.",
            )
        seen.add(region)
        _one_proxy(draft, neg or {})
        backend = backends[i]
        if backend.get("balancingMode", "UTILIZATION") != "UTILIZATION":
            raise invalid(f"backends[{i}].balancingMode", backend["balancingMode"], f"Balancing mode {what}")
        for field in ("maxRate", "maxRatePerEndpoint", "maxConnections", "maxUtilization"):
            if backend.get(field):
                raise invalid(f"backends[{i}].{field}", backend[field], f"{field} {what}")
        backend.setdefault("balancingMode", "UTILIZATION")
        backend.setdefault("capacityScaler", 1.0)


def used_by(cloud: Cloud, key: str, doc: Doc) -> Doc:
    """The resources that refer to a backend: URL maps, proxies, forwarding rules."""
    found = [{"reference": link(user)} for user in shown_users(cloud, key)]
    return {"usedBy": found} if found else {}


# -- URL maps --------------------------------------------------------------


def prepare_url_map(draft: Draft) -> None:
    doc = draft.doc
    _one_default(doc, "")
    matchers = [m.get("name") for m in doc.get("pathMatchers", ())]
    for i, matcher in enumerate(doc.get("pathMatchers", ())):
        _one_default(matcher, f"pathMatchers[{i}].")
        if matchers.count(matcher.get("name")) > 1:
            raise invalid(f"pathMatchers[{i}].name", matcher.get("name"), "Path matcher names must be unique.")
    hosts: set[str] = set()
    for i, rule in enumerate(doc.get("hostRules", ())):
        if rule.get("pathMatcher") not in matchers:
            raise invalid(f"hostRules[{i}].pathMatcher", rule.get("pathMatcher", ""), "Path matcher is not defined.")
        for host in rule.get("hosts", ()):
            if host in hosts:
                raise invalid(f"hostRules[{i}].hosts", host, "Each host may be in one host rule only.")
            hosts.add(host)
    used = {rule.get("pathMatcher") for rule in doc.get("hostRules", ())}
    for i, name in enumerate(matchers):
        if name not in used:
            raise invalid(f"pathMatchers[{i}]", name, "Path matcher is not used by any host rule.")
    for redirect in _redirects(doc):
        redirect.setdefault("redirectResponseCode", "MOVED_PERMANENTLY_DEFAULT")
        redirect.setdefault("stripQuery", False)


def _one_default(part: Doc, where: str) -> None:
    action = part.get("defaultRouteAction", {})
    given = [f for f in ("defaultService", "defaultUrlRedirect") if part.get(f)]
    if len(given) > 1 or not given and not (action.get("weightedBackendServices") or action):
        raise invalid(
            f"{where}defaultService",
            part.get("defaultService", ""),
            "Exactly one of defaultService, "
            "defaultUrlRedirect or defaultRouteAction.weightedBackendServices must be specified.",
        )


def _redirects(value: Any) -> list[Doc]:
    if isinstance(value, list):
        return [r for item in value for r in _redirects(item)]
    if not isinstance(value, dict):
        return []
    own = [value[f] for f in ("defaultUrlRedirect", "urlRedirect") if isinstance(value.get(f), dict)]
    return own + [r for item in value.values() for r in _redirects(item)]


def backends_of(cloud: Cloud, url_map: Doc) -> list[Doc]:
    """Backend services and buckets that a URL map routes to."""
    return [d for key in references(KINDS["compute.urlMaps"], url_map) if (d := find(cloud, key)) is not None]


def url_map_fields(cloud: Cloud, key: str, doc: Doc) -> Doc:
    """Quota usage, which Google shows if a map routes to an EXTERNAL_MANAGED backend service.

    Google does not publish how it counts units; this matches the observed values.
    """
    if not any(b.get("loadBalancingScheme") == "EXTERNAL_MANAGED" for b in backends_of(cloud, doc)):
        return {}
    errors = str(doc).count("'matchResponseCodes'")
    units = 20 * (1 + len(doc.get("pathMatchers", ()))) + 10 * errors + len(doc.get("hostRules", ()))
    rules = sum(key == url_map_of(cloud, rule) for _, rule in cloud.store.list("compute.forwardingRules"))
    return {"status": {"quotaUsage": {"forwardingRules": rules, "units": str(units)}}}


def url_map_of(cloud: Cloud, rule: Doc) -> str:
    """Key of the URL map that a forwarding rule uses, or ""."""
    proxy = find(cloud, key_of(rule["target"])) if rule.get("target") else None
    return key_of(proxy["urlMap"]) if proxy and proxy.get("urlMap") else ""


# -- proxies and forwarding rules ------------------------------------------


def prepare_https_proxy(draft: Draft) -> None:
    doc = draft.doc
    if not draft.region:
        doc.setdefault("quicOverride", "NONE")
    certificates = doc.get("sslCertificates", [])
    if not certificates and not doc.get("certificateMap") and not doc.get("serverTlsPolicy"):
        if draft.old is not None and not draft.region:
            text = (
                "Certificate Map or at least 1 SSL certificate must be specified for setting SSL certificates in "
                "TargetHttpsProxy."
            )
            raise ApiError(412, text, reason="conditionNotMet")
        raise ApiError(
            400,
            "At least 1 SSL certificate must be specified for setting SSL certificates in TargetHttpsProxy.",
            reason="invalid",
        )
    managers = [text for text in certificates if text.startswith(CERTIFICATE_MANAGER)]
    if managers and len(managers) < len(certificates):
        text = "Mixing Classic Certificates and Certificate Manager Certificates is not allowed."
        raise invalid("sslCertificates", certificates[0], text)
    most = 100 if managers else 15
    if len(certificates) > most:
        raise invalid("sslCertificates", len(certificates), f"At most {most} SSL certificates can be specified.")
    for text in managers:
        if not _MANAGED_CERTIFICATE.fullmatch(text):
            raise invalid("sslCertificates", text, "The URL is malformed.")
        if draft.region and f"/locations/{draft.region}/" not in text:
            raise invalid("sslCertificates", text, "The certificate must be in the region of the target proxy.")
    if doc.get("certificateMap") and not _CERTIFICATE_MAP.fullmatch(doc["certificateMap"]):
        raise invalid("certificateMap", doc["certificateMap"], "The URL is malformed.")
    if len(set(certificates)) != len(certificates):
        raise invalid("sslCertificates", certificates[0], "Duplicate SSL certificates.")


def prepare_rule(draft: Draft) -> None:
    doc = draft.doc
    if draft.old is None and not doc.get("target") and not doc.get("backendService"):
        raise missing("resource.target")
    if "/" not in doc.get("target", "/"):
        private_service_connect.prepare_endpoint(draft)
        return
    if f"/{private_service_connect.ATTACHMENTS}/" in doc.get("target", ""):
        private_service_connect.prepare_attached(draft)
        return
    scheme = doc.setdefault("loadBalancingScheme", "EXTERNAL")
    if scheme in ("INTERNAL", "INTERNAL_MANAGED") and draft.region:
        _internal(draft)
    ports = doc.get("portRange")
    if ports:
        low, _, high = ports.partition("-")
        high = high or low
        if not (low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high) <= 65535):
            raise invalid("portRange", ports, "Ports may only be specified as an integer or a range of integers.")
        doc["portRange"] = f"{low}-{high}"
    target = draft.target("target")
    if target:
        if not ports and not doc.get("ports"):
            raise missing("resource.portRange")
        _ports(draft, target)
    if scheme == "INTERNAL_SELF_MANAGED":
        doc.setdefault("network", link(f"projects/{draft.project}/global/networks/default"))
    if draft.scope == "global" and scheme in ("EXTERNAL", "EXTERNAL_MANAGED"):
        _classic_certificates(doc, target)
    _address(draft)
    _schemes(draft)


def _classic_certificates(doc: Doc, proxy: Doc | None) -> None:
    """A global external load balancer takes those of Certificate Manager from a certificate map alone."""
    if (
        proxy
        and not proxy.get("certificateMap")
        and any(text.startswith(CERTIFICATE_MANAGER) for text in proxy.get("sslCertificates", ()))
    ):
        text = (
            "Certificate Manager Certificates in sslCertificates are not supported by Global external Application Load "
            "Balancer or Classic Application Load Balancer, use certificate_map instead."
        )
        raise invalid("target", doc["target"], text)


def _internal(draft: Draft) -> None:
    """A regional rule listens in a subnet of its network (default: the default network and its subnet)."""
    doc = draft.doc
    subnet = draft.target("subnetwork")
    default = link(f"projects/{draft.project}/global/networks/default")
    doc.setdefault("network", subnet["network"] if subnet else default)
    if subnet is None and doc["network"] == default:
        doc["subnetwork"] = link(f"projects/{draft.project}/{draft.scope}/subnetworks/default")
        subnet = draft.target("subnetwork")
    if subnet is None:
        raise invalid("subnetwork", "", "Subnetwork must be specified for a custom subnet mode network.")
    if doc["network"] != subnet["network"]:
        raise invalid("subnetwork", doc["subnetwork"], "The subnetwork is not one of the forwarding rule's network.")
    balancer_proxies.require_ordinary(subnet)
    if doc["loadBalancingScheme"] == "INTERNAL_MANAGED":
        _internal_managed(draft)
    doc["IPAddress"] = doc.get("IPAddress") or internal_address(draft.cloud, subnet)
    if doc.get("serviceLabel"):
        doc["serviceName"] = f"{doc['serviceLabel']}.{doc['name']}.il4.{draft.region}.lb.{draft.project}.internal"


def _internal_managed(draft: Draft) -> None:
    """An Envoy-based rule leads to a proxy of its region, and needs the proxy-only subnet."""
    doc, old = draft.doc, draft.old
    doc.setdefault("allowGlobalAccess", False)
    if f"/{draft.scope}/" not in doc.get("target", ""):
        raise invalid(
            "target", doc.get("target", ""), "The target must be a proxy in the region of the forwarding rule."
        )
    if old is not None and doc["allowGlobalAccess"] != old["allowGlobalAccess"]:
        text = "It cannot be changed for a forwarding rule with load balancing scheme INTERNAL_MANAGED."
        raise invalid("allowGlobalAccess", doc["allowGlobalAccess"], text)
    balancer_proxies.require(draft.cloud, doc["network"], draft.region, doc["target"])


def _ports(draft: Draft, target: Doc) -> None:
    doc = draft.doc
    if doc["loadBalancingScheme"] not in ("EXTERNAL", "EXTERNAL_MANAGED", "INTERNAL_MANAGED"):
        return
    low, _, high = doc.get("portRange", "").partition("-")
    if low != high and target["kind"] in ("compute#targetHttpProxy", "compute#targetHttpsProxy"):
        raise invalid("portRange", doc["portRange"], "A single port must be specified for this target.")


def _address(draft: Draft) -> None:
    doc = draft.doc
    given, address = doc.get("IPAddress", ""), None
    if key := _address_key(draft, given):
        address = find(draft.cloud, key)
        if address is None:
            raise not_found(key)
        doc["IPAddress"] = given = address["address"]
    elif doc.get("subnetwork"):
        reserved = draft.cloud.store.list("compute.addresses", f"projects/{draft.project}/{draft.scope}/")
        wanted = (given, doc["subnetwork"])
        address = next((d for _, d in reserved if (d["address"], d.get("subnetwork")) == wanted), None)
    if not given:
        doc["IPAddress"] = external_address(draft.cloud, doc.get("ipVersion", "IPV4"))
        return
    if not re.fullmatch(r"[\d.]+|[0-9a-fA-F:]+(/\d+)?", given):
        raise invalid("IPAddress", given, "Must be a valid IP address, or the URL of an address resource.")
    if draft.old is not None or doc["loadBalancingScheme"] == "INTERNAL_SELF_MANAGED":
        return
    for key, other in draft.cloud.store.list("compute.addresses", f"projects/{draft.project}/"):
        elsewhere = key.rsplit("/", 2)[0] != draft.key.rsplit("/", 2)[0]
        if elsewhere and other["address"] == given and other.get("addressType") == "EXTERNAL":
            raise invalid("IPAddress", given, "Invalid IP address specified.")
    inside = doc.get("loadBalancingScheme") == "INTERNAL_MANAGED"
    # Only an address that is made for it is shared by internal load balancers.
    shared = not inside or (address or {}).get("purpose") == "SHARED_LOADBALANCER_VIP"
    for key, other in draft.cloud.store.list("compute.forwardingRules"):
        if inside and other.get("network") != doc["network"]:
            continue
        same = other.get("IPAddress") == given and (
            not shared
            or (other.get("portRange"), other.get("IPProtocol")) == (doc.get("portRange"), doc.get("IPProtocol"))
        )
        if same and key != draft.key and other.get("loadBalancingScheme") != "INTERNAL_SELF_MANAGED":
            raise invalid("IPAddress", given, "Specified IP address is in-use and would result in a conflict.")


def _address_key(draft: Draft, given: str) -> str:
    """The address resource that a rule references by link, partial link or name, or "" for an IP address."""
    if "/addresses/" in given:
        return parse(draft.cloud, given, draft.project) or ""
    return f"{draft.key.rsplit('/', 2)[0]}/addresses/{given}" if NAME.fullmatch(given) else ""


def _schemes(draft: Draft) -> None:
    """The rule's scheme must match that of its backends."""
    url_map = find(draft.cloud, url_map_of(draft.cloud, draft.doc) or "projects/-/global/urlMaps/-")
    for backend in backends_of(draft.cloud, url_map) if url_map else ():
        theirs, ours = backend.get("loadBalancingScheme"), draft.doc["loadBalancingScheme"]
        if theirs is not None and theirs != ours:
            text = f"Load balancing scheme {ours} does not match the backend service load balancing scheme {theirs}."
            raise invalid("backendService", "", text)


# -- health checks, SSL policies, security policies ------------------------

_CHECKS = {
    "HTTP": ("httpHealthCheck", 80),
    "HTTPS": ("httpsHealthCheck", 443),
    "HTTP2": ("http2HealthCheck", 443),
    "TCP": ("tcpHealthCheck", 80),
    "SSL": ("sslHealthCheck", 443),
    "GRPC": ("grpcHealthCheck", None),
}


def prepare_health_check(draft: Draft) -> None:
    doc = draft.doc
    for kind, (field, _) in _CHECKS.items():
        if field in doc:
            doc.setdefault("type", kind)
    if "type" not in doc:
        raise missing("resource.type")
    field, port = _CHECKS.get(doc["type"], ("", None))
    if field:
        check = doc.setdefault(field, {})
        if port and "portSpecification" not in check and "portName" not in check:
            check.setdefault("port", port)
        if doc["type"] != "GRPC":
            check.setdefault("proxyHeader", "NONE")
        if doc["type"].startswith("HTTP"):
            check.setdefault("requestPath", "/")
        for other, (name, _) in _CHECKS.items():
            if name in doc and other != doc["type"]:
                raise invalid(name, "", f"It cannot be specified for a health check of type {doc['type']}.")
    if doc["timeoutSec"] > doc["checkIntervalSec"]:
        raise invalid("timeoutSec", doc["timeoutSec"], "Timeout must not be greater than the check interval.")


def _suites(*names: str) -> list[str]:
    return [f"TLS_{name}" for name in names]


_RESTRICTED = [
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
]
_MODERN = sorted(
    _RESTRICTED + [f"TLS_ECDHE_{key}_WITH_AES_{bits}_CBC_SHA" for key in ("ECDSA", "RSA") for bits in (128, 256)]
)
_COMPATIBLE = sorted(
    _MODERN
    + _suites(
        "RSA_WITH_3DES_EDE_CBC_SHA",
        "RSA_WITH_AES_128_CBC_SHA",
        "RSA_WITH_AES_128_GCM_SHA256",
        "RSA_WITH_AES_256_CBC_SHA",
        "RSA_WITH_AES_256_GCM_SHA384",
    )
)
PROFILES = {
    "COMPATIBLE": _COMPATIBLE,
    "MODERN": _MODERN,
    "RESTRICTED": _RESTRICTED,
    "FIPS_202205": [s for s in _RESTRICTED if "AES" in s],
}


def prepare_ssl_policy(draft: Draft) -> None:
    doc = draft.doc
    profile = doc["profile"]
    custom = doc.get("customFeatures", [])
    if profile == "CUSTOM":
        if not custom:
            raise invalid("customFeatures", "", "Custom features must be specified for the CUSTOM profile.")
        for i, feature in enumerate(custom):
            if feature not in _COMPATIBLE:
                raise invalid(f"customFeatures[{i}]", feature, "Unknown feature.")
        doc["enabledFeatures"] = sorted(custom)
        return
    if custom:
        raise invalid("customFeatures", custom[0], f"Custom features cannot be specified for the {profile} profile.")
    doc["enabledFeatures"] = list(PROFILES[profile])


def prepare_security_policy(draft: Draft) -> None:
    doc = draft.doc
    rules = doc.setdefault("rules", [])
    if not any(rule.get("priority") == armor.LAST for rule in rules):
        rules.append(
            {
                "action": "allow",
                "description": "default rule",
                "priority": armor.LAST,
                "preview": False,
                "match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["*"]}},
            }
        )
    armor.check(rules)
    for rule in rules:
        rule["kind"] = "compute#securityPolicyRule"
        rule.setdefault("preview", False)
        rule.setdefault("description", "")
    rules.sort(key=lambda rule: rule["priority"])
