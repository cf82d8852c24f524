"""Cloud Billing: which billing account a project is linked to.

https://cloud.google.com/billing/docs/reference/rest
"""

from __future__ import annotations

from typing import Any

from gcp_sandbox.errors import ApiError
from gcp_sandbox.iam import ORGANIZATION, project_resource
from gcp_sandbox.service import Call, Service

Doc = dict[str, Any]
SERVICE = Service("cloudbilling", "v1", always_enabled=True)
KIND = "cloudbilling.links"


def _account(call: Call) -> Doc:
    known = call.app.store.peek("sandbox", "organization")
    number = int(known["id"]) if known else 0
    ident = f"01{number % 16**4:04X}-{number // 7 % 16**6:06X}-{number // 11 % 16**6:06X}"
    return {"name": f"billingAccounts/{ident}", "open": True, "displayName": "My Billing Account", "masterBillingAccount": "",
            "currencyCode": "USD"}  # fmt: skip


def _info(call: Call) -> Doc:
    account = (call.app.store.peek(KIND, call.project_id) or {}).get("account")
    if account is None:  # the project that the sandbox was started with is paid for
        account = _account(call)["name"] if call.project_id == call.app.settings.project else ""
    return {"name": f"projects/{call.project_id}/billingInfo", "projectId": call.project_id,
            "billingAccountName": account, "billingEnabled": bool(account)}  # fmt: skip


def _permit(call: Call, permission: str) -> None:
    if not call.app.iam.allows(call.principal, permission, project_resource(call.project_id)):
        raise ApiError(403, "The caller does not have permission")


@SERVICE.method("cloudbilling.projects.getBillingInfo")
def get(call: Call) -> Doc:
    _permit(call, "resourcemanager.projects.get")
    return _info(call)


@SERVICE.method("cloudbilling.projects.updateBillingInfo")
def update(call: Call) -> Doc:
    _permit(call, "resourcemanager.projects.createBillingAssignment")
    call.app.store.put(KIND, call.project_id, {"account": call.body.get("billingAccountName", "")})
    return _info(call)


@SERVICE.method("cloudbilling.billingAccounts.list")
def accounts(call: Call) -> Doc:
    visible = call.app.iam.allows(call.principal, "resourcemanager.organizations.get", ORGANIZATION)
    return {"billingAccounts": [_account(call)]} if visible else {}


@SERVICE.method("cloudbilling.billingAccounts.get")
def account(call: Call) -> Doc:
    if call.params["name"] != _account(call)["name"]:
        raise ApiError(403, "The caller does not have permission")
    return _account(call)
