"""Compute Engine's view of the project, its regions and zones."""

from __future__ import annotations

from gcp_sandbox.core.service import Call
from gcp_sandbox.services.compute import shared_vpc
from gcp_sandbox.services.compute.base import SERVICE, Doc, link, not_found
from gcp_sandbox.services.compute.engine import collection
from gcp_sandbox.services.compute.places import GLOBAL_QUOTAS, REGION_QUOTAS, REGIONS, limit, used, zones

_CREATED = "1969-12-31T16:00:00.000-08:00"


def _quotas(call: Call, region: str = "") -> list[Doc]:
    table = REGION_QUOTAS if region else GLOBAL_QUOTAS
    where = f"regions/{region}" if region else ""
    return [
        {"metric": m, "limit": float(limit(call, m, region) or 0), "usage": float(used(call, m, where))} for m in table
    ]


def _region(call: Call, name: str) -> Doc:
    path = f"projects/{call.project_id}/regions/{name}"
    return {
        "kind": "compute#region",
        "id": str(1000 + 10 * list(REGIONS).index(name)),
        "creationTimestamp": _CREATED,
        "name": name,
        "description": name,
        "status": "UP",
        "zones": [link(f"projects/{call.project_id}/zones/{z}") for z in zones(name)],
        "quotas": _quotas(call, name),
        "selfLink": link(path),
        "supportsPzs": False,
    }


def _zone(call: Call, name: str) -> Doc:
    project = f"projects/{call.project_id}"
    return {
        "kind": "compute#zone",
        "id": str(2000 + zones().index(name)),
        "creationTimestamp": _CREATED,
        "name": name,
        "description": name,
        "status": "UP",
        "region": link(f"{project}/regions/{name[:-2]}"),
        "selfLink": link(f"{project}/zones/{name}"),
        "availableCpuPlatforms": ["Intel Broadwell", "Intel Skylake"],
        "supportsPzs": False,
    }


@SERVICE.method("compute.regions.get", permission="compute.regions.get")
def _get_region(call: Call) -> Doc:
    if call.params["region"] not in REGIONS:
        raise not_found(f"projects/{call.project_id}/regions/{call.params['region']}")
    return _region(call, call.params["region"])


@SERVICE.method("compute.zones.get", permission="compute.zones.get")
def _get_zone(call: Call) -> Doc:
    if call.params["zone"] not in zones():
        raise not_found(f"projects/{call.project_id}/zones/{call.params['zone']}")
    return _zone(call, call.params["zone"])


@SERVICE.method("compute.regions.list", permission="compute.regions.list")
def _list_regions(call: Call) -> Doc:
    return collection(call, "region", f"projects/{call.project_id}/regions", [_region(call, r) for r in REGIONS])


@SERVICE.method("compute.zones.list", permission="compute.zones.list")
def _list_zones(call: Call) -> Doc:
    return collection(call, "zone", f"projects/{call.project_id}/zones", [_zone(call, z) for z in zones()])


@SERVICE.method("compute.projects.get", permission="compute.projects.get")
def _get_project(call: Call) -> Doc:
    name, number = call.project_id, call.project_number
    return {
        "kind": "compute#project",
        "id": number,
        "creationTimestamp": (call.project or {})["createTime"],
        "name": name,
        "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "nSCzYVtHjUA="},
        "quotas": _quotas(call),
        "selfLink": link(f"projects/{name}"),
        "xpnProjectStatus": "HOST"
        if call.cloud.store.peek(shared_vpc.KIND, name)
        else "UNSPECIFIED_XPN_PROJECT_STATUS",
        "defaultServiceAccount": f"{number}-compute@developer.gserviceaccount.com",
        "defaultNetworkTier": "PREMIUM",
        "cloudArmorTier": "CA_STANDARD",
        "vmDnsSetting": "ZONAL_ONLY",
    }
