"""Certificate Authority Service: CA pools with self-signed authorities, which issue certificates to other services.

https://cloud.google.com/certificate-authority-service/docs/reference/rest
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.resources import Collection, parameter, serve, serve_locations, serve_operations
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.compute.places import REGIONS

Doc = dict[str, Any]


def _denied(call: Call, permission: str, shown: str) -> ApiError:
    return ApiError(403, f"Permission '{permission}' denied on resource '{shown}' (or it may not exist).")


SERVICE = Service("privateca", "v1", resource_type="privateca.googleapis.com/CaPool", denied=_denied)
_BASE = "privateca.projects.locations"


def _project_of(call: Call) -> str | None:
    names = (call.params.get(name) for name in ("caPool", "name", "parent", "resource"))
    return next((name.split("/")[1] for name in names if name), None)


SERVICE.project_of = _project_of
_ID = "[a-zA-Z0-9_-]{1,63}"
_PROJECT = re.compile("^projects/[^/]+")
_TIERS = ("ENTERPRISE", "DEVOPS")


def _missing(name: str) -> ApiError:
    return ApiError(404, f"Resource '{name}' was not found")


def _precondition(text: str) -> ApiError:
    return ApiError(400, text, status="FAILED_PRECONDITION")


_Resources = partial(
    Collection,
    SERVICE,
    policy=True,
    operates="create delete",
    missing=_missing,
    taken=lambda name: ApiError(409, f"Resource '{name}' already exists"),
)


# -- pools -----------------------------------------------------------------


def _pool(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    if new.get("tier") not in _TIERS:
        raise ApiError(400, "CaPool.tier must be set.")
    return new


def _pool_operation(call: Call, method: str, key: str) -> Doc:
    if method == "delete" and _authorities(call.cloud, key):
        raise _precondition(f"CaPool {key} has certificate authorities.")
    return {}


POOLS = _Resources(
    f"{_BASE}.caPools",
    "privateca.caPools",
    type="google.cloud.security.privateca.v1.CaPool",
    ident=parameter("caPoolId", _ID),
    prepare=_pool,
    operation=_pool_operation,
)
serve(POOLS, "create get list delete policy")


@SERVICE.method(f"{_BASE}.caPools.fetchCaCerts")
def fetch_certificates(call: Call) -> Doc:
    pool = _PROJECT.sub(f"projects/{call.project_id}", call.params["caPool"])
    call.require("privateca.caPools.get", f"//{SERVICE.host}/{pool}")
    POOLS.read(call.cloud, pool)
    found = [doc for doc in _authorities(call.cloud, pool) if doc["state"] == "ENABLED"]
    return {"caCerts": [{"certificates": doc["pemCaCertificates"]} for doc in found]}


# -- authorities -----------------------------------------------------------


def _authorities(cloud: Cloud, pool: str) -> list[Doc]:
    """Documents of the authorities of a pool that are not deleted."""
    found = cloud.store.list(AUTHORITIES.kind, f"{pool}/certificateAuthorities/")
    return [doc for _, doc in found if doc["state"] != "DELETED"]


def _authority(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    pool = POOLS.read(call.cloud, key.partition("/certificateAuthorities/")[0])
    if new.get("type") != "SELF_SIGNED":
        raise ApiError(400, "gcp-sandbox has certificate authorities of type SELF_SIGNED only.")
    subject = new.get("config", {}).get("subjectConfig", {}).get("subject", {})
    if not subject.get("commonName"):
        raise ApiError(400, "CertificateAuthority.config.subject_config.subject.common_name must be set.")
    lifetime = new.setdefault("lifetime", "315360000s")
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject["commonName"])])
    certificate = (
        _builder(name, name, private.public_key(), _seconds(lifetime))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    return new | {
        "tier": pool["tier"],
        "state": "STAGED",
        "createTime": now(),
        "updateTime": now(),
        "pemCaCertificates": [_pem(certificate)],
        "_privateKey": _pem_of_key(private),
    }


AUTHORITIES = _Resources(
    f"{_BASE}.caPools.certificateAuthorities",
    "privateca.certificateAuthorities",
    type="google.cloud.security.privateca.v1.CertificateAuthority",
    key=lambda call: _PROJECT.sub(f"projects/{call.project_id}", call.params["name"]),
    ident=parameter("certificateAuthorityId", _ID),
    prepare=_authority,
    operation=lambda call, method, key: {"scope": "/".join(key.split("/")[:4])},
)
serve(AUTHORITIES, "create get list")


def _change_state(state: str, allowed: tuple[str, ...], verb: str, call: Call) -> Operation:
    """Set the state of an authority that is in one of the allowed ones."""
    key = AUTHORITIES.key_of(call)
    doc = AUTHORITIES.read(call.cloud, key)
    call.require(f"privateca.certificateAuthorities.{'delete' if verb == 'delete' else 'update'}")
    if doc["state"] not in allowed:
        raise _precondition(f"Certificate authority {key} is {doc['state']}.")
    done = call.cloud.store.put(AUTHORITIES.kind, key, dict(doc) | {"state": state, "updateTime": now()})
    shown = {name: value for name, value in done.items() if not name.startswith("_")}
    kind = "type.googleapis.com/google.cloud.security.privateca.v1"
    return call.operation(
        verb,
        key,
        over=True,
        response={"@type": f"{kind}.CertificateAuthority"} | shown,
        scope="/".join(key.split("/")[:4]),
        metadata={"@type": f"{kind}.OperationMetadata", "target": key, "verb": verb},
    )


for _verb, _state, _allowed in (
    ("enable", "ENABLED", ("STAGED", "DISABLED")),
    ("disable", "DISABLED", ("ENABLED", "STAGED")),
    ("delete", "DELETED", ("STAGED", "DISABLED")),
):
    SERVICE.method(f"{_BASE}.caPools.certificateAuthorities.{_verb}")(partial(_change_state, _state, _allowed, _verb))


# -- issuing for other services --------------------------------------------


def issue(cloud: Cloud, agent: str, pool: str, domains: list[str], lifetime: str) -> tuple[str, str]:
    """A certificate chain for domains and its private key, as PEM, for a service agent (an e-mail address).

    Raises ApiError as Certificate Authority Service answers an agent that may not ask a pool, or one that has nothing enabled.
    """
    owner = projects.find(cloud, pool.split("/")[1])
    key = _PROJECT.sub(f"projects/{owner['projectId']}", pool) if owner else pool
    above = (project_resource(key.split("/")[1]), f"//{SERVICE.host}/{key}")
    permission = "privateca.certificates.create"
    if cloud.store.peek(POOLS.kind, key) is None or not cloud.iam.allows(Principal(agent), permission, *above):
        raise ApiError(403, f"Permission '{permission}' denied on resource '{pool}' (or it may not exist).")
    enabled = [doc for doc in _authorities(cloud, key) if doc["state"] == "ENABLED"]
    if not enabled:
        raise _precondition(f"CaPool {pool} has no enabled certificate authority.")
    authority = x509.load_pem_x509_certificate(enabled[0]["pemCaCertificates"][0].encode())
    signer = serialization.load_pem_private_key(enabled[0]["_privateKey"].encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domains[0])])
    certificate = (
        _builder(name, authority.subject, private.public_key(), _seconds(lifetime))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    return _pem(certificate) + _pem(authority), _pem_of_key(private)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, seconds: float
) -> x509.CertificateBuilder:
    when = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(when - timedelta(minutes=1))
        .not_valid_after(when + timedelta(seconds=seconds))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _pem_of_key(private: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


serve_operations(SERVICE, f"{_BASE}.operations", "get list delete", permission="privateca.operations")
serve_locations(SERVICE, _BASE, "get list", dict.fromkeys(REGIONS, {}))
