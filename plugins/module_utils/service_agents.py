# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service agents: the accounts as which Google's APIs act in a project.

https://cloud.google.com/iam/docs/service-agents
"""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.operations import repeat, wait

STORAGE = "storage.googleapis.com"
# API -> domain of its agent, for check mode; those of the others begin with gcp-sa-.
DOMAINS = {
    "run.googleapis.com": "serverless-robot-prod",
    "sqladmin.googleapis.com": "gcp-sa-cloud-sql",
    STORAGE: "gs-project-accounts",
}


def identity(task: Task, service: str) -> dict[str, Any]:
    """
    The agent of API SERVICE in the task's project, created if necessary: {email, …}. Check mode returns its usual address.

    https://cloud.google.com/service-usage/docs/reference/rest/v1beta1/services/generateServiceIdentity
    https://cloud.google.com/storage/docs/json_api/v1/projects/serviceAccount/get
    """
    if task.check_mode:
        number = task.project_number or "PROJECT_NUMBER"
        domain = DOMAINS.get(service, f"gcp-sa-{service.partition('.')[0]}")
        return {"email": f"service-{number}@{domain}.iam.gserviceaccount.com"}
    action = f"generate the service identity of {service} in project {task.project}"
    with task.client.action(action):
        if service == STORAGE:
            # Service Usage does not name the agent of Cloud Storage.
            url = f"https://{STORAGE}/storage/v1/projects/{task.project}/serviceAccount"
            return {"email": task.client.get(url)["email_address"]}
        url = f"https://serviceusage.googleapis.com/v1beta1/projects/{task.project}/services/{service}:generateServiceIdentity"
        agent = repeat(
            lambda: wait(task.client, task.client.post(url, idempotent=True), url, timeout=300, action=action)
        )
        if not agent.get("email"):
            raise GcpError(f"Cannot {action}: Google returned no e-mail address, so this API has no service agent")
    return agent
