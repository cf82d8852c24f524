#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_service
short_description: Manage a Cloud Run service
description:
  - Creates, updates and deletes a Cloud Run service with one container, and waits until its newest revision is ready.
  - Fields not covered by an option are left unchanged, and defaults that Google fills in are not a change.
  - The module manages the container with a port. Its environment variables, command, arguments and probes are declared
    completely; its volume mounts and further limits, other containers (sidecars), volumes, annotations, network tags,
    session affinity, custom audiences, the scaling of the service and so on stay.
  - All requests go to the newest revision. Traffic tags stay, and receive no share of the requests.
  - Fails with Google's reason when a revision fails. Running the module again with the same options creates a new
    revision, because the cause (a missing role or secret) may have been fixed.
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
  port:
    description:
      - Port that the container listens on.
    type: int
    default: 8080
  port_name:
    description:
      - Protocol of the container. V(h2c) is HTTP/2 end to end, without Cloud Run's limit of 32 MiB per request.
    type: str
    choices: [http1, h2c]
    default: http1
  cpu_idle:
    description:
      - Allocate CPU only while a request is being processed.
    type: bool
    default: true
  startup_cpu_boost:
    description:
      - Allocate additional CPU while an instance starts.
    type: bool
    default: false
  min_instances:
    description:
      - Minimum number of instances, also without requests, 0 to 10000.
    type: int
    default: 0
  max_instances:
    description:
      - Maximum number of instances, 1 to 10000.
    type: int
  concurrency:
    description:
      - Maximum number of concurrent requests per instance, 1 to 1000.
    type: int
  timeout_seconds:
    description:
      - Maximum duration of a request in seconds, 1 to 3600.
    type: int
  ingress:
    description:
      - Networks from which the service can be reached.
    type: str
    choices:
      - INGRESS_TRAFFIC_ALL
      - INGRESS_TRAFFIC_INTERNAL_ONLY
      - INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER
    default: INGRESS_TRAFFIC_ALL
  invoker_iam_disabled:
    description:
      - Whether everyone may call the service, without Cloud Run's invoker role. V(false) makes the role required again.
        Without this option, the setting is left unchanged.
    type: bool
  iap_enabled:
    description:
      - Whether users sign in through Identity-Aware Proxy of Cloud Run itself, on all addresses of the service. Its service agent
        needs Cloud Run's invoker role. Google does not allow it together with Identity-Aware Proxy of a backend service.
        Without this option, the setting is left unchanged.
    type: bool
  startup_probe:
    description:
      - HTTP request that must succeed before an instance receives requests. Without this option, Google's default is
        kept, which waits for the port to accept connections.
    type: dict
    suboptions: &probe
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
          - Seconds to wait for a response, not more than C(period_seconds).
        type: int
      failure_threshold:
        description:
          - Number of consecutive failures after which the probe fails.
        type: int
  liveness_probe:
    description:
      - HTTP request that must keep succeeding; when it fails, the instance is restarted. Without this option there is
        no liveness probe.
    type: dict
    suboptions: *probe
  readiness_probe:
    description:
      - HTTP request that reports whether an instance can process requests. While it fails, the instance receives no new
        requests, but is not restarted. Without this option there is no readiness probe.
    type: dict
    suboptions: *probe
  set_annotations:
    description:
      - Annotations that the service must have. Those of others stay, unlike with O(annotations). A dictionary becomes JSON.
    type: dict
  deletion_protection:
    description:
      - Fail with O(state=absent). Cloud Run itself has no deletion protection.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Deploy a server that only load balancers can reach
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
  description: URL of the service; empty in check mode when it would be created.
  returned: success
  type: str
  sample: https://mlflow-abcdefghij-nw.a.run.app
latest_ready_revision:
  description: Name of the newest ready revision; empty without one.
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

from collections.abc import Mapping
from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import cloudrun, recorded, values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import run

PROBE: dict[str, dict[str, Any]] = {
    "path": {"type": "str", "required": True},
    "port": {"type": "int"},
    "initial_delay_seconds": {"type": "int"},
    "period_seconds": {"type": "int"},
    "timeout_seconds": {"type": "int"},
    "failure_threshold": {"type": "int"},
}
# Declared as {} without an option, so that an existing probe is removed.
OPTIONAL_PROBES = {"livenessProbe": "liveness_probe", "readinessProbe": "readiness_probe"}
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"


