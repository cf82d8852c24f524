#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_service
short_description: Manage a Cloud Run service
description:
  - Creates, changes and deletes a Cloud Run service of one container, and waits until its newest revision serves.
  - What the options do not speak of stays as it is or as Google fills it in, and is no change.
  - A revision that fails ends the module with Google's own reason. Running again with nothing else changed makes a new
    revision, since what was missing (a role, a secret) may be there now.
  - Where Google says that a service account or a grant is missing, the module tries again for two minutes; just made,
    they are not known everywhere at once.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.attributes
options:
  name:
    description:
      - Name of the service.
    type: str
    required: true
  region:
    description:
      - Region of the service, such as V(europe-west2).
    type: str
    required: true
  image:
    description:
      - Container image; required for O(state=present).
    type: str
  command:
    description:
      - Entry point in place of the image's.
    type: list
    elements: str
    default: []
  args:
    description:
      - Arguments in place of the image's.
    type: list
    elements: str
    default: []
  env:
    description:
      - All environment variables with plain values; together with O(secret_env) they are the whole environment.
      - Whoever may view the service reads these, so nothing secret belongs here.
    type: dict
    default: {}
  secret_env:
    description:
      - Environment variables with values from Secret Manager. Each key is a variable's name, each value a dictionary of
        C(secret) (a name or V(projects/PROJECT/secrets/NAME)) and C(version) (a number or V(latest)).
    type: dict
    default: {}
  service_account:
    description:
      - E-mail address of the service account that the container runs as.
    type: str
  port:
    description:
      - The port that the container listens on.
    type: int
    default: 8080
  port_name:
    description:
      - V(h2c) for HTTP/2 end to end, which lifts Cloud Run's limit of 32 MiB a request.
    type: str
    choices: [http1, h2c]
    default: http1
  cpu:
    description:
      - Processors of an instance.
    type: str
    default: '1'
  memory:
    description:
      - Memory of an instance; the container's file system is in it.
    type: str
    default: 1Gi
  cpu_idle:
    description:
      - Processors are only there while a request is being served.
    type: bool
    default: true
  startup_cpu_boost:
    description:
      - More processors while an instance starts.
    type: bool
    default: false
  min_instances:
    description:
      - Instances that are kept although there is nothing to do.
    type: int
    default: 0
  max_instances:
    description:
      - Most instances at a time.
    type: int
  concurrency:
    description:
      - Most requests that an instance serves at a time, 1 to 1000.
    type: int
  timeout_seconds:
    description:
      - Longest duration of a request, 1 to 3600 seconds.
    type: int
  ingress:
    description:
      - From where the service can be reached.
    type: str
    choices:
      - INGRESS_TRAFFIC_ALL
      - INGRESS_TRAFFIC_INTERNAL_ONLY
      - INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER
    default: INGRESS_TRAFFIC_ALL
  network:
    description:
      - VPC network that instances are attached to directly (direct VPC egress), by name, path or selfLink.
    type: str
  subnetwork:
    description:
      - Subnetwork of O(network) that instances take their addresses from.
    type: str
  vpc_connector:
    description:
      - Serverless VPC Access connector in place of O(network), by name or path.
    type: str
  vpc_egress:
    description:
      - What goes through the VPC network.
    type: str
    choices: [PRIVATE_RANGES_ONLY, ALL_TRAFFIC]
    default: PRIVATE_RANGES_ONLY
  startup_probe:
    description:
      - HTTP request that must succeed before an instance gets traffic. Without this option Google's default stays,
        which waits for the port.
    type: dict
    suboptions:
      path:
        description:
          - Path of the request.
        type: str
        required: true
      port:
        description:
          - Port of the request; O(port) by default.
        type: int
      initial_delay_seconds:
        description:
          - Seconds to wait before the first request.
        type: int
      period_seconds:
        description:
          - Seconds between requests.
        type: int
      timeout_seconds:
        description:
          - Seconds to wait for an answer; not more than O(startup_probe.period_seconds).
        type: int
      failure_threshold:
        description:
          - So many failures in a row end the instance.
        type: int
  liveness_probe:
    description:
      - HTTP request that must go on succeeding. Without this option there is none.
    type: dict
    suboptions:
      path:
        description:
          - Path of the request.
        type: str
        required: true
      port:
        description:
          - Port of the request; O(port) by default.
        type: int
      initial_delay_seconds:
        description:
          - Seconds to wait before the first request.
        type: int
      period_seconds:
        description:
          - Seconds between requests.
        type: int
      timeout_seconds:
        description:
          - Seconds to wait for an answer; not more than O(liveness_probe.period_seconds).
        type: int
      failure_threshold:
        description:
          - So many failures in a row end the instance.
        type: int
  execution_environment:
    description:
      - Execution environment of the container.
    type: str
    choices: [EXECUTION_ENVIRONMENT_GEN1, EXECUTION_ENVIRONMENT_GEN2]
  labels:
    description:
      - All labels of the service; others are removed. Without this option the labels stay as they are.
    type: dict
  annotations:
    description:
      - All annotations of the service; others are removed. Without this option the annotations stay as they are.
    type: dict
  deletion_protection:
    description:
      - Refuse O(state=absent). Cloud Run itself knows no such protection.
    type: bool
    default: false
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 600
  state:
    description:
      - Whether the service exists.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: The server runs, for load balancers only
  mlops.mlflow_gcp.run_service:
    project: my-project
    auth_kind: application
    name: mlflow
    region: europe-west2
    image: europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2
    service_account: mlflow-server@my-project.iam.gserviceaccount.com
    ingress: INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER
    memory: 2Gi
    network: mlflow-network
    subnetwork: mlflow-subnet
    env:
      MLFLOW_DB_HOST: 10.20.0.3
    secret_env:
      MLFLOW_DB_PASSWORD:
        secret: mlflow-db-password
        version: "1"
    startup_probe:
      path: /health
      period_seconds: 5
      failure_threshold: 24
