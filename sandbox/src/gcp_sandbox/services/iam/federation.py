"""Workload identity pools and their OpenID Connect providers, and the resulting identities.

https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools
"""

from __future__ import annotations

import json
import re
from typing import Any

import jwt

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
POOLS, PROVIDERS = "iam.workloadIdentityPools", "iam.workloadIdentityPoolProviders"
_BASE = "iam.projects.locations.workloadIdentityPools"
_TYPE = "type.googleapis.com/google.iam.admin.v1."
_ID = re.compile(r"(?!gcp-)[a-z0-9-]{4,32}")
_MAPPED = re.compile(r"google\.(?:subject|groups)|attribute\.[a-z0-9_]{1,100}")
_CLAIM = re.compile(r"assertion\.([A-Za-z_]\w*)|assertion\['([^']+)'\]")


def identity(claims: Doc, provider: Doc) -> tuple[str, list[str]]:
    """The principal for a token's claims, and its principal sets.  Raises KeyError for a missing claim."""
    pool = "iam.googleapis.com/" + provider["name"].partition("/providers/")[0]
    mapped = {name: str(claims[_claim(text)]) for name, text in provider["attributeMapping"].items()}
    sets = [f"principalSet://{pool}/*"]
    sets += [f"principalSet://{pool}/{name}/{value}" for name, value in mapped.items() if name.startswith("attribute.")]
    return f"principal://{pool}/subject/{mapped['google.subject']}", sets


def _claim(expression: str) -> str:
    found = _CLAIM.fullmatch(expression.strip())
    if not found:
        raise ApiError(501, f"The attribute mapping {expression!r} is not played here: only assertion.NAME is.")
    return found.group(1) or found.group(2)


def _key(call: Call, param: str) -> str:
    """A resource's name with the project's number, as returned by Google."""
    return re.sub(r"^projects/[^/]+", f"projects/{call.project_number}", call.params[param])


def _existing(call: Call, kind: str) -> Doc:
    doc = call.cloud.store.get(kind, _key(call, "name"))
    if doc is None:
        raise ApiError(404, "Requested entity was not found.")
    return doc


def _done(call: Call, verb: str, doc: Doc, what: str) -> Operation:
    return call.cloud.operations.finished(
        service="iam",
        dialect="longrunning",
        verb=verb,
        target=doc["name"],
        user=call.principal.email,
        project=call.project_id,
        scope=doc["name"],
        metadata={"@type": f"{_TYPE}{what}OperationMetadata"},
        response={"@type": f"{_TYPE}{what}"} | doc,
    )


def _checked(body: Doc) -> Doc:
    """A provider's stored record.  Raises ApiError."""
    if body.get("attributeCondition") or not body.get("oidc"):
        raise ApiError(501, "Only OpenID Connect providers without a condition are played here.")
    if not body["oidc"].get("issuerUri", "").startswith("https://"):
        raise ApiError(400, "oidc.issuer_uri must be a valid URL with the scheme https.", reason="badRequest")
    mapping = body.get("attributeMapping", {})
    for name, expression in mapping.items():
        if not _MAPPED.fullmatch(name):
            raise ApiError(400, f"Invalid attribute mapping key: {name}.", reason="badRequest")
        _claim(expression)
    if "google.subject" not in mapping:
        raise ApiError(400, "The attribute mapping must map google.subject.", reason="badRequest")
    if keys := body["oidc"].get("jwksJson"):
        try:
            jwt.PyJWKSet.from_json(keys)
        except (jwt.PyJWKSetError, jwt.PyJWKError, ValueError) as error:
            raise ApiError(400, f"oidc.jwks_json is invalid: {error}.", reason="badRequest") from None
    return body


def enabled(cloud: Cloud, name: str) -> Doc | None:
    """The provider of a name, if it and its pool exist and are enabled."""
    provider = cloud.store.peek(PROVIDERS, name)
    pool = cloud.store.peek(POOLS, name.partition("/providers/")[0])
    return provider if provider and pool and not (provider.get("disabled") or pool.get("disabled")) else None


