# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary of a play with several hosts, run by ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[4]
BUCKET = {"name": "{{ name }}", "location": "EU", "project": "demo", "auth_kind": "serviceaccount"}
HOSTS = {
    "a-fine": {},
    "b-module": {"file": "none.json"},
    "c-hidden": {"file": "not-to-be-seen.json", "hide": True},
    "d-check": {"mlflow_project_id": "Not A Project"},
    "e-assert": {"wrong": True},
    "f-template": {"broken": True},
    "g-ignored": {"ignored": True},
    "h-credentials": {"mlflow_access_token": "{{ nothing }}"},
}
TASKS = [
    {"mlops.mlflow_gcp.check_variables": {"role": "services"}, "when": "inventory_hostname == 'd-check'"},
    {
        "mlops.mlflow_gcp.storage_bucket": BUCKET | {"service_account_file": "{{ file }}"},
        "name": "Make a bucket",
        "when": "file is defined",
        "vars": {"name": "x-bucket"},
        "no_log": "{{ hide | default(false) }}",
    },
    {
        "mlops.mlflow_gcp.storage_bucket": BUCKET,
        "when": "ignored is defined",
        "vars": {"name": "X"},
        "ignore_errors": True,
    },
    {
        "mlops.mlflow_gcp.storage_bucket": {"name": "x-bucket", "location": "EU"},
        "name": "Use the credentials of the host",
        "when": "inventory_hostname == 'h-credentials'",
    },
    {
        "ansible.builtin.assert": {"that": "wrong is not defined", "fail_msg": "This is wrong"},
        "register": "asserted",
    },
    {"ansible.builtin.debug": {"msg": "{{ not_there }}"}, "when": "broken is defined"},
    {"mlops.mlflow_gcp.mlflow_summary": {}, "run_once": True, "register": "summed"},
    {"ansible.builtin.debug": {"msg": "{{ summed }}"}, "run_once": True},
]


def test_it_says_which_hosts_failed_and_why(tmp_path: Path):
    book, inventory = tmp_path / "play.yml", tmp_path / "hosts.yml"
    book.write_text(yaml.safe_dump([{"hosts": "all", "connection": "local", "gather_facts": False, "tasks": TASKS}]))
    inventory.write_text(yaml.safe_dump({"all": {"hosts": HOSTS}}))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "GCP_"))}
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "--forks", "2", book]
    done = subprocess.run(command, cwd=ROOT, env=plain | settings, capture_output=True, text=True)
    assert done.returncode == 2 and "not-to-be-seen" not in done.stdout.partition('"summed"')[2], (
        done.stdout + done.stderr
    )
    (play,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    summed = play["tasks"][-1]["hosts"]["a-fine"]["msg"]
    assert summed["done"] == ["a-fine", "g-ignored"]
    failed = summed["failed_hosts"]
    assert failed["b-module"].startswith("Make a bucket: Cannot sign in to Google Cloud with none.json: No such file")
    assert failed["c-hidden"] == "Make a bucket: its message is hidden (no_log)"
    assert failed["d-check"].startswith(
        "mlops.mlflow_gcp.check_variables: mlflow_project_id is 'Not A Project'; allowed:"
    )
    assert failed["e-assert"] == "This is wrong"
    assert failed["f-template"].startswith("a task of another collection failed")
    assert failed["h-credentials"] == "Use the credentials of the host: mlflow_access_token cannot be evaluated"
    assert summed["lines"][0] == "2 of 8 deployments are done" and len(summed["lines"]) == 7
