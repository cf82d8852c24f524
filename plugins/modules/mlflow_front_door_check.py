#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_front_door_check
short_description: Refuse a load balancer that is not possible, before anything is written
description:
  - Reads the project and what the load balancer of an MLflow deployment depends on, and fails with all problems that it finds.
  - The Cloud Run service must exist, and must not have Identity-Aware Proxy itself, which Google does not allow together with that of the
    load balancer. In check mode this is only a warning, since an earlier step may create or change it.
  - A reserved address that others manage must exist, be external, and be the one that the load balancer already has, because
    Google cannot change the address of a forwarding rule.
  - No other load balancer of the project may serve one of the domains, since a domain leads to one load balancer only. This sees
    the certificates and host rules of the project's global and regional external HTTPS load balancers. It does not see other
    projects, nor names that are only in a certificate map.
  - The backend service may have no Cloud Armor policy of others where one is to be attached.
  - Only reads.
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
  name:
    description: Prefix of the names of the load balancer's resources.
    type: str
    required: true
  domains:
    description: Domain names of the server. Those of an internal load balancer may lead elsewhere from outside, and are left out.
    type: list
    elements: str
    default: []
  address_name:
    description: Name of the load balancer's reserved global address. Not checked without this option.
    type: str
  address_exists:
    description: Whether that address must exist already.
    type: bool
    default: false
  cloud_run_service:
    description: Short name of the Cloud Run service. Not checked without this option.
    type: str
  region:
    description: Region of the Cloud Run service. Required with O(cloud_run_service).
    type: str
  replaces:
    description:
      - Names of global forwarding rules that may serve one of the domains, because this load balancer takes it over. Their addresses and
        the certificates of their proxies are returned.
    type: list
    elements: str
    default: []
  previous:
    description:
      - The O(name) that the load balancer had before, empty for none. It may serve the domains, and its address and certificates are
        returned.
    type: str
    default: ""
  security_policy:
    description:
      - Name of the Cloud Armor policy that is to be attached to the backend service, empty for none. One of others that is attached
        there is a problem.
    type: str
    default: ""
seealso:
  - module: mlops.mlflow_gcp.mlflow_doctor
"""

EXAMPLES = r"""
- name: Check that the load balancer is possible
  mlops.mlflow_gcp.mlflow_front_door_check:
    project: my-project
    auth_kind: application
    name: mlflow-lb
    domains: [mlflow.example.com]
    address_name: mlflow-lb-ip
    cloud_run_service: mlflow
    region: europe-west2
"""

RETURN = r"""
problems:
  description: The problems; also returned on failure.
  returned: always
  type: list
  elements: str
  sample: []
previous_addresses:
  description: The address of the load balancer in O(previous), none if there is no such load balancer.
  returned: success
  type: list
  elements: str
  sample: []
previous_certificates:
  description: Names of the SSL certificates of the load balancer in O(previous).
  returned: success
  type: list
  elements: str
  sample: []
replaced_addresses:
  description: The addresses of the forwarding rules in O(replaces) that exist.
  returned: success
  type: list
  elements: str
  sample: []
replaced_certificates:
  description: Names of the SSL certificates of these load balancers.
  returned: success
  type: list
  elements: str
  sample: []
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.balancing import other_policy, rivals
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import relative, short
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compute import API
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run


def service_problems(task: Task) -> Iterator[str]:
    """Whether the Cloud Run service exists. https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services"""
    name, region = task.params["cloud_run_service"], task.params["region"]
    if not name:
        return
    url = f"https://run.googleapis.com/v2/projects/{task.project}/locations/{region}/services/{name}"
    what = f"Cloud Run service {name}"
    service = task.read(what, lambda: task.client.find(url))
    if service is None:
        problem = f"{what} does not exist in region {region} of project {task.project}"
        advice = "deploy it first (role cloudrun), or give the name and the region of an existing one"
    elif service.get("iapEnabled"):
        problem = f"{what} has Identity-Aware Proxy itself (iapEnabled), which Google does not allow besides that of a load balancer"
        advice = "turn it off first (cloudrun_iap_enabled), or use the role iap_cloud_run"
    else:
        return
    if task.check_mode:
        task.warn(f"{problem} yet" if service is None else problem)
    else:
        yield f"{problem}: {advice}"


