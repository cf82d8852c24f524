"""What Cloud Run fills in where a request says nothing.

https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services
"""

from __future__ import annotations

import copy
from typing import Any

from gcp_sandbox.services.run import checks
from gcp_sandbox.services.run.plane import probes

Doc = dict[str, Any]
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


def default_account(number: str) -> str:
    """E-mail of the service account that runs what names none."""
    return f"{number}-compute@developer.gserviceaccount.com"


def service(body: Doc, number: str, *, recorded_environments: bool = False) -> Doc:
    """A service's declaration with the defaults filled in."""
    doc = copy.deepcopy(body)
    doc.setdefault("ingress", "INGRESS_TRAFFIC_ALL")
    if doc.get("launchStage", "LAUNCH_STAGE_UNSPECIFIED") == "LAUNCH_STAGE_UNSPECIFIED":
        doc["launchStage"] = "GA"
    doc["traffic"] = doc.get("traffic") or [{"type": LATEST, "percent": 100}]
    for target in doc["traffic"]:
        target.setdefault("type", REVISION if target.get("revision") else LATEST)
    template = doc.setdefault("template", {})
    _common(template, number)
    # Of a service, the traffic that goes through the VPC network is shown only as sent.
    if template.get("vpcAccess", {}).get("egress") == "VPC_EGRESS_UNSPECIFIED":
        del template["vpcAccess"]["egress"]
    for container in template.get("containers", ()):
        _resources(container, serves=True)
        _probes(container)
    # Of a service, the execution environment too is shown only as sent; Cloud Run chooses it by what the service uses.
    if template.get("executionEnvironment") == "EXECUTION_ENVIRONMENT_UNSPECIFIED":
        del template["executionEnvironment"]
    if recorded_environments:
        template.setdefault("executionEnvironment", "EXECUTION_ENVIRONMENT_GEN2")
    template.setdefault("timeout", "300s")
    scaling = template.setdefault("scaling", {})
    if not doc.get("scaling", {}).get("maxInstanceCount"):
        scaling.setdefault("maxInstanceCount", 100)
    containers = template.get("containers", [])
    ingress = next((c for c in containers if c.get("ports")), containers[0] if len(containers) == 1 else None)
    if ingress is not None:
        port = (ingress.setdefault("ports", [{}]) or [{}])[0]
        port.setdefault("name", "http1")
        port.setdefault("containerPort", 8080)
        ingress.setdefault("startupProbe", probes.default(port["containerPort"]))
        template.setdefault("maxInstanceRequestConcurrency", 80 if sum(map(checks.cpus, containers)) >= 1 else 1)
    return doc


def job(body: Doc, number: str) -> Doc:
    """A job's declaration with the defaults filled in."""
    doc = copy.deepcopy(body)
    if doc.get("launchStage", "LAUNCH_STAGE_UNSPECIFIED") == "LAUNCH_STAGE_UNSPECIFIED":
        doc["launchStage"] = "GA"
    execution = doc.setdefault("template", {})
    execution.setdefault("taskCount", 1)
    template = execution.setdefault("template", {})
    _common(template, number)
    access = template.get("vpcAccess")
    if access and access.get("egress", "VPC_EGRESS_UNSPECIFIED") == "VPC_EGRESS_UNSPECIFIED":
        access["egress"] = "PRIVATE_RANGES_ONLY"
    containers = template.get("containers", ())
    for container in containers:
        _resources(container, serves=False, memory="512Mi" if len(containers) == 1 else "256Mi")
        _probes(container)
    template.setdefault("executionEnvironment", "EXECUTION_ENVIRONMENT_GEN2")
    template.setdefault("maxRetries", 3)
    template.setdefault("timeout", "600s")
    return doc


def _common(template: Doc, number: str) -> None:
    template.setdefault("serviceAccount", default_account(number))


def _resources(container: Doc, *, serves: bool, memory: str = "512Mi") -> None:
    resources = container.setdefault("resources", {"cpuIdle": True, "startupCpuBoost": True} if serves else {})
    limits = resources.setdefault("limits", {})
    limits.setdefault("cpu", "1000m")
    limits.setdefault("memory", memory)


def _probes(container: Doc) -> None:
    port = (container.get("ports") or [{}])[0].get("containerPort", 8080)
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if kind not in container:
            continue
        probe = container[kind]
        probe.setdefault("timeoutSeconds", 1)
        probe.setdefault("periodSeconds", 10)
        probe.setdefault("failureThreshold", 3)
        if not any(check in probe for check in ("httpGet", "tcpSocket", "grpc")):
            probe["tcpSocket"] = {}
        for check in ("httpGet", "tcpSocket", "grpc"):
            if check in probe:
                probe[check].setdefault("port", port)
        if "httpGet" in probe:
            probe["httpGet"].setdefault("path", "/")
