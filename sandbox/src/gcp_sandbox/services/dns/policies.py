"""Server policies: which networks are answered how.

https://cloud.google.com/dns/docs/reference/rest/v1/policies
"""

from __future__ import annotations

import secrets

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.dns import common
from gcp_sandbox.services.dns.common import SERVICE, Doc, with_kinds

KIND = "dns.policies"


def _key(call: Call, name: str) -> str:
    return f"projects/{call.project_id}/policies/{name}"


def _policy(call: Call) -> Doc:
    name, prefix = call.params["policy"], _key(call, "")
    for key, doc in call.app.store.list(KIND, prefix):
        if name in (key.removeprefix(prefix), doc["id"]):
            return doc
    raise common.missing("parameters.policy", name)


def _put(call: Call, given: Doc) -> Doc:
    bound = given.get("networks", [])
    common.check_networks(call, bound, "dns.networks.bindPrivateDNSPolicy")
    for _, other in call.app.store.list(KIND):
        taken = {n["networkUrl"] for n in other.get("networks", ())} & {n["networkUrl"] for n in bound}
        if taken and other["id"] != given["id"]:
            text = f"The network '{min(taken)}' cannot be bound to this policy because it is bound to another one."
            raise ApiError(400, text, reason="invalid")
    doc = with_kinds(call, "Policy", {"enableInboundForwarding": False, "enableLogging": False} | given)
    return call.app.store.put(KIND, _key(call, doc["name"]), doc)


@SERVICE.method("dns.policies.create", permission="dns.policies.create")
def create(call: Call) -> Doc:
    name = call.body.get("name", "")
    if not common.NAME.fullmatch(name):
        raise common.invalid("entity.policy.name", name)
    if call.app.store.peek(KIND, _key(call, name)) is not None:
        raise common.exists("entity.policy", name)
    return _put(call, call.body | {"id": common.number()})


@SERVICE.method("dns.policies.get", permission="dns.policies.get")
def get(call: Call) -> Doc:
    return _policy(call)


@SERVICE.method("dns.policies.list", permission="dns.policies.list")
def list_(call: Call) -> Doc:
    found = [d for _, d in call.app.store.list(KIND, _key(call, ""))]
    return common.listed(call, "dns#policiesListResponse", "policies", found)


@SERVICE.method("dns.policies.patch", "dns.policies.update", permission="dns.policies.update")
async def change(call: Call) -> Doc:
    old = _policy(call)
    new = await common.patched(call, old) if call.method.http == "PATCH" else call.body
    if new.get("name", old["name"]) != old["name"]:
        raise ApiError(400, "The 'entity.policy.name' parameter cannot be changed.", reason="invalid")
    doc = _put(call, new | {"name": old["name"], "id": old["id"]})
    return {"header": {"operationId": secrets.token_hex(16)}, "policy": doc}


@SERVICE.method("dns.policies.delete", permission="dns.policies.delete")
def delete(call: Call) -> Doc:
    doc = _policy(call)
    if doc.get("networks"):
        raise ApiError(
            400,
            f"The resource named '{doc['name']}' cannot be deleted because it is used by one or more networks.",
            reason="resourceInUse",
        )
    call.app.store.delete(KIND, _key(call, doc["name"]))
    return {}
