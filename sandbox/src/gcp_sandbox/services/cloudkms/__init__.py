"""Cloud KMS: key rings, keys and their versions.  Keys encrypt nothing here; other services ask whether they may use them.

https://cloud.google.com/kms/docs/reference/rest
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.resources import Collection, name_of, parameter, serve, serve_locations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.compute.places import REGIONS
from gcp_sandbox.services.serviceusage import catalog

Doc = dict[str, Any]


def _refused(permission: str, shown: str) -> ApiError:
    text = f"Permission '{permission}' denied on resource '{shown}' (or it may not exist)."
    details = [error_info("IAM_PERMISSION_DENIED", "cloudkms.googleapis.com", permission=permission, resource=shown)]
    return ApiError(403, text, details=details)


SERVICE = Service(
    "cloudkms",
    "v1",
    resource_type="cloudkms.googleapis.com/CryptoKey",
    denied=lambda call, permission, shown: _refused(permission, shown),
)
_BASE = "cloudkms.projects.locations"
_ID = r"[a-zA-Z0-9_-]{1,63}"
# https://cloud.google.com/kms/docs/locations
_AREAS = ("asia", "asia1", "eur3", "eur4", "eur5", "eur6", "europe", "global", "nam3", "nam4", "nam6", "nam7", "us")
LOCATIONS = sorted({*REGIONS, *_AREAS})
# Purpose -> the algorithm of its versions, unless a template names another.
_PURPOSES = {
    "ENCRYPT_DECRYPT": "GOOGLE_SYMMETRIC_ENCRYPTION",
    "ASYMMETRIC_SIGN": "RSA_SIGN_PSS_2048_SHA256",
    "ASYMMETRIC_DECRYPT": "RSA_DECRYPT_OAEP_2048_SHA256",
    "MAC": "HMAC_SHA256",
}


# -- access ----------------------------------------------------------------


def _above(name: str) -> list[str]:
    """Full names of a key ring or key, and of the key ring and project that it is in."""
    pattern = r"\Aprojects/([^/]+)(/locations/[^/]+/keyRings/[^/]+)?(/cryptoKeys/[^/]+)?"
    ((project, ring, key),) = re.findall(pattern, name)
    inside = [ring, ring + key] if key else [ring] if ring else []
    return [project_resource(project), *(f"//cloudkms.googleapis.com/projects/{project}{path}" for path in inside)]


def _permit(call: Call, permission: str) -> None:
    name = name_of(call)
    if not call.cloud.iam.allows(call.principal, permission, *_above(name)):
        raise call.denied(permission, name)


# -- key rings -------------------------------------------------------------


def _ring(call: Call) -> str:
    place = call.params["parent"].split("/")[3]
    if place not in LOCATIONS:
        raise ApiError(
            400,
            f"The request concerns location '{place}' but was sent to location 'global'. Either Cloud KMS is not "
            f"available in '{place}' or the request was misrouted. In the latter case, see "
            "https://cloud.google.com/kms/docs/grpc for information on how requests are routed by the various client "
            "libraries.",
        )
    return parameter("keyRingId", _ID)(call)


RINGS = Collection(
    SERVICE,
    f"{_BASE}.keyRings",
    "cloudkms.keyRings",
    permit=_permit,
    ident=_ring,
    prepare=lambda call, key, new, old: new | {"createTime": now()},
    missing=lambda name: ApiError(404, f"KeyRing {name} not found."),
    taken=lambda name: ApiError(409, f"KeyRing {name} already exists."),
)
serve(RINGS, "create get list")
policies.serve(
    SERVICE,
    f"{_BASE}.keyRings",
    RINGS.full_name,
    lambda call, method: _permit(call, f"cloudkms.keyRings.{method}"),
    RINGS.existing,
)


# -- keys ------------------------------------------------------------------


def _key_ident(call: Call) -> str:
    RINGS.existing(call)
    return parameter("cryptoKeyId", _ID)(call)


def _key(call: Call, key: str, doc: Doc, old: Doc | None) -> Doc:
    if old is not None:
        return doc
    purpose = doc.get("purpose", "CRYPTO_KEY_PURPOSE_UNSPECIFIED")
    if purpose not in _PURPOSES:
        raise ApiError(400, "CryptoKey.purpose must be set.")
    if "rotationPeriod" in doc and "nextRotationTime" not in doc:
        raise ApiError(400, "CryptoKey.next_rotation_time must be set if rotation_period is set.")
    template = {"protectionLevel": "SOFTWARE", "algorithm": _PURPOSES[purpose]} | doc.get("versionTemplate", {})
    return {"destroyScheduledDuration": "2592000s"} | doc | {"createTime": now(), "versionTemplate": template}


def _first_version(call: Call, key: str, doc: Doc) -> None:
    """Create the first version of a new key."""
    name = f"{key}/cryptoKeyVersions/1"
    if call.params.get("skipInitialVersionCreation") or call.cloud.store.peek(VERSIONS.kind, name):
        return
    when = doc["createTime"]
    version = {"name": name, "state": "ENABLED", "createTime": when, "generateTime": when} | doc["versionTemplate"]
    call.cloud.store.put(VERSIONS.kind, name, version)


def _shown(cloud: Cloud, key: str, doc: Doc) -> Doc:
    version = cloud.store.peek(VERSIONS.kind, f"{key}/cryptoKeyVersions/1")
    return doc | ({"primary": version} if version and doc["purpose"] == "ENCRYPT_DECRYPT" else {})


KEYS = Collection(
    SERVICE,
    f"{_BASE}.keyRings.cryptoKeys",
    "cloudkms.cryptoKeys",
    mutable=("labels", "rotationPeriod", "nextRotationTime", "versionTemplate"),
    permit=_permit,
    ident=_key_ident,
    prepare=_key,
    after=_first_version,
    shown=_shown,
    missing=lambda name: ApiError(404, f"CryptoKey {name} not found."),
    taken=lambda name: ApiError(409, f"CryptoKey {name} already exists."),
)
serve(KEYS, "create get list patch")
policies.serve(
    SERVICE,
    f"{_BASE}.keyRings.cryptoKeys",
    KEYS.full_name,
    lambda call, method: _permit(call, f"cloudkms.cryptoKeys.{method}"),
    KEYS.existing,
)


# -- versions --------------------------------------------------------------


def _version(call: Call, key: str, doc: Doc, old: Doc | None) -> Doc:
    if doc["state"] not in ("ENABLED", "DISABLED"):
        raise ApiError(400, f"The state of a version cannot be set to {doc['state']}.")
    return doc


VERSIONS = Collection(
    SERVICE,
    f"{_BASE}.keyRings.cryptoKeys.cryptoKeyVersions",
    "cloudkms.cryptoKeyVersions",
    mutable=("state",),
    permit=_permit,
    prepare=_version,
    missing=lambda name: ApiError(404, f"CryptoKeyVersion {name} not found."),
)
serve(VERSIONS, "get list patch")


# -- use by other services -------------------------------------------------


def location(name: str) -> str:
    """Location of the key of a name; "" where it is not the name of a key."""
    found = re.fullmatch(rf"projects/[^/]+/locations/([^/]+)/keyRings/{_ID}/cryptoKeys/{_ID}", name)
    return found.group(1) if found else ""


def use(cloud: Cloud, project_id: str, service: str, name: str, permission: str = "useToEncrypt") -> str:
    """Name of the version of a key by which the agent of a project's service ("sqladmin") encrypts or decrypts.

    Raises ApiError as Cloud KMS answers an agent that may not use the key, or one whose version is disabled.
    """
    owner, of = projects.find(cloud, project_id), projects.find(cloud, name.split("/")[1])
    key = re.sub("^projects/[^/]+", f"projects/{of['projectId']}", name) if of else name
    doc = cloud.store.peek(KEYS.kind, key)
    agent = Principal(catalog.agent_email(f"{service}.googleapis.com", owner["projectNumber"] if owner else ""))
    needed = f"cloudkms.cryptoKeyVersions.{permission}"
    if doc is None or not cloud.iam.allows(agent, needed, *_above(key)):
        raise _refused(needed, name)
    if doc["purpose"] != "ENCRYPT_DECRYPT":
        text = f"{name} is not usable for symmetric encryption: its purpose is {doc['purpose']}."
        raise ApiError(400, text, status="FAILED_PRECONDITION")
    state = VERSIONS.read(cloud, f"{key}/cryptoKeyVersions/1")["state"]
    if state != "ENABLED":
        text = f"{name}/cryptoKeyVersions/1 is not enabled, current state is: {state}."
        raise ApiError(400, text, status="FAILED_PRECONDITION")
    return f"{name}/cryptoKeyVersions/1"


serve_locations(SERVICE, _BASE, "get list", dict.fromkeys(LOCATIONS, {}))
