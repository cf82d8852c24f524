"""
Write the tables of docs/sizes.md, what each size sets and what it costs a month, from module_utils/sizes.py and tools/prices.yml.

    tools/sizes.py [--check]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values  # noqa: E402
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.sizes import SIZES, Size  # noqa: E402

PAGE = ROOT / "docs" / "sizes.md"
PRICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "tools" / "prices.yml").read_text())
HOURS = 730
ROWS = {
    "cloudsql_tier": "tier",
    "cloudsql_availability_type": "availability_type",
    "cloudsql_disk_size_gb": "disk_size_gb",
    "cloudrun_cpu": "cpu",
    "cloudrun_memory": "memory",
    "cloudrun_min_instances": "min_instances",
    "cloudrun_max_instances": "max_instances",
    "cloudrun_concurrency": "concurrency",
    "cloudrun_pool_size": "pool_size",
    "cloudrun_pool_overflow": "pool_overflow",
}


def price(name: str) -> float:
    """A price of tools/prices.yml."""
    return float(PRICES[name]["price"])


def database(size: Size) -> float:
    """The instance for a month; a standby doubles the machine and the disk."""
    copies = 2 if size.availability_type == "REGIONAL" else 1
    if size.tier == "db-g1-small":
        machine = price("sql_g1_small_hour")
    else:
        cpus, megabytes = map(int, re.findall(r"\d+", size.tier))
        machine = cpus * price("sql_cpu_hour") + megabytes / 1024 * price("sql_memory_hour")
    return copies * (machine * HOURS + size.disk_size_gb * price("sql_ssd_month"))


def idle(size: Size) -> float:
    """The minimum instances for a month without requests."""
    memory = float(size.memory.removesuffix("Gi"))
    second = float(size.cpu) * price("run_idle_cpu_second") + memory * price("run_memory_second")
    return size.min_instances * second * HOURS * 3600


def busy(size: Size) -> float:
    """An instance that processes requests, for an hour."""
    memory = float(size.memory.removesuffix("Gi"))
    return (float(size.cpu) * price("run_cpu_second") + memory * price("run_memory_second")) * 3600


def balancer(_size: Size) -> float:
    """The load balancer's two forwarding rules for a month."""
    return price("forwarding_rules_hour") * HOURS


def connections(size: Size) -> str:
    """The connections that a rollout takes, and those that the database has to give."""
    needed = 2 * size.max_instances * (size.pool_size + size.pool_overflow + 1) + values.JOB_CONNECTIONS
    return f"{needed} of {values.max_connections(size.tier) - values.RESERVED_CONNECTIONS}"


def table(head: str, rows: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    """The lines of a table with a column for each size."""
    yield f"| {head} | {' | '.join(f'`{name}`' for name in SIZES)} |"
    yield "|---" * (len(SIZES) + 1) + "|"
    for name, cells in rows:
        yield f"| {name} | {' | '.join(cells)} |"


def tables() -> str:
    """What stands between the marks of the page."""
    fixed = {"database with its disk": database, "idle minimum instances": idle, "load balancer": balancer}
    totals = (sum(cost(size) for cost in fixed.values()) for size in SIZES.values())
    lines = [
        *table(
            "variable", ((f"`{row}`", (f"`{getattr(s, name)}`" for s in SIZES.values())) for row, name in ROWS.items())
        ),
        f"| database connections of a rollout | {' | '.join(map(connections, SIZES.values()))} |",
        "",
        *table(
            "US dollars a month", ((name, (f"{cost(s):.0f}" for s in SIZES.values())) for name, cost in fixed.items())
        ),
        f"| **together** | {' | '.join(f'**{total:.0f}**' for total in totals)} |",
        f"| and for each hour in which an instance is busy | {' | '.join(f'{busy(size):.2f}' for size in SIZES.values())} |",
        "",
        "| price | US dollars | per | source |",
        "|---|---|---|---|",
        *(
            f"| {entry['what']} | {entry['price']:.10g} | {entry['per']} | {entry['source']}"
            f"{', ' + str(entry['date']) if entry['date'] else ' (**not confirmed**)'} |"
            for entry in PRICES.values()
        ),
    ]
    return "\n".join(lines)


def main() -> int:
    text = PAGE.read_text()
    new = re.sub(
        r"(<!-- begin: tools/sizes.py -->\n).*(\n<!-- end -->)", rf"\g<1>{tables()}\g<2>", text, flags=re.DOTALL
    )
    if "--check" in sys.argv:
        return int(new != text)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
