"""Secret Manager: secrets, their versions, and who may read them.

https://cloud.google.com/secret-manager/docs/reference/rest
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Handler, Service
from gcp_sandbox.services.secretmanager import replication
from gcp_sandbox.services.secretmanager.checksum import crc32c
from gcp_sandbox.services.secretmanager.locations import LOCATIONS

Doc = dict[str, Any]


def _denied(call: Call, permission: str, shown: str) -> ApiError:
    text = f"Permission '{permission}' denied for resource '{shown}' (or it may not exist)."
    details = [error_info("IAM_PERMISSION_DENIED", call.service.host, permission=permission, resource=shown)]
    return ApiError(403, text, details=details)


SERVICE = Service("secretmanager", "v1", resource_type="secretmanager.googleapis.com/Secret", denied=_denied)
SECRETS, VERSIONS = "secretmanager.secrets", "secretmanager.versions"
PAYLOAD_MAX = 64 * 1024
_CENTURY = 100 * 365 * 24 * 3600  # seconds
_MUTABLE = {
    "labels",
    "annotations",
    "topics",
    "expireTime",
    "ttl",
    "rotation",
    "versionAliases",
    "versionDestroyTtl",
    "replication",
    "customerManagedEncryption",
    "etag",
    "tags",
}


def _method(name: str, permission: str = "") -> Callable[[Handler], Handler]:
    """Register a method of secrets, which those of one region have too."""
    ids = (f"secretmanager.projects.{where}secrets.{name}" for where in ("", "locations."))
    return SERVICE.method(*ids, permission=permission)


# -- names ---------------------------------------------------------------------


def _key(call: Call, name: str) -> str:
    """Store key of a secret, or of what secrets are in: with the project's id, whatever the request has."""
    found = re.match(r"projects/[^/]+((?:/locations/[^/]+)?(?:/secrets/[^/]+)?)", name)
    return f"projects/{call.project_id}" + (found.group(1) if found else "")


def full_name(call: Call) -> str:
    """Full resource name, for policies, of the secret a call names."""
    name = call.params.get("name") or call.params.get("resource") or call.params["parent"]
    return "//secretmanager.googleapis.com/" + _key(call, name)


def _public(project: Doc, key: str) -> str:
    return key.replace(f"projects/{project['projectId']}/", f"projects/{project['projectNumber']}/", 1)


def _shown(project: Doc, key: str, doc: Doc) -> Doc:
    return {"name": _public(project, key)} | {k: v for k, v in doc.items() if not k.startswith("_")}


def _etag() -> str:
    return f'"{secrets.token_hex(7)}"'


def _precondition(text: str) -> ApiError:
    return ApiError(400, text, status="FAILED_PRECONDITION")


def _same_etag(doc: Doc, etag: str | None) -> None:
    if etag and etag != doc["etag"]:
        raise _precondition(f"The provided etag [{etag}] does not match the current etag [{doc['etag']}].")


