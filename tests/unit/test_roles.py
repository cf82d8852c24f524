# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for the tasks of all roles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path.parent for path in (Path(__file__).resolve().parents[2] / "roles").glob("*/tasks"))


def flat(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks of a file, also those inside blocks."""
    return [
        task
        for entry in entries
        for task in (entry, *(flat(entry[key]) for key in ("block", "rescue", "always") if key in entry))
        for task in (task if isinstance(task, list) else [task])
    ]


def tasks(role: Path) -> list[dict[str, Any]]:
    """All tasks of a role, those of imported files where they are imported, main.yml first."""
    files = {
        file.name: flat(yaml.safe_load(file.read_text()))
        for file in sorted((role / "tasks").glob("*.yml"), key=lambda file: (file.name != "main.yml", file.name))
    }

    def expanded(name: str) -> Iterator[dict[str, Any]]:
        for task in files[name]:
            yield task
            if imported := task.get("ansible.builtin.import_tasks"):
                yield from expanded(imported)

    imported = {task.get("ansible.builtin.import_tasks") for found in files.values() for task in found}
    return [task for name in files if name not in imported for task in expanded(name)]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_nothing_that_one_deployment_looked_up_reaches_the_next(role: Path) -> None:
    """
    A role may run for several deployments in a loop. A task that a condition skips sets its result anew, but one in an include
    or in a loop of no entries does not run at all: what it registered is that of the deployment before.
    """
    texts = {file.name: file.read_text() for file in sorted((role / "tasks").glob("*.yml"))}
    for name in [
        task["ansible.builtin.include_tasks"] for task in tasks(role) if "ansible.builtin.include_tasks" in task
    ]:
        for result in re.findall(r"register: (\w+)", texts[name]):
            readers = [file for file, text in texts.items() if result in text and f"register: {result}\n" not in text]
            assert readers == [], f"{name} may be left out, and registers {result}, which is read in {readers}"
    # Every result is set by a task of the same file, before it is read.
    seen: set[str] = set()
    own = yaml.safe_load((role / "vars/main.yml").read_text()) if (role / "vars/main.yml").is_file() else {}
    registered = {task["register"] for task in tasks(role) if "register" in task}
    for task in tasks(role):
        # The tasks of a block follow it.
        text = str({key: value for key, value in task.items() if key not in ("register", "block", "rescue", "always")})
        for _depth in range(3):
            text += "".join(str(value) for name, value in own.items() if name in text)
        early = {name for name in registered if re.search(rf"\b{name}\b", text)} - seen
        assert early <= {task.get("register")}, f"{task['name']} reads what a later task registers: {early}"
        seen |= {task.get("register", "")}


# What a role makes and the takedown does not delete by itself.
NOT_DELETED = {
    "certificate_manager_certificate_map_entry": "it goes with the map",
    "cloud_build": "images go with their repository",
    "iam_role_members": "a policy goes with its resource; what a role grants on the project is revoked",
    "iap_brand": "Google cannot delete a brand",
    "iap_client": "it goes with the brand, which stays",
    "iap_oauth_settings": "settings go with the service",
    "kms_key_agents": "service agents belong to the project, and may need the key for others",
    "run_job_execution": "it goes with the job",
    "service_usage_service_identity": "it belongs to the project",
    "service_usage_services": "others may use the APIs",
    "sql_backup": "it goes with the instance",
    "sql_database": "it goes with the instance",
    "sql_user": "it goes with the instance",
}
READ_ONLY = {
    "artifact_registry_image",
    "certificate_wait",
    "check_variables",
    "mlflow_front_door_check",
    "run_service_address",
}


def modules(file: Path) -> set[str]:
    """The modules of ours in a file of tasks."""
    found = re.findall(
        r"^ *(?:- )?mlops\.mlflow_gcp\.(\w+):(?: [&*]\w+)?$", file.read_text() if file.is_file() else "", re.MULTILINE
    )
    return set(found) - READ_ONLY


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_what_a_role_makes_is_deleted_by_its_takedown(role: Path) -> None:
    files = sorted(set((role / "tasks").glob("*.yml")) - {role / "tasks/destroy.yml"})
    made, deleted = set().union(*map(modules, files)), modules(role / "tasks/destroy.yml")
    assert made - deleted <= NOT_DELETED.keys() and deleted <= made
    for task in flat(yaml.safe_load((role / "tasks/destroy.yml").read_text())) if deleted else ():
        options = [value for key, value in task.items() if key.startswith("mlops.")]
        assert all(option["state"] == "absent" for option in options) and (options or "block" in task), task["name"]
