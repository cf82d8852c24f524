# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies of an organization: each refusal has its own advice, and what that says helps. docs/organisations.md lists them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import organization
from gcp_sandbox.testing import Sandbox

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/organisations.md").read_text()
US, REGION = "us-east1", "europe-west2"
RUN = {"name": "s", "region": REGION, "image": "gcr.io/cloudrun/hello"}
SERVER = {"service_account": "server@{project}.iam.gserviceaccount.com"}
INTERNAL = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"


@pytest.fixture(scope="module")
def project(gcp_sandbox: Sandbox) -> Iterator[str]:
    """A project of its own, with APIs, a network and an account; policies on it concern no other test."""
    project = f"org-{secrets.token_hex(4)}"
    gcp_sandbox.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": project})
    names = [
        "cloudresourcemanager",
        "compute",
        "iam",
        "run",
        "secretmanager",
        "servicenetworking",
        "sqladmin",
        "storage",
    ]
    services = {"serviceIds": [f"{name}.googleapis.com" for name in names]}
    gcp_sandbox.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", services)
    compute = f"compute.googleapis.com/compute/v1/projects/{project}"
    network = f"projects/{project}/global/networks/n"
    gcp_sandbox.call("POST", f"{compute}/global/networks", {"name": "n", "autoCreateSubnetworks": False})
    subnetwork = {"name": "n", "network": network, "ipCidrRange": "10.90.0.0/24"}
    gcp_sandbox.call("POST", f"{compute}/regions/{REGION}/subnetworks", subnetwork)
    reserved = {"name": "r", "purpose": "VPC_PEERING", "addressType": "INTERNAL", "prefixLength": 24}
    gcp_sandbox.call("POST", f"{compute}/global/addresses", reserved | {"network": network})
    account = {"accountId": "server", "serviceAccount": {}}
    gcp_sandbox.call("POST", f"iam.googleapis.com/v1/projects/{project}/serviceAccounts", account)
    yield project
    gcp_sandbox.command("policy", "clear")


@pytest.fixture
def policy(gcp_sandbox: Sandbox, project: str) -> Iterator[Callable[..., None]]:
    """``policy("gcp.resourceLocations", "in:us-locations")``: set a policy on the project until the end of the test."""
    yield lambda *words: gcp_sandbox.command("policy", "set", *words, f"on=projects/{project}")
    gcp_sandbox.command("policy", "clear")


@pytest.fixture
def module(sandbox_module: Callable[..., Any], gcp_sandbox: Sandbox, project: str) -> Callable[..., Any]:
    """``module("storage_bucket", name=…)``: run a module in the project, whose ID replaces {project} in options."""
    auth = {"auth_kind": "serviceaccount", "service_account_file": gcp_sandbox.exports["GCP_SERVICE_ACCOUNT_FILE"]}

    def run(name: str, /, **options: Any) -> dict[str, Any]:
        filled = yaml.safe_load(yaml.safe_dump(options).replace("{project}", project))
        return sandbox_module(name, auth=auth | {"project": project}, **filled)

    return run


