# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The common part of Cloud Run services and jobs: one container, its environment and network."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.compare import (
    MASK,
    Rules,
    declared,
    full_path,
    lookup,
    relative,
    replacement,
    same_resource,
    without_optional,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import ApiError, InvalidInput
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import LABELS_OPTION, STATE_OPTION, Task, text_map
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource

BASE = "https://run.googleapis.com/v2/"
# Documented in the fragment cloud_run.
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True, "kind": values.RUN_NAME},
    "region": {"type": "str", "required": True, "kind": values.REGION},
    "image": {"type": "str"},
    "command": {"type": "list", "elements": "str", "default": []},
    "args": {"type": "list", "elements": "str", "default": []},
    "env": {"type": "dict", "default": {}, "kind": values.ENVIRONMENT},
    "secret_env": {"type": "dict", "default": {}, "no_log": False, "kind": values.SECRET_ENVIRONMENT},
    "service_account": {"type": "str"},
    "kms_key": {"type": "str", "no_log": False, "kind": values.KMS_KEY},
    "cpu": {"type": "str", "default": "1", "kind": values.CPU},
    "memory": {"type": "str", "default": "1Gi", "kind": values.MEMORY},
    "network": {"type": "str"},
    "subnetwork": {"type": "str"},
    "vpc_connector": {"type": "str"},
    "vpc_egress": {"type": "str", "choices": ["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], "default": "PRIVATE_RANGES_ONLY"},
    "execution_environment": {"type": "str", "choices": ["EXECUTION_ENVIRONMENT_GEN1", "EXECUTION_ENVIRONMENT_GEN2"]},
    **LABELS_OPTION,
    "annotations": {"type": "dict"},
    "timeout": {"type": "int", "default": 600},
    **STATE_OPTION,
}
CONDITIONS: dict[str, Any] = {
    "required_if": [("state", "present", ["image"])],
    "mutually_exclusive": [("network", "vpc_connector"), ("subnetwork", "vpc_connector")],
}
UNITS: dict[str, int | Decimal] = {
    "": 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
}
FAILED = "CONDITION_FAILED"
# The reason of an error after a concurrent change.
CONFLICT = "ABORTED"
# Fields that only Google writes, and those that start an execution of a job.
NOT_SENT = frozenset(
    {
        "conditions",
        "createTime",
        "creator",
        "deleteTime",
        "executionCount",
        "expireTime",
        "generation",
        "lastModifier",
        "latestCreatedExecution",
        "latestCreatedRevision",
        "latestReadyRevision",
        "name",
        "observedGeneration",
        "reconciling",
        "runExecutionToken",
        "satisfiesPzs",
        "startExecutionToken",
        "terminalCondition",
        "threatDetectionEnabled",
        "trafficStatuses",
        "uid",
        "updateTime",
        "uri",
        "urls",
    }
)


def host(name: str, number: str, region: str) -> str:
    """
    The deterministic host of the service NAME in the project with NUMBER, known before the service exists.
    https://cloud.google.com/run/docs/triggering/https-request#deterministic
    """
    return f"{name}-{number}.{region}.run.app"


def quantity(value: Any) -> Decimal | None:
    """The number that VALUE stands for (1000m equals 1, 1Gi equals 1024Mi), None for anything else."""
    found = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(value))
    try:
        return Decimal(found[1]) * UNITS[found[2]] if found else None
    except (InvalidOperation, KeyError):
        return None


def same_quantity(wanted: Any, live: Any) -> bool:
    return live is not None and quantity(wanted) == quantity(live)


def same_key(wanted: Any, live: Any) -> bool:
    return same_resource(wanted, live or "")


def same_network(wanted: Any, live: Any) -> bool:
    """The only network interface has the same network and subnetwork, by name or by path."""
    live = live or [{}]
    return len(live) == 1 and all(
        wanted[0][key] is None or same_resource(wanted[0][key], live[0].get(key)) for key in ("network", "subnetwork")
    )


def has_failed(body: Mapping[str, Any]) -> bool:
    """The newest revision of a service is not ready, or a job cannot run."""
    return lookup(body, "terminalCondition.state") == FAILED


