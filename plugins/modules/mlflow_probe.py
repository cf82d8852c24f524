#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_probe
short_description: Prove that MLflow works through its front door
description:
  - Goes the way that users and programs go, C(https) to the domain, load balancer, Identity-Aware Proxy (IAP), Cloud Run.
    First a request without a token must be sent to the sign-in page, and one of an account without access must get 403.
    Then, signed in as O(service_account), it creates an experiment and a run, logs parameters, metrics and tags,
    registers a model and a version of it, uploads an artifact, reads all of it back and compares; the object must be in
    O(bucket) with the same size and MD5.
  - The data paths that this proves are C(1a) client to server, C(1b) server to database, C(1c) server to client, C(1d)
    database to server, and C(2a) to C(2d) the same for artifacts and the bucket. A failure names the path that broke
    and the request, and gives the reason in the answer's own words.
  - What was made is deleted at the end, after a failure too - model version, registered model, artifact, run, experiment.
    MLflow keeps deleted runs and experiments as such until C(mlflow gc), which cannot be asked for over REST; in a bucket
    with versioning the deleted object stays as a noncurrent version until a lifecycle rule takes it.
  - It uses REST alone; MLflow need not be installed. C(HTTPS_PROXY) and C(REQUESTS_CA_BUNDLE) are honoured.
  - The caller needs C(roles/iam.serviceAccountTokenCreator) on O(service_account), unless it is that account and has its
    key, and C(storage.objects.get) on O(bucket), as C(roles/storage.objectViewer) gives.
  - M(mlops.mlflow_gcp.mlflow_doctor) looks for the cause where this module finds a broken path. Run it first to learn of
    miswiring at once, since this module waits for O(timeout) in case a change is still spreading.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
attributes:
  check_mode:
    description: Only proves the sign-in and that the server answers; writes nothing.
  diff_mode:
    description: There is nothing to show, what is made is deleted again.
    support: none
  idempotent:
    description: Always C(changed=false), except with O(keep=true).
