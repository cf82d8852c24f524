"""Annotations and labels of the v1 API that are fields of the v2 API.

https://cloud.google.com/run/docs/reference/rest/v1/ObjectMeta
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from gcp_sandbox.core.errors import ApiError, bad_request
from gcp_sandbox.services.run import checks

Doc = dict[str, Any]
_RUN = "run.googleapis.com/"
_SCALE = "autoscaling.knative.dev/"
CLOUDSQL, SECRETS = f"{_RUN}cloudsql-instances", f"{_RUN}secrets"
THROTTLING, BOOST = f"{_RUN}cpu-throttling", f"{_RUN}startup-cpu-boost"
DEPENDENCIES = f"{_RUN}container-dependencies"
BINAUTHZ = f"{_RUN}binary-authorization"
_SYSTEM = re.compile(r"(run|cloud)\.googleapis\.com/|(serving|autoscaling)\.knative\.dev/")

# What only Google writes: a client that sends it back changes nothing.
_OUTPUT = {f"{_RUN}{name}" for name in ("ingress-status", "operation-id", "urls", "creator", "lastModifier")} | {
    "serving.knative.dev/creator",
    "serving.knative.dev/lastModifier",
}

# Which kinds of resources an annotation is accepted on.
_KINDS = {
    **dict.fromkeys(("client-name", "client-version"), "Service, Revision, Job, Execution"),
    **dict.fromkeys(
        (
            "build-base-image",
            "build-enable-automatic-updates",
            "build-environment-variables",
            "build-image-uri",
            "build-name",
            "build-service-account",
            "build-worker-pool",
            "custom-audiences",
            "default-url-disabled",
            "description",
            "gc-traffic-tags",
            "iap-enabled",
            "ingress",
            "invoker-iam-disabled",
            "minScale",
            "maxScale",
            "manualInstanceCount",
            "scalingMode",
            "threat-detection",
        ),
        "Service",
    ),
    **dict.fromkeys(("base-images", "build-function-target", "build-id", "build-source-location"), "Service, Revision"),
    **dict.fromkeys(
        (
            "container-dependencies",
            "cpu-throttling",
            "encryption-key-shutdown-hours",
            "gpu-zonal-redundancy-disabled",
            "health-check-disabled",
            "mesh",
            "post-key-revocation-action-type",
            "secure-session-agent",
            "sessionAffinity",
            "startup-cpu-boost",
        ),
        "Revision",
    ),
    **dict.fromkeys(
        (
            "cloudsql-instances",
            "encryption-key",
            "execution-environment",
            "network-interfaces",
            "secrets",
            "vpc-access-connector",
            "vpc-access-egress",
        ),
        "Revision, Execution",
    ),
    "binary-authorization": "Service, Job, Execution",
    "binary-authorization-breakglass": "Service, Job",
    "launch-stage": "Service, Job",
}
_ACCEPTED = {f"{_RUN}{name}": kinds for name, kinds in _KINDS.items()} | dict.fromkeys(
    (f"{_SCALE}minScale", f"{_SCALE}maxScale"), "Revision"
)


class _Codec:
    """How a value is written in an annotation and in a field."""

    def __init__(self, read: Callable[[str], Any], write: Callable[[Any], str]) -> None:
        self.read, self.write = read, write


def _choice(**values: str) -> _Codec:
    names = {name.replace("_", "-"): value for name, value in values.items()}
    shown = {value: name for name, value in reversed(names.items())}
    return _Codec(names.__getitem__, lambda value: shown.get(value, ""))


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_TEXT = _Codec(str, str)
_NUMBER = _Codec(int, str)
_FLAG = _Codec(_flag, lambda value: "true" if value else "")
_JSON = _Codec(json.loads, lambda value: json.dumps(value, separators=(",", ":")))
_HOURS = _Codec(lambda text: f"{int(text) * 3600}s", lambda value: str(int(checks.duration(value) // 3600)))
_STAGE = _Codec(
    lambda text: {"ALPHA": "ALPHA", "BETA": "BETA", "GA": "GA"}[text.upper()],
    lambda value: "" if value == "GA" else value,
)

_ANY = {f"{_RUN}client-name": ("client", _TEXT), f"{_RUN}client-version": ("clientVersion", _TEXT)}
_TOP = _ANY | {
    f"{_RUN}launch-stage": ("launchStage", _STAGE),
    f"{_RUN}binary-authorization-breakglass": ("binaryAuthorization.breakglassJustification", _TEXT),
}
SERVICE = _TOP | {
    f"{_RUN}ingress": (
        "ingress",
        _choice(
            all="INGRESS_TRAFFIC_ALL",
            internal="INGRESS_TRAFFIC_INTERNAL_ONLY",
            none="INGRESS_TRAFFIC_NONE",
            internal_and_cloud_load_balancing="INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
        ),
    ),
    f"{_RUN}description": ("description", _TEXT),
    f"{_RUN}custom-audiences": ("customAudiences", _JSON),
    f"{_RUN}default-url-disabled": ("defaultUriDisabled", _FLAG),
    f"{_RUN}iap-enabled": ("iapEnabled", _FLAG),
    f"{_RUN}invoker-iam-disabled": ("invokerIamDisabled", _FLAG),
    f"{_RUN}minScale": ("scaling.minInstanceCount", _NUMBER),
    f"{_RUN}maxScale": ("scaling.maxInstanceCount", _NUMBER),
    f"{_RUN}manualInstanceCount": ("scaling.manualInstanceCount", _NUMBER),
    f"{_RUN}scalingMode": ("scaling.scalingMode", _choice(automatic="AUTOMATIC", manual="MANUAL")),
}
JOB = _TOP
_TASKS = {
    f"{_RUN}encryption-key": ("encryptionKey", _TEXT),
    f"{_RUN}execution-environment": (
        "executionEnvironment",
        _choice(gen1="EXECUTION_ENVIRONMENT_GEN1", gen2="EXECUTION_ENVIRONMENT_GEN2"),
    ),
    f"{_RUN}network-interfaces": ("vpcAccess.networkInterfaces", _JSON),
    f"{_RUN}vpc-access-connector": ("vpcAccess.connector", _TEXT),
    f"{_RUN}vpc-access-egress": (
        "vpcAccess.egress",
        _choice(all_traffic="ALL_TRAFFIC", all="ALL_TRAFFIC", private_ranges_only="PRIVATE_RANGES_ONLY"),
    ),
}
REVISION = (
    _ANY
    | _TASKS
    | {
        f"{_RUN}encryption-key-shutdown-hours": ("encryptionKeyShutdownDuration", _HOURS),
        f"{_RUN}gpu-zonal-redundancy-disabled": ("gpuZonalRedundancyDisabled", _FLAG),
        f"{_RUN}health-check-disabled": ("healthCheckDisabled", _FLAG),
        f"{_RUN}mesh": ("serviceMesh.mesh", _TEXT),
        f"{_RUN}post-key-revocation-action-type": (
            "encryptionKeyRevocationAction",
            _choice(prevent_new="PREVENT_NEW", shut_down="SHUTDOWN"),
        ),
        f"{_RUN}sessionAffinity": ("sessionAffinity", _FLAG),
        f"{_SCALE}maxScale": ("scaling.maxInstanceCount", _NUMBER),
        f"{_SCALE}minScale": ("scaling.minInstanceCount", _NUMBER),
    }
)
EXECUTION = _ANY
TASK = _TASKS
# What is understood without being one field of its own.
_BY_HAND = {CLOUDSQL, DEPENDENCIES, BINAUTHZ}
Table = dict[str, tuple[str, _Codec]]


def invalid(field: str, text: str) -> ApiError:
    """400 about a field, in the v1 API's words."""
    return ApiError(400, f"{field}: {text}", status="INVALID_ARGUMENT", details=[bad_request(field, text)])


