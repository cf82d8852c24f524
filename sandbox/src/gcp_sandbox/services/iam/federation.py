"""Workload identity pools and their OpenID Connect providers, and the resulting identities.

https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import jwt

from gcp_sandbox.core import conditions
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.resources import Collection, name_of, parameter, serve, serve_operations
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
POOLS, PROVIDERS = "iam.workloadIdentityPools", "iam.workloadIdentityPoolProviders"
_BASE = "iam.projects.locations.workloadIdentityPools"
_MAPPED = re.compile(r"google\.(?:subject|groups)|attribute\.[a-z0-9_]{1,100}")
# What attribute conditions have beyond IAM's: has().
_LANGUAGE = conditions.Language(functions={"string": str})
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


def admits(claims: Doc, provider: Doc) -> bool:
    """Whether a provider's attribute condition, if it has one, accepts a token's claims."""
    if not provider.get("attributeCondition"):
        return True
    known: Doc = {"assertion": claims} | {f"assertion.{name}": value for name, value in claims.items()}
    mapped = {name: claims.get(_claim(text)) for name, text in provider["attributeMapping"].items()}
    known |= {name: value for name, value in mapped.items() if value is not None}
    try:
        return conditions.evaluate(provider["attributeCondition"], known, _LANGUAGE)
    except conditions.ConditionError:
        return False


def _checked(body: Doc) -> Doc:
    """A provider's stored record.  Raises ApiError."""
    if not body.get("oidc"):
        raise ApiError(501, "Only OpenID Connect providers are played here.")
    if body.get("attributeCondition"):
        try:
            conditions.check(body["attributeCondition"], _LANGUAGE)
        except conditions.ConditionError as error:
            text = f"Error in attribute condition: {error}."
            raise ApiError(400, text, reason="badRequest") from None
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


def _prepared(call: Call, key: str, new: Doc, old: Doc | None) -> Doc:
    pool = key.partition("/providers/")[0]
    if pool != key and call.cloud.store.peek(POOLS, pool) is None:
        raise ApiError(404, "Requested entity was not found.")
    doc = {"state": "ACTIVE"} | new if old is None else old | new  # what a mask names without a value stays
    return doc if pool == key else _checked(doc)


def register(service: Service) -> None:
    """Register the methods of pools and of providers."""
    _register(service, _BASE, "WorkloadIdentityPool", POOLS)
    _register(service, f"{_BASE}.providers", "WorkloadIdentityPoolProvider", PROVIDERS)


def _register(service: Service, ids: str, what: str, kind: str) -> None:
    param, kind_of_message = f"{what[0].lower()}{what[1:]}Id", f"google.iam.admin.v1.{what}"

    def about(call: Call, method: str, key: str) -> Doc:
        return {"scope": key, "metadata": {"@type": f"type.googleapis.com/{kind_of_message}OperationMetadata"}}

    def erase(call: Call, key: str, doc: Doc) -> Operation:
        call.cloud.store.delete(kind, key)
        response = {"@type": f"type.googleapis.com/{kind_of_message}"} | doc | {"state": "DELETED"}
        return call.operation("delete", key, over=True, response=response, **about(call, "delete", key))

    def wrong_id(text: str) -> ApiError:
        return ApiError(400, f"Invalid {param}: 4 to 32 lower-case letters, digits and dashes.", reason="badRequest")

    collection = Collection(
        service,
        ids,
        kind,
        operates="create patch",
        over=True,
        type=kind_of_message,
        named=partial(name_of, number=True),
        ident=parameter(param, "(?!gcp-)[a-z0-9-]{4,32}", wrong_id),
        prepare=_prepared,
        erase=erase,
        operation=about,
        taken=lambda name: ApiError(409, "Requested entity already exists."),
    )
    serve(collection, "create get list patch delete")
    serve_operations(service, f"{ids}.operations", "get", permission=kind)