def claims_of(provider: Doc, token: str) -> Doc:
    """The claims of a provider's subject token, after validation.  Raises jwt.InvalidTokenError."""
    oidc = provider["oidc"]
    if not oidc.get("jwksJson"):
        raise jwt.InvalidTokenError("Error connecting to the given credential's issuer.")
    kid = jwt.get_unverified_header(token).get("kid")
    keys = jwt.PyJWKSet.from_dict(json.loads(oidc["jwksJson"])).keys
    key = next((one for one in keys if kid in (None, one.key_id)), None)
    if key is None:
        raise jwt.InvalidTokenError("Invalid JWT signature.")
    audiences = oidc.get("allowedAudiences") or [f"https://iam.googleapis.com/{provider['name']}"]
    return jwt.decode(
        token,
        key.key,
        algorithms=["RS256", "ES256"],
        audience=audiences,
        issuer=oidc["issuerUri"],
        options={"require": ["iss", "sub", "aud", "iat", "exp"]},
    )


def register(service: Service) -> None:
    """Register the methods of pools and of providers."""
    for kind, base, what, ident, permission in (
        (POOLS, _BASE, "WorkloadIdentityPool", "workloadIdentityPoolId", "iam.workloadIdentityPools"),
        (
            PROVIDERS,
            f"{_BASE}.providers",
            "WorkloadIdentityPoolProvider",
            "workloadIdentityPoolProviderId",
            "iam.workloadIdentityPoolProviders",
        ),
    ):
        _register(service, kind, base, what, ident, permission)


def _register(service: Service, kind: str, base: str, what: str, ident: str, permission: str) -> None:
    collection = base.rsplit(".", 1)[-1]

    @service.method(f"{base}.create", permission=f"{permission}.create")
    def create(call: Call) -> Operation:
        parent, short = _key(call, "parent"), call.params.get(ident, "")
        if not _ID.fullmatch(short):
            raise ApiError(400, f"Invalid {ident}: 4 to 32 lower-case letters, digits and dashes.", reason="badRequest")
        if kind == PROVIDERS and call.cloud.store.peek(POOLS, parent) is None:
            raise ApiError(404, "Requested entity was not found.")
        name = f"{parent}/{collection}/{short}"
        if call.cloud.store.peek(kind, name) is not None:
            raise ApiError(409, "Requested entity already exists.")
        body = {key: value for key, value in call.body.items() if key not in ("name", "state", "expireTime")}
        doc = {"name": name, "state": "ACTIVE"} | (_checked(body) if kind == PROVIDERS else body)
        return _done(call, "create", call.cloud.store.put(kind, name, doc), what)

    @service.method(f"{base}.get", permission=f"{permission}.get")
    def get(call: Call) -> Doc:
        return _existing(call, kind)

    @service.method(f"{base}.list", permission=f"{permission}.list")
    def list_(call: Call) -> Doc:
        prefix = f"{_key(call, 'parent')}/{collection}/"
        field = "workloadIdentityPools" if kind == POOLS else "workloadIdentityPoolProviders"
        return page(
            call, field, [doc for name, doc in call.cloud.store.list(kind, prefix) if "/" not in name[len(prefix) :]]
        )

    @service.method(f"{base}.patch", permission=f"{permission}.update")
    def patch(call: Call) -> Operation:
        doc = _existing(call, kind)
        for path in filter(None, call.params.get("updateMask", "").split(",")):
            field = re.sub(r"_([a-z])", lambda found: found.group(1).upper(), path.partition(".")[0].strip())
            if field in call.body:
                doc[field] = call.body[field]
        if kind == PROVIDERS:
            _checked(doc)
        return _done(call, "update", call.cloud.store.put(kind, doc["name"], doc), what)

    @service.method(f"{base}.delete", permission=f"{permission}.delete")
    def delete(call: Call) -> Operation:
        doc = _existing(call, kind)
        call.cloud.store.delete(kind, doc["name"])
        return _done(call, "delete", doc | {"state": "DELETED"}, what)

    @service.method(f"{base}.operations.get", permission=f"{permission}.get")
    def get_operation(call: Call) -> Operation:
        op = call.cloud.operations.get(call.params["name"].rsplit("/", 1)[-1])
        if op is None or op["service"] != "iam":
            raise ApiError(404, "Requested entity was not found.")
        return op
