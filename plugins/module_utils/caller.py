# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The account that runs a module, and whether it may sign in to MLflow as a service account."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import credentials, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task

SIGN = "iam.serviceAccounts.signJwt"


def service_account(task: Task) -> str:
    """E-mail address of the calling service account, empty if the caller is not a service account."""
    signed_in = task.client.credentials
    if getattr(signed_in, "service_account_email", None) == "default":
        # The metadata server returns the address together with a token.
        from google.auth.transport.requests import Request

        signed_in.refresh(Request())
    email = str(getattr(signed_in, "service_account_email", None) or "")
    return email if values.EMAIL.valid(email) else ""


def member(task: Task) -> str:
    """
    The caller as a member of an IAM policy, such as user:jane@example.com; empty if Google does not tell.

    An access token contains no name; Google tells the address of its account if the token's scopes include it.
    https://developers.google.com/identity/openid-connect/openid-connect#obtaininguserprofileinformation
    """
    email = service_account(task)
    if not email:
        try:
            email = str(task.client.get("https://openidconnect.googleapis.com/v1/userinfo").get("email") or "")
        except ApiError:
            return ""
    if not email:
        return ""
    return f"{'serviceAccount' if email.endswith('.gserviceaccount.com') else 'user'}:{email}"


def described(task: Task) -> dict[str, Any]:
    """Whose credentials the task has, of what kind, and until when its access token is good."""
    client = task.client
    found = credentials.described(client.credentials)
    expires = client.expiry
    if task.params["auth_kind"] == "accesstoken" and not task.params.get("impersonate_service_account"):
        expires = _expiry(task)
    pool = f"an identity of {found['pool']}" if found["pool"] else ""
    who = member(task)
    return {
        "auth_kind": task.params["auth_kind"],
        "credentials": found["kind"],
        "source": found["source"],
        "member": who,
        "principal": who or pool,
        "quota_project": str(getattr(client.credentials, "quota_project_id", None) or ""),
        "expires": expires.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if expires else "",
        "renewed": "access_token" not in (found["kind"], found["source"]),
    }


def _expiry(task: Task) -> datetime | None:
    """
    When an access token that was given expires; None if Google does not tell.
    https://developers.google.com/identity/protocols/oauth2/openid-connect#validatinganidtoken
    """
    given = {"access_token": task.params["access_token"]}
    try:
        answer = task.client.get("https://oauth2.googleapis.com/tokeninfo", params=given)
    except ApiError:
        return None
    return datetime.now(timezone.utc) + timedelta(seconds=int(answer.get("expires_in") or 0))


def has_key_of(task: Task, email: str) -> bool:
    """Whether the caller is service account EMAIL with its key, and signs without IAM."""
    from google.oauth2 import service_account as keys

    signed_in = task.client.credentials
    return isinstance(signed_in, keys.Credentials) and signed_in.service_account_email == email


def may_sign_as(task: Task, email: str) -> bool:
    """
    Whether the caller may sign as service account EMAIL, which it may ask without any permission.
    https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts/testIamPermissions
    """
    url = f"https://iam.googleapis.com/v1/projects/-/serviceAccounts/{email}:testIamPermissions"
    answer: dict[str, Any] = task.client.post(url, {"permissions": [SIGN]}, idempotent=True)
    return SIGN in (answer.get("permissions") or ())


def missing_grant(who: str, email: str) -> str:
    """The problem that WHO, from member(), may not sign as service account EMAIL."""
    return f"{who or 'the caller'} may not sign in as {email} ({SIGN} is denied)"


def how_to_grant(who: str, email: str) -> str:
    """What to do about it."""
    return (
        f"add {who or 'the account that runs this'} to mlflow_logger_token_creators and run mlops.mlflow_gcp.site again, which "
        f"grants it roles/iam.serviceAccountTokenCreator on {email}"
    )
