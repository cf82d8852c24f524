#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_doctor
short_description: Find configuration errors in an MLflow deployment
description:
  - Checks the path of a request - forwarding rule, HTTPS proxy and certificate, URL map, backend service with
    Identity-Aware Proxy (IAP), serverless network endpoint group, Cloud Run service - and of its data - VPC, private
    services access, firewall rules, Cloud SQL instance, secrets, bucket - including the roles that each step requires.
  - Finds what is open - a resource that everybody has a role on, a bucket or service that can be reached in another way, a
    database with a public address - as well as what is broken - a disabled service account, a changed password, an egress
    that is denied, another image, a pinned revision, more connections than the database accepts.
  - Fails if there is any problem, and lists all problems, each with the resource and what to do.
  - Also finds everybody who gets in without being named, through roles on these resources, on Identity-Aware Proxy's own
    hierarchy, on the project, its folders and its organization, also under an IAM condition. A role that lets its members
    in is a problem; the members of a role that could let themselves in or read the data, such as owners, are a note.
  - Only reads, with about forty requests, most of them side by side. Resources that it may not read are a problem as well,
    which names the missing permission and the smallest role that includes it; but a policy above the project, or of a custom
    role, that it may not read is a note.
  - A role is recognised if it is granted on the resource itself or on the project, without a condition. Roles granted on
    a folder or the organization, or to a group, are not recognised.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
attributes:
  diff_mode:
    description: There is no diff, because nothing is changed.
    support: none
