"""Regions, zones and quotas.

https://cloud.google.com/compute/docs/regions-zones, https://cloud.google.com/vpc/docs/subnets#ip-ranges
"""

from __future__ import annotations

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.compute.kinds import KINDS

# Region -> second octet of its subnet in auto mode networks, 10.N.0.0/20 (None: not among them).
REGIONS: dict[str, int | None] = {
    "africa-south1": 218,
    "asia-east1": 140,
    "asia-east2": 170,
    "asia-northeast1": 146,
    "asia-northeast2": 174,
    "asia-northeast3": 178,
    "asia-south1": 160,
    "asia-south2": 190,
    "asia-southeast1": 148,
    "asia-southeast2": 184,
    "australia-southeast1": 152,
    "australia-southeast2": 192,
    "europe-central2": 186,
    "europe-north1": 166,
    "europe-north2": 226,
    "europe-southwest1": 204,
    "europe-west1": 132,
    "europe-west10": 214,
    "europe-west12": 210,
    "europe-west2": 154,
    "europe-west3": 156,
    "europe-west4": 164,
    "europe-west6": 172,
    "europe-west8": 198,
    "europe-west9": 200,
    "me-central1": 212,
    "me-central2": None,
    "me-west1": 208,
    "northamerica-northeast1": 162,
    "northamerica-northeast2": 188,
    "northamerica-south1": 224,
    "southamerica-east1": 158,
    "southamerica-west1": 194,
    "us-central1": 128,
    "us-east1": 142,
    "us-east4": 150,
    "us-east5": 202,
    "us-south1": 206,
    "us-west1": 138,
    "us-west2": 168,
    "us-west3": 180,
    "us-west4": 182,
}
_ZONES = {"us-central1": "abcf", "us-east1": "bcd", "europe-west1": "bcd"}
# Limits of a project that is no longer new: https://cloud.google.com/compute/resource-usage
GLOBAL_QUOTAS = {
    "NETWORKS": 50,
    "SUBNETWORKS": 1000,
    "FIREWALLS": 500,
    "ROUTES": 1000,
    "STATIC_ADDRESSES": 200,
    "IN_USE_ADDRESSES": 200,
    "FORWARDING_RULES": 150,
    "TARGET_HTTP_PROXIES": 100,
    "TARGET_HTTPS_PROXIES": 100,
    "URL_MAPS": 100,
    "BACKEND_SERVICES": 100,
    "BACKEND_BUCKETS": 100,
    "HEALTH_CHECKS": 150,
    "SSL_CERTIFICATES": 100,
    "SECURITY_POLICIES": 50,
    "NETWORK_ENDPOINT_GROUPS": 100,
    "SNAPSHOTS": 5000,
    "IMAGES": 2000,
    "ROUTERS": 20,
}
REGION_QUOTAS = {
    "STATIC_ADDRESSES": 200,
    "IN_USE_ADDRESSES": 200,
    "CPUS": 72,
    "DISKS_TOTAL_GB": 40960,
    "SSD_TOTAL_GB": 5000,
    "NETWORK_ENDPOINT_GROUPS": 100,
    "INSTANCES": 720,
}


def zones(region: str = "") -> list[str]:
    """Names of the zones, of one region or of all."""
    return [f"{r}-{letter}" for r in REGIONS if region in ("", r) for letter in _ZONES.get(r, "abc")]


def scope(call: Call) -> str:
    """The scope of a call's path: "global", "regions/r" or "zones/z".  Raises ApiError 400 for an unknown region or zone."""
    region, zone = call.params.get("region"), call.params.get("zone")
    if region is not None:
        if region not in REGIONS:
            raise ApiError(400, f"Invalid value for field 'region': '{region}'. Unknown region.", reason="invalid")
        return f"regions/{region}"
    if zone is not None:
        if zone not in zones():
            raise ApiError(400, f"Invalid value for field 'zone': '{zone}'. Unknown zone.", reason="invalid")
        return f"zones/{zone}"
    return "global"


def used(call: Call, metric: str, scope_: str) -> int:
    """The usage of a quota, in one scope or (empty) in all."""
    prefix = f"projects/{call.project_id}/"
    count = 0
    for kind in KINDS.values():
        if kind.quota == metric:
            keys = [k for k, _ in call.cloud.store.list(kind.store, prefix)]
            keys += [k for k, _ in call.cloud.store.list("compute.pending", prefix) if f"/{kind.collection}/" in k]
            count += sum(scope_ == "" or k.startswith(f"{prefix}{scope_}/") for k in keys)
    return count


def limit(call: Call, metric: str, region: str = "") -> int | None:
    """A quota of the project; a rule or a document of kind compute.quotas can override it: {metric: limit}."""
    if rule := call.cloud.restrictions.quota(metric, call.project_id, region):
        return rule[0]
    table = REGION_QUOTAS if region and metric in REGION_QUOTAS else GLOBAL_QUOTAS
    own = call.cloud.store.peek("compute.quotas", call.project_id) or {}
    return own.get(metric, table.get(metric))


def exceeded(call: Call, metric: str, scope_: str) -> tuple[ApiError, bool] | None:
    """The 403 if one more would exceed the quota, and whether it is the operation that fails."""
    if not metric:
        return None
    region = scope_.partition("/")[2] if scope_.startswith("regions/") and metric in REGION_QUOTAS else ""
    allowed = limit(call, metric, region)
    where = f"regions/{region}" if region else ("global" if metric in ("STATIC_ADDRESSES",) else "")
    if allowed is None or used(call, metric, where) < allowed:
        return None
    text = f"in region {region}." if region else "globally."
    text = f"Quota '{metric}' exceeded.  Limit: {float(allowed)} {text}"
    rule = call.cloud.restrictions.quota(metric, call.project_id, region)
    return ApiError(403, text, reason="quotaExceeded", domain="usageLimits"), bool(rule and rule[1])