def failure(body: Mapping[str, Any]) -> str:
    """Google's reason why the newest revision of a service is not ready, or a job cannot run; "" without one."""
    conditions = [body.get("terminalCondition") or {}, *(body.get("conditions") or ())]
    return max(
        (found.get("message") or "" for found in conditions if found.get("state") == FAILED), key=len, default=""
    )


def rules(
    template: str,
    *,
    optional: Collection[str] = (),
    whole: Collection[str] = (),
    same: Mapping[str, Callable[[Any, Any], bool]],
) -> Rules:
    """The rules for a body with its containers in TEMPLATE, a dotted path; the others are additional rules."""
    container = f"{template}.containers"
    return Rules(
        # An entry of env with another source than the declared one is another variable.
        exact=frozenset({"annotations", f"{container}.env"}),
        labels=frozenset({"labels", "template.labels"}),
        keyed={f"{container}.env": "name"},
        optional=frozenset({f"{template}.vpcAccess", *optional}),
        whole=frozenset({f"{template}.vpcAccess", f"{container}.env", *whole}),
        same={
            f"{container}.resources.limits.cpu": same_quantity,
            f"{container}.resources.limits.memory": same_quantity,
            f"{container}.env.valueSource.secretKeyRef.secret": same_resource,
            f"{template}.vpcAccess.connector": lambda wanted, live: same_resource(wanted, live or ""),
            f"{template}.vpcAccess.networkInterfaces": same_network,
            f"{template}.encryptionKey": same_key,
            **same,
        },
    )


def serving(containers: list[dict[str, Any]]) -> int:
    """The position of the container that these modules manage: the one with a port, otherwise the first."""
    return next((index for index, container in enumerate(containers) if container.get("ports")), 0)


