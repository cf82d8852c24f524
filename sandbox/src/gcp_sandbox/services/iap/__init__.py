"""Identity-Aware Proxy: who may reach a web resource, its settings, and (where switched on) brands and OAuth clients.

https://cloud.google.com/iap/docs/reference/rest
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import ORGANIZATION
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
SERVICE = Service("iap", "v1", resource_type="iap.googleapis.com/WebService")
SETTINGS, BRANDS, CLIENTS = "iap.settings", "iap.brands", "iap.clients"
_NOT_FOUND = "Requested entity was not found."
_WEB = re.compile(
    r"projects/[^/]+(/iap_web(/(?P<type>[^/]+)(/services/(?P<service>[^/]+)(/versions/[^/]+)?)?)?"
    r"|/iap_tunnel(/.+)?)?|(folders|organizations)/[^/]+"
)


# -- resources -------------------------------------------------------------------


def _backend(call: Call, kind: str, service: str) -> Doc | None:
    """The backend service that a name or number stands for, in the region of a type compute-REGION, or global."""
    region = kind.removeprefix("compute").removeprefix("-")
    prefix = f"projects/{call.project_id}/" + (f"regions/{region}/" if region else "global/") + "backendServices/"
    for collection in ("compute.backendServices", "compute.regionBackendServices"):
        for key, doc in call.cloud.store.list(collection, prefix):
            if service in (key.removeprefix(prefix), doc.get("id")):
                return doc
    return None


def _resource(call: Call) -> str:
    """Name of the resource a call is about, with the project's number and the backend service's name."""
    name = call.params.get("name") or call.params["resource"]
    found = _WEB.fullmatch(name)
    if not found:
        raise ApiError(400, "Request contains an invalid argument.")
    if call.project:
        name = re.sub(r"^projects/[^/]+", f"projects/{call.project_number}", name)
    kind, service = found["type"], found["service"]
    if kind and service and re.fullmatch(r"compute(-[a-z0-9-]+)?", kind):
        backend = _backend(call, kind, service)
        if backend is None:
            raise ApiError(404, _NOT_FOUND)
        name = re.sub(r"/services/[^/]+", f"/services/{backend['name']}", name)
    elif kind and service and kind.startswith("cloud_run-"):
        place = f"projects/{call.project_id}/locations/{kind.removeprefix('cloud_run-')}/services/{service}"
        if call.cloud.store.peek("run.services", place) is None:
            raise ApiError(404, _NOT_FOUND)
    return name


def full_name(call: Call) -> str:
    """Full resource name, for policies."""
    return "//iap.googleapis.com/" + _resource(call)


def _level(call: Call) -> str:
    """The part of IAP's permissions that stands for the kind of a call's resource."""
    found = _WEB.fullmatch(call.params.get("name") or call.params.get("resource", ""))
    if not found or "/iap_" not in found.string:
        return "projects" if not found or found.string.startswith("projects/") else found.string.split("/")[0]
    if "/iap_tunnel" in found.string:
        return "tunnel"
    if "/versions/" in found.string:
        return "webServiceVersions"
    return "webServices" if found["service"] else "webTypes" if found["type"] else "web"


def _require(call: Call, verb: str) -> None:
    """Refuse a caller without a permission of IAP on the resource, or on what it is in."""
    name = _resource(call)
    kind, _, ident = name.partition("/")
    if kind == "projects":
        call.require(f"iap.{_level(call)}.{verb}", "//iap.googleapis.com/" + name)
        return
    ours = kind == "folders" or ident == projects.organization(call.cloud)
    if not ours or not call.cloud.iam.allows(call.principal, f"iap.{kind}.{verb}", ORGANIZATION):
        raise call.denied(f"iap.{kind}.{verb}", name)


@SERVICE.method("iap.getIamPolicy")
def get_policy(call: Call) -> Doc:
    _require(call, "getIamPolicy")
    return policies.shown(call, call.cloud.iam.policy(full_name(call)), policies.requested_version(call))


@SERVICE.method("iap.setIamPolicy")
def set_policy(call: Call) -> Doc:
    _require(call, "setIamPolicy")
    return policies.shown(call, policies.replace(call, full_name(call)), 3)


@SERVICE.method("iap.testIamPermissions")
def test_permissions(call: Call) -> Doc:
    return policies.granted(call, full_name(call))


# -- settings --------------------------------------------------------------------


@SERVICE.method("iap.getIapSettings")
def get_settings(call: Call) -> Doc:
    name = _resource(call)
    _require(call, "getSettings")
    return {"name": name} | (call.cloud.store.peek(SETTINGS, name) or {})


@SERVICE.method("iap.updateIapSettings")
def update_settings(call: Call) -> Doc:
    name = _resource(call)
    _require(call, "updateSettings")
    body = {k: v for k, v in call.body.items() if k != "name"}
    paths = [p.strip() for p in call.params.get("updateMask", "").split(",") if p.strip()]
    if paths:
        new = call.cloud.store.get(SETTINGS, name) or {}
        for path in paths:
            parts = [re.sub(r"_(.)", lambda m: m.group(1).upper(), p) for p in path.split(".")]
            _copy(new, body, parts[1:] if parts[0] == "iapSettings" else parts, path)
    else:
        new = body
    _check_settings(new)
    new = _pruned(new)
    call.cloud.store.put(SETTINGS, name, new)
    return {"name": name} | new


def _copy(target: Doc, source: Doc, parts: list[str], path: str) -> None:
    """Set one field of target, by its path, to what source has there."""
    if not parts or parts[0] not in ("accessSettings", "applicationSettings"):
        raise ApiError(400, f"Invalid update mask path: {path}.")
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        source = source.get(part, {})
    target.pop(parts[-1], None)
    if parts[-1] in source:
        target[parts[-1]] = source[parts[-1]]


def _pruned(value: Doc) -> Doc:
    out = {k: _pruned(v) if isinstance(v, dict) else v for k, v in value.items()}
    return {k: v for k, v in out.items() if v not in ({}, [])}


def _check_settings(doc: Doc) -> None:
    reauth = doc.get("accessSettings", {}).get("reauthSettings", {})
    if "maxAge" in reauth:
        found = re.fullmatch(r"(\d+)(?:\.\d+)?s", reauth["maxAge"])
        if not found or int(found.group(1)) < 300:
            raise ApiError(400, "reauth_settings.max_age must be at least 300s.")
    domains = doc.get("accessSettings", {}).get("allowedDomainsSettings", {}).get("domains", [])
    for domain in domains:
        if not re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", domain):
            raise ApiError(400, f"Invalid domain: {domain}.")


@SERVICE.method("iap.validateAttributeExpression")
def validate_expression(call: Call) -> None:
    _require(call, "updateSettings")
    if not call.params["expression"].strip().startswith("attributes."):
        raise ApiError(400, "Request contains an invalid argument.")


# -- brands and OAuth clients -------------------------------------------------------


def _there(call: Call) -> None:
    """Google announced the shutdown of these methods for 2026-03-19; `up --iap-oauth-admin-api` brings them back."""
    if not call.cloud.settings.iap_oauth_admin_api:
        raise ApiError(404, "Method not found.")


def _number(call: Call, name: str) -> str:
    return re.sub(r"^projects/[^/]+", f"projects/{call.project_number}", name)


@SERVICE.method("iap.projects.brands.create")
def create_brand(call: Call) -> Doc:
    _there(call)
    call.require("clientauthconfig.brands.create")
    name = f"projects/{call.project_number}/brands/{call.project_number}"
    if not call.body.get("applicationTitle") or "@" not in call.body.get("supportEmail", ""):
        raise ApiError(400, "Request contains an invalid argument.")
    if call.cloud.store.peek(BRANDS, name) is not None:
        raise ApiError(409, "Requested entity already exists")
    doc = {
        "name": name,
        "supportEmail": call.body["supportEmail"],
        "applicationTitle": call.body["applicationTitle"],
        "orgInternalOnly": True,
    }
    return call.cloud.store.put(BRANDS, name, doc)


def _brand(call: Call, name: str) -> Doc:
    doc = call.cloud.store.peek(BRANDS, _number(call, name))
    if doc is None:
        raise ApiError(404, _NOT_FOUND)
    return doc


@SERVICE.method("iap.projects.brands.get")
def get_brand(call: Call) -> Doc:
    _there(call)
    call.require("clientauthconfig.brands.get")
    return _brand(call, call.params["name"])


@SERVICE.method("iap.projects.brands.list")
def list_brands(call: Call) -> Doc:
    _there(call)
    call.require("clientauthconfig.brands.list")
    found = [doc for _, doc in call.cloud.store.list(BRANDS, f"projects/{call.project_number}/")]
    return {"brands": found} if found else {}


_C = "iap.projects.brands.identityAwareProxyClients."


@SERVICE.method(_C + "create")
def create_client(call: Call) -> Doc:
    _there(call)
    call.require("clientauthconfig.clients.create")
    brand = _brand(call, call.params["parent"])
    ident = f"{call.project_number}-{secrets.token_hex(16)}.apps.googleusercontent.com"
    doc = {"name": f"{brand['name']}/identityAwareProxyClients/{ident}", "secret": _secret()}
    if call.body.get("displayName"):
        doc["displayName"] = call.body["displayName"]
    return call.cloud.store.put(CLIENTS, doc["name"], doc)


def _secret() -> str:
    return "GOCSPX-" + secrets.token_urlsafe(21)[:28]


def _client(call: Call) -> Doc:
    doc = call.cloud.store.peek(CLIENTS, _number(call, call.params["name"]))
    if doc is None:
        raise ApiError(404, _NOT_FOUND)
    return doc


@SERVICE.method(_C + "get")
def get_client(call: Call) -> Doc:
    _there(call)
    call.require("clientauthconfig.clients.getWithSecret")
    return _client(call)


@SERVICE.method(_C + "list")
def list_clients(call: Call) -> Doc:
    _there(call)
    call.require("clientauthconfig.clients.listWithSecrets")
    brand = _brand(call, call.params["parent"])
    found = [doc for _, doc in call.cloud.store.list(CLIENTS, brand["name"] + "/")]
    return page(call, "identityAwareProxyClients", found)


@SERVICE.method(_C + "delete")
def delete_client(call: Call) -> None:
    _there(call)
    call.require("clientauthconfig.clients.delete")
    call.cloud.store.delete(CLIENTS, _client(call)["name"])


@SERVICE.method(_C + "resetSecret")
def reset_secret(call: Call) -> Doc:
    _there(call)
    call.require("clientauthconfig.clients.update")
    return call.cloud.store.put(CLIENTS, _client(call)["name"], _client(call) | {"secret": _secret()})
