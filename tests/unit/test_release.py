# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Google holds for a while after a takedown, and what others use, with the modules of the role network in a sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

PROJECT = "release"
REGION = "europe-west2"
HELD = "servicenetworking.services.connections.deleteConnection"
APIS = ("cloudresourcemanager", "compute", "iam", "run", "servicenetworking", "sqladmin")
LEAVE = {"state": "absent", "in_use": "leave", "release_timeout": 0}
SUBNETWORK = {"name": "sub", "region": REGION}
CONNECTION = {"network": "net", "reserved_ranges": ["range"]}


@pytest.fixture(scope="module")
def project(gcp_sandbox) -> Iterator[str]:
    gcp_sandbox.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": PROJECT})
    services = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services"
    gcp_sandbox.call("POST", f"{services}:batchEnable", {"serviceIds": [f"{name}.googleapis.com" for name in APIS]})
    yield PROJECT
    gcp_sandbox.command("fault", "clear")


@pytest.fixture
def run(sandbox_module, project):
    """run("compute_network", name="net") -> what the module returns."""
    return partial(sandbox_module, project=project)


def test_a_peering_goes_with_the_last_subnetwork(run, gcp_sandbox):
    run("compute_network", name="net")
    run("compute_subnetwork", **SUBNETWORK, network="net", ip_cidr_range="10.8.0.0/24")
    run("compute_global_address", name="range", purpose="VPC_PEERING", prefix_length=24, network="net")
    run("service_networking_connection", **CONNECTION)
    database = {
        "region": REGION,
        "deletion_protection": False,
        "private_network": f"projects/{PROJECT}/global/networks/net",
    }
    run("sql_instance", name="db", **database)

    left = run("service_networking_connection", **CONNECTION, **LEAVE)
    assert not left["changed"] and "first delete db" in str(left["warnings"][-1])
    gcp_sandbox.command("fault", "add", HELD, "held", "seconds=3600")
    assert run("sql_instance", name="db", deletion_protection=False, state="absent")["changed"]

    for module, options in (
        ("service_networking_connection", CONNECTION),
        ("compute_global_address", {"name": "range"}),
        ("compute_network", {"name": "net"}),
    ):
        assert not run(module, **options, **LEAVE)["changed"], module
    assert run("compute_subnetwork", **SUBNETWORK, **LEAVE)["changed"]
    for module, options in (
        ("service_networking_connection", CONNECTION),
        ("compute_global_address", {"name": "range"}),
        ("compute_network", {"name": "net"}),
    ):
        assert run(module, **options, **LEAVE)["changed"], module
        assert not run(module, **options, **LEAVE)["changed"], module


def test_the_name_of_a_deleted_instance(run):
    """Whether the name is reserved or not: the instance is there, and found again."""
    instance = {"name": "again", "region": REGION, "psc_allowed_projects": [PROJECT], "if_reserved": "number"}
    names = []
    for _deployment in range(2):
        created = run("sql_instance", **instance, deletion_protection=False)
        assert created["changed"]
        names.append(created["name"])
        found = run("sql_instance", **instance, deletion_protection=False)
        assert (found["changed"], found["name"]) == (False, created["name"])
        assert run("sql_instance", name="again", if_reserved="number", deletion_protection=False, state="absent")[
            "changed"
        ]
    assert names in (["again", "again"], ["again", "again-2"])
