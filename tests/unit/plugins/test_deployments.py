# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin deployments, with a scripted Google."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import template
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import Templar
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import recorded

# Before ansible-core 2.19, every text may be a template.
trust_as_template = getattr(template, "trust_as_template", str)
RUN = "https://run.googleapis.com/v1/projects/{}/locations/-/services"
IAP = "https://iap.googleapis.com/v1/projects/123456789012/iap_web/{}:getIamPolicy"
LOGGER = "{0}-logger@my-project.iam.gserviceaccount.com"
ACCOUNT = "https://iam.googleapis.com/v1/projects/my-project/serviceAccounts/{}:getIamPolicy"
DISABLED = {
    "reason": "SERVICE_DISABLED",
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "metadata": {"service": "run.googleapis.com"},
}
CREDENTIALS = {"auth_kind": "accesstoken", "access_token": "ya29.not-to-be-seen"}


def service(name: str = "mlflow", region: str = "europe-west2", **record: Any) -> dict[str, Any]:
    """A service of the v1 API, with what it records of its deployment."""
    known = {
        "mlflow_project_id": "my-project",
        "mlflow_region": region,
        "mlflow_name": name,
        "mlflow_front_door": "load_balancer",
    }
    labels = {
        recorded.LOCATION: region,
        recorded.KEY: name,
        "team": "ml",
        "mlflow-gcp-labels": f"{recorded.KEY}--team",
        "made-by": "hand",
    }
    return {
        "metadata": {
            "name": name,
            "namespace": "123456789012",
            "labels": labels,
            "annotations": {recorded.KEY: recorded.annotation(known | record), "run.googleapis.com/ingress": "all"},
            "creationTimestamp": "2026-11-30T09:00:00Z",
        },
        "spec": {
            "template": {
                "spec": {
                    "serviceAccountName": "s@x",
                    "containers": [{"image": "sidecar"}, {"image": "i@sha256:1", "ports": [{"containerPort": 8080}]}],
                }
            }
        },
        "status": {
            "url": "https://x.a.run.app",
            "conditions": [{"type": "Ready", "status": "True"}],
            "latestReadyRevisionName": "r",
        },
    }


@pytest.fixture
def parse(tmp_path: Path) -> Callable[..., InventoryData]:
    """Parse a file with options; CREDENTIALS unless others are given, and no access unless asked for."""

    def parse(read_cache: bool = True, **options: Any) -> InventoryData:
        file = tmp_path / "x.deployments.yml"
        given = {
            "plugin": "mlops.mlflow_gcp.deployments",
            "projects": ["my-project"],
            "access": False,
            **CREDENTIALS,
        } | options
        file.write_text(yaml.safe_dump({key: value for key, value in given.items() if value is not None}))
        plugin = inventory_loader.get("mlops.mlflow_gcp.deployments")
        assert plugin.verify_file(str(file)) and not plugin.verify_file(__file__)
        data = InventoryData()
        plugin.parse(data, DataLoader(), str(file), read_cache)
        plugin.update_cache_if_changed()  # as Ansible does
        return data

    return parse


def test_what_is_recorded_becomes_variables(google, parse):
    found = service(
        cloudsql_name="mlflow-db", mlflow_domain="mlflow.example.com", ansible_connection="ssh", mlflow_image="x"
    )
    google.expect(
        "GET", RUN.format("my-project"), {"items": [found]}, params={"labelSelector": recorded.KEY, "limit": "200"}
    )
    data = parse()
    assert data.groups["mlflow"].get_hosts()[0].name == "mlflow.europe-west2.my-project"
    variables = data.hosts["mlflow.europe-west2.my-project"].get_vars()
    about = variables["mlflow_deployment"]
    assert {
        name: value
        for name, value in variables.items()
        if name.startswith(("mlflow_", "cloud", "ansible_")) and value != about
    } == {
        "ansible_connection": "local",
        "cloudsql_name": "mlflow-db",
        "mlflow_domain": "mlflow.example.com",
        "mlflow_front_door": "load_balancer",
        "mlflow_labels": {"team": "ml"},
        "mlflow_name": "mlflow",
        "mlflow_project_id": "my-project",
        "mlflow_region": "europe-west2",
    }
    assert (about["image"], about["service_account"], about["ready"], about["recorded"]) == (
        "i@sha256:1",
        "s@x",
        True,
        True,
    )
    assert about["labels"]["made-by"] == "hand" and recorded.LOCATION not in about["labels"]


