# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The credentials that the options of a module select: those of google.cloud, and what it lacks (see the fragment auth)."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ansible.module_utils.basic import env_fallback
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import transport
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError

try:
    import google.auth
    import google.auth.exceptions
    import requests
except ImportError:
    # Who needs them says so: IMPORT_ERROR in client.py.
    pass

T = TypeVar("T")
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
MAX_ATTEMPTS = 5
OPTIONS: dict[str, dict[str, Any]] = {
    # A copy of those of google.cloud, with the same environment; it keeps these in a class that drops mutually_exclusive.
    "auth_kind": {
        "type": "str",
        "required": True,
        "choices": ["accesstoken", "application", "machineaccount", "serviceaccount"],
        "fallback": (env_fallback, ["GCP_AUTH_KIND"]),
    },
    "service_account_email": {"type": "str", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_EMAIL"])},
    "service_account_file": {"type": "path", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_FILE"])},
    "service_account_contents": {
        "type": "jsonarg",
        "no_log": True,
        "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_CONTENTS"]),
    },
    "access_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["GCP_ACCESS_TOKEN"])},
    "scopes": {"type": "list", "elements": "str", "fallback": (env_fallback, ["GCP_SCOPES"])},
    # What google.cloud lacks.
    "credentials_file": {"type": "path"},
    "impersonate_service_account": {"type": "str", "fallback": (env_fallback, ["GCP_IMPERSONATE_SERVICE_ACCOUNT"])},
    "impersonate_delegates": {"type": "list", "elements": "str"},
    "quota_project": {"type": "str"},
}
# The kind that each of these options belongs to.
KIND_OF = {
    "service_account_file": "serviceaccount",
    "service_account_contents": "serviceaccount",
    "service_account_email": "machineaccount",
    "access_token": "accesstoken",
    "credentials_file": "application",
}
# What credentials depend on besides the options.
ENVIRONMENT = ("HOME", "CLOUDSDK_CONFIG", "GOOGLE_CLOUD_QUOTA_PROJECT", "GCE_METADATA_HOST")
POOL = re.compile(r"projects/\d+/locations/global/workloadIdentityPools/[^/]+")


def check(params: Mapping[str, Any]) -> None:
    """Raises GcpError if the options contradict each other."""
    kind = params["auth_kind"]
    if params.get("service_account_email") is not None and kind != "machineaccount":
        raise GcpError(f"option service_account_email only works with auth_kind machineaccount, not {kind}")
    if kind != "serviceaccount" and (params.get("service_account_file") or params.get("service_account_contents")):
        raise GcpError(
            f"options service_account_file and service_account_contents only work with auth_kind "
            f"serviceaccount, not {kind}"
        )
    if params.get("access_token") is not None and kind != "accesstoken":
        raise GcpError(f"option access_token only works with auth_kind accesstoken, not {kind}")
    if params.get("credentials_file") and kind != "application":
        raise GcpError(f"option credentials_file only works with auth_kind application, not {kind}")
    if params.get("impersonate_delegates") and not params.get("impersonate_service_account"):
        raise GcpError("option impersonate_delegates only works with impersonate_service_account")


def identity(params: Mapping[str, Any]) -> str:
    """
    A key that is the same for the same credentials only: a hash of the options, and of the files that they come from; ""
    if these cannot be read.
    """
    options = {name: params.get(name) for name in OPTIONS}
    files = [
        *(params.get(name) for name in ("service_account_file", "credentials_file")),
        os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"),
    ]
    try:
        contents = [Path(file).expanduser().read_bytes().hex() if file else None for file in files]
    except OSError:
        return ""
    environment = [os.environ.get(name) for name in ENVIRONMENT]
    return hashlib.sha256(json.dumps([options, contents, environment], default=str).encode()).hexdigest()


def load(params: Mapping[str, Any]) -> Any:
    """google-auth's credentials that the options select; raises GcpError."""
    kind = params["auth_kind"]
    try:
        # For some kinds, this already fetches a token.
        return repeated(lambda: _acting(kind, params, params.get("scopes") or [CLOUD_PLATFORM]))
    except (
        AttributeError,
        LookupError,
        OSError,
        TypeError,
        ValueError,
        google.auth.exceptions.GoogleAuthError,
    ) as error:
        source, file = kind, params.get("service_account_file") or params.get("credentials_file")
        if file or kind == "serviceaccount":
            source = file or "service_account_contents"
        reason = transport.reason(error).removesuffix(f": {file}")
        text = f"Cannot sign in to Google Cloud with {source}: {reason}"
        if isinstance(error, google.auth.exceptions.GoogleAuthError):
            text = f"{text.rstrip('.')}. {transport.auth_advice(error, 'the caller')}"
        raise GcpError(text) from None