def address_problems(task: Task) -> Iterator[str]:
    """Whether the reserved address exists and is the one of the forwarding rules."""
    name, compute = task.params["address_name"], f"{API}/projects/{task.project}/global"
    if not name:
        return
    address = task.read(f"global address {name}", lambda: task.client.find(f"{compute}/addresses/{name}"))
    if address is None and task.params["address_exists"]:
        yield (
            f"global address {name} does not exist in project {task.project}: reserve it (gcloud compute addresses create {name} "
            "--global), or give the name of an existing one"
        )
        return
    if address and address.get("addressType", "EXTERNAL") != "EXTERNAL":
        yield f"global address {name} is {address['addressType']}: give the name of an external one"
        return
    for port in ("https", "http"):
        rule_name = f"{task.params['name']}-{port}"
        url = f"{compute}/forwardingRules/{rule_name}"
        rule = task.read(f"forwarding rule {rule_name}", partial(task.client.find, url))
        current, wanted = (rule or {}).get("IPAddress"), (address or {}).get("address", "a new one")
        if current and current != wanted:
            yield (
                f"forwarding rule {rule_name} has the address {current}, which Google cannot change to that of {name}, "
                f"{wanted}: give the name of the address {current}; or delete the forwarding rules {task.params['name']}-https "
                f"and -http, which interrupts the traffic, run again and point the domains to the new address"
            )
            return


def domain_problems(task: Task) -> Iterator[str]:
    """Whether another load balancer serves one of the domains."""
    if not task.params["domains"]:
        return
    found = task.read(
        f"load balancers of project {task.project}",
        lambda: list(rivals(task.client, task.project, task.params["name"], task.params["domains"])),
    )
    accepted = [*task.params["replaces"], f"{task.params['previous']}-https"]
    for rule, sentence in found or ():
        if rule not in accepted:
            yield (
                f"{sentence}, and a domain leads to one load balancer only: choose another domain, remove it from that load "
                f"balancer, or list {rule} in the option replaces (iap_lb_replaces) to take the domain over"
            )


def policy_problems(task: Task) -> Iterator[str]:
    """Whether the backend service, or that of the previous load balancer, has a Cloud Armor policy of others."""
    wanted, names = task.params["security_policy"], [task.params["name"], task.params["previous"]]
    for balancer in filter(None, names if wanted else ()):
        name = f"{balancer}-backend"
        url = f"{API}/projects/{task.project}/global/backendServices/{name}"
        live = task.read(f"backend service {name}", partial(task.client.find, url)) or {}
        if problem := other_policy(live, wanted, f"{balancer}-allowed"):
            yield f"{problem}: add the ranges to that policy and leave iap_lb_allowed_ranges empty, or detach it first"


def previous(task: Task) -> dict[str, list[str]]:
    """The address and the certificates of the load balancer with the previous name."""
    name, compute = f"{task.params['previous']}-https", f"{API}/projects/{task.project}/global"

    def find(kind: str, collection: str) -> dict[str, Any]:
        return task.read(f"{kind} {name}", lambda: task.client.find(f"{compute}/{collection}/{name}")) or {}

    given = bool(task.params["previous"])
    address = find("forwarding rule", "forwardingRules").get("IPAddress") if given else None
    certificates = find("HTTPS proxy", "targetHttpsProxies").get("sslCertificates") if given else None
    return {
        "previous_addresses": [address] if address else [],
        "previous_certificates": [short(link) for link in certificates or ()],
    }


def replaced(task: Task) -> dict[str, list[str]]:
    """The addresses and the certificates of the load balancers whose domains this one takes over."""
    addresses: list[str] = []
    certificates: list[str] = []
    for name in task.params["replaces"]:
        url = f"{API}/projects/{task.project}/global/forwardingRules/{name}"
        rule = task.read(f"forwarding rule {name}", partial(task.client.find, url)) or {}
        addresses += [rule["IPAddress"]] if rule.get("IPAddress") else []
        if "/targetHttpsProxies/" in (target := rule.get("target", "")):
            proxy = task.read(f"HTTPS proxy {short(target)}", partial(task.client.find, f"{API}/{relative(target)}"))
            certificates += map(short, (proxy or {}).get("sslCertificates") or ())
    return {"replaced_addresses": addresses, "replaced_certificates": certificates}


def check(task: Task) -> dict[str, Any]:
    """The work of the module."""
    # A later step needs the number; this fails already now where the API is not enabled.
    _number = task.project_number
    problems = [*service_problems(task), *address_problems(task), *domain_problems(task), *policy_problems(task)]
    if problems:
        listed = problems[0] if len(problems) == 1 else "; ".join(f"{n}) {text}" for n, text in enumerate(problems, 1))
        task.module.fail_json(msg=f"Nothing was changed: {listed}", problems=problems)
    return {"changed": False, "problems": [], **previous(task), **replaced(task)}


def main() -> None:
    run(
        check,
        argument_spec={
            "name": {"type": "str", "required": True, "kind": values.BALANCER_NAME},
            "domains": {"type": "list", "elements": "str", "default": []},
            "address_name": {"type": "str", "kind": values.NAME},
            "address_exists": {"type": "bool", "default": False},
            "cloud_run_service": {"type": "str"},
            "region": {"type": "str"},
            "replaces": {"type": "list", "elements": "str", "default": []},
            "previous": {"type": "str", "default": ""},
            "security_policy": {"type": "str", "default": ""},
        },
        required_together=[("cloud_run_service", "region")],
    )


if __name__ == "__main__":
    main()