def test_a_service_without_a_record_is_known_by_its_name(google, parse):
    bare, broken = service("mlflow-2"), service("other", "europe-west1")
    bare["metadata"] |= {"annotations": {}, "labels": {recorded.LOCATION: "europe-west2", recorded.KEY: "mlflow"}}
    broken["metadata"]["annotations"][recorded.KEY] = "{"
    broken["status"] = {}
    google.expect("GET", RUN.format("my-project"), {"items": [bare, broken]})
    hosts = parse().hosts
    variables = hosts["mlflow-2.europe-west2.my-project"].get_vars()
    assert (variables["mlflow_name"], variables["cloudrun_name"]) == ("mlflow", "mlflow-2")
    assert "mlflow_front_door" not in variables and variables["mlflow_deployment"]["recorded"] is False
    other = hosts["other.europe-west1.my-project"].get_vars()
    assert (other["mlflow_region"], other["mlflow_deployment"]["ready"]) == ("europe-west1", False)


@pytest.mark.parametrize(
    ("record", "resource"),
    [
        ({}, "compute/services/mlflow-lb-backend"),
        ({"iap_lb_name": "front"}, "compute/services/front-backend"),
        ({"mlflow_front_door": "cloud_run"}, "cloud_run-europe-west2/services/mlflow"),
        (
            {"mlflow_front_door": "internal", "iap_internal_lb_region": "europe-west1"},
            "compute-europe-west1/services/mlflow-lb-backend",
        ),
    ],
)
def test_who_has_access_comes_from_the_policies(google, parse, record, resource):
    logger = LOGGER.format("mlflow")
    users = {
        "role": "roles/iap.httpsResourceAccessor",
        "members": ["user:jane@example.com", f"serviceAccount:{logger}"],
    }
    creators = {"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:ada@example.com"]}
    google.expect("GET", RUN.format("my-project"), {"items": [service(**record)]})
    google.expect("POST", IAP.format(resource), {"bindings": [users]})
    google.expect("POST", ACCOUNT.format(logger), {"bindings": [creators]})
    variables = parse(access=True).hosts["mlflow.europe-west2.my-project"].get_vars()
    assert variables["mlflow_webapp_users"] == ["user:jane@example.com"]
    assert variables["mlflow_logger_token_creators"] == ["user:ada@example.com"]


def test_access_in_another_project(google, parse):
    google.expect(
        "GET",
        RUN.format("my-project"),
        {"items": [service(iap_lb_project_id="front", mlflow_logger_service_account="l")]},
    )
    google.expect(
        "GET", "https://cloudresourcemanager.googleapis.com/v1/projects/front", {"projectNumber": "123456789012"}
    )
    google.expect("POST", IAP.format("compute/services/mlflow-lb-backend"), {})
    google.expect(
        "POST",
        "https://iam.googleapis.com/v1/projects/front/serviceAccounts/l@front.iam.gserviceaccount.com:getIamPolicy",
        {},
    )
    assert parse(access=True).hosts["mlflow.europe-west2.my-project"].get_vars()["mlflow_webapp_users"] == []


def test_access_that_may_not_be_read_is_left_to_variables(google, parse, capsys: pytest.CaptureFixture[str]):
    google.expect("GET", RUN.format("my-project"), {"items": [service()]})
    google.expect(
        "POST",
        IAP.format("compute/services/mlflow-lb-backend"),
        google.error(403, "PERMISSION_DENIED", "No, you may not."),
    )
    assert "mlflow_webapp_users" not in parse(access=True).hosts["mlflow.europe-west2.my-project"].get_vars()
    assert "Cannot read who has access to mlflow of project my-project: No, you may not" in " ".join(
        capsys.readouterr().err.split()
    )


def test_filters_regions_pages_and_projects(google, parse, capsys: pytest.CaptureFixture[str]):
    selected = {"labelSelector": f"{recorded.KEY},team=ml,stage in (dev, test)", "limit": "200"}
    first = {"items": [service("a")], "metadata": {"continue": "next"}, "unreachable": ["asia-east1"]}
    google.expect("GET", RUN.format("my-project"), first, params=selected)
    google.expect(
        "GET",
        RUN.format("my-project"),
        {"items": [service("b"), service("c", "us-east1")]},
        params=selected | {"continue": "next"},
    )
    off = google.error(403, "PERMISSION_DENIED", "Cloud Run Admin API has not been used.", details=[DISABLED])
    google.expect("GET", RUN.format("empty-project"), off)
    found = parse(
        projects=["my-project", "empty-project"], filters=["team=ml", "stage in (dev, test)"], regions=["europe-west2"]
    )
    assert sorted(found.hosts) == ["a.europe-west2.my-project", "b.europe-west2.my-project"]
    assert "asia-east1 could not be listed" in " ".join(capsys.readouterr().err.split())


