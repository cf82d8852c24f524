# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules with a key of Cloud KMS against a sandbox: who may use it, what gets it, what keeps it, and what is refused."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from gcp_sandbox.testing import Sandbox

from .conftest import COLLECTION

ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
REGION = "europe-west2"
OTHERS = {"role": ROLE, "members": ["group:other-team@example.com"]}
IMAGE = "gcr.io/cloudrun/hello"
# Module -> options, the API whose agent encrypts, and where the key is in the resource that the module returns.
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "storage_bucket": (
        {"name": "{project}-keys", "location": REGION},
        "storage.googleapis.com",
        "encryption.defaultKmsKeyName",
    ),
    "secret_manager_secret": (
        {"name": "keys", "generate_length": 32},
        "secretmanager.googleapis.com",
        "replication.userManaged.replicas.0.customerManagedEncryption.kmsKeyName",
    ),
    "sql_instance": (
        {
            "name": "keys",
            "region": REGION,
            "tier": "db-f1-micro",
            "psc_allowed_projects": ["{project}"],
            "deletion_protection": False,
        },
        "sqladmin.googleapis.com",
        "diskEncryptionConfiguration.kmsKeyName",
    ),
    "run_job": (
        {
            "name": "keys",
            "region": REGION,
            "image": IMAGE,
            "service_account": "server@{project}.iam.gserviceaccount.com",
        },
        "run.googleapis.com",
        "template.template.encryptionKey",
    ),
    "run_service": (
        {
            "name": "keys",
            "region": REGION,
            "image": IMAGE,
            "service_account": "server@{project}.iam.gserviceaccount.com",
        },
        "run.googleapis.com",
        "template.encryptionKey",
    ),
}


