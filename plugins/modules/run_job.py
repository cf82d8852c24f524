#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_job
short_description: Manage a Cloud Run job
description:
  - Creates, updates and deletes a Cloud Run job with one container and one task, and waits until it can be executed.
    It does not execute the job; see M(mlops.mlflow_gcp.run_job_execution).
  - Fields not covered by an option are left unchanged, and defaults that Google fills in are not a change.
  - The module manages the first container. Its environment variables, command and arguments are declared completely;
    its volume mounts and further limits, other containers, volumes, network tags, the parallelism and so on stay.
  - When Google reports a missing service account or role grant, the module retries for two minutes, because new ones
    take time to propagate.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
  - mlops.mlflow_gcp.state
  - mlops.mlflow_gcp.cloud_run
  - mlops.mlflow_gcp.labels
options:
  timeout_seconds:
    description:
      - Maximum duration of an execution in seconds, 1 to 604800.
    type: int
    default: 600
  max_retries:
    description:
      - Number of times that a failed task is restarted, 0 to 10.
    type: int
    default: 0
seealso:
  - module: mlops.mlflow_gcp.run_job_execution
  - name: Jobs
    description: The API.
    link: https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs
"""

EXAMPLES = r"""
- name: Create a job from the server's image, in the server's network
  mlops.mlflow_gcp.run_job:
    project: my-project
    auth_kind: application
    name: mlflow-admin
    region: europe-west2
    image: europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2
    service_account: mlflow-server@my-project.iam.gserviceaccount.com
    memory: 2Gi
    network: mlflow-network
    subnetwork: mlflow-subnet
    env:
      MLFLOW_DB_HOST: 10.20.0.3
    secret_env:
      MLFLOW_DB_PASSWORD:
        secret: mlflow-db-password
        version: "1"
    timeout_seconds: 3600
"""

RETURN = r"""
resource:
  description: The job as Google returns it.
  returned: success
  type: dict
  sample:
    name: projects/my-project/locations/europe-west2/jobs/mlflow-admin
    executionCount: 2
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudrun, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import run


class Job(cloudrun.CloudRun):
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs"""

    kind = "Cloud Run job"
    collection_name, id_parameter, template_path = "jobs", "jobId", "template.template"
    rules = cloudrun.rules("template.template", same={})

    def declaration(self) -> dict[str, Any]:
        return {
            **super().declaration(),
            "template": {"labels": self.task.labels, "taskCount": 1, "template": self.template()},
        }

    def template(self) -> dict[str, Any]:
        return {
            **super().template(),
            "timeout": f"{self.params['timeout_seconds']}s",
            "maxRetries": self.params["max_retries"],
        }

    def differences(self, live: dict[str, Any]) -> list[str]:
        found = super().differences(live)
        # The cause (a missing role or secret) may have been fixed: Google checks again when the same body is sent.
        return found or (["terminalCondition"] if cloudrun.has_failed(live) else [])


def main() -> None:
    run(
        Job.converge,
        argument_spec={
            **cloudrun.OPTIONS,
            "timeout_seconds": {"type": "int", "default": 600, "kind": values.JOB_TIMEOUT},
            "max_retries": {"type": "int", "default": 0, "kind": values.MAX_RETRIES},
        },
        **cloudrun.CONDITIONS,
    )


if __name__ == "__main__":
    main()