def test_groups_and_variables_of_ones_own(google, parse):
    google.expect("GET", RUN.format("my-project"), {"items": [service()]})
    data = parse(
        hostname="mlflow_labels.team ~ '-' ~ mlflow_region",
        keyed_groups=[{"key": "mlflow_labels.team", "prefix": "team"}],
        groups={"ready": "mlflow_deployment.ready"},
        compose={"mlflow_image": "mlflow_deployment.image"},
    )
    (host,) = data.hosts.values()
    assert host.name == "ml-europe-west2" and host.get_vars()["mlflow_image"] == "i@sha256:1"
    assert {group.name for group in host.get_groups()} >= {"mlflow", "team_ml", "ready"}


@pytest.mark.parametrize(
    ("hostname", "message"),
    [
        (
            "mlflow_labels.team",
            "two deployments have the name ml: a.europe-west2.my-project and b.europe-west2.my-project; change hostname",
        ),
        ("'mlflow'", "hostname of a.europe-west2.my-project is 'mlflow', which is the group of all deployments"),
        ("mlflow_labels.stage", "hostname of a.europe-west2.my-project"),
        ("mlflow_labels", "hostname of a.europe-west2.my-project is {'team': 'ml'}; allowed: text"),
    ],
)
def test_names_that_are_none(google, parse, hostname, message):
    google.expect("GET", RUN.format("my-project"), {"items": [service("b"), service("a")]})
    with pytest.raises(AnsibleParserError) as refused:
        parse(hostname=hostname)
    assert message in str(refused.value)


def test_text_of_others_is_no_template(google, parse):
    found = service()
    found["metadata"]["labels"]["team"] = "{{ lookup('pipe', 'id') }}"
    google.expect("GET", RUN.format("my-project"), {"items": [found]})
    variables = parse(hostname="mlflow_region").hosts["europe-west2"].get_vars()
    shown = Templar(DataLoader(), variables=variables).template(trust_as_template("{{ mlflow_labels.team }}"))
    assert shown == "{{ lookup('pipe', 'id') }}"


def test_a_cache_is_used_until_it_is_refreshed(google, parse, tmp_path: Path):
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    google.expect("GET", RUN.format("my-project"), {"items": [service("a")]})
    names = [list(parse(**cache).hosts) for _ in range(2)]
    google.expect("GET", RUN.format("my-project"), {"items": [service("b")]})
    names.append(list(parse(read_cache=False, **cache).hosts))
    assert names == [["a.europe-west2.my-project"], ["a.europe-west2.my-project"], ["b.europe-west2.my-project"]]
    assert "not-to-be-seen" not in "".join(file.read_text() for file in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projects": ["Demo"]}, "projects has 'Demo'; allowed:"),
        ({"projects": None}, "give projects, or GCP_PROJECT in the environment"),
        ({"auth_kind": None, "access_token": None}, "there are no credentials: set auth_kind, or GCP_AUTH_KIND"),
        ({"auth_kind": None, "access_token": None, "service_account_file": "none.json"}, "none.json: No such file"),
        ({"auth_kind": "application"}, "option access_token only works with auth_kind accesstoken, not application"),
    ],
)
def test_what_is_refused_before_the_first_request(google, parse, options, message):
    with pytest.raises(AnsibleParserError) as refused:
        parse(**options)
    assert message in str(refused.value)


def test_what_google_refuses(google, parse):
    google.expect(
        "GET",
        RUN.format("my-project"),
        google.error(403, "PERMISSION_DENIED", "Permission 'run.services.list' denied."),
    )
    with pytest.raises(
        AnsibleParserError,
        match=r"^Cannot list the Cloud Run services of project my-project: Permission 'run.services.list' denied",
    ):
        parse()


def test_hosts_have_the_credentials_of_the_file_but_no_secrets(
    google, parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    google.expect("GET", RUN.format("my-project"), {"items": [service()]})
    assert not any(
        "token" in name or "auth" in name
        for name in parse(quota_project="my-project").hosts["mlflow.europe-west2.my-project"].get_vars()
    )
    # Those of the environment are the environment's for the hosts, too.
    monkeypatch.setenv("GCP_AUTH_KIND", "accesstoken")
    monkeypatch.setenv("GCP_ACCESS_TOKEN", "ya29.not-to-be-seen")
    hour = {"accessToken": "ya29.b", "expireTime": "2099-01-01T00:00:00Z"}
    account = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/b@my-project.iam.gserviceaccount.com:generateAccessToken"
    google.expect("POST", account, hour).expect("GET", RUN.format("my-project"), {"items": [service()]})
    found = parse(auth_kind=None, access_token=None, impersonate_service_account="b@my-project.iam.gserviceaccount.com")
    variables = found.hosts["mlflow.europe-west2.my-project"].get_vars()
    assert variables["mlflow_impersonate_service_account"] == "b@my-project.iam.gserviceaccount.com"
    assert "mlflow_auth_kind" not in variables and "not-to-be-seen" not in json.dumps(variables, default=str)