def service_url(project: str, region: str, name: str) -> str:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services"""
    return f"{BASE}projects/{project}/locations/{region}/services/{name}"


def plain_variables(service: Mapping[str, Any]) -> dict[str, str]:
    """The plain environment variables of the container that serves."""
    containers = lookup(service, "template.containers") or [{}]
    entries = containers[serving(containers)].get("env") or ()
    return {entry["name"]: str(entry["value"]) for entry in entries if "value" in entry}


class CloudRun(Resource):
    """A service or a job. A module derives from it, and adds its own fields."""

    collection_name: ClassVar[str]
    id_parameter: ClassVar[str]
    template_path: ClassVar[str]
    """The dotted path of the object that contains the containers."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name, region = self.params["name"], self.params["region"]
        self.collection = f"{BASE}projects/{task.project}/locations/{region}/{self.collection_name}"
        self.url = f"{self.collection}/{self.name}"
        self.create_params = {self.id_parameter: self.name}
        self.wanted = self.declaration() if self.params["state"] == "present" else {}

    def declaration(self) -> dict[str, Any]:
        """The body for the options."""
        return {"labels": self.task.labels, "annotations": text_map(self.params["annotations"])}

    def template(self) -> dict[str, Any]:
        """The container, its service account and network."""
        return {
            "serviceAccount": self.params["service_account"],
            "executionEnvironment": self.params["execution_environment"],
            "encryptionKey": self.params["kms_key"] or None,
            "vpcAccess": self.vpc_access(),
            "containers": [self.container()],
        }

    def container(self) -> dict[str, Any]:
        """The container."""
        params = self.params
        return {
            "image": params["image"],
            "command": params["command"],
            "args": params["args"],
            "env": self.environment(),
            "resources": {"limits": {"cpu": params["cpu"], "memory": params["memory"]}},
        }

    def environment(self) -> list[dict[str, Any]]:
        """Plain variables, then variables from secrets, each sorted by name."""
        plain = [{"name": name, "value": values.text(value)} for name, value in sorted(self.params["env"].items())]
        secret = [
            {
                "name": name,
                "valueSource": {
                    "secretKeyRef": {
                        "secret": relative(source["secret"]),
                        "version": str(source.get("version") or "latest"),
                    }
                },
            }
            for name, source in sorted(self.params["secret_env"].items())
            if isinstance(source, dict) and source.get("secret")
        ]
        return plain + secret

    def masked(self, body: Any, changes: frozenset[str] = frozenset()) -> Any:
        # What others have put into a plain variable may be a password.
        shown = super().masked(body, changes)
        for container in lookup(shown, f"{self.template_path}.containers") or ():
            for entry in container.get("env") or ():
                if entry.get("value") and entry["name"] not in self.params["env"]:
                    entry["value"] = MASK
        return shown

    def vpc_access(self) -> dict[str, Any]:
        """The VPC network, {} without one."""
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
        values.check_together(params, values.key_of_region, "kms_key", "region")
        for name, source in params["secret_env"].items():
            if not isinstance(source, dict) or not source.get("secret") or set(source) - {"secret", "version"}:
                raise InvalidInput(f"secret_env.{name}", source, "give a dictionary with secret and version")
            if name in params["env"]:
                raise InvalidInput("env", name, "it is also in secret_env")

    def settle(self, live: dict[str, Any]) -> dict[str, Any]:
        if not live.get("reconciling"):
            return live
        return self.poll(lambda body: not body.get("reconciling"), "wait for the reconciliation")

    def complete(self, live: dict[str, Any] | None) -> dict[str, Any]:
        return self.completed(live or {})

    def completed(self, live: dict[str, Any]) -> dict[str, Any]:
        """The declaration with what others have put beside it in LIVE: further containers, network tags."""
        wanted = self.declaration()
        template, now = lookup(wanted, self.template_path), lookup(live, self.template_path) or {}
        containers = now.get("containers") or [{}]
        own = serving(containers)
        template["containers"] = [*containers[:own], *template["containers"], *containers[own + 1 :]]
        for interface in template["vpcAccess"].get("networkInterfaces") or ():
            interface["tags"] = next(iter(lookup(now, "vpcAccess.networkInterfaces") or [{}])).get("tags")
        return wanted

    def create(self) -> dict[str, Any]:
        body = without_optional(declared(self.wanted), self.rules)
        return self.while_propagating(
            lambda: self.client.post(self.collection, body, params=self.create_params, idempotent=True)
        )

    def update(self, live: dict[str, Any], changes: list[str]) -> dict[str, Any]:
        current = [live]

        def send() -> dict[str, Any]:
            try:
                return self.client.request("PATCH", self.url, self.body(current[0]))
            except ApiError as error:
                if error.reason == CONFLICT:
                    current[0] = self.settle(self.read() or {})
                    self.wanted = self.complete(current[0])
                raise

        return self.while_propagating(send)

    def is_propagating(self, error: ApiError) -> bool:
        return error.propagating or error.reason == CONFLICT

    def body(self, live: dict[str, Any]) -> dict[str, Any]:
        """
        The whole body, because an update replaces all of it: LIVE with the declaration.

        With LIVE's etag, so that Google rejects it after a concurrent change.
        """
        merged = replacement(live, self.wanted, self.rules)
        body = {key: value for key, value in merged.items() if key not in NOT_SENT}
        if not lookup(self.wanted, "template.revision"):
            # The name belongs to the live revision.
            body["template"].pop("revision", None)
        return without_optional(body, self.rules)

    def wait(self, response: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        if verb == "delete":
            return super().wait(response, url, verb)
        first = [response]
        return self.while_propagating(lambda: self.rollout(first.pop() if first else self.resend(), url, verb))

    def rollout(self, response: dict[str, Any], url: str, verb: str) -> dict[str, Any]:
        """The body after a successful operation RESPONSE; raises ApiError with the condition that failed."""
        try:
            body = super().wait(response, url, verb)
            reason = failure(body)
        except ApiError:
            body = self.read() or {}
            reason = failure(body)
            if not reason:
                raise
        if reason:
            raise ApiError(f"{verb} {self.label}", 0, "", reason, hint=self.failure_hint(body))
        return body

    def failure_hint(self, body: dict[str, Any]) -> str:
        """Added to the error when the rollout of BODY has failed."""
        return ""

    def force_rollout(self, live: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        """The declaration WANTED, changed so that Google rolls it out again."""
        return wanted

    def resend(self) -> dict[str, Any]:
        """Google's response to the same declaration, sent again."""
        live = self.read() or {}
        self.wanted = self.force_rollout(live, self.completed(live))
        return self.client.request("PATCH", self.url, self.body(live))
