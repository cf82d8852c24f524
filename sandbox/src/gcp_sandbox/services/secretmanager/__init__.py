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

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.masks import camel, paths
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.resources import Collection, name_of, serve, serve_locations
from gcp_sandbox.core.service import Call, Handler, Service
from gcp_sandbox.services.secretmanager import replication
from gcp_sandbox.services.secretmanager.checksum import crc32c
from gcp_sandbox.services.secretmanager.locations import LOCATIONS

Doc = dict[str, Any]


def _denied(call: Call | None, permission: str, shown: str) -> ApiError:
    text = f"Permission '{permission}' denied for resource '{shown}' (or it may not exist)."
    details = [error_info("IAM_PERMISSION_DENIED", SERVICE.host, permission=permission, resource=shown)]
    return ApiError(403, text, details=details)


SERVICE = Service("secretmanager", "v1", resource_type="secretmanager.googleapis.com/Secret", denied=_denied)
PAYLOAD_MAX = 64 * 1024
_CENTURY = 100 * 365 * 24 * 3600  # seconds
_IDS = ("secretmanager.projects.secrets", "secretmanager.projects.locations.secrets")


def _method(name: str) -> Callable[[Handler], Handler]:
    """Register a method of secrets, which those of one region have too."""
    return SERVICE.method(*(f"{ids}.{name}" for ids in _IDS))


# -- names ---------------------------------------------------------------------


def _etag() -> str:
    return f'"{secrets.token_hex(7)}"'


def _precondition(text: str) -> ApiError:
    return ApiError(400, text, status="FAILED_PRECONDITION")


def _stale(given: str, etag: str) -> ApiError:
    return _precondition(f"The provided etag [{given}] does not match the current etag [{etag}].")