def to_latest(_wanted: Any, live: Any) -> bool:
    """All traffic goes to the newest revision, which is also the meaning of no traffic targets."""
    return all(target.get("type") == LATEST for target in live or () if target.get("percent"))


def _annotations(given: Mapping[str, Any]) -> dict[str, str]:
    """The annotations of option set_annotations as text."""
    return {
        str(key): recorded.annotation(value) if isinstance(value, Mapping) else values.text(value)
        for key, value in given.items()
    }


class Service(cloudrun.CloudRun):
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services"""

    kind = "Cloud Run service"
    collection_name, id_parameter, template_path = "services", "serviceId", "template"
    rules = cloudrun.rules(
        "template",
        optional=[f"template.containers.{probe}" for probe in OPTIONAL_PROBES],
        whole=[f"template.containers.{probe}" for probe in ("startupProbe", *OPTIONAL_PROBES)],
        same={
            "traffic": to_latest,
            "template.containers.ports.name": lambda wanted, live: wanted == (live or "http1"),
        },
    )

    def declaration(self) -> dict[str, Any]:
        return {
            **super().declaration(),
            **({"annotations": _annotations(self.params["set_annotations"])} if self.params["set_annotations"] else {}),
            "ingress": self.params["ingress"],
            "invokerIamDisabled": self.params["invoker_iam_disabled"],
            "iapEnabled": self.params["iap_enabled"],
            "template": self.template(),
            "traffic": [{"type": LATEST, "percent": 100}],
        }

    def completed(self, live: dict[str, Any]) -> dict[str, Any]:
        wanted = super().completed(live)
        if wanted.get("annotations") and self.params["set_annotations"]:
            wanted = {**wanted, "annotations": {**(live.get("annotations") or {}), **wanted["annotations"]}}
        tags = [{**target, "percent": None} for target in live.get("traffic") or () if target.get("tag")]
        return {**wanted, "traffic": wanted["traffic"] + tags}

    def template(self) -> dict[str, Any]:
        params, seconds = self.params, self.params["timeout_seconds"]
        return {
            **super().template(),
            "labels": self.task.labels,
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
        """The API's probe for OPTION, None when not given."""
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
        values.check_together(self.params, values.least_of_most, "min_instances", "max_instances")

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        wanted = super().complete(live)
        return self.force_rollout(live, wanted) if live and cloudrun.has_failed(live) else wanted

    def force_rollout(self, live: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        # Google creates no new revision for an unchanged template.
        revision = f"{self.name}-{int(live.get('generation') or 0) + 1:05d}-retry"
        return {**wanted, "template": {**wanted["template"], "revision": revision}}

    def failure_hint(self, body: dict[str, Any]) -> str:
        ready = self.returns(body)["latest_ready_revision"]
        return f"Revision {ready} still receives all requests" if ready else ""

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
            "port": {"type": "int", "default": 8080, "kind": values.PORT},
            "port_name": {"type": "str", "choices": ["http1", "h2c"], "default": "http1"},
            "cpu_idle": {"type": "bool", "default": True},
            "startup_cpu_boost": {"type": "bool", "default": False},
            "min_instances": {"type": "int", "default": 0, "kind": values.MIN_INSTANCES},
            "max_instances": {"type": "int", "kind": values.MAX_INSTANCES},
            "concurrency": {"type": "int", "kind": values.CONCURRENCY},
            "timeout_seconds": {"type": "int", "kind": values.REQUEST_TIMEOUT},
            "ingress": {
                "type": "str",
                "default": "INGRESS_TRAFFIC_ALL",
                "choices": [
                    "INGRESS_TRAFFIC_ALL",
                    "INGRESS_TRAFFIC_INTERNAL_ONLY",
                    "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
                ],
            },
            "invoker_iam_disabled": {"type": "bool"},
            "iap_enabled": {"type": "bool"},
            "startup_probe": {"type": "dict", "options": PROBE},
            "liveness_probe": {"type": "dict", "options": PROBE},
            "readiness_probe": {"type": "dict", "options": PROBE},
            "deletion_protection": {"type": "bool", "default": False},
            "set_annotations": {"type": "dict"},
        },
        **{
            **cloudrun.CONDITIONS,
            "mutually_exclusive": [*cloudrun.CONDITIONS["mutually_exclusive"], ("annotations", "set_annotations")],
        },
    )


if __name__ == "__main__":
    main()