"""

RETURN = r"""
uri:
  description: The service's own address; empty in check mode when it would be created.
  returned: success
  type: str
  sample: https://mlflow-abcdefghij-nw.a.run.app
latest_ready_revision:
  description: Name of the revision that serves; empty when there is none.
  returned: success
  type: str
  sample: mlflow-00001-abc
resource:
  description: The service as Google returns it.
  returned: success
  type: dict
  sample:
    name: projects/my-project/locations/europe-west2/services/mlflow
    ingress: INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER
"""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    Rules,
    declared,
    full_path,
    relative,
    same_resource,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import STATE_OPTION, Task, run, text
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

PROBE = {
    "path": {"type": "str", "required": True},
    "port": {"type": "int"},
    "initial_delay_seconds": {"type": "int"},
    "period_seconds": {"type": "int"},
    "timeout_seconds": {"type": "int"},
    "failure_threshold": {"type": "int"},
}
RANGES = {
    "port": (1, 65535), "concurrency": (1, 1000), "timeout_seconds": (1, 3600), "min_instances": (0, 10000),
    "max_instances": (1, 10000),
}
RESERVED = ("PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION")
UNITS = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# An update replaces the whole service; these parts are somebody else's when the options do not speak of them.
KEPT = (
    "annotations", "binaryAuthorization", "customAudiences", "defaultUriDisabled", "description", "iapEnabled",
    "invokerIamDisabled", "labels", "launchStage", "scaling",
)
FAILED = "CONDITION_FAILED"
# Seconds for which a grant that Google says is missing may be on its way.
PATIENCE = 120
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"


def quantity(value: Any) -> Decimal | None:
    """1000m and 1 are the same number, 1Gi and 1024Mi are; None when it is none."""
    found = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(value))
    try:
        return Decimal(found[1]) * UNITS[found[2]] if found else None
    except (InvalidOperation, KeyError):
        return None


def same_quantity(wanted: Any, live: Any) -> bool:
    return live is not None and quantity(wanted) == quantity(live)


def same_network(wanted: Any, live: Any) -> bool:
    """The first of the network interfaces, named one way or the other."""
    live = live or [{}]
    return len(live) == 1 and all(
        value is None or same_resource(value, live[0].get(key)) for key, value in wanted[0].items())


def to_latest(_wanted: Any, live: Any) -> bool:
    """All traffic goes to the newest revision, which is also what no traffic targets mean."""
    return not live or [target.get("type") for target in live] == [LATEST]


def failure(service: dict[str, Any]) -> str:
    """Why the newest revision does not serve, in Google's words; "" when it does."""
    conditions = [service.get("terminalCondition") or {}, *(service.get("conditions") or ())]
    return max((found.get("message") or "" for found in conditions if found.get("state") == FAILED), key=len, default="")