def repeated(sign_in: Callable[[], T]) -> T:
    """The result of SIGN_IN, called again after a lost connection."""
    for attempt in range(1, MAX_ATTEMPTS):
        try:
            return sign_in()
        except (google.auth.exceptions.GoogleAuthError, requests.exceptions.RequestException) as error:
            if not transport.is_transient(error):
                raise
        time.sleep(random.uniform(0.5, 1) * 2 ** (attempt - 1))
    return sign_in()


def _acting(kind: str, params: Mapping[str, Any], scopes: list[str]) -> Any:
    """The credentials, those of the account that they are to act as, and with the quota project."""
    account, project = params.get("impersonate_service_account"), params.get("quota_project")
    credentials = _own(kind, params, [CLOUD_PLATFORM] if account else scopes)
    if account:
        from google.auth import impersonated_credentials

        credentials = impersonated_credentials.Credentials(
            credentials, account, scopes, delegates=list(params.get("impersonate_delegates") or ())
        )
    return credentials.with_quota_project(project) if project else credentials


def _own(kind: str, params: Mapping[str, Any], scopes: list[str]) -> Any:
    # Imported on demand: each import takes 50 to 200 ms, and a run needs only one.
    if kind == "application":
        file = params.get("credentials_file")
        return _of_file(file, scopes) if file else google.auth.default(scopes=scopes)[0]
    if kind == "serviceaccount":
        from google.oauth2 import service_account

        if params.get("service_account_file"):
            path = os.path.realpath(os.path.expanduser(params["service_account_file"]))
            return service_account.Credentials.from_service_account_file(path, scopes=scopes)
        if params.get("service_account_contents"):
            contents = params["service_account_contents"]
            info = json.loads(contents) if isinstance(contents, str) else contents
            return service_account.Credentials.from_service_account_info(info, scopes=scopes)
        raise GcpError(
            "auth_kind serviceaccount requires option service_account_file (or GCP_SERVICE_ACCOUNT_FILE in the environment) or "
            "service_account_contents (GCP_SERVICE_ACCOUNT_CONTENTS)"
        )
    if kind == "machineaccount":
        from google.auth import compute_engine

        return compute_engine.Credentials(params.get("service_account_email") or "default")
    from google.oauth2.credentials import Credentials

    if not params.get("access_token"):
        raise GcpError("auth_kind accesstoken requires option access_token, or GCP_ACCESS_TOKEN in the environment")
    return Credentials(params["access_token"], scopes=scopes)


def _of_file(file: str, scopes: list[str]) -> Any:
    """The credentials of a file of any type, as application default credentials are."""
    path = os.path.realpath(os.path.expanduser(file))
    with open(path, encoding="utf-8") as opened:
        text = opened.read()
    project = os.environ.get("GOOGLE_CLOUD_QUOTA_PROJECT")
    if '"external_account"' in text and (info := json.loads(text)).get("type") == "external_account":
        # google-auth would fetch two tokens to find a project that nobody needs.
        credentials = _federated(info).Credentials.from_info(info, scopes=scopes)
        return credentials.with_quota_project(project) if project else credentials
    with warnings.catch_warnings():
        # It warns of files that others may have changed; this one was given like those that google-auth finds itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        return google.auth.load_credentials_from_file(path, scopes=scopes, quota_project_id=project)[0]


def _federated(info: Mapping[str, Any]) -> Any:
    """google-auth's module for the credentials of a workload identity pool."""
    if info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request":
        from google.auth import aws

        return aws
    if (info.get("credential_source") or {}).get("executable"):
        from google.auth import pluggable

        return pluggable
    from google.auth import identity_pool

    return identity_pool


def described(credentials: Any) -> dict[str, str]:
    """
    What google-auth's credentials are: kind (authorized_user, service_account, external_account, external_account_authorized_user,
    impersonated_service_account, metadata_server or access_token), source (that of the credentials that impersonate) and pool (the
    workload identity pool of a federated identity), each "" if there is none.
    """
    if source := getattr(credentials, "_source_credentials", None):
        return {**described(source), "kind": "impersonated_service_account", "source": described(source)["kind"]}
    module, pool = type(credentials).__module__, ""
    kind = module.rpartition(".")[2]
    if module.startswith("google.auth.compute_engine"):
        kind = "metadata_server"
    elif module == "google.oauth2.credentials":
        kind = "authorized_user" if credentials.refresh_token else "access_token"
    elif module != "google.auth.external_account_authorized_user" and hasattr(credentials, "retrieve_subject_token"):
        kind = "external_account"
        found = POOL.search(str(credentials.info.get("audience") or ""))
        pool = found[0] if found else ""
    return {"kind": kind, "source": "", "pool": pool}
