"""What Cloud Run fills in where a request says nothing.

https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services
"""

from __future__ import annotations

import copy
from typing import Any

from gcp_sandbox.services.run import probes

Doc = dict[str, Any]
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


def default_account(number: str) -> str:
    """E-mail of the service account that runs what names none."""
    return f"{number}-compute@developer.gserviceaccount.com"


def service(body: Doc, number: str) -> Doc:
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
    for container in template.get("containers", ()):
        _resources(container, serves=True)
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
        for container in containers:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if kind in container:
                    _probe(container[kind], port["containerPort"] if container is ingress else 0)
        limit = _milli(ingress["resources"]["limits"]["cpu"])
        template.setdefault("maxInstanceRequestConcurrency", 80 if limit >= 1000 else 1)
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
    for container in template.get("containers", ()):
        _resources(container, serves=False)
    template.setdefault("maxRetries", 3)
    template.setdefault("timeout", "600s")
    return doc


def _common(template: Doc, number: str) -> None:
    template.setdefault("serviceAccount", default_account(number))
    if template.get("executionEnvironment", "EXECUTION_ENVIRONMENT_UNSPECIFIED").endswith("UNSPECIFIED"):
        template["executionEnvironment"] = "EXECUTION_ENVIRONMENT_GEN2"
    access = template.get("vpcAccess")
    if access and access.get("egress", "VPC_EGRESS_UNSPECIFIED") == "VPC_EGRESS_UNSPECIFIED":
        access["egress"] = "PRIVATE_RANGES_ONLY"


def _resources(container: Doc, *, serves: bool) -> None:
    resources = container.setdefault("resources", {"cpuIdle": True, "startupCpuBoost": True} if serves else {})
    limits = resources.setdefault("limits", {})
    limits.setdefault("cpu", "1000m")
    limits.setdefault("memory", "512Mi")


def _milli(text: str) -> int:
    try:
        return int(text[:-1]) if text.endswith("m") else int(float(text) * 1000)
    except ValueError:
        return 1000


def _probe(probe: Doc, port: int) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("failureThreshold", 3)
    if not any(kind in probe for kind in ("httpGet", "tcpSocket", "grpc")):
        probe["tcpSocket"] = {}
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if kind in probe and port:
            probe[kind].setdefault("port", port)
    if "httpGet" in probe:
        probe["httpGet"].setdefault("path", "/")
