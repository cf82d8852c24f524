"""Response policies and their rules: answers of one's own to queries from a network.

https://cloud.google.com/dns/docs/reference/rest/v1/responsePolicies
"""

from __future__ import annotations

import secrets

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.dns import common
from gcp_sandbox.services.dns.common import SERVICE, Doc, with_kinds

KIND, RULES = "dns.responsePolicies", "dns.responsePolicyRules"


def _key(call: Call, name: str) -> str:
    return f"projects/{call.project_id}/responsePolicies/{name}"


def _policy(call: Call) -> Doc:
    name, prefix = call.params["responsePolicy"], _key(call, "")
    for key, doc in call.app.store.list(KIND, prefix):
        if name in (key.removeprefix(prefix), doc["id"]):
            return doc
    raise common.missing("parameters.responsePolicy", name)


def _put(call: Call, given: Doc) -> Doc:
    common.check_networks(call, given.get("networks", []), "dns.networks.bindDNSResponsePolicy")
    doc = with_kinds(call, "ResponsePolicy", given)
    return call.app.store.put(KIND, _key(call, doc["responsePolicyName"]), doc)


@SERVICE.method("dns.responsePolicies.create", permission="dns.responsePolicies.create")
def create(call: Call) -> Doc:
    name = call.body.get("responsePolicyName", "")
    if not common.NAME.fullmatch(name):
        raise common.invalid("entity.responsePolicy.responsePolicyName", name)
    if call.app.store.peek(KIND, _key(call, name)) is not None:
        raise common.exists("entity.responsePolicy", name)
    return _put(call, call.body | {"id": common.number()})


@SERVICE.method("dns.responsePolicies.get", permission="dns.responsePolicies.get")
def get(call: Call) -> Doc:
    return _policy(call)


@SERVICE.method("dns.responsePolicies.list", permission="dns.responsePolicies.list")
def list_(call: Call) -> Doc:
    found = [d for _, d in call.app.store.list(KIND, _key(call, ""))]
    return common.listed(call, "", "responsePolicies", found)


@SERVICE.method("dns.responsePolicies.patch", "dns.responsePolicies.update", permission="dns.responsePolicies.update")
async def change(call: Call) -> Doc:
    old = _policy(call)
    new = await common.patched(call, old) if call.method.http == "PATCH" else call.body
    fixed = {"responsePolicyName": old["responsePolicyName"], "id": old["id"]}
    if new.get("responsePolicyName", old["responsePolicyName"]) != old["responsePolicyName"]:
        raise ApiError(
            400, "The 'entity.responsePolicy.responsePolicyName' parameter cannot be changed.", reason="invalid"
        )
    return {"header": {"operationId": secrets.token_hex(16)}, "responsePolicy": _put(call, new | fixed)}


@SERVICE.method("dns.responsePolicies.delete", permission="dns.responsePolicies.delete")
def delete(call: Call) -> Doc:
    doc = _policy(call)
    key, name = _key(call, doc["responsePolicyName"]), doc["responsePolicyName"]
    if doc.get("networks") or doc.get("gkeClusters"):
        text = f"The resource named '{name}' cannot be deleted because it is used by one or more networks."
        raise ApiError(400, text, reason="resourceInUse")
    if call.app.store.list(RULES, key + "/"):
        text = f"The resource named '{name}' cannot be deleted because it contains one or more 'response policy rules'."
        raise ApiError(400, text, reason="containerNotEmpty")
    call.app.store.delete(KIND, key)
    return {}


# -- rules -----------------------------------------------------------------


def _rules(call: Call) -> str:
    return _key(call, _policy(call)["responsePolicyName"]) + "/rules/"


def _rule(call: Call) -> Doc:
    doc = call.app.store.peek(RULES, _rules(call) + call.params["responsePolicyRule"])
    if doc is None:
        raise common.missing("parameters.responsePolicyRule", call.params["responsePolicyRule"])
    return doc


def _put_rule(call: Call, given: Doc) -> Doc:
    where, name = "entity.responsePolicyRule", given.get("dnsName", "")
    if not name.endswith("."):
        raise common.invalid(f"{where}.dnsName", name)
    if bool(given.get("localData")) == bool(given.get("behavior")):
        raise ApiError(400, "A rule has either localData or a behavior.", reason="invalid")
    doc = with_kinds(call, "ResponsePolicyRule", given)
    return call.app.store.put(RULES, _rules(call) + doc["ruleName"], doc)


@SERVICE.method("dns.responsePolicyRules.create", permission="dns.responsePolicyRules.create")
def create_rule(call: Call) -> Doc:
    name = call.body.get("ruleName", "")
    if not common.NAME.fullmatch(name):
        raise common.invalid("entity.responsePolicyRule.ruleName", name)
    if call.app.store.peek(RULES, _rules(call) + name) is not None:
        raise common.exists("entity.responsePolicyRule", name)
    return _put_rule(call, call.body)


@SERVICE.method("dns.responsePolicyRules.get", permission="dns.responsePolicyRules.get")
def get_rule(call: Call) -> Doc:
    return _rule(call)


@SERVICE.method("dns.responsePolicyRules.list", permission="dns.responsePolicyRules.list")
def list_rules(call: Call) -> Doc:
    found = [d for _, d in call.app.store.list(RULES, _rules(call))]
    return common.listed(call, "", "responsePolicyRules", found)


@SERVICE.method(
    "dns.responsePolicyRules.patch", "dns.responsePolicyRules.update", permission="dns.responsePolicyRules.update"
)
async def change_rule(call: Call) -> Doc:
    old = _rule(call)
    new = await common.patched(call, old) if call.method.http == "PATCH" else call.body
    doc = _put_rule(call, new | {"ruleName": old["ruleName"]})
    return {"header": {"operationId": secrets.token_hex(16)}, "responsePolicyRule": doc}


@SERVICE.method("dns.responsePolicyRules.delete", permission="dns.responsePolicyRules.delete")
def delete_rule(call: Call) -> Doc:
    call.app.store.delete(RULES, _rules(call) + _rule(call)["ruleName"])
    return {}
