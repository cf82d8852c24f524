"""The catalog of PostgreSQL database flags and machine tiers.

https://cloud.google.com/sql/docs/postgres/flags, https://cloud.google.com/sql/docs/postgres/machine-series-overview
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gcp_sandbox.services.sqladmin import defaults

# By name: type (Boolean, Integer, Float, String), min and max, values, and whether a change restarts the server.
FLAGS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("flags.json").read_text(encoding="utf-8"))
_TYPES = {"B": "BOOLEAN", "I": "INTEGER", "F": "FLOAT", "S": "STRING"}
# Extensions whose flags are too many to list.
_EXTENSIONS = frozenset(
    [
        "anon",
        "auto_explain",
        "cloudsql",
        "cron",
        "google_columnar_engine",
        "pg_bigm",
        "pg_hint_plan",
        "pg_partman_bgw",
        "pg_stat_statements",
        "pg_wait_sampling",
        "pgaudit",
        "pglogical",
        "pgtle",
        "plv8",
        "squeeze",
    ]
)
_GB = 1 << 30
_SHARED = {"db-f1-micro": 643825664, "db-g1-small": 1825361100}
_OPTIMIZED = (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)
_STANDARD = (1, 2, 4, 8, 16, 32, 64, 96)


def find(name: str) -> dict[str, Any] | None:
    """The definition of a flag, or None if there is none of that name."""
    known = FLAGS.get(name)
    return {"type": "S"} if known is None and name.partition(".")[0] in _EXTENSIONS and "." in name else known


def accepts(flag: dict[str, Any], value: str) -> bool:
    """Whether a value is valid for a flag."""
    if flag["type"] == "B":
        return value in ("on", "off")
    if flag["type"] == "S":
        return "values" not in flag or value in flag["values"]
    try:
        number = int(value) if flag["type"] == "I" else float(value)
    except ValueError:
        return False
    return "min" not in flag or float(flag["min"]) <= number <= float(flag["max"])


def flags(version: str) -> list[dict[str, Any]]:
    """The API's list of flags for a database version (for all versions of PostgreSQL if it is "")."""
    if version and not version.startswith("POSTGRES_"):
        return []
    applies = [version] if version else [f"POSTGRES_{n}" for n in (13, 14, 15, 16, 17, 18)]
    out = []
    for name, known in FLAGS.items():
        item: dict[str, Any] = {"name": name, "type": _TYPES[known["type"]], "appliesTo": applies, "kind": "sql#flag"}
        if known["type"] == "I" and "min" in known:
            item |= {"minValue": known["min"], "maxValue": known["max"]}
        if "values" in known:
            item["allowedStringValues"] = known["values"]
        out.append(item | {"requiresRestart": known.get("restart", False)})
    return out


def tiers() -> list[dict[str, Any]]:
    """The API's list of tiers."""
    sizes = _SHARED | {f"db-perf-optimized-N-{n}": n * 8 * _GB for n in _OPTIMIZED}
    sizes |= {f"db-n1-standard-{n}": int(n * 3.75 * _GB) for n in _STANDARD}
    sizes |= {f"db-n1-highmem-{n}": int(n * 6.5 * _GB) for n in _STANDARD[1:]}
    return [
        {
            "tier": name,
            "RAM": str(ram),
            "kind": "sql#tier",
            "region": sorted(defaults.REGIONS),
            "DiskQuota": str((3062 if name in _SHARED else 65536) * _GB),
        }
        for name, ram in sizes.items()
    ]