options:
  url:
    description: Address of MLflow, such as V(https://mlflow.example.com).
    type: str
    required: true
  service_account:
    description: E-mail address of the service account to sign in as, which IAP lets in.
    type: str
    required: true
  stranger_service_account:
    description:
      - E-mail address of a service account that IAP must refuse.
      - By default the caller itself, if it is a service account and another one than O(service_account); otherwise this
        check is left out, with a warning.
    type: str
  bucket:
    description: Name of the bucket in which artifacts arrive, with or without C(gs://) and a folder.
    type: str
    required: true
  experiment:
    description: How the name of experiment, run and model begins; time and a random part are added.
    type: str
    default: mlflow-probe
  artifact_size:
    description: Size of the artifact in bytes. Cloud Run refuses HTTP/1 requests of more than 32 MiB.
    type: int
    default: 5242880
  keep:
    description: Leave what was made, to look at it.
    type: bool
    default: false
  timeout:
    description:
      - Seconds to wait, all in all, for what is still spreading through Google, such as a new grant, which takes up to a
        few minutes. Other failures are reported at once.
    type: int
    default: 180
seealso:
  - module: mlops.mlflow_gcp.mlflow_doctor
  - name: Programmatic authentication
    description: How a service account signs in to IAP.
    link: https://cloud.google.com/iap/docs/authentication-howto
"""

EXAMPLES = r"""
- name: Every data path works
  mlops.mlflow_gcp.mlflow_probe:
    project: my-project
    auth_kind: application
    url: https://mlflow.example.com
    service_account: mlflow-logger@my-project.iam.gserviceaccount.com
    bucket: my-project-mlflow-artifacts
"""

RETURN = r"""
paths:
  description:
    - What was found of each data path, by its name from V(1a) to V(2d); paths that were not reached are missing. Two paths
      that the same requests prove share their time.
  returned: always
  type: dict
  sample:
    1a: {ok: true, ms: 184, what: "client -> server (parameters, metrics, tags)"}
    1b: {ok: true, ms: 184, what: "server -> database"}
iap:
  description: The same for the two checks of Identity-Aware Proxy.
  returned: always
  type: dict
  sample:
    anonymous: {ok: true, ms: 21, what: "IAP, request without a token"}
    stranger: {ok: true, ms: 35, what: "IAP, request of an account without access"}
server_version:
  description: Version of MLflow that answered; empty when none did.
  returned: always
  type: str
  sample: 3.17.2
experiment:
  description: Name of the experiment and of the model.
  returned: always
  type: str
  sample: mlflow-probe-20260131T120000-1a2b3c
left:
  description: What could not be deleted, each with the reason.
  returned: always
  type: list
  elements: str
  sample: []
"""

import json
import re
import secrets
import signal
import time
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.mlflow import (
    Door,
    Probe,
    ProbeError,
    iap_claims,
    object_url,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

ACCOUNT = re.compile(r"[^@\s:]+@[^@\s:]+")


def validate(params: dict[str, Any]) -> None:
    """Before the first request."""
    if not re.fullmatch(r"https://[^/\s]+/?", params["url"]):
        raise InvalidInput("url", params["url"], "https:// and the domain alone")
    for option in ("service_account", "stranger_service_account"):
        value = params[option]
        if value and not ACCOUNT.fullmatch(value):
            raise InvalidInput(option, value, "the e-mail address of a service account, without prefix")
    if params["artifact_size"] < 1:
        raise InvalidInput("artifact_size", params["artifact_size"], "1 or more")


def own_account(task: Task) -> str:
    """E-mail of the service account that calls, empty when the caller is none."""
    credentials = task.client.credentials
    if getattr(credentials, "service_account_email", None) == "default":
        # The metadata server tells the address together with a token.
        from google.auth.transport.requests import Request

        credentials.refresh(Request())
    email = str(getattr(credentials, "service_account_email", None) or "")
    return email if ACCOUNT.fullmatch(email) else ""


def sign(task: Task, email: str, url: str, patience: float) -> str:
    """
    A JWT with which EMAIL signs in at URL: signed with the caller's own key when that is who it is, else by IAM, whose
    refusals are borne for PATIENCE seconds.
    https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signJwt
    """
    from google.auth import jwt
    from google.oauth2 import service_account

    claims, credentials = iap_claims(email, url, time.time()), task.client.credentials
    if isinstance(credentials, service_account.Credentials) and credentials.service_account_email == email:
        return jwt.encode(credentials.signer, claims).decode()
    call = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:signJwt"
    with task.client.action(f"sign in as {email} (needs roles/iam.serviceAccountTokenCreator on it)"):
        answer = task.client.retry(
            lambda: task.client.post(call, {"payload": json.dumps(claims)}, idempotent=True),
            lambda error: error.status in (403, 404) and not error.disabled,
            timeout=patience,
        )
    return answer["signedJwt"]


def stranger(task: Task) -> str | None:
    """Who shall be refused; None, and a warning, when there is nobody to try it with."""
    named = task.params["stranger_service_account"]
    if named:
        return named
    email, why = own_account(task), ""
    if not email:
        why = "the caller is no service account"
    elif email == task.params["service_account"]:
        why = "the caller is the account that has access"
    else:
        try:
            sign(task, email, task.params["url"], 0)
        except ApiError as error:
            why = f"the caller may not sign for itself: {error.message}"
    if why:
        task.warn(f"Not checked that an account without access is refused: {why}. Give stranger_service_account.")
        return None
    return email


def stop(*_signal: Any) -> None:
    """Asked to end, the probe still cleans up."""
    raise SystemExit(1)


def probe(task: Task) -> dict[str, Any]:
    params = task.params
    validate(params)
    url, client = params["url"].rstrip("/"), task.client
    door = Door(url, lambda email: sign(task, email, url, door.time_left), params["timeout"])

    def find_object(bucket: str, name: str) -> dict[str, Any] | None:
        try:
            return client.find(object_url(bucket, name))
        except ApiError as error:
            raise ProbeError(
                "2b", f"GET gs://{bucket}/{name}", f"answered {error.status}: {error.message}", error.hint
            ) from None

    name = f"{params['experiment']}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    work = Probe(
        door, params["service_account"], stranger(task), params["bucket"], find_object, params["artifact_size"], name
    )
    signal.signal(signal.SIGTERM, stop)
    version, failure, left = "", None, []
    try:
        work.check_iap()
        version = work.check_server()
        if not task.check_mode:
            work.run()
    except GcpError as error:
        failure = error
    finally:
        if not params["keep"]:
            left = work.clean_up()
    found = {"paths": work.paths, "iap": work.iap, "server_version": version, "experiment": name, "left": left}
    if failure or left:
        for line in left if failure else ():
            task.warn(line)
        task.module.fail_json(
            msg=str(failure or f"Everything works, but not all could be cleaned up: {'; '.join(left)}"), **found
        )
    return {"changed": params["keep"] and not task.check_mode, **found}


def main() -> None:
    run(
        probe,
        argument_spec={
            "url": {"type": "str", "required": True},
            "service_account": {"type": "str", "required": True},
            "stranger_service_account": {"type": "str"},
            "bucket": {"type": "str", "required": True},
            "experiment": {"type": "str", "default": "mlflow-probe"},
            "artifact_size": {"type": "int", "default": 5 * 1024 * 1024},
            "keep": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 180},
        },
    )


if __name__ == "__main__":
    main()
