#!/usr/bin/env python3
"""Write the table of variables in the README of every role, out of its specification and defaults. With --check, only compare."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
BEGIN = "## Variables\n<!-- Written by tools/role_tables.py out of meta/argument_specs.yml. -->\n"
WORDS = {"E": "environment variable ", "M": "module ", "P": "plugin "}


def main() -> int:
    """Write, or compare; 1 if a table is not what it should be."""
    outdated = []
    for readme in sorted(ROLES.glob("*/README.md")):
        before = readme.read_text()
        after = f"{before.partition(BEGIN)[0].rstrip()}\n\n{BEGIN}\n{table(readme.parent)}"
        if after == before:
            continue
        outdated.append(readme)
        if "--check" not in sys.argv:
            readme.write_text(after)
    if outdated and "--check" in sys.argv:
        print(
            *(f"{readme}: the table of variables is outdated: run tools/role_tables.py" for readme in outdated),
            sep="\n",
        )
        return 1
    return 0


def table(role: Path) -> str:
    """The table of a role's variables, in the order of its specification."""
    (entry_point,) = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"].values()
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    rows = [
        f"| `{name}` | {kind(option)} | {default(option, defaults.get(name))} | {described(option)} |\n"
        for name, option in entry_point["options"].items()
    ]
    return f"| variable | type | default | |\n|---|---|---|---|\n{''.join(rows)}"


def kind(option: Mapping[str, Any]) -> str:
    """The type, with that of the entries of a list."""
    return f"{option['type']} of {option['elements']}" if "elements" in option else str(option["type"])


def default(option: Mapping[str, Any], value: Any) -> str:
    """The default, as YAML has it; or that the variable is required."""
    if option.get("required"):
        return "required"
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def described(option: Mapping[str, Any]) -> str:
    """The description and the choices, in Markdown."""
    told = option["description"]
    text = " ".join([told] if isinstance(told, str) else told)
    text = re.sub(
        r"\b([CEMOPV])\(((?:\\.|[^)\\])*)\)",
        lambda mark: f"{WORDS.get(mark[1], '')}`{mark[2].removeprefix('main:')}`",
        text,
    )
    text = re.sub(r"\bU\(([^)]*)\)", r"<\1>", text)
    text = re.sub(r"\b[BI]\(([^)]*)\)", r"*\1*", text)
    if "choices" in option:
        text += f" Choices: {', '.join(f'`{choice}`' for choice in option['choices'])}."
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