# Policy, module, options that it refuses, what else to say (None: another test shows it).
REFUSED: dict[str, tuple[tuple[str, ...], str, dict[str, Any], dict[str, Any] | None]] = {
    "location of a bucket": (
        ("gcp.resourceLocations", "in:us-locations"),
        "storage_bucket",
        {"name": "{project}-place", "location": REGION},
        {"location": "US"},
    ),
    "location of a bucket in two regions": (
        ("gcp.resourceLocations", "in:us-locations"),
        "storage_bucket",
        {"name": "{project}-dual", "location": "EUR4"},
        {"location": "NAM4"},
    ),
    "location of a secret": (
        ("gcp.resourceLocations", "in:us-locations"),
        "secret_manager_secret",
        {"name": "place"},
        {"replication_locations": [US]},
    ),
    "location of a subnetwork": (
        ("gcp.resourceLocations", "in:us-locations"),
        "compute_subnetwork",
        {"name": "place", "network": "n", "region": REGION, "ip_cidr_range": "10.91.0.0/24"},
        {"region": US},
    ),
    "a key for a bucket": (
        ("gcp.restrictNonCmekServices", "deny:storage.googleapis.com"),
        "storage_bucket",
        {"name": "{project}-key", "location": REGION},
        {"kms_key": "{key}"},
    ),
    "a key for a secret": (
        ("gcp.restrictNonCmekServices", "deny:secretmanager.googleapis.com"),
        "secret_manager_secret",
        {"name": "key"},
        {"kms_key": "{key}"},
    ),
    "a key for a job": (
        ("gcp.restrictNonCmekServices", "deny:run.googleapis.com"),
        "run_job",
        RUN | SERVER | {"name": "key"},
        {"kms_key": "{key}"},
    ),
    "a key for a database": (
        ("gcp.restrictNonCmekServices", "deny:sqladmin.googleapis.com"),
        "sql_instance",
        {"name": "key", "region": REGION, "psc_allowed_projects": ["{project}"], "backup_enabled": False}
        | {"point_in_time_recovery": False},
        {"kms_key": "{key}"},
    ),
    "a stranger on a project": (
        ("iam.allowedPolicyMemberDomains", "{customer}"),
        "iam_role_members",
        {"resource_type": "project", "resource": "{project}", "role": "roles/browser", "members": ["user:a@else.org"]},
        {"members": ["user:a@example.com"]},
    ),
    "a stranger on a bucket": (
        ("iam.allowedPolicyMemberDomains", "{customer}"),
        "iam_role_members",
        {"resource_type": "bucket", "resource": "{project}-given", "role": "roles/storage.objectViewer"}
        | {"members": ["user:a@else.org"]},
        {"members": ["user:a@example.com"]},
    ),
    "everybody on a bucket": (
        ("storage.publicAccessPrevention",),
        "iam_role_members",
        {"resource_type": "bucket", "resource": "{project}-given", "role": "roles/storage.objectViewer"}
        | {"members": ["allUsers"]},
        {"members": ["user:b@example.com"]},
    ),
    "access control lists": (
        ("storage.uniformBucketLevelAccess",),
        "storage_bucket",
        {"name": "{project}-lists", "location": REGION, "uniform_access": False},
        {"uniform_access": True},
    ),
    "a peering": (
        ("compute.restrictVpcPeering", "deny-all"),
        "service_networking_connection",
        {"network": "n", "reserved_ranges": ["r"]},
        None,
    ),
    "a load balancer": (
        ("compute.restrictLoadBalancerCreationForTypes", "in:INTERNAL"),
        "compute_global_forwarding_rule",
        {
            "name": "f",
            "ip_address": "203.0.113.7",
            "target": "projects/{project}/global/targetHttpsProxies/p",
            "port": 443,
        },
        None,
    ),
    "a service account": (
        ("iam.disableServiceAccountCreation",),
        "iam_service_account",
        {"name": "another"},
        {"name": "server"},
    ),
    "ingress": (
        ("run.allowedIngress", "internal-and-cloud-load-balancing"),
        "run_service",
        RUN | SERVER | {"name": "ingress", "ingress": "INGRESS_TRAFFIC_ALL"},
        {"ingress": INTERNAL},
    ),
    "egress": (
        ("run.allowedVPCEgress", "all-traffic"),
        "run_job",
        RUN | SERVER | {"name": "egress", "network": "n", "subnetwork": "n"},
        {"vpc_egress": "ALL_TRAFFIC"},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_has_its_own_advice_that_helps(case, module, policy, gcp_sandbox, project):
    words, name, options, remedy = REFUSED[case]
    if "bucket" in str(options.get("resource_type")):
        module("storage_bucket", name="{project}-given", location=REGION, public_access_prevention="inherited")
    root = gcp_sandbox.call("GET", "cloudresourcemanager.googleapis.com/v3/organizations:search")["organizations"][0]
    key = ""
    if "{key}" in str(remedy):
        key = gcp_sandbox.kms_key(project, REGION, "storage", "secretmanager", "run", "sqladmin", ring=f"r-{name}")
    policy(*(word.replace("{customer}", root["directoryCustomerId"]) for word in words))
    expected = f"An organization policy (constraints/{words[0]}) forbids this: {organization.ADVICE[words[0]]}"
    with pytest.raises(Exception, match=re.escape(expected)):
        module(name, **options)
    if remedy is not None:
        remedy = {
            option: value.replace("{key}", key) if "{key}" in str(value) else value for option, value in remedy.items()
        }
        module(name, **options | remedy)


def test_a_perimeter_of_vpc_service_controls(module, gcp_sandbox, project):
    gcp_sandbox.command("policy", "set", "perimeter", project, "storage.googleapis.com")
    try:
        with pytest.raises(Exception, match="A perimeter of VPC Service Controls forbids this: ask its administrator"):
            module("storage_bucket", name="{project}-inside", location=REGION)
    finally:
        gcp_sandbox.command("policy", "clear")


@pytest.mark.parametrize("place", ["response", "operation"])
@pytest.mark.parametrize(
    "constraint", [*organization.ADVICE, "iam.managed.disableServiceAccountKeyCreation", "custom.a"]
)
def test_every_constraint_has_advice(google, run_module, constraint, place):
    """Also where only the details of the error name it, in a response and in an operation."""
    violation = {"type": f"constraints/{constraint}", "subject": "orgpolicy:projects/p", "description": "Not allowed."}
    detail = {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]}
    message = "The request has violated one or more Org Policies."
    failed = {"name": "operations/x", "done": True, "error": {"code": 9, "message": message, "details": [detail]}}
    refused = google.error(400, "FAILED_PRECONDITION", message, details=[detail])
    url = "https://serviceusage.googleapis.com/v1/projects/demo/services"
    disabled = {"name": "projects/1/services/run.googleapis.com", "state": "DISABLED"}
    google.expect("GET", f"{url}:batchGet", {"services": [disabled]})
    google.expect("POST", f"{url}:batchEnable", failed if place == "operation" else refused)
    with pytest.raises(Exception) as failure:
        run_module("service_usage_services", names=["run.googleapis.com"])
    assert f"{message}; Not allowed. (" in str(failure.value)
    said, _, advice = str(failure.value).partition(f"An organization policy (constraints/{constraint}) forbids this: ")
    assert said and advice.startswith(organization.ADVICE.get(constraint.replace(".managed", ""), organization.CUSTOM))


def test_everything_that_can_have_labels_has_them():
    """A constraint of one's own can demand labels: each task of a role whose module has labels gives them."""
    found: list[str] = []
    for file in sorted(ROOT.glob("roles/*/tasks/*.yml")):
        for task in yaml.safe_load(file.read_text()):
            for name, options in task.items():
                source = ROOT / "plugins/modules" / f"{name.removeprefix('mlops.mlflow_gcp.')}.py"
                if name.startswith("mlops.mlflow_gcp.") and source.is_file() and "labels" in documented(source):
                    absent = options.get("state") == "absent"
                    assert absent or "_labels | mlops.mlflow_gcp.dictionary" in str(options.get("labels")), task["name"]
                    found.append(name.removeprefix("mlops.mlflow_gcp."))
    assert {"storage_bucket", "sql_instance", "secret_manager_secret", "run_job", "run_service"} <= set(found)


def documented(source: Path) -> set[str]:
    """Names of the options that a module shares with others by fragments, and of its own."""
    text = source.read_text()
    doc = yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', text, re.DOTALL)[1])
    fragments = {name.rpartition(".")[2] for name in doc.get("extends_documentation_fragment", ())}
    return {*doc.get("options", {}), *(["labels"] if fragments & {"labels", "cloud_run"} else [])}


def rows() -> list[list[str]]:
    """The rows of the tables of docs/organisations.md that name tests."""
    lines = [line.strip().strip("|").split("|") for line in PAGE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines if "::" in cells[-1]]


def test_the_page_names_tests_that_exist():
    assert len(rows()) > 15
    for *_, tests in rows():
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, tests
        for file, name in named:
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {name}"


def test_the_page_has_a_row_for_every_constraint():
    listed = {name for row in rows() for name in re.findall(r"`([a-z]+\.[A-Za-z]+)`", row[0])}
    # The sandbox's own code needs Python 3.11; the oldest ansible-core may be tested with 3.10.
    orgpolicy = pytest.importorskip("gcp_sandbox.core.orgpolicy", exc_type=ImportError)
    assert listed >= organization.ADVICE.keys() | orgpolicy.CONSTRAINTS.keys()


def test_the_page_names_variables_that_exist():
    known = {
        name
        for specs in ROOT.glob("roles/*/meta/argument_specs.yml")
        for entry in yaml.safe_load(specs.read_text())["argument_specs"].values()
        for name in entry["options"]
    }
    prefixes = "|".join(path.name for path in (ROOT / "roles").iterdir())
    named = set(re.findall(rf"`((?:{prefixes})_\w+)", PAGE)) | set(
        re.findall(rf"\b((?:{prefixes})_\w+)", " ".join([*organization.ADVICE.values(), organization.CUSTOM]))
    )
    assert named and named <= known