def _time(text: str, field: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ApiError(400, f"Invalid time [{text}] in {field}.") from None


def _permit(call: Call, permission: str) -> None:
    name = call.params.get("name") or call.params.get("resource") or call.params["parent"]
    call.require(permission, full_name(call), shown=name)


# -- secrets ---------------------------------------------------------------------


def _read(cloud: Cloud, project: Doc, key: str) -> Doc:
    """The document (for reading) of a secret.  Raises ApiError 404."""
    doc = cloud.store.peek(SECRETS, key)
    if doc is not None and "expireTime" in doc and _time(doc["expireTime"], "expire_time") <= datetime.now(UTC):
        _forget(cloud, key)
        doc = None
    if doc is None:
        raise ApiError(404, f"Secret [{_public(project, key)}] not found.")
    return doc


def _secret(call: Call) -> tuple[str, Doc]:
    assert call.project is not None
    name = call.params.get("name") or call.params.get("resource") or call.params["parent"]
    key = _key(call, name)
    return key, _read(call.cloud, call.project, key)


def _forget(cloud: Cloud, key: str) -> None:
    with cloud.store.atomic():
        cloud.store.delete(SECRETS, key)
        for version, _ in cloud.store.list(VERSIONS, key + "/versions/"):
            cloud.store.delete(VERSIONS, version)
        cloud.iam.drop("//secretmanager.googleapis.com/" + key)


def _camel(name: str) -> str:
    return re.sub(r"_(.)", lambda m: m.group(1).upper(), name)


def _seconds(doc: Doc, field: str, least: int, most: int) -> int:
    """A duration of a secret.  Raises ApiError 400 where it is none, or too short or long."""
    found = re.fullmatch(r"(\d+)(\.\d+)?s", doc[field])
    if not found or not least <= int(found.group(1)) <= most:
        text = f"Invalid {re.sub('[A-Z]', lambda m: '_' + m.group().lower(), field)} [{doc[field]}]"
        raise ApiError(400, f"{text}: it must be between {least}s and {most}s.")
    return int(found.group(1))


def _settled(call: Call, key: str, doc: Doc) -> Doc:
    """A secret's document after a change: checked, and with what the server works out."""
    for name in ("labels", "annotations", "topics", "versionAliases", "tags", "rotation"):
        if name in doc and not doc[name]:
            del doc[name]
    for label, value in doc.get("labels", {}).items():
        if not re.fullmatch(r"[a-z][-a-z0-9_]{0,62}", label) or not re.fullmatch(r"[-a-z0-9_]{0,63}", value):
            raise ApiError(
                400,
                f"Invalid label [{label}: {value}]: keys and values are up to 63 lowercase letters, digits, "
                "hyphens and underscores, and a key begins with a letter.",
            )
    for topic in doc.get("topics", ()):
        if not re.fullmatch(r"projects/[^/]+/topics/[^/]+", topic.get("name", "")):
            raise ApiError(400, f"Invalid topic name [{topic.get('name', '')}].")
    if "ttl" in doc:
        if "expireTime" in doc:
            raise ApiError(
                400, "Invalid value at 'secret' (oneof), oneof field 'expiration' is already set. Cannot set 'ttl'"
            )
        when = datetime.now(UTC) + timedelta(seconds=_seconds(doc, "ttl", 1, _CENTURY))
        doc["expireTime"] = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        del doc["ttl"]
    if "versionDestroyTtl" in doc:
        _seconds(doc, "versionDestroyTtl", 24 * 3600, 1000 * 24 * 3600)
    if "expireTime" in doc and _time(doc["expireTime"], "expire_time") <= datetime.now(UTC):
        raise ApiError(400, "Secret.expire_time must be in the future.")
    if doc.get("rotation"):
        if not doc.get("topics"):
            raise ApiError(400, "At least one topic is required to set a rotation policy on a Secret.")
        if "nextRotationTime" not in doc["rotation"]:
            raise ApiError(400, "rotation.next_rotation_time must be set if rotation.rotation_period is set.")
        if "rotationPeriod" in doc["rotation"]:
            _seconds(doc["rotation"], "rotationPeriod", 3600, _CENTURY)
    for alias, number in doc.get("versionAliases", {}).items():
        if not re.fullmatch(r"[A-Za-z][-\w]{0,62}", alias) or alias == "latest":
            raise ApiError(400, f"Invalid version alias [{alias}].")
        if call.cloud.store.peek(VERSIONS, f"{key}/versions/{number}") is None:
            raise _precondition(f"Version alias [{alias}] refers to version [{number}], which does not exist.")
    doc["etag"] = _etag()
    return doc


@_method("create", permission="secretmanager.secrets.create")
def create(call: Call) -> Doc:
    assert call.project is not None
    ident = call.params.get("secretId", "")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", ident):
        raise ApiError(
            400, f"The provided Secret ID [{ident}] does not match the expected format [[a-zA-Z_0-9-]{{1,255}}]."
        )
    parent = _key(call, call.params["parent"])
    key = f"{parent}/secrets/{ident}"
    body = {k: v for k, v in call.body.items() if k not in ("name", "etag", "createTime")}
    replication.check(body, parent.partition("/locations/")[2])
    if call.cloud.store.peek(SECRETS, key) is not None:
        raise ApiError(409, f"Secret [{_public(call.project, key)}] already exists.")
    doc = _settled(call, key, body) | {"createTime": now()}
    return _shown(call.project, key, call.cloud.store.put(SECRETS, key, doc))


@_method("get")
def get(call: Call) -> Doc:
    _permit(call, "secretmanager.secrets.get")
    key, doc = _secret(call)
    return _shown(call.project, key, doc)  # type: ignore[arg-type]


def _filtered(docs: list[Doc], text: str) -> list[Doc]:
    """Those that meet a filter of terms field:value and field=value (https://cloud.google.com/secret-manager/docs/filtering)."""
    terms = [t for t in re.split(r"\s+AND\s+|\s+", text.strip()) if t]
    return [doc for doc in docs if all(_meets(doc, term) for term in terms)]


def _meets(doc: Doc, term: str) -> bool:
    field, sign, value = re.match(r"([^:=]*)([:=]?)(.*)", term).groups()  # type: ignore[union-attr]
    if not sign:
        return field.strip('"') in doc["name"]
    found: Any = doc
    for part in field.split("."):
        found = found.get(_camel(part), found.get(part)) if isinstance(found, dict) else None
    value = value.strip('"')
    if isinstance(found, dict):
        return value == "*" or value in found
    if found is None:
        return False
    return str(found) == value if sign == "=" else value == "*" or value.lower() in str(found).lower()


@_method("list", permission="secretmanager.secrets.list")
def list_(call: Call) -> Doc:
    assert call.project is not None
    prefix = _key(call, call.params["parent"]) + "/secrets/"
    found = [_shown(call.project, k, d) for k, d in call.cloud.store.list(SECRETS, prefix)]
    found.sort(key=lambda d: d["createTime"], reverse=True)
    out = page(call, "secrets", _filtered(found, call.params.get("filter", "")), default=25000, most=25000, total=True)
    return out


@_method("patch")
def patch(call: Call) -> Doc:
    _permit(call, "secretmanager.secrets.update")
    key, found = _secret(call)
    paths = [f.strip() for f in call.params.get("updateMask", "").split(",") if f.strip()]
    if not paths:
        raise ApiError(400, "An update mask must be provided.")
    doc, body = dict(found), call.body
    _same_etag(doc, body.get("etag"))
    for path in paths:
        first, _, rest = path.partition(".")
        field = _camel(first)
        if field not in _MUTABLE:
            raise ApiError(400, f"Invalid update mask path [{path}].")
        if field == "etag":
            continue
        if field == "replication" and not replication.same_places(doc.get(field, {}), body.get(field, {})):
            raise ApiError(400, "Secret.replication is immutable.")
        if rest and field in ("labels", "annotations", "versionAliases", "rotation"):
            name = _camel(rest) if field == "rotation" else rest
            values = {k: v for k, v in doc.get(field, {}).items() if k != name}
            if name in body.get(field, {}):
                values[name] = body[field][name]
            doc[field] = values
            continue
        if field in ("ttl", "expireTime"):
            doc.pop("expireTime", None)
        doc.pop(field, None)
        if field in body:
            doc[field] = body[field]
    return _shown(call.project, key, call.cloud.store.put(SECRETS, key, _settled(call, key, doc)))  # type: ignore[arg-type]


@_method("delete")
def delete(call: Call) -> None:
    _permit(call, "secretmanager.secrets.delete")
    key, doc = _secret(call)
    _same_etag(doc, call.params.get("etag"))
    _forget(call.cloud, key)


for _collection in ("secretmanager.projects.secrets", "secretmanager.projects.locations.secrets"):
    policies.serve(SERVICE, _collection, full_name, "secretmanager.secrets", exists=_secret)


# -- versions --------------------------------------------------------------------


def _versions(cloud: Cloud, key: str) -> list[tuple[str, Doc]]:
    found = cloud.store.list(VERSIONS, key + "/versions/")
    return sorted(found, key=lambda pair: int(pair[0].rpartition("/")[2]), reverse=True)


def _find(cloud: Cloud, project: Doc, name: str) -> tuple[str, Doc]:
    """Store key and document (for reading) of a version by number, alias or latest.  Raises ApiError 404."""
    secret, _, version = name.partition("/versions/")
    key = re.sub("^projects/[^/]+", f"projects/{project['projectId']}", secret)
    doc = _read(cloud, project, key)
    if version == "latest":
        newest = next(iter(_versions(cloud, key)), None)
        if newest is None:
            raise ApiError(404, f"Secret [{_public(project, key)}] not found or has no versions.")
        return newest
    number = str(doc.get("versionAliases", {}).get(version, version))
    found = cloud.store.peek(VERSIONS, f"{key}/versions/{number}")
    if found is None:
        raise ApiError(404, f"Secret Version [{_public(project, key)}/versions/{version}] not found.")
    return f"{key}/versions/{number}", found


def _version(call: Call) -> tuple[str, Doc]:
    assert call.project is not None
    return _find(call.cloud, call.project, call.params["name"])


@_method("addVersion")
def add(call: Call) -> Doc:
    assert call.project is not None
    _permit(call, "secretmanager.versions.add")
    key, secret = _secret(call)
    payload = call.body.get("payload", {})
    text = payload.get("data", "").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:  # of which binascii.Error is one
        raise ApiError(400, "Invalid value at 'payload.data' (TYPE_BYTES), Base64 decoding failed.") from None
    if not data:
        raise ApiError(400, "Secret Payload cannot be empty.")
    if len(data) > PAYLOAD_MAX:
        raise ApiError(400, f"Secret Payload is too large: {len(data)} bytes, the limit is {PAYLOAD_MAX}.")
    if "dataCrc32c" in payload and int(payload["dataCrc32c"]) != crc32c(data):
        raise ApiError(400, "The provided data_crc32c does not match the checksum of the payload.")
    number = int(secret.get("_last", 0)) + 1
    doc: Doc = {"createTime": now(), "state": "ENABLED", "etag": _etag(), "_data": base64.b64encode(data).decode()}
    doc |= replication.of_version(secret)
    if "dataCrc32c" in payload:
        doc["clientSpecifiedPayloadChecksum"] = True
    with call.cloud.store.atomic():
        call.cloud.store.put(SECRETS, key, secret | {"_last": number})
        call.cloud.store.put(VERSIONS, f"{key}/versions/{number}", doc)
    return _shown(call.project, f"{key}/versions/{number}", doc)


@_method("versions.get")
def get_version(call: Call) -> Doc:
    _permit(call, "secretmanager.versions.get")
    return _shown(call.project, *_version(call))  # type: ignore[arg-type]


@_method("versions.list")
def list_versions(call: Call) -> Doc:
    assert call.project is not None
    _permit(call, "secretmanager.versions.list")
    key, _ = _secret(call)
    found = [_shown(call.project, k, d) for k, d in _versions(call.cloud, key)]
    return page(
        call, "versions", _filtered(found, call.params.get("filter", "")), default=25000, most=25000, total=True
    )


def _content(cloud: Cloud, project: Doc, name: str) -> tuple[str, bytes]:
    key, doc = _find(cloud, project, name)
    if doc["state"] != "ENABLED":
        raise _precondition(f"Secret Version [{_public(project, key)}] is in {doc['state']} state.")
    return _public(project, key), base64.b64decode(doc["_data"])


@_method("versions.access")
def access_method(call: Call) -> Doc:
    assert call.project is not None
    _permit(call, "secretmanager.versions.access")
    name, data = _content(call.cloud, call.project, call.params["name"])
    return {"name": name, "payload": {"data": base64.b64encode(data).decode(), "dataCrc32c": str(crc32c(data))}}


def access(cloud: Cloud, principal: Principal, name: str) -> bytes:
    """Content of ``projects/P/secrets/s/versions/V`` as an account reads it.  Raises ApiError as the API answers it."""
    found = re.fullmatch(r"projects/([^/]+)((?:/locations/[^/]+)?/secrets/[^/]+)/versions/[^/]+", name)
    project = projects.find(cloud, found.group(1)) if found else None
    resource = f"projects/{project['projectId']}{found.group(2)}" if found and project else name
    permission = "secretmanager.versions.access"
    allowed = project and cloud.iam.allows(
        principal, permission, project_resource(project["projectId"]), f"//secretmanager.googleapis.com/{resource}"
    )
    if not project or not allowed:
        text = f"Permission '{permission}' denied for resource '{name}' (or it may not exist)."
        details = [error_info("IAM_PERMISSION_DENIED", SERVICE.host, permission=permission, resource=name)]
        raise ApiError(403, text, details=details)
    return _content(cloud, project, name)[1]


def _change(call: Call, state: str) -> Doc:
    assert call.project is not None
    key, found = _version(call)
    _same_etag(found, call.body.get("etag"))
    if found["state"] == "DESTROYED":
        raise _precondition(f"Secret Version [{_public(call.project, key)}] is in DESTROYED state.")
    doc = dict(found) | {"state": state, "etag": _etag()}
    doc.pop("scheduledDestroyTime", None)
    return _shown(call.project, key, call.cloud.store.put(VERSIONS, key, doc))


@_method("versions.enable")
def enable(call: Call) -> Doc:
    _permit(call, "secretmanager.versions.enable")
    return _change(call, "ENABLED")


@_method("versions.disable")
def disable(call: Call) -> Doc:
    _permit(call, "secretmanager.versions.disable")
    return _change(call, "DISABLED")


@_method("versions.destroy")
def destroy(call: Call) -> Doc:
    assert call.project is not None
    _permit(call, "secretmanager.versions.destroy")
    key, found = _version(call)
    secret = _read(call.cloud, call.project, key.rpartition("/versions/")[0])
    delay = re.fullmatch(r"(\d+)(\.\d+)?s", secret.get("versionDestroyTtl", ""))
    if delay and found["state"] != "DESTROYED":
        _change(call, "DISABLED")
        when = datetime.now(UTC) + timedelta(seconds=int(delay.group(1)))
        change = {"scheduledDestroyTime": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    else:
        _change(call, "DESTROYED")
        change = {"destroyTime": now(), "_data": ""}
    doc = call.cloud.store.put(VERSIONS, key, (call.cloud.store.peek(VERSIONS, key) or {}) | change)
    return _shown(call.project, key, doc)


# -- locations --------------------------------------------------------------------


def _location(call: Call, name: str) -> Doc:
    return {
        "name": f"projects/{call.project_number}/locations/{name}",
        "locationId": name,
        "displayName": LOCATIONS[name],
    }


@SERVICE.method("secretmanager.projects.locations.list", permission="secretmanager.locations.list")
def locations(call: Call) -> Doc:
    return page(call, "locations", [_location(call, name) for name in LOCATIONS])


@SERVICE.method("secretmanager.projects.locations.get", permission="secretmanager.locations.get")
def location(call: Call) -> Doc:
    name = call.params["name"].rpartition("/")[2]
    if name not in LOCATIONS:
        raise ApiError(404, f"Location [{name}] not found.")
    return _location(call, name)
