"""Cloud Billing: which billing account a project is linked to, and who may link projects to it.

There is one account; any other that is well named is taken to be one more of the organization's.

https://cloud.google.com/billing/docs/reference/rest
"""

from __future__ import annotations

import re
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import ORGANIZATION, project_resource
from gcp_sandbox.core.service import Call, Service

Doc = dict[str, Any]
SERVICE = Service("cloudbilling", "v1", always_enabled=True)
KIND = "cloudbilling.links"
_NAME = re.compile(r"billingAccounts/[0-9A-F]{6}(-[0-9A-F]{6}){2}")


def _own(call: Call) -> str:
    """Name of the account that there is."""
    number = int(projects.organization(call.cloud))
    return f"billingAccounts/01{number % 16**4:04X}-{number // 7 % 16**6:06X}-{number // 11 % 16**6:06X}"


def _account(call: Call, name: str) -> Doc:
    return {
        "name": name,
        "open": True,
        "displayName": "My Billing Account",
        "masterBillingAccount": "",
        "parent": f"organizations/{projects.organization(call.cloud)}",
        "currencyCode": "USD",
    }


def _info(call: Call) -> Doc:
    account = (call.cloud.store.peek(KIND, call.project_id) or {}).get("account")
    if account is None:  # the project that the sandbox was started with is paid for
        account = _own(call) if call.project_id == call.cloud.settings.project else ""
    return {
        "name": f"projects/{call.project_id}/billingInfo",
        "projectId": call.project_id,
        "billingAccountName": account,
        "billingEnabled": bool(account),
    }


def _permit(call: Call, permission: str) -> None:
    if not call.cloud.iam.allows(call.principal, permission, project_resource(call.project_id)):
        raise ApiError(403, "The caller does not have permission")


@SERVICE.method("cloudbilling.projects.getBillingInfo")
def get(call: Call) -> Doc:
    _permit(call, "resourcemanager.projects.get")
    return _info(call)


@SERVICE.method("cloudbilling.projects.updateBillingInfo")
def update(call: Call) -> Doc:
    account = call.body.get("billingAccountName", "")
    verb = "create" if account else "delete"
    _permit(call, f"resourcemanager.projects.{verb}BillingAssignment")
    if account:
        _check(call, account, "billing.resourceAssociations.create")
    call.cloud.store.put(KIND, call.project_id, {"account": account})
    return _info(call)


# -- accounts --------------------------------------------------------------------


def full_name(call: Call) -> str:
    """Full resource name, for policies."""
    return "//cloudbilling.googleapis.com/" + call.params["resource"]


def _check(call: Call, name: str, permission: str) -> None:
    """Refuse an account that is not well named, and a caller without a permission on it."""
    resources = ("//cloudbilling.googleapis.com/" + name, ORGANIZATION)
    if not _NAME.fullmatch(name) or not call.cloud.iam.allows(call.principal, permission, *resources):
        raise ApiError(403, "The caller does not have permission")


@SERVICE.method("cloudbilling.billingAccounts.list")
def accounts(call: Call) -> Doc:
    resources = ("//cloudbilling.googleapis.com/" + _own(call), ORGANIZATION)
    visible = call.cloud.iam.allows(call.principal, "billing.accounts.get", *resources)
    found = {"billingAccounts": [_account(call, _own(call))]} if visible else {}
    return found | {"nextPageToken": ""}  # this API writes empty fields


@SERVICE.method("cloudbilling.billingAccounts.get")
def account(call: Call) -> Doc:
    _check(call, call.params["name"], "billing.accounts.get")
    return _account(call, call.params["name"])


policies.serve(
    SERVICE,
    "cloudbilling.billingAccounts",
    full_name,
    lambda call, method: _check(call, call.params["resource"], f"billing.accounts.{method}"),
    above=(ORGANIZATION,),
)
