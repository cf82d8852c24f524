#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_import
short_description: Import everything of another MLflow server
description:
  - Copies experiments, runs with all values of their metrics, files, logged models, and registered models with their versions and
    aliases from another MLflow server, a SQLite database or a file store, through Identity-Aware Proxy (IAP), signed in as
    O(service_account).
  - Runs the command C(mlflow-iap import) of the package C(mlflow-iap), which uses MLflow's own client. Both packages are needed where
    the module runs, see O(python).
  - Each copy has a tag with the ID of what it is a copy of. An import that was interrupted goes on where it was. One that is repeated
    writes nothing, except what is new in the source.
  - A copy of a run is complete when it has been read back and compared. Fails if anything could not be imported, with all
    problems, after everything else has been imported.
  - Deleted experiments and runs, traces, and permissions are not imported. Nothing is changed in the source.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
attributes:
  check_mode:
    description: Only counts what the source has.
  diff_mode:
    description: There is no diff; RV(before) and RV(after) have the numbers.
    support: none
options:
  source:
    description:
      - What to import, the URL of a server (V(https://mlflow.internal:5000)), V(sqlite:///PATH), or the path of a file store.
    type: str
    required: true
  source_token:
    description: A token for the source, sent as C(Authorization Bearer).
    type: str
  source_username:
    description: User name for a source that asks for one.
    type: str
  source_password:
    description: Password of O(source_username).
    type: str
  url:
    description: URL of the deployment, such as V(https://mlflow.example.com).
    type: str
    required: true
  service_account:
    description: E-mail address of the service account to sign in as.
    type: str
    required: true
  python:
    description: A Python interpreter that has C(mlflow) and C(mlflow-iap). By default the one that runs the module.
    type: path
seealso:
  - module: mlops.mlflow_gcp.mlflow_adoption
"""

EXAMPLES = r"""
- name: Import what the old server has
  mlops.mlflow_gcp.mlflow_import:
    project: my-project
    auth_kind: application
    source: http://mlflow.internal:5000
    url: https://mlflow.example.com
    service_account: mlflow-logger@my-project.iam.gserviceaccount.com
"""

RETURN = r"""
source:
  description: How many experiments, runs, logged models, registered models and versions the source has.
  returned: success
  type: dict
  sample: {experiments: 2, runs: 40, logged_models: 3, registered_models: 1, versions: 4}
before:
  description: How many of these were complete in the deployment before; empty in check mode.
  returned: success
  type: dict
  sample: {experiments: 0, runs: 0, logged_models: 0, registered_models: 0, versions: 0}
after:
  description: How many of these are complete now; empty in check mode.
  returned: success
  type: dict
  sample: {experiments: 2, runs: 40, logged_models: 3, registered_models: 1, versions: 4}
copied:
  description: What was written, also parameters, values of metrics, files and bytes.
  returned: success
  type: dict
  sample: {runs: 40, metrics: 48000, files: 120, bytes: 9003116}
problems:
  description: What could not be imported; also returned on failure.
  returned: always
  type: list
  elements: str
  sample: []
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

CREDENTIALS = {"source_token": "TOKEN", "source_username": "USERNAME", "source_password": "PASSWORD"}
SHOWN = 20
IMPERSONATE = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateAccessToken"


def well_known() -> Path:
    """Where gcloud auth application-default login puts a person's credentials."""
    folder = os.environ.get("CLOUDSDK_CONFIG")
    return (Path(folder) if folder else Path.home() / ".config" / "gcloud") / "application_default_credentials.json"


def source_of(params: Mapping[str, Any]) -> str:
    """What the file has that the module's credentials come from; raises GcpError."""
    contents = params.get("service_account_contents")
    if contents and not params.get("service_account_file"):
        return contents if isinstance(contents, str) else json.dumps(contents)
    given = params.get("service_account_file") or params.get("credentials_file")
    path = given or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or well_known()
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise GcpError(f"Cannot read the credentials in {path}: {error.strerror}") from None


def application_file(params: Mapping[str, Any]) -> str:
    """
    The JSON by which Google's libraries find the module's credentials, "" if they find them anyway; raises GcpError for those that
    cannot last. https://cloud.google.com/docs/authentication/application-default-credentials
    """
    kind, account = params["auth_kind"], params.get("impersonate_service_account")
    if kind == "accesstoken":
        raise GcpError(
            "An import may take longer than an access token is valid: sign in with auth_kind application or serviceaccount instead"
        )
    if account and kind == "machineaccount":
        raise GcpError(
            f"An import cannot act as {account} with auth_kind machineaccount: attach that service account to the machine instead"
        )
    if account:
        try:
            source = json.loads(source_of(params))
        except ValueError:
            raise GcpError(f"The credentials with which an import is to act as {account} are not JSON") from None
        impersonated = {
            "type": "impersonated_service_account",
            "service_account_impersonation_url": IMPERSONATE.format(account=account),
            "delegates": params.get("impersonate_delegates") or [],
            "source_credentials": source,
        }
        return json.dumps(impersonated)
    return source_of(params) if kind == "serviceaccount" or params.get("credentials_file") else ""


@contextmanager
def application_credentials(task: Task) -> Iterator[dict[str, str]]:
    """The environment by which Google's libraries find the module's credentials; raises GcpError."""
    content, project = application_file(task.params), task.params.get("quota_project")
    # Only its owner may read it.
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(content)
        file.flush()
        found = {"GOOGLE_APPLICATION_CREDENTIALS": file.name} if content else {}
        yield found | ({"GOOGLE_CLOUD_QUOTA_PROJECT": project} if project else {})


def report_of(task: Task, environment: dict[str, str]) -> dict[str, Any]:
    """What the command says; raises GcpError."""
    params = task.params
    python = params["python"] or sys.executable
    if not Path(python).is_file():
        raise GcpError(f"The interpreter {python} (mlflow_import_python) does not exist")
    words = [
        python,
        "-m",
        "mlflow_iap.cli",
        "import",
        "--uri",
        params["url"],
        *(["--dry-run"] if task.check_mode else []),
    ]
    _status, output, errors = task.module.run_command(
        [*words, "--", params["source"]], environ_update=environment, expand_user_and_vars=False
    )
    last = (output.strip().splitlines() or [""])[-1]
    try:
        return dict(json.loads(last))
    except ValueError:
        reason = (errors.strip().splitlines() or ["it says nothing"])[-1].removeprefix("mlflow-iap: ")
        hint = ""
        if "No module named" in reason:
            hint = f"; install both packages there ({python} -m pip install mlflow mlflow-iap), or set mlflow_import_python"
        raise GcpError(f"Cannot import {params['source']}: {reason}{hint}") from None


def work(task: Task) -> dict[str, Any]:
    """The work of the module."""
    params = task.params
    own = {
        "MLFLOW_TRACKING_AUTH": "iap",
        "MLFLOW_IAP_SERVICE_ACCOUNT": params["service_account"],
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Nobody reads its output while it works.
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    own |= {f"MLFLOW_SOURCE_{name}": params[option] for option, name in CREDENTIALS.items() if params[option]}
    with application_credentials(task) as credentials:
        # Those of this process are for another server.
        for name in [name for name in os.environ if name.startswith("MLFLOW_TRACKING_")]:
            del os.environ[name]
        report = report_of(task, own | credentials)
    if problems := report["problems"]:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        task.module.fail_json(
            msg=f"Not everything could be imported; run again after mending this: {'; '.join(problems[:SHOWN])}{more}",
            **report,
        )
    return report if not task.check_mode else report | {"before": {}, "after": {}}


def main() -> None:
    run(
        work,
        argument_spec={
            "source": {"type": "str", "required": True, "kind": values.IMPORT_SOURCE},
            "source_token": {"type": "str", "no_log": True},
            "source_username": {"type": "str"},
            "source_password": {"type": "str", "no_log": True},
            "url": {"type": "str", "required": True},
            "service_account": {"type": "str", "required": True, "kind": values.SERVICE_ACCOUNT_EMAIL},
            "python": {"type": "path"},
        },
        required_together=[("source_username", "source_password")],
    )


if __name__ == "__main__":
    main()
