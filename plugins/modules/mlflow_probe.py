#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_probe
short_description: Verify that MLflow works behind Identity-Aware Proxy
description:
  - Uses the same path as users and programs, C(https) to the domain, load balancer, Identity-Aware Proxy (IAP), Cloud Run.
    First a request without a token must be redirected to the sign-in page, and a request from an account without access
    must be denied with 403. Then, signed in as O(service_account), it creates an experiment and a run, logs parameters,
    metrics and tags, registers a model and a version of it, uploads an artifact, reads everything back and compares it;
    the object must be in O(bucket) with the same size and MD5.
  - This verifies the data paths C(1a) client to server, C(1b) server to database, C(1c) server to client, C(1d) database
    to server, and C(2a) to C(2d), the same for artifacts and the bucket. An error message contains the path that failed,
    the request, and the reason in the response.
  - Everything that was created is deleted at the end, also after a failure - model version, registered model, artifact,
    run, experiment. MLflow keeps deleted runs and experiments until C(mlflow gc), which is not available over REST. In a
    bucket with versioning the deleted object remains as a noncurrent version until a lifecycle rule deletes it.
  - It only uses REST, so that MLflow need not be installed. C(HTTPS_PROXY) and C(REQUESTS_CA_BUNDLE) are honoured.
  - The caller requires C(roles/iam.serviceAccountTokenCreator) on O(service_account), unless it has the key of that
    account. If it has C(storage.objects.get) on O(bucket), the object in the bucket is compared with the artifact as well;
    otherwise there is a warning, because this permission would let it read all artifacts.
  - M(mlops.mlflow_gcp.mlflow_doctor) tells beforehand whether the caller may sign in as O(service_account), and finds the
    cause of a failed path. Run it first to detect misconfiguration immediately, because this module waits for up to
    O(timeout) in case a change is still propagating.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
attributes:
  check_mode:
    description: Only checks the sign-in and that the server responds; writes nothing.
  diff_mode:
    description: There is no diff, because everything that is created is deleted again.
    support: none
  idempotent:
    description: Always C(changed=false), except with O(keep=true).