def _time(text: str, field: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ApiError(400, f"Invalid time [{text}] in {field}.") from None


def _permit(call: Call, permission: str) -> None:
    if "parent" in call.params and permission.startswith("secretmanager.secrets."):
        call.require(permission)
        return
    name = call.params.get("name") or call.params.get("resource") or call.params["parent"]
    call.require(permission, SECRETS.full_name(call), shown=name)


# -- secrets ---------------------------------------------------------------------


def _find(cloud: Cloud, key: str) -> Doc | None:
    """The document (for reading) of a secret that has not expired."""
    doc = cloud.store.peek(SECRETS.kind, key)
    if doc is not None and "expireTime" in doc and _time(doc["expireTime"], "expire_time") <= datetime.now(UTC):
        SECRETS.remove(cloud, key)
        return None
    return doc


def _seconds(doc: Doc, field: str, least: int, most: int) -> int:
    """A duration of a secret.  Raises ApiError 400 where it is none, or too short or long."""
    found = re.fullmatch(r"(\d+)(\.\d+)?s", doc[field])
    if not found or not least <= int(found.group(1)) <= most:
        text = f"Invalid {re.sub('[A-Z]', lambda m: '_' + m.group().lower(), field)} [{doc[field]}]"
        raise ApiError(400, f"{text}: it must be between {least}s and {most}s.")
    return int(found.group(1))


def _settled(call: Call, key: str, doc: Doc, old: Doc | None) -> Doc:
    """A secret's document after a change: checked, and with what the server works out."""
    if old is not None:
        _check_mask(call, doc, old)
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
        if call.cloud.store.peek(VERSIONS.kind, f"{key}/versions/{number}") is None:
            raise _precondition(f"Version alias [{alias}] refers to version [{number}], which does not exist.")
    if old is None or doc.get("replication") != old.get("replication"):
        replication.use_keys(call.cloud, call.project_id, doc)
    return doc | {"etag": _etag()} | ({} if old else {"createTime": now()})


def _check_mask(call: Call, doc: Doc, old: Doc) -> None:
    fields = [camel(path) for path in paths(call)]
    if not fields:
        raise ApiError(400, "An update mask must be provided.")
    if not replication.same_places(old.get("replication", {}), doc.get("replication", {})):
        raise ApiError(400, "Secret.replication is immutable.")
    if doc.get("replication") != old.get("replication"):
        replication.check(doc, "")
    if "ttl" in fields and "expireTime" not in fields:
        doc.pop("expireTime", None)  # either takes the other's place


def _ident(call: Call) -> str:
    ident: str = call.params.get("secretId", "")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", ident):
        raise ApiError(
            400, f"The provided Secret ID [{ident}] does not match the expected format [[a-zA-Z_0-9-]{{1,255}}]."
        )
    replication.check(call.body, call.params["parent"].partition("/locations/")[2])
    return ident


def _filtered(docs: list[Doc], text: str) -> list[Doc]:
    """Those that meet a filter of terms field:value and field=value (https://cloud.google.com/secret-manager/docs/filtering)."""
    terms = [t for t in re.split(r"\s+AND\s+|\s+", text.strip()) if t]
    return [doc for doc in docs if all(_meets(doc, term) for term in terms)]


def _meets(doc: Doc, term: str) -> bool:
    sign = next((letter for letter in term if letter in ":="), "")
    if not sign:
        return term.strip('"') in doc["name"]
    field, _, value = term.partition(sign)
    found: Any = doc
    for part in field.split("."):
        found = found.get(camel(part), found.get(part)) if isinstance(found, dict) else None
    value = value.strip('"')
    if isinstance(found, dict):
        return value == "*" or value in found
    if found is None:
        return False
    return str(found) == value if sign == "=" else value == "*" or value.lower() in str(found).lower()


def _listing(field: str) -> Callable[[Call, list[Doc]], Doc]:
    def listing(call: Call, found: list[Doc]) -> Doc:
        chosen = _filtered(found, call.params.get("filter", ""))
        return page(call, field, chosen, default=25000, most=25000, total=True)

    return listing


SECRETS = Collection(
    SERVICE,
    " ".join(_IDS),
    "secretmanager.secrets",
    output=("name", "etag"),
    mutable=(
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
    ),
    policy=True,
    number=True,
    newest=True,
    children=("secretmanager.versions",),
    permit=_permit,
    ident=_ident,
    find=_find,
    prepare=_settled,
    listing=_listing("secrets"),
    missing=lambda name: ApiError(404, f"Secret [{name}] not found."),
    taken=lambda name: ApiError(409, f"Secret [{name}] already exists."),
    wrong=lambda path: ApiError(400, f"Invalid update mask path [{path}]."),
    stale=_stale,
)
serve(SECRETS, "create get list patch delete policy")


# -- versions --------------------------------------------------------------------


def _locate(cloud: Cloud, name: str) -> str:
    """Key of a version by number, alias or latest; name has the project's id.  Raises ApiError 404."""
    key, _, version = name.partition("/versions/")
    doc = SECRETS.read(cloud, key)
    if version != "latest":
        return f"{key}/versions/{doc.get('versionAliases', {}).get(version, version)}"
    if not doc.get("_last"):
        raise ApiError(404, f"Secret [{SECRETS.public(cloud, key)}] not found or has no versions.")
    return f"{key}/versions/{doc['_last']}"


def _parent(call: Call) -> str:
    SECRETS.existing(call)
    return name_of(call)


def _list_versions(call: Call, found: list[Doc]) -> Doc:
    found.sort(key=lambda doc: int(doc["name"].rpartition("/")[2]), reverse=True)
    return _listing("versions")(call, found)


VERSIONS = Collection(
    SERVICE,
    " ".join(f"{ids}.versions" for ids in _IDS),
    "secretmanager.versions",
    number=True,
    key=lambda call: _locate(call.cloud, name_of(call)),
    parent=_parent,
    permit=_permit,
    listing=_list_versions,
    missing=lambda name: ApiError(404, f"Secret Version [{name}] not found."),
    stale=_stale,
)
serve(VERSIONS, "get list")


@_method("addVersion")
def add(call: Call) -> Doc:
    _permit(call, "secretmanager.versions.add")
    key, secret = SECRETS.key_of(call), SECRETS.existing(call)
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
    replication.use_keys(call.cloud, call.project_id, secret)
    number = int(secret.get("_last", 0)) + 1
    doc: Doc = {"createTime": now(), "state": "ENABLED", "etag": _etag(), "_data": base64.b64encode(data).decode()}
    doc |= replication.of_version(secret)
    if "dataCrc32c" in payload:
        doc["clientSpecifiedPayloadChecksum"] = True
    with call.cloud.store.atomic():
        call.cloud.store.put(SECRETS.kind, key, secret | {"_last": number})
        return _put(call, f"{key}/versions/{number}", doc)


def _content(cloud: Cloud, name: str) -> tuple[str, bytes]:
    key = _locate(cloud, name)
    doc, shown = VERSIONS.read(cloud, key), VERSIONS.public(cloud, key)
    if doc["state"] != "ENABLED":
        raise _precondition(f"Secret Version [{shown}] is in {doc['state']} state.")
    replication.use_keys(cloud, key.split("/")[1], SECRETS.read(cloud, key.partition("/versions/")[0]), "useToDecrypt")
    return shown, base64.b64decode(doc["_data"])


@_method("versions.access")
def access_method(call: Call) -> Doc:
    _permit(call, "secretmanager.versions.access")
    name, data = _content(call.cloud, name_of(call))
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
        raise _denied(None, permission, name)
    return _content(cloud, f"{resource}/versions/{name.rpartition('/')[2]}")[1]


def _change(call: Call, state: str) -> Doc:
    key = VERSIONS.key_of(call)
    found = VERSIONS.read(call.cloud, key)
    VERSIONS.check_etag(found, call.body.get("etag", ""))
    if found["state"] == "DESTROYED":
        raise _precondition(f"Secret Version [{VERSIONS.public(call.cloud, key)}] is in DESTROYED state.")
    doc = found | {"state": state, "etag": _etag()}
    doc.pop("scheduledDestroyTime", None)
    if state == "DESTROYED":
        doc |= {"destroyTime": now(), "_data": ""}
    return _put(call, key, doc)


def _put(call: Call, key: str, doc: Doc) -> Doc:
    return VERSIONS.show(call, key, call.cloud.store.put(VERSIONS.kind, key, doc))


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
    _permit(call, "secretmanager.versions.destroy")
    delay = re.fullmatch(r"(\d+)(\.\d+)?s", SECRETS.existing(call).get("versionDestroyTtl", ""))
    if not delay:
        return _change(call, "DESTROYED")
    _change(call, "DISABLED")
    key, when = VERSIONS.key_of(call), datetime.now(UTC) + timedelta(seconds=int(delay.group(1)))
    change = {"scheduledDestroyTime": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    return _put(call, key, VERSIONS.read(call.cloud, key) | change)


serve_locations(
    SERVICE,
    "secretmanager.projects.locations",
    "get list",
    {region: {"displayName": place} for region, place in LOCATIONS.items()},
    number=True,
    missing=lambda name: ApiError(404, f"Location [{name.rpartition('/')[2]}] not found."),
)
