# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_adoption."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
REGION = f"{LINKS}/regions/europe-west2"
SERVICE = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow-service"
INSTANCES = "https://sqladmin.googleapis.com/v1/projects/demo/instances"
BUCKET = "https://storage.googleapis.com/storage/v1/b/mlflow-artifacts-store-c29e11d1d5"
SUBNETWORKS = f"{COMPUTE}/regions/europe-west2/subnetworks"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
WEB = "https://iap.googleapis.com/v1/projects/123/iap_web/compute/services/mlflow-lb-backend-default:getIamPolicy"
SECRET = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/mlflow-db-pwd"
EMAIL = "mlflow-logger@demo.iam.gserviceaccount.com"
ACCOUNT = f"https://iam.googleapis.com/v1/projects/demo/serviceAccounts/{EMAIL}"
CONNECTOR = "https://vpcaccess.googleapis.com/v1/projects/demo/locations/europe-west2/connectors/vpc-mlflow-connector"
LOGGER = f"serviceAccount:{EMAIL}"
APP_ENGINE = "serviceAccount:demo@appspot.gserviceaccount.com"
Live = dict[str, Any]
Adopt = Callable[..., dict[str, Any]]


def collection(name: str, *entries: Live, scope: str = "global") -> Live:
    return {f"{COMPUTE}/aggregated/{name}": {"items": {scope: {name: list(entries)}}}}


def binding(role: str, *members: str) -> Live:
    return {"bindings": [{"role": role, "members": list(members)}]}


def balancer(name: str, *domains: str, group: str = "mlflow-serverless-neg") -> Live:
    """A load balancer of the module lb-http, as lists of each kind."""
    return {
        "forwardingRules": {
            "name": f"{name}-https",
            "selfLink": f"{LINKS}/global/forwardingRules/{name}-https",
            "target": f"{LINKS}/global/targetHttpsProxies/{name}-https-proxy",
            "IPAddress": "34.1.2.3",
        },
        "targetHttpsProxies": {
            "selfLink": f"{LINKS}/global/targetHttpsProxies/{name}-https-proxy",
            "urlMap": f"{LINKS}/global/urlMaps/{name}-url-map",
            "sslCertificates": [f"{LINKS}/global/sslCertificates/{name}-cert"],
        },
        "sslCertificates": {
            "selfLink": f"{LINKS}/global/sslCertificates/{name}-cert",
            "managed": {"domains": list(domains)},
        },
        "urlMaps": {
            "selfLink": f"{LINKS}/global/urlMaps/{name}-url-map",
            "defaultService": f"{LINKS}/global/backendServices/{name}-backend-default",
        },
        "backendServices": {
            "name": f"{name}-backend-default",
            "selfLink": f"{LINKS}/global/backendServices/{name}-backend-default",
            "backends": [{"group": f"{REGION}/networkEndpointGroups/{group}"}],
            "iap": {"enabled": True, "oauth2ClientId": "1-a.apps.googleusercontent.com"},
        },
    }


def balancers(*every: Live) -> Live:
    kinds: Live = {}
    for kind in ("forwardingRules", "targetHttpsProxies", "sslCertificates", "urlMaps", "backendServices"):
        kinds |= collection(kind, *(each[kind] for each in every))
    group = {"name": "mlflow-serverless-neg", "selfLink": f"{REGION}/networkEndpointGroups/mlflow-serverless-neg"}
    return kinds | collection(
        "networkEndpointGroups", group | {"cloudRun": {"service": "mlflow-service"}}, scope="regions/europe-west2"
    )


def subnetworks(*names: str) -> Live:
    return {SUBNETWORKS: {"items": [{"name": name, "network": f"{LINKS}/global/networks/vpc"} for name in names]}}


def container(**env: str) -> Live:
    return {"template": {"containers": [{"env": [{"name": name, "value": value} for name, value in env.items()]}]}}