options:
  url:
    description: URL of MLflow, such as V(https://mlflow.example.com).
    type: str
    required: true
  service_account:
    description: E-mail address of a service account that has access, to sign in as.
    type: str
    required: true
  denied_service_account:
    description:
      - E-mail address of a service account that IAP must deny access.
      - By default the caller, if it is a service account other than O(service_account); otherwise this check is skipped
        with a warning.
    type: str
    aliases: [stranger_service_account]
  bucket:
    description: Name of the bucket that contains the artifacts, with or without C(gs://) and a folder.
    type: str
    required: true
  experiment:
    description: Prefix of the name of experiment, run and model; the time and a random part are appended.
    type: str
    default: mlflow-probe
  artifact_size:
    description: Size of the artifact in bytes, at least 1. Cloud Run rejects HTTP/1 requests of more than 32 MiB.
    type: int
    default: 5242880
  keep:
    description: Keep everything that was created, for inspection.
    type: bool
    default: false
  timeout:
    description:
      - Total time in seconds to wait for changes that are still propagating, such as a new grant, which can take a few
        minutes. Other failures are reported immediately.
    type: int
    default: 180
seealso:
  - module: mlops.mlflow_gcp.mlflow_doctor
  - name: Programmatic authentication
    description: How a service account signs in to IAP.
    link: https://cloud.google.com/iap/docs/authentication-howto
"""

EXAMPLES = r"""
- name: Verify every data path
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
    - Result of each data path, from V(1a) to V(2d), without those that were not reached. Two paths that are verified by
      the same requests have the same duration.
  returned: always
  type: dict
  sample:
    1a: {ok: true, ms: 184, what: "client -> server (parameters, metrics, tags)"}
    1b: {ok: true, ms: 184, what: "server -> database"}
iap:
  description: Results of the two checks of Identity-Aware Proxy.
  returned: always
  type: dict
  sample:
    anonymous: {ok: true, ms: 21, what: "IAP, request without a token"}
    denied_account: {ok: true, ms: 35, what: "IAP, request from an account without access"}
server_version:
  description: Version of MLflow; empty if it did not respond.
  returned: always
  type: str
  sample: 3.17.2
experiment:
  description: Name of the experiment and of the model.
  returned: always
  type: str
  sample: mlflow-probe-20260131T120000-1a2b3c
left:
  description: What could not be deleted, with reasons.
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

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import caller, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.front_door import FrontDoor, iap_claims
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.probe import Probe, ProbeError, Unreadable, object_url


def validate(params: dict[str, Any]) -> None:
    """Raise InvalidInput for invalid options."""
    if not re.fullmatch(r"https://[^/\s]+/?", params["url"]):
        raise InvalidInput("url", params["url"], "give https:// and the domain only")


def sign(task: Task, email: str, url: str, timeout: float) -> str:
    """
    A JWT with which EMAIL signs in at URL, signed with the caller's key if EMAIL is the caller, otherwise by IAM, with
    retries for TIMEOUT seconds in case a grant is still propagating.
    https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signJwt
    """
    from google.auth import jwt

    claims = iap_claims(email, url, time.time())
    if caller.has_key_of(task, email):
        return jwt.encode(task.client.credentials.signer, claims).decode()
    call = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:signJwt"
    with task.client.action(f"sign in as {email}"):
        response = task.client.retry(
            lambda: task.client.post(call, {"payload": json.dumps(claims)}, idempotent=True),
            lambda error: error.status in (403, 404) and not error.disabled,
            timeout=timeout,
        )
    return response["signedJwt"]


def sign_in(task: Task, email: str, url: str, timeout: float) -> str:
    """As sign(), with an error that names the missing grant and who misses it."""
    try:
        return sign(task, email, url, timeout)
    except ApiError as error:
        if error.status != 403 or error.disabled:
            raise
        who = caller.member(task)
        advice = caller.how_to_grant(who, email)
        problem = f"{caller.missing_grant(who, email)}: {error.message.rstrip('.')}"
        raise GcpError(f"{problem}. {advice[0].upper()}{advice[1:]}") from None


def denied_account(task: Task) -> str | None:
    """The account that IAP must deny access; None, with a warning, without a suitable one."""
    given = task.params["denied_service_account"]
    if given:
        return given
    email, reason = caller.service_account(task), ""
    if not email:
        reason = "the caller is not a service account"
    elif email == task.params["service_account"]:
        reason = "the caller is the account that has access"
    else:
        try:
            sign(task, email, task.params["url"], 0)
        except ApiError as error:
            reason = f"the caller may not sign for itself: {error.message}"
    if reason:
        task.warn(f"Skipped the check that IAP denies access: {reason}. Give denied_service_account.")
        return None
    return email


def stop(*_signal: Any) -> None:
    """End the probe so that it still cleans up."""
    raise SystemExit(1)


def run_probe(task: Task) -> dict[str, Any]:
    """The work of the module."""
    params = task.params
    validate(params)
    url, client = params["url"].rstrip("/"), task.client
    front_door = FrontDoor(url, lambda email: sign_in(task, email, url, front_door.time_left), params["timeout"])

    def find_object(bucket: str, name: str) -> dict[str, Any] | None:
        try:
            return client.find(object_url(bucket, name))
        except ApiError as error:
            if error.status == 403 and not error.disabled:
                raise Unreadable(f"{error.message.rstrip('.')}. {error.hint}") from None
            raise ProbeError(
                "2b", f"GET gs://{bucket}/{name}", f"returned {error.status}: {error.message}", error.hint
            ) from None

    name = f"{params['experiment']}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    probe = Probe(
        front_door,
        params["service_account"],
        denied_account(task),
        params["bucket"],
        find_object,
        params["artifact_size"],
        name,
        task.warn,
    )
    signal.signal(signal.SIGTERM, stop)
    version, failure, leftovers = "", None, []
    try:
        probe.check_iap()
        version = probe.check_server()
        if not task.check_mode:
            probe.run()
    except GcpError as error:
        failure = error
    finally:
        if not params["keep"]:
            leftovers = probe.clean_up()
    results: dict[str, Any] = {
        "paths": probe.paths,
        "iap": probe.iap,
        "server_version": version,
        "experiment": name,
        "left": leftovers,
    }
    if failure or leftovers:
        for message in leftovers if failure else ():
            task.warn(message)
        task.module.fail_json(
            msg=str(failure or f"Everything works, but the cleanup is incomplete: {'; '.join(leftovers)}"), **results
        )
    return {"changed": params["keep"] and not task.check_mode, **results}


def main() -> None:
    run(
        run_probe,
        argument_spec={
            "url": {"type": "str", "required": True},
            "service_account": {"type": "str", "required": True, "kind": values.SERVICE_ACCOUNT_EMAIL},
            "denied_service_account": {
                "type": "str",
                "aliases": ["stranger_service_account"],
                "kind": values.SERVICE_ACCOUNT_EMAIL,
            },
            "bucket": {"type": "str", "required": True},
            "experiment": {"type": "str", "default": "mlflow-probe"},
            "artifact_size": {"type": "int", "default": 5 * 1024**2, "kind": values.between(1, 5 * 1024**4)},
            "keep": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 180},
        },
    )


if __name__ == "__main__":
    main()