class Service(Resource):
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services"""

    kind = "Cloud Run service"
    rules = Rules(
        exact=frozenset({"labels", "annotations"}),
        keyed={"template.containers.env": "name"},
        optional=frozenset({"template.vpcAccess", "template.containers.livenessProbe"}),
        same={
            "traffic": to_latest,
            "template.containers.ports.name": lambda wanted, live: wanted == (live or "http1"),
            "template.containers.resources.limits.cpu": same_quantity,
            "template.containers.resources.limits.memory": same_quantity,
            "template.containers.env.valueSource.secretKeyRef.secret": same_resource,
            "template.vpcAccess.connector": lambda wanted, live: same_resource(wanted, live or ""),
            "template.vpcAccess.networkInterfaces": same_network,
        },
    )

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name, region = self.params["name"], self.params["region"]
        self.collection = f"https://run.googleapis.com/v2/projects/{task.project}/locations/{region}/services"
        self.url = f"{self.collection}/{self.name}"
        self.create_params = {"serviceId": self.name}
        self.wanted = self.declaration() if self.params["state"] == "present" else {}

    def declaration(self) -> dict[str, Any]:
        """The body that the options ask for."""
        params = self.params
        container = {
            "image": params["image"],
            "command": params["command"],
            "args": params["args"],
            "env": self.environment(),
            "ports": [{"name": params["port_name"], "containerPort": params["port"]}],
            "resources": {
                "limits": {"cpu": params["cpu"], "memory": params["memory"]},
                "cpuIdle": params["cpu_idle"],
                "startupCpuBoost": params["startup_cpu_boost"],
            },
            "startupProbe": self.probe("startup_probe"),
            "livenessProbe": self.probe("liveness_probe") or {},
        }
        seconds = params["timeout_seconds"]
        template = {
            "serviceAccount": params["service_account"],
            "timeout": f"{seconds}s" if seconds else None,
            "maxInstanceRequestConcurrency": params["concurrency"],
            "executionEnvironment": params["execution_environment"],
            "scaling": {"minInstanceCount": params["min_instances"], "maxInstanceCount": params["max_instances"]},
            "vpcAccess": self.vpc_access(),
            "containers": [container],
        }
        return {
            "labels": self.task.labels,
            "annotations": params["annotations"] and {key: text(value) for key, value in params["annotations"].items()},
            "ingress": params["ingress"],
            "template": template,
            "traffic": [{"type": LATEST, "percent": 100}],
        }

    def environment(self) -> list[dict[str, Any]]:
        """Plain variables first, those from secrets after them, each by name."""
        plain = [{"name": name, "value": text(value)} for name, value in sorted(self.params["env"].items())]
        secret = [
            {"name": name, "valueSource": {"secretKeyRef": {
                "secret": relative(source["secret"]), "version": str(source.get("version") or "latest")}}}
            for name, source in sorted(self.params["secret_env"].items())
            if isinstance(source, dict) and source.get("secret")
        ]
        return plain + secret

    def probe(self, option: str) -> dict[str, Any] | None:
        """The API's probe for an option, None without it."""
        probe = self.params[option]
        return probe and {
            "httpGet": {"path": probe["path"], "port": probe["port"] or self.params["port"]},
            "initialDelaySeconds": probe["initial_delay_seconds"],
            "periodSeconds": probe["period_seconds"],
            "timeoutSeconds": probe["timeout_seconds"],
            "failureThreshold": probe["failure_threshold"],
        }

    def vpc_access(self) -> dict[str, Any]:
        """{} when the service is in no network."""
        network, subnetwork, connector = (self.params[key] for key in ("network", "subnetwork", "vpc_connector"))
        if connector:
            path = full_path(self.task.project, f"locations/{self.params['region']}/connectors", connector)
            return {"connector": path, "egress": self.params["vpc_egress"]}
        if not network and not subnetwork:
            return {}
        interface = {"network": relative(network) or None, "subnetwork": relative(subnetwork) or None}
        return {"networkInterfaces": [interface], "egress": self.params["vpc_egress"]}

    def validate(self) -> None:
        params = self.params
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", self.name):
            raise InvalidInput("name", self.name, "give up to 49 lower case letters, digits and hyphens, a letter first")
        if not re.fullmatch(r"[a-z]+-[a-z]+\d+", params["region"]):
            raise InvalidInput("region", params["region"], "give a region such as europe-west2")
        if params["state"] == "present" and not params["image"]:
            raise InvalidInput("image", params["image"], "it is required for state=present")
        for option, (low, high) in RANGES.items():
            if params[option] is not None and not low <= params[option] <= high:
                raise InvalidInput(option, params[option], f"give {low} to {high}")
        if params["max_instances"] is not None and params["min_instances"] > params["max_instances"]:
            raise InvalidInput(
                "min_instances", params["min_instances"], f"give at most max_instances, {params['max_instances']}")
        for option in ("cpu", "memory"):
            if not quantity(params[option]):
                raise InvalidInput(option, params[option], "give a quantity such as 2 or 500m" if option == "cpu"
                                   else "give a quantity such as 512Mi or 2Gi")
        for option in ("env", "secret_env"):
            for name in params[option]:
                if name in RESERVED or not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
                    raise InvalidInput(option, name, f"give a variable's name other than {', '.join(RESERVED)}")
        for name, source in params["secret_env"].items():
            if not isinstance(source, dict) or not source.get("secret") or set(source) - {"secret", "version"}:
                raise InvalidInput(f"secret_env.{name}", source, "give a dictionary of secret and version")
            if name in params["env"]:
                raise InvalidInput("env", name, "it is in secret_env too")

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        if not live.get("reconciling"):
            return live
        return self.poll(lambda body: not body.get("reconciling"), "wait for the newest revision")

    def differences(self, live: dict[str, Any]) -> list[str]:
        if (live.get("terminalCondition") or {}).get("state") == FAILED:
            self.rename_revision(live)
        return super().differences(live)

    def rename_revision(self, live: dict[str, Any]) -> None:
        """An unchanged template would make no new revision."""
        number = int(live.get("generation") or 0) + 1
        self.wanted["template"]["revision"] = f"{self.name}-{number:05d}-retry"

    def create(self) -> dict[str, Any]:
        return self.patiently(
            lambda: self.client.post(self.collection, self.body({}), params=self.create_params, safe=True))

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        return self.patiently(lambda: self.client.request("PATCH", self.url, self.body(live)))

    def patiently(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What CALL returns, called again while the service account and its grants may be on their way."""
        return self.client.patiently(
            call, lambda error: error.spreading, timeout=min(self.timeout, PATIENCE), pause=5)

    def body(self, live: dict[str, Any]) -> dict[str, Any]:
        """The whole service: what is declared, and what is not ours of LIVE."""
        body = declared(self.wanted)
        template = body["template"]
        if not template["vpcAccess"]:
            del template["vpcAccess"]
        for container in template["containers"]:
            if not container["livenessProbe"]:
                del container["livenessProbe"]
        return {key: live[key] for key in KEPT if key in live} | body

    def wait(self, answer: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        if verb == "delete":
            return super().wait(answer, url, verb)
        first = [answer]
        return self.patiently(lambda: self.rollout(first.pop() if first else self.retry(), url, verb))

    def rollout(self, answer: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        """The service once the operation ANSWER has ended well; raises ApiError with the condition that failed."""
        try:
            service = super().wait(answer, url, verb)
            reason = failure(service)
        except ApiError:
            service = self.read() or {}
            reason = failure(service)
            if not reason:
                raise
        if reason:
            serving = self.returns(service)["latest_ready_revision"]
            raise ApiError(f"{verb} {self.label}", 0, "", reason, hint=f"{serving} goes on serving" if serving else "")
        return service

    def retry(self) -> dict[str, Any]:
        """Google's answer to the same declaration as another revision."""
        live = self.read() or {}
        self.rename_revision(live)
        return self.client.request("PATCH", self.url, self.body(live))

    def check_delete(self, live: dict[str, Any]) -> None:
        if self.params["deletion_protection"]:
            raise GcpError(f"Cannot delete {self.label}: it is protected; give deletion_protection=false")

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {
            "uri": live.get("uri", ""),
            "latest_ready_revision": live.get("latestReadyRevision", "").rpartition("/")[2],
        }


def main() -> None:
    run(
        Service.converge,
        argument_spec={
            "name": {"type": "str", "required": True},
            "region": {"type": "str", "required": True},
            "image": {"type": "str"},
            "command": {"type": "list", "elements": "str", "default": []},
            "args": {"type": "list", "elements": "str", "default": []},
            "env": {"type": "dict", "default": {}},
            "secret_env": {"type": "dict", "default": {}, "no_log": False},
            "service_account": {"type": "str"},
            "port": {"type": "int", "default": 8080},
            "port_name": {"type": "str", "choices": ["http1", "h2c"], "default": "http1"},
            "cpu": {"type": "str", "default": "1"},
            "memory": {"type": "str", "default": "1Gi"},
            "cpu_idle": {"type": "bool", "default": True},
            "startup_cpu_boost": {"type": "bool", "default": False},
            "min_instances": {"type": "int", "default": 0},
            "max_instances": {"type": "int"},
            "concurrency": {"type": "int"},
            "timeout_seconds": {"type": "int"},
            "ingress": {
                "type": "str",
                "default": "INGRESS_TRAFFIC_ALL",
                "choices": [
                    "INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
                ],
            },
            "network": {"type": "str"},
            "subnetwork": {"type": "str"},
            "vpc_connector": {"type": "str"},
            "vpc_egress": {
                "type": "str", "choices": ["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], "default": "PRIVATE_RANGES_ONLY",
            },
            "startup_probe": {"type": "dict", "options": PROBE},
            "liveness_probe": {"type": "dict", "options": PROBE},
            "execution_environment": {
                "type": "str", "choices": ["EXECUTION_ENVIRONMENT_GEN1", "EXECUTION_ENVIRONMENT_GEN2"],
            },
            "labels": {"type": "dict"},
            "annotations": {"type": "dict"},
            "deletion_protection": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 600},
            **STATE_OPTION,
        },
        required_if=[("state", "present", ["image"])],
        mutually_exclusive=[("network", "vpc_connector"), ("subnetwork", "vpc_connector")],
    )


if __name__ == "__main__":
    main()