@pytest.fixture(scope="module")
def project(gcp_sandbox: Sandbox) -> str:
    """The sandbox's project, with the APIs and an account for Cloud Run."""
    project = gcp_sandbox.exports["GCP_PROJECT"]
    names = ("cloudkms", "cloudresourcemanager", "compute", "iam", "run", "secretmanager", "sqladmin", "storage")
    services = {"serviceIds": [f"{name}.googleapis.com" for name in names]}
    gcp_sandbox.call("POST", f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable", services)
    account = {"accountId": "server", "serviceAccount": {}}
    gcp_sandbox.call("POST", f"iam.googleapis.com/v1/projects/{project}/serviceAccounts", account)
    return project


@pytest.fixture
def key(gcp_sandbox: Sandbox, project: str, request: pytest.FixtureRequest) -> str:
    """A new key, which only others may use."""
    name = gcp_sandbox.kms_key(project, REGION, ring=f"r{abs(hash(request.node.name))}")
    gcp_sandbox.call("POST", f"cloudkms.googleapis.com/v1/{name}:setIamPolicy", {"policy": {"bindings": [OTHERS]}})
    return name


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for grants to propagate."""
    monkeypatch.setattr(importlib.import_module(f"{COLLECTION}.module_utils.resource"), "PROPAGATION_TIMEOUT", 0)


def members(cloud: Sandbox, key: str) -> list[str]:
    (binding,) = cloud.call("GET", f"cloudkms.googleapis.com/v1/{key}:getIamPolicy")["bindings"]
    assert binding["role"] == ROLE
    return binding["members"]


def filled(value: Any, project: str) -> Any:
    if isinstance(value, dict):
        return {name: filled(entry, project) for name, entry in value.items()}
    if isinstance(value, list):
        return [filled(entry, project) for entry in value]
    return value.replace("{project}", project) if isinstance(value, str) else value


def at(doc: Any, path: str) -> Any:
    for part in path.split("."):
        doc = doc[int(part)] if part.isdigit() else doc[part]
    return doc


def test_agents_get_the_role_and_nobody_loses_it(sandbox_module, gcp_sandbox, key):
    services = [
        "storage.googleapis.com",
        "sqladmin.googleapis.com",
        "secretmanager.googleapis.com",
        "run.googleapis.com",
    ]
    foreseen = sandbox_module("kms_key_agents", check=True, key=key, services=services)
    assert (foreseen["changed"], members(gcp_sandbox, key)) == (True, OTHERS["members"])
    done = sandbox_module("kms_key_agents", key=key, services=services)
    assert (done["changed"], done["agents"]) == (True, foreseen["agents"])
    agents = [f"serviceAccount:{email}" for email in done["agents"]]
    assert members(gcp_sandbox, key) == sorted([*OTHERS["members"], *agents])
    assert not any("assumed" in str(warning) for warning in done.get("warnings", ()))
    assert sandbox_module("kms_key_agents", key=key, services=services)["changed"] is False


@pytest.mark.parametrize("module", CASES)
def test_a_key_is_used_once_its_agent_may_and_is_kept(sandbox_module, project, key, impatient, module):
    """Refused without the role, made with it; the second run changes nothing, and one without the key leaves it."""
    options, service, path = CASES[module]
    options = filled(options, project)
    with pytest.raises(Exception, match=f"Grant {ROLE} on the key to the service agent of {service}"):
        sandbox_module(module, kms_key=key, **options)
    sandbox_module("kms_key_agents", key=key, services=[service])
    try:
        made = sandbox_module(module, kms_key=key, **options)
        assert (made["changed"], at(made["resource"], path)) == (True, key)
        for again in ({"kms_key": key}, {}, {"kms_key": ""}):
            kept = sandbox_module(module, **again, **options)
            assert (kept["changed"], at(kept["resource"], path)) == (False, key)
    finally:
        more = {"region": REGION} if "region" in options else {}
        more |= {"deletion_protection": False} if module == "sql_instance" else {}
        sandbox_module(module, name=options["name"], state="absent", **more)


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        ("storage_bucket", "the key is in us-east1, and a bucket in europe-west2 needs one in europe-west2"),
        ("sql_instance", "the key is in us-east1: give one in europe-west2"),
        ("run_job", "the key is in us-east1: give one in europe-west2"),
        ("run_service", "the key is in us-east1: give one in europe-west2"),
    ],
)
def test_a_key_in_another_location(google, run_module, module, wrong):
    key = "projects/demo/locations/us-east1/keyRings/r/cryptoKeys/k"
    with pytest.raises(Exception, match=f"option kms_key: '{key}' is not allowed; {wrong}"):
        run_module(module, kms_key=key, **filled(CASES[module][0], "demo"))


def test_what_is_no_key(google, run_module):
    for wrong in ("k", "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"):
        with pytest.raises(Exception, match="option kms_key: .* is not allowed; give a key of Cloud KMS such as"):
            run_module("storage_bucket", name="demo-b", location=REGION, kms_key=wrong)


def test_a_bucket_gets_a_key_later_and_another_one(sandbox_module, gcp_sandbox, project, key):
    options = {"name": f"{project}-later", "location": REGION}
    assert "encryption" not in sandbox_module("storage_bucket", **options)["resource"]
    second = gcp_sandbox.kms_key(project, REGION, "storage", ring="second")
    sandbox_module("kms_key_agents", key=key, services=["storage.googleapis.com"])
    for name in (key, second):
        done = sandbox_module("storage_bucket", kms_key=name, **options)
        assert (done["changed"], done["resource"]["encryption"]) == (True, {"defaultKmsKeyName": name})


def test_a_secret_gets_a_key_where_it_is_stored(sandbox_module, project, key):
    """One in the region of the key gets it, and keeps its value; one in regions that Google has chosen is refused."""
    sandbox_module("kms_key_agents", key=key, services=["secretmanager.googleapis.com"])
    stored = sandbox_module("secret_manager_secret", name="stored", replication_locations=[REGION], value="7rains0f")
    done = sandbox_module("secret_manager_secret", name="stored", kms_key=key, value="7rains0f")
    assert (done["changed"], done["version"]) == (True, stored["version"])
    assert at(done["resource"], CASES["secret_manager_secret"][2]) == key
    assert sandbox_module("secret_manager_secret", name="stored", kms_key=key, value="7rains0f")["changed"] is False
    sandbox_module("secret_manager_secret", name="anywhere", value="7rains0f")
    with pytest.raises(Exception, match="Cannot encrypt secret anywhere with .* regions that Google has chosen"):
        sandbox_module("secret_manager_secret", name="anywhere", kms_key=key)


def test_an_instance_without_a_key_cannot_get_one(google, run_module):
    key = f"projects/demo/locations/{REGION}/keyRings/r/cryptoKeys/k"
    url = "https://sqladmin.googleapis.com/v1/projects/demo/instances/keys"
    google.expect("GET", url, {"name": "keys", "region": REGION, "state": "RUNNABLE", "databaseVersion": "POSTGRES_17"})
    with pytest.raises(
        Exception, match="diskEncryptionConfiguration.kmsKeyName is None and cannot be changed to .*cloudsql_kms_key"
    ):
        run_module("sql_instance", kms_key=key, check=True, **filled(CASES["sql_instance"][0], "demo"))


@pytest.mark.parametrize(("role", "text"), [("roles/browser", "warning"), ("roles/iam.securityReviewer", "error")])
def test_a_deployer_who_may_not_change_the_policy(sandbox_module, gcp_sandbox, project, key, role, text):
    """Who may not read it gets a warning; who may read it learns what an administrator has to grant."""
    who = f"{text}@example.com"
    url = f"cloudresourcemanager.googleapis.com/v1/projects/{project}"
    policy = gcp_sandbox.call("POST", f"{url}:getIamPolicy", {})
    for granted in (role, "roles/serviceusage.serviceUsageAdmin"):
        policy["bindings"].append({"role": granted, "members": [f"user:{who}"]})
    gcp_sandbox.call("POST", f"{url}:setIamPolicy", {"policy": policy})
    token = gcp_sandbox.command("token", "--as", who).strip()
    auth = {"project": project, "auth_kind": "accesstoken", "access_token": token}
    agent = f"serviceAccount:{gcp_sandbox.service_agent(project, 'secretmanager')}"
    options = {"key": key, "services": ["secretmanager.googleapis.com"]}
    if text == "error":
        match = f"cryptoKeys.setIamPolicy.* roles/cloudkms.admin.*; or have an administrator of the key grant {ROLE} to {agent}"
        with pytest.raises(Exception, match=match):
            sandbox_module("kms_key_agents", auth=auth, **options)
    else:
        done = sandbox_module("kms_key_agents", auth=auth, **options)
        assert done["changed"] is False
        assert any(f"{agent} are assumed to have {ROLE}" in str(warning) for warning in done["warnings"])
    assert members(gcp_sandbox, key) == OTHERS["members"]
