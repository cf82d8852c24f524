"""Identity-Aware Proxy: who may reach a web resource, its settings, and (where switched on) brands and OAuth clients.

https://cloud.google.com/iap/docs/reference/rest
"""

from __future__ import annotations

import hashlib
import re
import secrets
from functools import partial
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import ORGANIZATION
from gcp_sandbox.core.masks import masked, paths
from gcp_sandbox.core.resources import Collection, name_of, serve
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
SERVICE = Service("iap", "v1", resource_type="iap.googleapis.com/WebService")
SETTINGS = "iap.settings"
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


policies.serve(SERVICE, "iap", full_name, _require)


# -- settings --------------------------------------------------------------------


@SERVICE.method("iap.getIapSettings")
def get_settings(call: Call) -> Doc:
    name = _resource(call)
    _require(call, "getSettings")
    return _shown(name, call.cloud.store.get(SETTINGS, name) or {})


@SERVICE.method("iap.updateIapSettings")
def update_settings(call: Call) -> Doc:
    name = _resource(call)
    _require(call, "updateSettings")
    body = {k: v for k, v in call.body.items() if k != "name"}
    if mask := [path.removeprefix("iapSettings.").removeprefix("iap_settings.") for path in paths(call)]:
        old = call.cloud.store.get(SETTINGS, name) or {}
        body = masked(call, old, mask, ("accessSettings", "applicationSettings"), _wrong_path)
    _check_settings(body)
    new = _pruned(body)
    call.cloud.store.put(SETTINGS, name, new)
    return _shown(name, new)


def _shown(name: str, settings: Doc) -> Doc:
    """Settings as they are returned: with a hash in place of the OAuth client's secret."""
    access = settings.get("accessSettings", {})
    oauth = {k: v for k, v in access.get("oauthSettings", {}).items() if k != "clientSecret"}
    if secret := access.get("oauthSettings", {}).get("clientSecret"):
        oauth["clientSecretSha256"] = hashlib.sha256(secret.encode()).hexdigest()
    return {"name": name} | settings | ({"accessSettings": access | {"oauthSettings": oauth}} if oauth else {})


def _wrong_path(path: str) -> ApiError:
    return ApiError(400, f"Invalid update mask path: {path}.")


def _pruned(value: Doc) -> Doc:
    out = {k: _pruned(v) if isinstance(v, dict) else v for k, v in value.items()}
    return {k: v for k, v in out.items() if v not in ({}, [])}


def _check_settings(doc: Doc) -> None:
    reauth = doc.get("accessSettings", {}).get("reauthSettings", {})
    if "maxAge" in reauth:
        found = re.fullmatch(r"(\d+)(?:\.\d+)?s", reauth["maxAge"])
        if not found or int(found.group(1)) < 300:
            raise ApiError(400, "reauth_settings.max_age must be at least 300s.")
    oauth = doc.get("accessSettings", {}).get("oauthSettings", {})
    if bool(oauth.get("clientId")) != bool(oauth.get("clientSecret")):
        raise ApiError(400, "Both client_id and client_secret must be set in oauth_settings, or neither of them.")
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

_named = partial(name_of, number=True)


def _permit(call: Call, permission: str) -> None:
    """Google announced the shutdown of these methods for 2026-03-19; `up --iap-oauth-admin-api` brings them back."""
    if not call.cloud.settings.iap_oauth_admin_api:
        raise ApiError(404, "Method not found.")
    call.require(permission)


def _number(call: Call) -> str:
    if not call.body.get("applicationTitle") or "@" not in call.body.get("supportEmail", ""):
        raise ApiError(400, "Request contains an invalid argument.")
    return call.project_number


BRANDS = Collection(
    SERVICE,
    "iap.projects.brands",
    "iap.brands",
    permission="clientauthconfig.brands",
    named=_named,
    permit=_permit,
    ident=_number,
    prepare=lambda call, key, new, old: new | {"orgInternalOnly": True},
)
serve(BRANDS, "create get list")


def _secret() -> str:
    return "GOCSPX-" + secrets.token_urlsafe(21)[:28]


CLIENTS = Collection(
    SERVICE,
    "iap.projects.brands.identityAwareProxyClients",
    "iap.clients",
    permission="clientauthconfig.clients",
    verbs={"get": "getWithSecret", "list": "listWithSecrets"},
    named=_named,
    parent=lambda call: str(BRANDS.existing(call)["name"]),
    permit=_permit,
    ident=lambda call: f"{call.project_number}-{secrets.token_hex(16)}.apps.googleusercontent.com",
    prepare=lambda call, key, new, old: new | {"secret": _secret()},
)
serve(CLIENTS, "create get list delete")


@SERVICE.method("iap.projects.brands.identityAwareProxyClients.resetSecret")
def reset_secret(call: Call) -> Doc:
    _permit(call, "clientauthconfig.clients.update")
    doc = CLIENTS.existing(call) | {"secret": _secret()}
    return call.cloud.store.put(CLIENTS.kind, doc["name"], doc)
