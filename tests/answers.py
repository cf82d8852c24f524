"""The variables of all roles as an inventory and as a survey of AWX give them: typed, and as text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[1] / "roles"
# Extra variables of every job in AWX.
JOB = {"awx_job_id": 7, "awx_job_launch_type": "manual", "tower_job_id": 7}

# Entries for lists and dictionaries, by the variable's name or, for several roles, its end.
LISTS: dict[str, list[str]] = {
    "accepted_members": ["group:auditors@example.com", "domain:example.com"],
    "allowed_ranges": ["203.0.113.0/24", "2001:db8::/48"],
    "certificates": ["first", "second"],
    "dns_replaces": ["203.0.113.7", "old.example.com."],
    "extra_domains": ["models.example.com", "ml.example.com"],
    "extra_packages": ["boto3==1.40.0", "numpy==2.3.0"],
    "impersonate_delegates": ["ci@my-project.iam.gserviceaccount.com", "deployer@my-project.iam.gserviceaccount.com"],
    "locations": ["europe-west1", "europe-west2"],
    "logger_token_creators": ["user:jane@example.com", "serviceAccount:ci@my-project.iam.gserviceaccount.com"],
    "readers": ["serviceAccount:ci@my-project.iam.gserviceaccount.com", "group:ml@example.com"],
    "replaces": ["old-https", "old-http"],
    "services_names": ["run.googleapis.com", "sqladmin.googleapis.com"],
    "users": ["user:jane@example.com", "group:ml@example.com"],
}
DICTIONARIES: dict[str, dict[str, Any]] = {
    "database_flags": {"max_connections": 60, "log_min_duration_statement": "250"},
    "env": {"MLFLOW_LOGGING_LEVEL": "DEBUG", "GUNICORN_CMD_ARGS": "1"},
    "labels": {"team": "ml", "prod": True},
    "maintenance_window": {"day": 7, "hour": 3},
}


@cache
def options() -> dict[str, dict[str, Any]]:
    """The variables of all roles with their specifications."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        (entry_point,) = yaml.safe_load(file.read_text())["argument_specs"].values()
        found |= entry_point["options"]
    return found


def container(name: str) -> Any:
    """A value for a variable that is a list or a dictionary, None for any other."""
    return next(
        (value for end, value in (LISTS | DICTIONARIES).items() if name == end or name.endswith(f"_{end}")), None
    )


def texts(value: Any) -> list[str]:
    """All ways in which a survey can give a value as text."""
    if isinstance(value, bool):
        return [str(value), str(value).lower(), "yes" if value else "no"]
    if isinstance(value, list):
        lines = [f"- {entry}" for entry in value]
        return [", ".join(value), "\r\n".join(value) + "\r\n", "\n".join(lines), json.dumps(value), ",".join(value)]
    if isinstance(value, dict):
        plain = {key: str(part).lower() if isinstance(part, bool) else str(part) for key, part in value.items()}
        pairs = [f"{key}={part}" for key, part in plain.items()]
        lines = [f"{key}: {part}" for key, part in plain.items()]
        return [json.dumps(value), "\r\n".join(lines), "\n".join(pairs), ",".join(pairs), yaml.safe_dump(value)]
    return [str(value)]