ENV = {
    "DB_PASSWORD": "not-to-be-seen",
    "DB_USERNAME": "mlflowuser",
    "DB_NAME": "mlflow_db",
    "DB_PRIVATE_IP": "10.1.0.3",
    "GCP_BUCKET": "gs://mlflow-artifacts-store-c29e11d1d5",
}
INSTANCE = {
    "name": "mlflow-5d1d11e92c",
    "region": "europe-west2",
    "databaseVersion": "POSTGRES_13",
    "ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.1.0.3"}],
    "settings": {
        "tier": "db-f1-micro",
        "edition": "ENTERPRISE",
        "availabilityType": "ZONAL",
        "dataDiskType": "PD_SSD",
        "dataDiskSizeGb": "10",
        "ipConfiguration": {"privateNetwork": "projects/demo/global/networks/vpc"},
        "backupConfiguration": {"enabled": True, "startTime": "12:00"},
    },
}
STACK: Live = {
    PROJECT: {"projectNumber": "123"},
    f"{PROJECT}:getIamPolicy": binding("roles/storage.admin", APP_ENGINE),
    **balancers(balancer("mlflow-lb", "mlflow.example.com")),
    SERVICE: container(**ENV),
    INSTANCES: {"items": [{"name": "other", "ipAddresses": [{"ipAddress": "10.1.0.9"}]}, INSTANCE]},
    BUCKET: {
        "name": "mlflow-artifacts-store-c29e11d1d5",
        "location": "EUROPE-WEST2",
        "storageClass": "STANDARD",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 1}}]},
    },
    f"{BUCKET}/iam": binding("roles/storage.objectAdmin", LOGGER),
    **subnetworks("vpc"),
    WEB: binding("roles/iap.httpsResourceAccessor", "user:jane@example.com", LOGGER),
    SECRET: {"name": "mlflow-db-pwd"},
    ACCOUNT: {"email": EMAIL},
    f"{ACCOUNT}:getIamPolicy": binding("roles/iam.serviceAccountTokenCreator", "user:ops@example.com"),
    f"{ACCOUNT}/keys": {"keys": [{"name": "k"}]},
    CONNECTOR: {"name": "vpc-mlflow-connector"},
}
VARIABLES = {
    "mlflow_project_id": "demo",
    "mlflow_region": "europe-west2",
    "mlflow_domain": "mlflow.example.com",
    "mlflow_accepted_members": [LOGGER],
    "mlflow_webapp_users": ["user:jane@example.com"],
    "mlflow_logger_service_account": "mlflow-logger",
    "mlflow_logger_token_creators": ["user:ops@example.com"],
    "mlflow_oauth": "custom",
    "mlflow_oauth_client_id": "1-a.apps.googleusercontent.com",
    "mlflow_lb_name": "mlflow-lb-iap",
    "iap_lb_replaces": ["mlflow-lb-https"],
    "cloudrun_name": "mlflow-service",
    "mlflow_network_name": "vpc",
    "mlflow_subnetwork_name": "vpc",
    "network_reserved_range": "",
    "bucket_name": "mlflow-artifacts-store-c29e11d1d5",
    "cloudsql_name": "mlflow-5d1d11e92c",
    "cloudsql_database": "mlflow_db",
    "cloudsql_user": "mlflowuser",
    "cloudsql_database_version": "POSTGRES_13",
    "cloudsql_tier": "db-f1-micro",
    "cloudsql_availability_type": "ZONAL",
    "cloudsql_backup_start_time": "12:00",
    "cloudsql_point_in_time_recovery": False,
    "cloudrun_max_instances": 1,
    "cloudsql_password_secret": "mlflow-db-pwd",
}