options:
  region:
    description: Region of the Cloud Run service and of its network endpoint group.
    type: str
    required: true
  front_door:
    description:
      - How users reach MLflow. V(load_balancer) is a load balancer with IAP, V(cloud_run) IAP of the Cloud Run service itself, at the
        address that Cloud Run gives it, V(internal) an internal load balancer with IAP.
    type: str
    choices: [load_balancer, cloud_run, internal]
    default: load_balancer
  domain:
    description: Domain name of MLflow. Required with a load balancer.
    type: str
  extra_domains:
    description: Additional domain names of MLflow.
    type: list
    elements: str
    default: []
  lb_name:
    description: Prefix of the names of the load balancer's forwarding rules.
    type: str
    default: mlflow-lb
  backend_service:
    description: Name of the backend service. By default O(lb_name) followed by C(-backend).
    type: str
  run_service:
    description: Name of the Cloud Run service.
    type: str
    default: mlflow
  image:
    description: Image that the Cloud Run service must run. Not checked without this option.
    type: str
  sql_instance:
    description: Name of the Cloud SQL instance. Not checked without this option.
    type: str
  sql_user:
    description:
      - User of the database, whose password must not have been changed since M(mlops.mlflow_gcp.sql_user) set it. Requires
        O(secret). Not checked without this option.
    type: str
  ssl_mode:
    description: The weakest C(sslMode) that the Cloud SQL instance may have. Not checked without this option.
    type: str
    choices:
      - ALLOW_UNENCRYPTED_AND_ENCRYPTED
      - ENCRYPTED_ONLY
      - TRUSTED_CLIENT_CERTIFICATE_REQUIRED
  secret:
    description: Name of the secret with the database password, or C(projects/PROJECT/secrets/NAME). Not checked without this option.
    type: str
  bucket:
    description: Name of the bucket for artifacts, with or without C(gs://). Not checked without this option.
    type: str
  uniform_access:
    description: Whether the bucket must have uniform bucket-level access.
    type: bool
    default: true
  public_access_prevention:
    description: With V(enforced), the bucket must enforce public access prevention.
    type: str
    choices: [enforced, inherited]
    default: enforced
  versioning:
    description: Whether the bucket must keep what is overwritten or deleted.
    type: bool
    default: true
  network:
    description: Name, path or link of the VPC network that connects Cloud Run with Cloud SQL. Not checked without this option.
    type: str
  members:
    description:
      - All members that IAP must give access, such as V(user:jane@example.com), including the logger service account. Not
        checked without this option.
    type: list
    elements: str
  logger_service_account:
    description:
      - E-mail address of the service account for programs. It must be enabled, and the caller must be allowed to sign in as it,
        because M(mlops.mlflow_gcp.mlflow_probe) does so. Not checked without this option.
    type: str
  logger_token_creators:
    description: All members who may sign in as O(logger_service_account). Not checked without this option.
    type: list
    elements: str
  accepted_members:
    description:
      - Members who are not reported, although they get in without being named, such as V(group:platform@example.com).
      - A member is accepted for all resources and roles, not for a single grant. V(domain:example.com) also accepts the
        users and groups of that domain.
    type: list
    elements: str
    default: []
seealso:
  - module: mlops.mlflow_gcp.mlflow_probe
"""

EXAMPLES = r"""
- name: Check the deployment
  mlops.mlflow_gcp.mlflow_doctor:
    project: my-project
    auth_kind: application
    region: europe-west2
    domain: mlflow.example.com
    run_service: mlflow
    image: europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2
    logger_service_account: mlflow-logger@my-project.iam.gserviceaccount.com
    logger_token_creators:
      - user:jane@example.com
    sql_instance: mlflow
    sql_user: mlflow
    ssl_mode: ENCRYPTED_ONLY
    secret: mlflow-db-password
    bucket: my-project-mlflow-artifacts
    network: mlflow
    members:
      - group:data-science@example.com
      - serviceAccount:mlflow-logger@my-project.iam.gserviceaccount.com
"""

RETURN = r"""
findings:
  description: The problems, in the order of a request's path; also returned on failure.
  returned: always
  type: list
  elements: dict
  contains:
    where:
      description: The resource.
      type: str
      sample: Cloud Run service mlflow
    problem:
      description: The problem.
      type: str
      sample: service-123456789012@gcp-sa-iap.iam.gserviceaccount.com (the IAP service agent) does not have roles/run.invoker
    fix:
      description: What to do.
      type: str
      sample: run mlops.mlflow_gcp.site again (role iap_lb)
notes:
  description: Who could let themselves in or read the data, and what could not be found out; also returned on failure.
  returned: always
  type: list
  elements: dict
  contains:
    where:
      description: The resource on which a role is granted, or the role or policy that could not be read.
      type: str
      sample: project my-project
    note:
      description: Who could do what.
      type: str
      sample: user:jane@example.com could read the secrets (roles/secretmanager.admin)
url:
  description: Address of MLflow.
  returned: success
  type: str
  sample: https://mlflow.example.com
checked:
  description: The resources that were read.
  returned: always
  type: list
  elements: str
  sample: [forwarding rule mlflow-lb-https, HTTPS proxy mlflow-lb-https]
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import access, cloudrun, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.data import (
    SSL_MODES,
    Bucket,
    Database,
    read_instance,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.front_door import CloudRunDoor, FrontDoor
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.network import Network
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.report import Reader, Report
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.doctor.server import (
    Accounts,
    Secrets,
    Server,
    ServerChecks,
    read_service,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iam import policy_of
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run

T = TypeVar("T")


def read_project_policy(task: Task, report: Report) -> dict[str, Any] | None:
    """The IAM policy of the project."""
    target = policy_of(task, "project", task.project)
    fix = "check the project ID"
    policy = Reader(task, report).look(f"IAM policy of project {task.project}", lambda: target.read(task), fix)
    report.policies["project", task.project] = policy or {}
    return policy


def examine(task: Task) -> Report:
    """Everything that the checks find. They run side by side, and report in the order in which they are started."""
    task.client  # noqa: B018 - signs in once, and not in each thread
    started: list[tuple[Report, Future[Any]]] = []
    with ThreadPoolExecutor(max_workers=12) as pool:

        def start(check: Callable[[Report], T]) -> Future[T]:
            report = Report()
            future = pool.submit(check, report)
            started.append((report, future))
            return future

        if task.params["front_door"] == "cloud_run":
            backend = start(lambda report: CloudRunDoor(task, report).check())
        else:
            backend = start(lambda report: FrontDoor(task, report).check())
        start(lambda report: Accounts(task, report).logger())
        reads = (
            start(lambda report: read_service(task, report)),
            start(lambda report: read_project_policy(task, report)),
            start(lambda report: read_instance(task, report)),
        )
        server, project, instance = (reads[0].result(), reads[1].result(), reads[2].result())
        start(lambda report: ServerChecks(task, report, server).check())
        start(lambda report: ServerChecks(task, report, server).invoker(project))
        start(lambda report: Accounts(task, report).server(server, project))
        start(lambda report: Secrets(task, report).check(server, project))
        start(lambda report: Bucket(task, report).check(server, project))
        start(lambda report: Database(task, report, instance).check(server, project))
        if task.params["network"]:
            start(lambda report: Network(task, report).check(server, instance))
    everything = Report()
    for report, future in started:
        future.result()
        everything.join(report)
    everything.add_denied()
    who_gets_in(task, everything, backend.result(), server)
    return everything


def who_gets_in(task: Task, report: Report, backend: str | None, server: Server) -> None:
    """Find everybody who gets in without being named."""
    try:
        number = task.project_number
    except ApiError:
        return  # the checks have reported it
    found = access.Access(task, task.params["accepted_members"], report.policies)
    found.examine(access.guards(task.project, number, backend, server.body or None, task.params), report.findings)
    report.findings += found.findings
    report.notes += found.notes


def host(task: Task) -> str:
    """The host at which users reach MLflow."""
    params = task.params
    if params["front_door"] == "cloud_run":
        return cloudrun.host(params["run_service"], str(task.project_number), params["region"])
    return str(params["domain"])


def diagnose(task: Task) -> dict[str, Any]:
    """The work of the module."""
    report = examine(task)
    if report.findings:
        summary = "; ".join(
            f"{number}) {entry['where']}: {entry['problem']} - {entry['fix']}"
            for number, entry in enumerate(report.findings, 1)
        )
        count = f"{len(report.findings)} findings" if len(report.findings) > 1 else "1 finding"
        task.module.fail_json(
            msg=f"{count}: {summary}", findings=report.findings, notes=report.notes, checked=report.checked
        )
    return {
        "changed": False,
        "findings": [],
        "notes": report.notes,
        "checked": report.checked,
        "url": f"https://{host(task)}",
    }


def main() -> None:
    run(
        diagnose,
        argument_spec={
            "region": {"type": "str", "required": True, "kind": values.REGION},
            "front_door": {"type": "str", "choices": list(values.FRONT_DOORS), "default": "load_balancer"},
            "domain": {"type": "str", "kind": values.DOMAIN},
            "extra_domains": {"type": "list", "elements": "str", "default": [], "kind": values.DOMAINS},
            "lb_name": {"type": "str", "default": "mlflow-lb"},
            "backend_service": {"type": "str"},
            "run_service": {"type": "str", "default": "mlflow"},
            "image": {"type": "str"},
            "sql_instance": {"type": "str"},
            "sql_user": {"type": "str"},
            "ssl_mode": {"type": "str", "choices": list(SSL_MODES)},
            "secret": {"type": "str", "no_log": False},
            "bucket": {"type": "str"},
            "uniform_access": {"type": "bool", "default": True},
            "public_access_prevention": {"type": "str", "choices": ["enforced", "inherited"], "default": "enforced"},
            "versioning": {"type": "bool", "default": True},
            "network": {"type": "str"},
            "members": {"type": "list", "elements": "str"},
            "logger_service_account": {"type": "str", "kind": values.SERVICE_ACCOUNT_EMAIL},
            "logger_token_creators": {"type": "list", "elements": "str", "no_log": False},
            "accepted_members": {"type": "list", "elements": "str", "default": [], "kind": values.ANY_MEMBERS},
        },
        required_if=[("front_door", "load_balancer", ["domain"]), ("front_door", "internal", ["domain"])],
    )


if __name__ == "__main__":
    main()
