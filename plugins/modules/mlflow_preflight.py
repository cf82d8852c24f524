#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_preflight
short_description: Refuse a deployment that is not possible, before anything is written
description:
  - Reads what exists of an MLflow deployment - network, subnetwork, reserved range, Cloud SQL instance, database, secret, bucket,
    image that is given, Cloud Run service, address and backend service of the load balancer, keys of Cloud KMS - and compares it
    with what the variables ask for.
  - Fails if something cannot become what is asked, such as a database in another region, and lists all such findings, each with
    the variable to change. The modules that manage these resources would refuse the same, but each only when it is its turn, when
    others have already been changed.
  - What does not exist yet, can be changed in place, or may not be read by the caller is not refused. In a project whose APIs are
    not enabled yet, nothing exists.
  - Returns what exists in the form of the roles' results, so that a run of only some parts (option O(run_tags)) has what
    the other parts would have returned. Fails if such a run needs something that does not exist.
  - With O(survey), also finds what would stop a first run later, each with the command or grant that mends it. A permission is looked for
    on the project; one that is granted on a folder above counts, one that is granted on a single resource does not.
  - With a DNS zone, checks that it exists, is public and authoritative for the domains, and that no record is in the way.
  - Only reads, about ten requests at the same time.
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
  variables:
    description: The variables of all roles, as RV(mlops.mlflow_gcp.check_variables#module:variables) has them.
    type: dict
    required: true
  names:
    description: For each variable, the one to name in messages, as RV(mlops.mlflow_gcp.check_variables#module:names) has them.
    type: dict
    default: {}
  run_tags:
    description:
      - Tags that the run is limited to, usually C(ansible_run_tags).
      - The parts of a deployment are V(services), V(network), V(database), V(bucket), V(image), V(front_door) and V(users).
    type: list
    elements: str
    default: [all]
  skip_tags:
    description: Tags that the run leaves out, usually C(ansible_skip_tags).
    type: list
    elements: str
    default: []
  survey:
    description:
      - Whether to look also at what lies outside the deployment - the credentials, billing, the caller's permissions, organization
        policies, quotas, APIs that are off - with some 20 more requests at the same time.
      - With V(first), only if nothing of the deployment exists yet and the run is not limited to some parts.
    type: str
    choices: [never, first, always]
    default: never
seealso:
  - module: mlops.mlflow_gcp.check_variables
  - module: mlops.mlflow_gcp.mlflow_doctor
"""

EXAMPLES = r"""
- name: Check the variables
  mlops.mlflow_gcp.check_variables:
    roles: [services, network, cloudsql, bucket, image, cloudrun, iap_lb, iap_cloud_run, iap_internal_lb]
  register: mlflow_checked

- name: Stop before the first change if what exists cannot become what is asked
  mlops.mlflow_gcp.mlflow_preflight:
    project: my-project
    auth_kind: application
    variables: "{{ mlflow_checked.variables }}"
    names: "{{ mlflow_checked.names }}"
    run_tags: "{{ ansible_run_tags }}"
    skip_tags: "{{ ansible_skip_tags }}"
  register: mlflow_existing
"""

RETURN = r"""
findings:
  description: What cannot become what is asked, or is missing for the tags of the run; also returned on failure.
  returned: always
  type: list
  elements: str
  sample:
    - mlflow_region is 'europe-west1', but region of Cloud SQL instance mlflow is 'europe-west2'; give another name to create a new instance there
notes:
  description: What the survey has found that does not stop a run, or could not find out; also returned on failure.
  returned: always
  type: list
  elements: str
  sample:
    - "APIs that the run enables: run.googleapis.com, sqladmin.googleapis.com"
caller:
  description:
    - Whose credentials are used, empty without a survey; also returned on failure.
    - C(credentials) is their type, C(authorized_user), C(service_account), C(external_account), C(external_account_authorized_user),
      C(impersonated_service_account), C(metadata_server) or C(access_token), and C(source) the type of those that impersonate.
    - C(expires) is when the current access token expires; if C(renewed) is false, it is not renewed then.
    - C(member) is the caller as a member of IAM policies, empty if Google does not tell. C(principal) then names the workload
      identity pool.
  returned: success
  type: dict
  sample:
    auth_kind: application
    credentials: authorized_user
    source: ""
    member: user:jane@example.com
    principal: user:jane@example.com
    quota_project: my-project
    expires: "2026-01-31T12:59:59Z"
    renewed: true
is_new:
  description: Whether none of the Cloud SQL instance, the bucket, the Cloud Run service and the backend service exists yet.
  returned: success
  type: bool
  sample: false
existing:
  description: The labels of the resources that exist.
  returned: success
  type: list
  elements: str
  sample: [network mlflow, Cloud SQL instance mlflow]
unread:
  description: The labels of the resources that the caller may not read, each with Google's message. They were not compared.
  returned: success
  type: list
  elements: str
  sample: []
network:
  description: What role network would return, with "" for what does not exist.
  returned: success
  type: dict
  sample:
    network: mlflow
    network_path: projects/my-project/global/networks/mlflow
    subnetwork: mlflow-europe-west2
    subnetwork_path: projects/my-project/regions/europe-west2/subnetworks/mlflow-europe-west2
    reserved_range: mlflow-services
    private_access: peering
cloudsql:
  description: What role cloudsql would return, with "" for what does not exist.
  returned: success
  type: dict
  sample:
    instance: mlflow
    private_ip_address: 10.20.0.3
    connection_name: my-project:europe-west2:mlflow
    database: mlflow
    user: mlflow
    password_secret: projects/my-project/secrets/mlflow-db-password
    password_version: "1"
    is_new: false
image:
  description: The image that the Cloud Run service runs, with "" for a service that does not exist.
  returned: success
  type: dict
  sample:
    image: europe-west2-docker.pkg.dev/my-project/mlflow/server@sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b
bucket:
  description: What role bucket would return, with "" for what does not exist.
  returned: success
  type: dict
  sample:
    name: my-project-mlflow-artifacts
    url: gs://my-project-mlflow-artifacts
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight import compare, existing, survey
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import MADE_BY, Site

HELP = "https://github.com/mlops/mlflow_gcp/blob/main/docs/changes.md says how to make such changes"


def examine(task: Task) -> dict[str, Any]:
    """The work of the module."""
    site = Site(task)
    existing.read(site)
    compare.compare(site)
    asked = task.params["survey"]
    caller = survey.survey(site) if asked == "always" or asked == "first" and site.is_new and not site.partial else {}
    findings = site.findings + site.missing
    if findings:
        listed = "; ".join(f"{number}) {finding}" for number, finding in enumerate(findings, 1))
        changes = f". {HELP}" if site.findings else ""
        task.module.fail_json(
            msg=f"Nothing was changed. {listed}{changes}", findings=findings, notes=site.notes, caller=caller
        )
    shown = (*MADE_BY, "rule", "image", *map(site.text, site.keys), *site.server_secrets)
    labels = [found.label for key, found in site.found.items() if found.body and key in shown]
    unread = sorted(site.unread)
    return {
        "changed": False,
        "findings": [],
        "notes": site.notes,
        "caller": caller,
        "is_new": site.is_new,
        "existing": labels,
        "unread": unread,
        **dict(existing.results(site)),
    }


def main() -> None:
    run(
        examine,
        argument_spec={
            "variables": {"type": "dict", "required": True},
            "names": {"type": "dict", "default": {}},
            "run_tags": {"type": "list", "elements": "str", "default": ["all"]},
            "survey": {"type": "str", "choices": ["never", "first", "always"], "default": "never"},
            "skip_tags": {"type": "list", "elements": "str", "default": []},
        },
    )


if __name__ == "__main__":
    main()