@pytest.fixture
def adopt(google: Any, run_module: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Adopt:
    """adopt(live, given={…}) -> what the module returns; LIVE are answers by their URLs."""

    def adopt(live: Live, check: bool = False, **options: Any) -> dict[str, Any]:
        def send(_adapter: Any, prepared: Any, **_kwargs: Any) -> Any:
            assert prepared.method == "GET" or prepared.url.partition("?")[0].endswith(":getIamPolicy")
            url = prepared.url.partition("?")[0]
            answer = live.get(url, google.error(404, "NOT_FOUND", "Not found."))
            return type(google)().expect(prepared.method, url, answer).send(_adapter, prepared)

        monkeypatch.setattr(google, "send", send)
        return run_module("mlflow_adoption", check=check, deployment="prod", **options)

    return adopt


def settings(**changes: Any) -> Live:
    """The stack with other settings of the instance."""
    instance = copy.deepcopy(INSTANCE)
    instance["settings"] |= changes
    return STACK | {INSTANCES: {"items": [instance]}}


def test_the_stack_is_described(adopt: Adopt) -> None:
    result = adopt(STACK)
    assert (result["variables"], result["changed"], result["password_env"]) == (VARIABLES, False, "DB_PASSWORD")
    inventory = yaml.safe_load(result["text"])["mlflow"]["hosts"]["prod"]
    assert inventory.pop("mlflow_oauth_client_secret") == "{{ vault_mlflow_oauth_client_secret }}"
    assert inventory == VARIABLES
    assert result["forget"][0] == "terraform state rm 'module.mlflow.module.mlflow.module.artifacts'"
    assert [entry["resource"] for entry in result["left"]] == [
        "connector vpc-mlflow-connector in europe-west2",
        f"roles/storage.admin of {APP_ENGINE} on project demo",
        "network endpoint group mlflow-serverless-neg in europe-west2",
        "access to mlflow-lb-backend-default",
        "load balancer mlflow-lb with the address 34.1.2.3",
    ]
    notes = " ".join(result["notes"])
    for words in ("deletes all files 1 days after", "has 1 keys", "keeps roles/storage.objectAdmin", "db-f1-micro has"):
        assert words in notes


def test_after_the_first_run_it_is_described_the_same(adopt: Adopt) -> None:
    names = {
        "DB_USERNAME": "MLFLOW_DB_USER",
        "DB_NAME": "MLFLOW_DB_NAME",
        "DB_PRIVATE_IP": "MLFLOW_DB_HOST",
        "GCP_BUCKET": "MLFLOW_ARTIFACTS_BUCKET",
    }
    ours = balancer("mlflow-lb-iap", "mlflow.example.com")
    ours["backendServices"] |= {"selfLink": f"{LINKS}/global/backendServices/mlflow-lb-iap-backend"}
    ours["backendServices"] |= {"name": "mlflow-lb-iap-backend"}
    ours["urlMaps"]["defaultService"] = ours["backendServices"]["selfLink"]
    env = {new: ENV[old].removeprefix("gs://") for old, new in names.items()}
    both = balancers(ours, balancer("mlflow-lb", "mlflow.example.com"))
    result = adopt(STACK | both | {SERVICE: container(**env)})
    assert (result["variables"], result["password_env"]) == (VARIABLES, "")


@pytest.mark.parametrize(
    ("live", "given", "words"),
    [
        (
            balancers(balancer("a", "a.example.com"), balancer("b", "b.example.com")),
            {},
            r"a-https \(a.example.com\), .* and b-https \(b.example.com\), .* Choose with mlflow_domain",
        ),
        (balancers(), {}, "Project demo has no load balancer of the Terraform module"),
        ({}, {"mlflow_domain": "other.example.com"}, r"; there is mlflow-lb-https \(mlflow.example.com\)"),
        ({SERVICE: container(PORT="1")}, {}, "its container has no DB_PRIVATE_IP, DB_NAME, DB_USERNAME, GCP_BUCKET"),
        ({SERVICE: None}, {}, "to which mlflow-lb-https leads, does not exist"),
        ({INSTANCES: {}}, {}, "No Cloud SQL instance of project demo has the address 10.1.0.3.*cloudsql_name"),
        ({}, {"cloudsql_name": "gone"}, "has no Cloud SQL instance gone"),
        ({BUCKET: None}, {}, "Bucket mlflow-artifacts-store-c29e11d1d5, .* choose with bucket_name"),
        (subnetworks("one", "two"), {}, "Network vpc has the subnetworks one and two .*mlflow_subnetwork_name"),
        (subnetworks(), {}, "has no subnetwork in europe-west2"),
        (
            {
                WEB: binding(
                    "roles/iap.httpsResourceAccessor",
                    *(f"serviceAccount:{n}@demo.iam.gserviceaccount.com" for n in "ab"),
                )
            },
            {},
            "a@demo.* and .*b@demo.*mlflow_logger_service_account",
        ),
    ],
)
def test_what_is_missing_or_ambiguous_is_named(adopt: Adopt, google: Any, live: Live, given: Live, words: str) -> None:
    gone = google.error(404, "NOT_FOUND", "Not found.")
    with pytest.raises(Exception, match=words):
        adopt(STACK | {url: gone if body is None else body for url, body in live.items()}, given=given)


@pytest.mark.parametrize(
    ("live", "given"),
    [
        (
            balancers(balancer("a", "a.example.com"), balancer("mlflow-lb", "mlflow.example.com")),
            {"mlflow_domain": "mlflow.example.com"},
        ),
        (subnetworks("one", "vpc"), {"mlflow_subnetwork_name": "vpc"}),
    ],
)
def test_a_variable_chooses(adopt: Adopt, live: Live, given: Live) -> None:
    assert adopt(STACK | live, given=given)["variables"] == VARIABLES


def test_what_may_not_be_read_is_noted(adopt: Adopt, google: Any) -> None:
    denied = google.error(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccountKeys.list' denied")
    disabled = google.error(
        403, "SERVICE_DISABLED", "Serverless VPC Access API has not been used in project 123 before"
    )
    result = adopt(STACK | {f"{ACCOUNT}/keys": denied, CONNECTOR: disabled})
    assert result["variables"] == VARIABLES
    assert [note for note in result["notes"] if "may not read" in note] == [
        f"You may not read keys of {EMAIL}, so it is not in the lists (Permission 'iam.serviceAccountKeys.list' denied)"
    ]
    assert all("connector" not in entry["resource"] for entry in result["left"])


def test_what_is_set_stays_as_it_is(adopt: Adopt) -> None:
    given = {"cloudsql_point_in_time_recovery": True, "mlflow_labels": {"team": "ml"}, "mlflow_dns_zone": "example"}
    result = adopt(STACK, given=given)
    assert result["variables"] == VARIABLES | given
    assert yaml.safe_load(result["text"])["mlflow"]["hosts"]["prod"].items() >= given.items()


@pytest.mark.parametrize(
    ("changes", "variables"),
    [
        ({"tier": "db-g1-small"}, {"cloudsql_tier": "db-g1-small", "cloudrun_max_instances": None}),
        (
            {"databaseFlags": [{"name": "max_connections", "value": "100"}]},
            {"cloudsql_database_flags": {"max_connections": 100}, "cloudrun_max_instances": None},
        ),
        ({"edition": "ENTERPRISE_PLUS"}, {"cloudsql_edition": "ENTERPRISE_PLUS"}),
        (
            {"dataDiskType": "PD_HDD", "dataDiskSizeGb": "50"},
            {"cloudsql_disk_type": "PD_HDD", "cloudsql_disk_size_gb": 50},
        ),
        # Google needs the logs for a standby.
        (
            {"availabilityType": "REGIONAL"},
            {"cloudsql_availability_type": "REGIONAL", "cloudsql_point_in_time_recovery": None},
        ),
        (
            {"ipConfiguration": {"privateNetwork": "projects/demo/global/networks/vpc", "allocatedIpRange": "range"}},
            {"network_reserved_range": "range"},
        ),
    ],
)
def test_the_database_keeps_its_settings(adopt: Adopt, changes: Live, variables: Live) -> None:
    wanted = {name: value for name, value in (VARIABLES | variables).items() if value is not None}
    assert adopt(settings(**changes))["variables"] == wanted


def test_the_inventory_is_written_once_and_never_over_another(adopt: Adopt, tmp_path: Path) -> None:
    file = tmp_path / "new" / "hosts.yml"
    options = {"inventory": str(file)}
    assert adopt(STACK, check=True, **options)["changed"] and not file.exists()
    first = adopt(STACK, **options)
    assert first["changed"] and file.read_text() == first["text"] == first["diff"]["after"]
    assert not adopt(STACK, **options)["changed"]
    file.write_text(first["text"] + "# mine\n")
    with pytest.raises(Exception, match="exists and differs from what was found: nothing was written"):
        adopt(STACK, **options)
    assert file.read_text().endswith("# mine\n")
    assert adopt(STACK, replace=True, **options)["changed"] and file.read_text() == first["text"]


@pytest.mark.parametrize(
    ("address", "first"), [("", "random"), ("module.a.module.b[0]", "module.a.module.b[0].random")]
)
def test_the_address_of_the_module(adopt: Adopt, address: str, first: str) -> None:
    assert (
        f"terraform state rm '{first}_id.artifacts_bucket_name_suffix'"
        in adopt(STACK, terraform_module=address)["forget"]
    )


def test_a_wrong_address_makes_no_request(run_module: Any) -> None:
    with pytest.raises(Exception, match="terraform_module.*the address of a module such as module.mlflow"):
        run_module("mlflow_adoption", deployment="prod", terraform_module="mlflow'; rm -rf")
