"""Converts the sandbox's records of events to Google's LogEntry.

https://cloud.google.com/run/docs/logging, https://cloud.google.com/logging/docs/structured-logging,
https://cloud.google.com/load-balancing/docs/https/https-logging-monitoring
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from gcp_sandbox.services.logging.values import SEVERITIES, moment

Doc = dict[str, Any]
LOGS = {
    "stdout": "run.googleapis.com%2Fstdout",
    "stderr": "run.googleapis.com%2Fstderr",
    "system": "run.googleapis.com%2Fvarlog%2Fsystem",
}
REQUESTS = "requests"
BUILDS = "cloudbuild"
_SPECIAL = "logging.googleapis.com/"
_WORDS = {
    "WARN": "WARNING",
    "ERR": "ERROR",
    "SEVERE": "ERROR",
    "CRIT": "CRITICAL",
    "FATAL": "CRITICAL",
    "EMERG": "EMERGENCY",
    "TRACE": "DEBUG",
    "FINE": "DEBUG",
}
# Special fields of a structured line -> their names in the entry.
_OWN = {
    "httpRequest": "httpRequest",
    f"{_SPECIAL}operation": "operation",
    f"{_SPECIAL}sourceLocation": "sourceLocation",
    f"{_SPECIAL}spanId": "spanId",
    f"{_SPECIAL}trace": "trace",
    f"{_SPECIAL}trace_sampled": "traceSampled",
    f"{_SPECIAL}insertId": "insertId",
}
_TYPES = {"httpRequest": dict, "operation": dict, "sourceLocation": dict, "traceSampled": bool}


def of_run(project: str, location: str, ident: str, line: Doc) -> Doc:
    """The entry for a line of Cloud Run's output (services/run/output.py)."""
    if "job" in line:
        kind, labels = "cloud_run_job", {"project_id": project, "job_name": line["job"], "location": location}
    else:
        service = line.get("service", "")
        kind, labels = (
            "cloud_run_revision",
            {
                "project_id": project,
                "service_name": service,
                "revision_name": line.get("revision", ""),
                "configuration_name": service,
                "location": location,
            },
        )
    own = {
        "container_name": line.get("container"),
        "instanceId": line.get("instance"),
        "run.googleapis.com/execution_name": line.get("execution"),
        "run.googleapis.com/task_index": line.get("task"),
        "run.googleapis.com/task_attempt": line.get("attempt"),
    }
    entry: Doc = {
        "insertId": _insert_id(ident, line["time"]),
        "resource": {"type": kind, "labels": labels},
        "timestamp": line["time"],
        "labels": {k: v for k, v in own.items() if v is not None},
        "logName": f"projects/{project}/logs/{LOGS[line['stream']]}",
        "receiveTimestamp": line["time"],
    }
    if line.get("severity") in SEVERITIES:
        entry["severity"] = line["severity"]
    text = line["text"]
    payload = _structured(text) if line["stream"] != "system" and text.lstrip().startswith("{") else None
    if payload is None:
        entry["textPayload"] = text
    else:
        _lift(entry, payload)
        entry["jsonPayload"] = payload
    return {k: v for k, v in entry.items() if v != {} or k == "jsonPayload"}


def of_balancer(project: str, ident: str, line: Doc) -> Doc:
    """The entry for a request to a load balancer (frontdoor/balancer.py)."""
    return {
        "insertId": _insert_id(ident, line["timestamp"]),
        "jsonPayload": {
            "@type": "type.googleapis.com/google.cloud.loadbalancing.type.LoadBalancerLogEntry",
            **line.get("jsonPayload", {}),
        },
        "httpRequest": line["httpRequest"],
        "resource": line["resource"],
        "timestamp": line["timestamp"],
        "severity": line["severity"],
        "logName": f"projects/{project}/logs/{REQUESTS}",
        "receiveTimestamp": line["timestamp"],
    }


def of_build(project: str, build: str, ident: str, line: Doc) -> Doc:
    """The entry for a line of a build's log (services/cloudbuild/work.py)."""
    return {
        "insertId": _insert_id(ident, line["time"]),
        "textPayload": line["text"],
        "resource": {"type": "build", "labels": {"project_id": project, "build_id": build, "build_trigger_id": ""}},
        "timestamp": line["time"],
        "severity": "INFO",
        "labels": {"build_step": line["step"]},
        "logName": f"projects/{project}/logs/{BUILDS}",
        "receiveTimestamp": line["time"],
    }


def _insert_id(ident: str, time: str) -> str:
    return hashlib.sha256(f"{ident} {time}".encode()).hexdigest()[:24]


def _structured(text: str) -> Doc | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _lift(entry: Doc, payload: Doc) -> None:
    """Move the special fields of a structured line from the payload to the entry."""
    if isinstance(level := payload.get("severity"), str):
        name = _WORDS.get(level.upper(), level.upper())
        if name in SEVERITIES:
            del payload["severity"]
            if name != "DEFAULT":
                entry["severity"] = name
    for key, name in _OWN.items():
        if key in payload and isinstance(payload[key], _TYPES.get(name, str)):
            entry[name] = payload.pop(key)
    labels = payload.get(f"{_SPECIAL}labels")
    if isinstance(labels, dict):
        del payload[f"{_SPECIAL}labels"]
        entry["labels"] |= {k: v if isinstance(v, str) else json.dumps(v) for k, v in labels.items()}
    if time := _time(payload):
        entry["timestamp"] = min(time, entry["receiveTimestamp"])


def _time(payload: Doc) -> str | None:
    """Remove and return a structured line's own timestamp."""
    if isinstance(payload.get("timestampSeconds"), int) and isinstance(payload.get("timestampNanos"), int):
        found = (payload.pop("timestampSeconds"), payload.pop("timestampNanos"))
        return _written_seconds(*found)
    stamp = payload.get("timestamp")
    if isinstance(stamp, dict) and isinstance(stamp.get("seconds"), int) and isinstance(stamp.get("nanos"), int):
        del payload["timestamp"]
        return _written_seconds(stamp["seconds"], stamp["nanos"])
    if isinstance(stamp := payload.get("time"), str) and "T" in stamp:
        try:
            when = written(moment(stamp))
        except (ValueError, OverflowError):
            return None
        del payload["time"]
        return when
    return None


def _written_seconds(seconds: int, nanos: int) -> str | None:
    try:
        return written(datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos // 1000))
    except (ValueError, OverflowError, OSError):
        return None


def written(when: datetime) -> str:
    """A time in the format of the files, whose string order is the order of the times."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
