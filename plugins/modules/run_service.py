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
  - mlops.mlflow_gcp.cloud_run
options:
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
  readiness_probe:
    description:
      - HTTP request by which an instance says whether it can serve. While it fails, the instance gets no new requests; it is not
        ended. Without this option there is none.
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
          - Seconds to wait for an answer; not more than O(readiness_probe.period_seconds).
        type: int
      failure_threshold:
        description:
          - So many failures in a row take the instance out of traffic.
        type: int
  deletion_protection:
    description:
      - Refuse O(state=absent). Cloud Run itself knows no such protection.
    type: bool
    default: false
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

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudrun
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import run

PROBE = {
    "path": {"type": "str", "required": True},
    "port": {"type": "int"},
    "initial_delay_seconds": {"type": "int"},
    "period_seconds": {"type": "int"},
    "timeout_seconds": {"type": "int"},
    "failure_threshold": {"type": "int"},
}
# Declared empty where the options have none, so that one that is there goes.
OPTIONAL_PROBES = {"livenessProbe": "liveness_probe", "readinessProbe": "readiness_probe"}
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"


def to_latest(_wanted: Any, live: Any) -> bool:
    """All traffic goes to the newest revision, which is also what no traffic targets mean."""
    return not live or [target.get("type") for target in live] == [LATEST]


class Service(cloudrun.CloudRun):
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services"""

    kind = "Cloud Run service"
    collection_name, id_parameter = "services", "serviceId"
    ranges = {
        "port": (1, 65535),
        "concurrency": (1, 1000),
        "timeout_seconds": (1, 3600),
        "min_instances": (0, 10000),
        "max_instances": (1, 10000),
    }
    kept = (
        *cloudrun.CloudRun.kept,
        "customAudiences",
        "defaultUriDisabled",
        "description",
        "iapEnabled",
        "invokerIamDisabled",
        "scaling",
    )
    rules = cloudrun.rules(
        "template",
        optional=[f"template.containers.{probe}" for probe in OPTIONAL_PROBES],
        same={
            "traffic": to_latest,
            "template.containers.ports.name": lambda wanted, live: wanted == (live or "http1"),
        },
    )

    def declaration(self) -> dict[str, Any]:
        return {
            **super().declaration(),
            "ingress": self.params["ingress"],
            "template": self.template(),
            "traffic": [{"type": LATEST, "percent": 100}],
        }

    def template(self) -> dict[str, Any]:
        params, seconds = self.params, self.params["timeout_seconds"]
        return {
            **super().template(),
            "timeout": f"{seconds}s" if seconds else None,
            "maxInstanceRequestConcurrency": params["concurrency"],
            "scaling": {"minInstanceCount": params["min_instances"], "maxInstanceCount": params["max_instances"]},
        }

    def container(self) -> dict[str, Any]:
        params, container = self.params, super().container()
        container["resources"] |= {"cpuIdle": params["cpu_idle"], "startupCpuBoost": params["startup_cpu_boost"]}
        return {
            **container,
            "ports": [{"name": params["port_name"], "containerPort": params["port"]}],
            "startupProbe": self.probe("startup_probe"),
            **{probe: self.probe(option) or {} for probe, option in OPTIONAL_PROBES.items()},
        }

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

    def validate(self) -> None:
        super().validate()
        least, most = self.params["min_instances"], self.params["max_instances"]
        if most is not None and least > most:
            raise InvalidInput("min_instances", least, f"give at most max_instances, {most}")

    def differences(self, live: dict[str, Any]) -> list[str]:
        if (live.get("terminalCondition") or {}).get("state") == cloudrun.FAILED:
            self.rename_revision(live)
        return super().differences(live)

    def rename_revision(self, live: dict[str, Any]) -> None:
        """An unchanged template would make no new revision."""
        number = int(live.get("generation") or 0) + 1
        self.wanted["template"]["revision"] = f"{self.name}-{number:05d}-retry"

    def without_empty(self, body: dict[str, Any]) -> dict[str, Any]:
        template = body["template"]
        if not template["vpcAccess"]:
            del template["vpcAccess"]
        for container in template["containers"]:
            for probe in OPTIONAL_PROBES:
                if not container[probe]:
                    del container[probe]
        return body

    def retry(self) -> dict[str, Any]:
        live = self.read() or {}
        self.rename_revision(live)
        return self.client.request("PATCH", self.url, self.body(live))

    def consolation(self, body: dict[str, Any]) -> str:
        serving = self.returns(body)["latest_ready_revision"]
        return f"{serving} goes on serving" if serving else ""

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
            **cloudrun.OPTIONS,
            "port": {"type": "int", "default": 8080},
            "port_name": {"type": "str", "choices": ["http1", "h2c"], "default": "http1"},
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
                    "INGRESS_TRAFFIC_ALL",
                    "INGRESS_TRAFFIC_INTERNAL_ONLY",
                    "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
                ],
            },
            "startup_probe": {"type": "dict", "options": PROBE},
            "liveness_probe": {"type": "dict", "options": PROBE},
            "readiness_probe": {"type": "dict", "options": PROBE},
            "deletion_protection": {"type": "bool", "default": False},
        },
        **cloudrun.CONDITIONS,
    )


if __name__ == "__main__":
    main()