def check(meta: Doc, kind: str, at: str) -> Doc:
    """The annotations of a declaration that a client may set.  Raises ApiError 400 for one that is not of this kind."""
    out = {}
    for name, value in meta.get("annotations", {}).items():
        if name in _OUTPUT:
            continue
        if _SYSTEM.match(name) and kind not in _ACCEPTED.get(name, "").split(", "):
            kinds = f" Supported kinds are: {_ACCEPTED[name]}" if name in _ACCEPTED else ""
            text = f"Annotation '{name}' is not supported on resources of kind '{kind}'.{kinds}"
            raise invalid(f"{at}.annotations", text)
        out[name] = value
    return out


def flag(annotations: Doc, name: str, at: str, *, default: bool = False) -> bool:
    """An annotation that says yes or no.  Raises ApiError 400."""
    out: Doc = {}
    read({name: ("flag", _FLAG)}, annotations, out, at)
    return out.get("flag", default)


def read(table: Table, annotations: Doc, body: Doc, at: str) -> None:
    """Set the fields that a declaration's annotations stand for.  Raises ApiError 400."""
    for name, (path, codec) in table.items():
        if name not in annotations:
            continue
        try:
            value = codec.read(annotations[name])
        except (KeyError, ValueError):
            raise invalid(f"{at}.annotations[{name}]", f"Invalid value '{annotations[name]}'.") from None
        *words, last = path.split(".")
        target = body
        for word in words:
            target = target.setdefault(word, {})
        target[last] = value


def write(table: Table, doc: Doc) -> Doc:
    """The annotations that a resource's fields stand for."""
    out = {}
    for name, (path, codec) in table.items():
        value: Any = doc
        for word in path.split("."):
            value = value.get(word) if isinstance(value, dict) else None
        if value not in (None, "", []) and (text := codec.write(value)):
            out[name] = text
    return out


def plain(labels: Doc, annotations: Doc) -> Doc:
    """{labels?, annotations?} without those of the system."""
    both = {"labels": labels, "annotations": annotations}
    own = {kind: {k: v for k, v in given.items() if not _SYSTEM.match(k)} for kind, given in both.items()}
    return {kind: given for kind, given in own.items() if given}


def unread(annotations: Doc, *tables: Table) -> Doc:
    """System annotations that are kept beside the resource: they have no field, or one that does not tell all."""
    known = _BY_HAND.union(*tables)
    return {name: value for name, value in annotations.items() if _SYSTEM.match(name) and name not in known}
