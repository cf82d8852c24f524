# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_preflight."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight import needs, policies
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.preflight.site import Site

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo"
LINK = "https://www.googleapis.com/compute/v1/projects/demo"
INSTANCES = "https://sqladmin.googleapis.com/v1/projects/demo/instances"
SQL = f"{INSTANCES}/mlflow"
BUCKET = "https://storage.googleapis.com/storage/v1/b/demo-mlflow-artifacts"
SECRET = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/mlflow-db-password"
SERVICE = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
NETWORK, SUBNETWORK = (
    f"{COMPUTE}/global/networks/mlflow",
    f"{COMPUTE}/regions/europe-west2/subnetworks/mlflow-europe-west2",
)
RANGE, BACKEND = f"{COMPUTE}/global/addresses/mlflow-services", f"{COMPUTE}/global/backendServices/mlflow-lb-backend"
RULE = f"{COMPUTE}/global/forwardingRules/mlflow-lb-https"
ADDRESS, SUBNETWORKS = f"{COMPUTE}/global/addresses/mlflow-lb-ip", f"{COMPUTE}/aggregated/subnetworks"

# As check_variables returns them; some are text, as AWX gives them.
VARIABLES: dict[str, Any] = {
    **{f"{role}_project_id": "demo" for role in ("services", "network", "cloudsql", "bucket", "cloudrun", "iap_lb")},
    **{f"{role}_region": "europe-west2" for role in ("network", "cloudsql", "cloudrun", "iap_lb")},
    "network_name": "",
    "network_subnetwork_name": "",
    "network_prefix": "mlflow",
    "network_private_access": "peering",
    "network_reserved_range": "mlflow-services",
    "network_subnetwork_range": "10.10.0.0/24",
    "network_peering_address": "",
    "network_peering_prefix_length": "16",
    "cloudsql_name": "mlflow",
    "cloudsql_database": "mlflow",
    "cloudsql_user": "mlflow",
    "cloudsql_password_secret": "mlflow-db-password",
    "cloudsql_database_version": "POSTGRES_17",
    "cloudsql_edition": "ENTERPRISE",
    "cloudsql_disk_type": "PD_SSD",
    "cloudsql_disk_size_gb": "10",
    "cloudsql_disk_autoresize": "yes",
    "bucket_name": "demo-mlflow-artifacts",
    "bucket_location": "europe-west2",
    "cloudrun_name": "mlflow",
    "cloudrun_vpc_connector": "",
    "iap_lb_name": "mlflow-lb",
    "iap_lb_address_name": "mlflow-lb-ip",
    "iap_lb_domain": "mlflow.example.com",
    "iap_lb_extra_domains": "",
    "iap_lb_replaces": [],
}
NAMES = {
    "network_region": "mlflow_region",
    "cloudsql_region": "mlflow_region",
    "bucket_location": "mlflow_region",
    "network_name": "mlflow_network_name",
    "cloudsql_password_secret_locations": "mlflow_secret_locations",
    "network_prefix": "mlflow_name",
    "image_reference": "mlflow_image",
    "iap_lb_domain": "mlflow_domain",
    "cloudsql_kms_key": "mlflow_kms_key",
}
SUBNET = {
    "name": "mlflow-europe-west2",
    "selfLink": f"{LINK}/regions/europe-west2/subnetworks/mlflow-europe-west2",
    "network": f"{LINK}/global/networks/mlflow",
    "region": f"{LINK}/regions/europe-west2",
    "ipCidrRange": "10.10.0.0/24",
}
DEPLOYED: dict[str, Any] = {
    PROJECT: {"projectId": "demo", "projectNumber": "123456789012"},
    NETWORK: {"name": "mlflow", "selfLink": f"{LINK}/global/networks/mlflow"},
    SUBNETWORK: SUBNET,
    SUBNETWORKS: {"items": {"regions/europe-west2": {"subnetworks": [SUBNET]}, "regions/us-east1": {"warning": {}}}},
    RANGE: {
        "name": "mlflow-services",
        "network": f"{LINK}/global/networks/mlflow",
        "address": "10.20.0.0",
        "prefixLength": 16,
    },
    SQL: {
        "name": "mlflow",
        "state": "RUNNABLE",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_17",
        "connectionName": "demo:europe-west2:mlflow",
        "ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.20.0.3"}],
        "settings": {
            "dataDiskType": "PD_SSD",
            "dataDiskSizeGb": "30",
            "storageAutoResize": True,
            "ipConfiguration": {"privateNetwork": f"{LINK}/global/networks/mlflow"},
        },
    },
    f"{SQL}/databases/mlflow": {"name": "mlflow"},
    BUCKET: {"name": "demo-mlflow-artifacts", "location": "EUROPE-WEST2", "projectNumber": "123456789012"},
    SECRET: {"name": "projects/123456789012/secrets/mlflow-db-password"},
    f"{SECRET}/versions": {"versions": [{"name": f"{SECRET}/versions/2", "state": "ENABLED"}]},
    SERVICE: {"name": "projects/demo/locations/europe-west2/services/mlflow"},
    ADDRESS: {"name": "mlflow-lb-ip", "address": "203.0.113.7"},
    BACKEND: {"name": "mlflow-lb-backend", "loadBalancingScheme": "EXTERNAL_MANAGED"},
    RULE: {"name": "mlflow-lb-https", "IPAddress": "203.0.113.7"},
    f"{COMPUTE}/aggregated/forwardingRules": {},
}
# A key of Cloud KMS.
KEY_NAME = "projects/security/locations/europe-west2/keyRings/r/cryptoKeys/k"
KEY = f"https://cloudkms.googleapis.com/v1/{KEY_NAME}"
ENCRYPTS = {"name": KEY_NAME, "purpose": "ENCRYPT_DECRYPT", "primary": {"state": "ENABLED"}}
SERVER_KEY = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/mlflow-session-key"
STORED = {"userManaged": {"replicas": [{"location": "europe-west2"}]}}
# Another load balancer of the project.
RIVAL = {
    f"{COMPUTE}/aggregated/{collection}": {"items": {"global": {collection: [entry]}}}
    for collection, entry in {
        "forwardingRules": {
            "name": "corporate",
            "target": f"{LINK}/global/targetHttpsProxies/corporate",
            "IPAddress": "34.9.9.9",
        },
        "targetHttpsProxies": {
            "selfLink": f"{LINK}/global/targetHttpsProxies/corporate",
            "sslCertificates": [f"{LINK}/global/sslCertificates/corporate"],
        },
        "sslCertificates": {
            "selfLink": f"{LINK}/global/sslCertificates/corporate",
            "managed": {"domains": ["mlflow.example.com"]},
        },
    }.items()
}


# Where a load balancer is looked for that the deployment does not ask for.
CERTIFICATES = "https://certificatemanager.googleapis.com/v1/projects/demo/locations/global"
LISTS = (
    f"{COMPUTE}/aggregated/networkEndpointGroups",
    f"{COMPUTE}/global/sslCertificates",
    f"{CERTIFICATES}/certificates",
    f"{CERTIFICATES}/dnsAuthorizations",
)


@pytest.fixture
def preflight(google, run_module, monkeypatch):
    """preflight(live, {"bucket_location": "EU"}, run_tags=[…]) -> what the module returns; LIVE are answers by their URLs."""

    def preflight(live: dict[str, Any], variables: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        live = {f"{COMPUTE}/aggregated/forwardingRules": {}, INSTANCES: {}} | dict.fromkeys(LISTS, {}) | live

        def send(_adapter, prepared, **_kwargs):
            url = prepared.url.partition("?")[0]
            assert prepared.method == "GET"
            # The script of the fixture has an order, these requests have none.
            one = type(google)().expect("GET", url, live.get(url, google.error(404, "NOT_FOUND", "Not found.")))
            return one.send(_adapter, prepared)

        monkeypatch.setattr(google, "send", send)
        return run_module("mlflow_preflight", variables=VARIABLES | (variables or {}), names=NAMES, **options)

    return preflight


def changed(url: str, **fields: Any) -> dict[str, Any]:
    """The deployment, with one resource changed."""
    live = copy.deepcopy(DEPLOYED)
    live[url] |= fields
    return live


def without(*urls: str) -> dict[str, Any]:
    """The deployment without some resources."""
    return {url: body for url, body in DEPLOYED.items() if url not in urls}


def test_a_deployment_with_a_key_passes(preflight, google):
    """Also one whose key the caller may not read."""
    keys = ("cloudsql_kms_key", "cloudsql_password_secret_kms_key", "bucket_kms_key", "cloudrun_kms_key")
    variables = dict.fromkeys((*keys, "cloudrun_keys_kms_key"), KEY_NAME) | {"cloudrun_keys_prefix": "mlflow"}
    live = changed(SQL, diskEncryptionConfiguration={"kmsKeyName": KEY_NAME})
    live[SECRET] |= {"replication": STORED}
    for answer, seen in ((ENCRYPTS, True), (google.error(403, "PERMISSION_DENIED", "Denied."), False)):
        result = preflight(live | {SERVER_KEY: {"replication": STORED}, KEY: answer}, variables)
        assert result["findings"] == []
        assert (f"key {KEY_NAME}" in result["existing"]) is seen
        assert (f"key {KEY_NAME} (Denied.)" in result["unread"]) is not seen


def test_a_deployment_as_it_is_asked_for_passes_and_is_returned(preflight):
    result = preflight(DEPLOYED)
    assert (result["changed"], result["findings"], result["unread"]) == (False, [], [])
    assert "Cloud SQL instance mlflow" in result["existing"]
    assert result["network"]["network_path"] == "projects/demo/global/networks/mlflow"
    assert result["network"]["subnetwork"] == "mlflow-europe-west2"
    assert result["network"]["reserved_range"] == "mlflow-services"
    assert result["image"] == {"image": ""}
    service = {"template": {"containers": [{"image": GIVEN}]}}
    assert preflight(DEPLOYED | {SERVICE: service})["image"] == {"image": GIVEN}
    assert result["cloudsql"] == {
        "instance": "mlflow",
        "private_ip_address": "10.20.0.3",
        "connection_name": "demo:europe-west2:mlflow",
        "database": "mlflow",
        "user": "mlflow",
        "password_secret": "projects/demo/secrets/mlflow-db-password",
        "password_version": "2",
        "is_new": False,
    }
    assert result["bucket"] == {"name": "demo-mlflow-artifacts", "url": "gs://demo-mlflow-artifacts"}


def test_an_instance_that_has_another_name_because_its_own_was_reserved(preflight):
    instance = DEPLOYED[SQL]
    labels = {"userLabels": {"mlflow-gcp-instead-of": "mlflow"}}
    other = {**instance, "name": "mlflow-2", "settings": {**instance["settings"], **labels}}
    live = without(SQL, f"{SQL}/databases/mlflow") | {
        INSTANCES: {"items": [{**other, "name": "mlflow-else"}, other]},
        f"{INSTANCES}/mlflow-2/databases/mlflow": {"name": "mlflow"},
    }
    result = preflight(live)["cloudsql"]
    assert (result["instance"], result["database"]) == ("mlflow-2", "mlflow")


def disabled(google):
    """Every API says that it is not enabled."""
    details = [{"reason": "SERVICE_DISABLED", "metadata": {"service": "compute.googleapis.com"}}]
    error = google.error(403, "PERMISSION_DENIED", "It has not been used.", details=details)
    return dict.fromkeys([*DEPLOYED, BUCKET], error)


def test_a_new_project_passes_as_empty(preflight, google):
    for live in ({}, disabled(google)):
        result = preflight(live)
        assert result["existing"] == []
        assert (
            result["network"]["network"] == result["cloudsql"]["private_ip_address"] == result["bucket"]["name"] == ""
        )


@pytest.mark.parametrize(
    "variables",
    [
        {"network_subnetwork_range": "10.10.0.0/20"},
        {"cloudsql_edition": "ENTERPRISE_PLUS"},
        {"cloudsql_disk_size_gb": 100, "cloudsql_disk_autoresize": False},
        {"network_name": "projects/demo/global/networks/mlflow", "network_subnetwork_name": "mlflow-europe-west2"},
        {"network_peering_address": "10.20.0.0"},
        {"bucket_location": "Europe-West2"},
    ],
    ids=str,
)
def test_what_can_be_changed_in_place_passes(preflight, variables):
    preflight(DEPLOYED, variables)


def test_a_subnetwork_without_ipv4_addresses_overlaps_nothing(preflight):
    other = IPV6_ONLY | {"name": "six", "selfLink": f"{LINK}/regions/europe-west2/subnetworks/six"}
    items = {"regions/europe-west2": {"subnetworks": [SUBNET, other]}}
    assert preflight(DEPLOYED | {SUBNETWORKS: {"items": items}})["findings"] == []
    # With a connector, Cloud Run uses the subnetwork of that.
    variables = {"network_subnetwork_name": "mlflow-europe-west2", "cloudrun_vpc_connector": "link"}
    assert preflight(DEPLOYED | {SUBNETWORK: IPV6_ONLY}, variables)["findings"] == []


def test_what_may_not_be_read_is_not_refused(preflight, google):
    denied = google.error(403, "PERMISSION_DENIED", "Permission denied.")
    result = preflight(dict.fromkeys([*DEPLOYED, "https://storage.googleapis.com/storage/v1/b"], denied))
    assert "Cloud SQL instance mlflow (Permission denied.)" in result["unread"]


def test_an_instance_without_a_network_can_get_one(preflight):
    live = copy.deepcopy(DEPLOYED)
    live[SQL]["settings"]["ipConfiguration"] = {"ipv4Enabled": True}
    preflight(live)


IPV6_ONLY = {name: value for name, value in SUBNET.items() if name != "ipCidrRange"} | {"stackType": "IPV6_ONLY"}
OTHER = {
    **SUBNET,
    "name": "other",
    "selfLink": f"{LINK}/regions/us-east1/subnetworks/other",
    "region": "x/regions/us-east1",
}
BIG = {"settings": {**DEPLOYED[SQL]["settings"], "storageAutoResize": False}}


@pytest.mark.parametrize(
    ("live", "variables", "finding"),
    [
        (
            DEPLOYED,
            {"cloudsql_region": "europe-west1"},
            "mlflow_region is 'europe-west1', but region of .* is 'europe-west2' and cannot be changed; give another name",
        ),
        (
            DEPLOYED,
            {"cloudsql_database_version": "POSTGRES_16"},
            "cloudsql_database_version is .*, but databaseVersion of .* is 'POSTGRES_17'",
        ),
        (
            DEPLOYED,
            {"cloudsql_disk_type": "PD_HDD"},
            "cloudsql_disk_type is 'PD_HDD', but settings.dataDiskType of .* is 'PD_SSD'",
        ),
        (
            changed(SQL, **BIG),
            {"cloudsql_disk_autoresize": "no"},
            "cloudsql_disk_size_gb is '10', but the disk of .* has 30 GB and cannot shrink",
        ),
        (
            changed(SQL, databaseVersion="POSTGRES_11"),
            {"cloudsql_database_version": "POSTGRES_11", "cloudsql_edition": "ENTERPRISE_PLUS"},
            "cloudsql_edition is 'ENTERPRISE_PLUS', but .* has POSTGRES_11",
        ),
        (
            changed(SQL, state="PENDING_DELETE"),
            {},
            "cloudsql_name is 'mlflow', but .* is PENDING_DELETE; it is being deleted",
        ),
        (
            DEPLOYED,
            {"cloudsql_private_network": "projects/demo/global/networks/other"},
            "cloudsql_private_network is .*, but settings.ipConfiguration.privateNetwork of",
        ),
        (
            DEPLOYED,
            {"bucket_location": "EU"},
            "mlflow_region is 'EU', but location of bucket demo-mlflow-artifacts is 'EUROPE-WEST2'",
        ),
        (
            changed(BUCKET, projectNumber="1"),
            {},
            "bucket_name is 'demo-mlflow-artifacts', but a project other than demo",
        ),
        (
            changed(f"{SQL}/databases/mlflow", charset="LATIN1"),
            {},
            "cloudsql_database is 'mlflow', but charset of database mlflow is 'LATIN1'",
        ),
        (
            changed(SECRET, replication={"automatic": {}}),
            {"cloudsql_password_secret_locations": ["europe-west2"]},
            "mlflow_secret_locations is .*, but replication of secret mlflow-db-password is",
        ),
        (
            DEPLOYED | {KEY: ENCRYPTS},
            {"cloudsql_kms_key": KEY_NAME},
            f"mlflow_kms_key is '{KEY_NAME}', but diskEncryptionConfiguration.kmsKeyName of .* mlflow is not set and cannot "
            "be changed; .* cloudsql_kms_key",
        ),
        (
            changed(SQL, diskEncryptionConfiguration={"kmsKeyName": f"{KEY_NAME}2"}) | {KEY: ENCRYPTS},
            {"cloudsql_kms_key": KEY_NAME},
            f"mlflow_kms_key is .*, but diskEncryptionConfiguration.kmsKeyName of .* mlflow is '{KEY_NAME}2' and cannot",
        ),
        (
            changed(SECRET, replication={"automatic": {}}) | {KEY: ENCRYPTS},
            {"cloudsql_password_secret_kms_key": KEY_NAME},
            "cloudsql_password_secret_kms_key is .*, but secret mlflow-db-password cannot be encrypted with it: .* the key "
            "must be global",
        ),
        (
            DEPLOYED | {KEY: ENCRYPTS, SERVER_KEY: {"replication": {"automatic": {}}}},
            {"cloudrun_keys_kms_key": KEY_NAME, "cloudrun_keys_prefix": "mlflow"},
            "cloudrun_keys_kms_key is .*, but secret mlflow-session-key cannot be encrypted with it",
        ),
        (DEPLOYED, {"bucket_kms_key": KEY_NAME}, "bucket_kms_key is .*, but there is no such key"),
        (
            DEPLOYED | {KEY: ENCRYPTS | {"purpose": "ASYMMETRIC_SIGN"}},
            {"bucket_kms_key": KEY_NAME},
            "bucket_kms_key is .*, but the purpose of this key is ASYMMETRIC_SIGN",
        ),
        (
            DEPLOYED | {KEY: ENCRYPTS | {"primary": {"state": "DISABLED"}}},
            {"cloudrun_kms_key": KEY_NAME},
            "cloudrun_kms_key is .*, but the primary version of this key is DISABLED",
        ),
        (
            DEPLOYED,
            {"network_peering_prefix_length": 20},
            "network_peering_prefix_length is 20, but prefixLength of .* is 16",
        ),
        (
            DEPLOYED,
            {"network_peering_address": "10.30.0.0"},
            "network_peering_address is .*, but address of .* is '10.20.0.0'",
        ),
        (
            without(NETWORK),
            {"network_name": "mlflow"},
            "mlflow_network_name is 'mlflow', but project demo has no network of that name",
        ),
        (
            without(SUBNETWORK),
            {"network_subnetwork_name": "mlflow-europe-west2"},
            "network_subnetwork_name is .*, but project demo has no subnetwork of that name in europe-west2",
        ),
        (
            changed(SUBNETWORK, network=f"{LINK}/global/networks/b"),
            {"network_subnetwork_name": "mlflow-europe-west2"},
            "network_subnetwork_name is .*, but subnetwork mlflow-europe-west2 belongs to network b",
        ),
        (
            changed(SUBNETWORK, network=f"{LINK}/global/networks/b"),
            {},
            "mlflow_network_name is '', but subnetwork mlflow-europe-west2 belongs to network b",
        ),
        (
            DEPLOYED,
            {"network_subnetwork_range": "10.10.0.0/25"},
            "network_subnetwork_range is .*, but the range of .* is '10.10.0.0/24' and can only be expanded",
        ),
        (
            without(SUBNETWORK) | {SUBNETWORKS: {"items": {"regions/us-east1": {"subnetworks": [OTHER]}}}},
            {},
            "network_subnetwork_range is .*, but subnetwork other in us-east1 has 10.10.0.0/24",
        ),
        (
            DEPLOYED | {SUBNETWORK: IPV6_ONLY},
            {},
            "mlflow_name is 'mlflow', but subnetwork mlflow-europe-west2 has no IPv4 range, which Cloud Run needs",
        ),
        (
            DEPLOYED | {SUBNETWORK: IPV6_ONLY},
            {"network_subnetwork_name": "mlflow-europe-west2"},
            "network_subnetwork_name is .*, but subnetwork mlflow-europe-west2 has no IPv4 range",
        ),
        (
            changed(RULE, IPAddress="203.0.113.8"),
            {},
            "iap_lb_address_name is .*, but forwarding rule mlflow-lb-https has the address 203.0.113.8, and Google cannot",
        ),
        (
            without(ADDRESS),
            {},
            "iap_lb_address_name is .*, but forwarding rule .* has the address 203.0.113.7, and Google .*, a new one;",
        ),
        (
            DEPLOYED | RIVAL,
            {},
            r"mlflow_domain is .*, but forwarding rule corporate \(34.9.9.9\) already serves mlflow.example.com, .* list corpor",
        ),
        (
            changed(BACKEND, loadBalancingScheme="EXTERNAL"),
            {},
            "iap_lb_name is .*, but loadBalancingScheme of .* is 'EXTERNAL'",
        ),
        (
            changed(BACKEND, securityPolicy=f"{COMPUTE}/global/securityPolicies/theirs"),
            {"iap_lb_allowed_ranges": ["203.0.113.0/24"]},
            "iap_lb_allowed_ranges is .*, but backend service mlflow-lb-backend has the Cloud Armor policy theirs of others",
        ),
    ],
    ids=lambda value: value.split(", but")[0][:60] if isinstance(value, str) else "",
)
def test_what_is_not_possible_is_refused(preflight, live, variables, finding):
    with pytest.raises(Exception, match=rf"^Nothing was changed\. 1\) {finding}.*docs/changes\.md") as failed:
        preflight(live, variables)
    assert len(failed.value.result["findings"]) == 1


def test_a_bucket_of_another_project_that_may_not_be_read(preflight, google):
    live = DEPLOYED | {
        BUCKET: google.old_error(403, "forbidden", "No access."),
        "https://storage.googleapis.com/storage/v1/b": {"items": []},
    }
    with pytest.raises(Exception, match="a project other than demo has a bucket with this name"):
        preflight(live)


def test_another_region_for_everything_names_one_variable(preflight):
    regions = {f"{role}_region": "europe-west1" for role in ("network", "cloudsql", "cloudrun", "iap_lb")}
    with pytest.raises(Exception, match="Nothing was changed") as failed:
        preflight(DEPLOYED, regions | {"bucket_location": "europe-west1"})
    findings = failed.value.result["findings"]
    assert [finding.split(" is ")[0] for finding in findings] == ["mlflow_region"] * 3, findings
    assert [
        kind for kind in ("subnetwork", "Cloud SQL instance", "bucket") if not any(kind in text for text in findings)
    ] == []


def test_another_network_names_the_variable(preflight):
    live = DEPLOYED | {
        f"{COMPUTE}/global/networks/default": {"name": "default", "selfLink": f"{LINK}/global/networks/default"}
    }
    with pytest.raises(Exception, match="Nothing was changed") as failed:
        preflight(live, {"network_name": "default", "network_subnetwork_range": "10.11.0.0/24"})
    findings = failed.value.result["findings"]
    assert all(finding.startswith("mlflow_network_name is 'default', but ") for finding in findings), findings
    assert any("privateNetwork of Cloud SQL instance mlflow" in finding for finding in findings)
    assert any("reserved range mlflow-services" in finding for finding in findings)


def test_a_run_of_some_parts_compares_only_these(preflight):
    preflight(DEPLOYED, {"bucket_location": "EU"}, run_tags=["users"])
    preflight(DEPLOYED, {"bucket_location": "EU"}, skip_tags=["bucket"])
    with pytest.raises(Exception, match="bucket demo-mlflow-artifacts"):
        preflight(DEPLOYED, {"bucket_location": "EU"}, run_tags=["image", "bucket"])


@pytest.mark.parametrize(
    ("missing", "run_tags", "finding"),
    [
        (
            (BACKEND,),
            ["users"],
            "users needs backend service mlflow-lb-backend, which does not exist; .* --tags front_door",
        ),
        ((SERVICE,), ["front_door"], "front_door needs Cloud Run service mlflow, .* --tags image"),
        ((SQL,), ["image"], "image needs Cloud SQL instance mlflow, .* image needs database mlflow"),
        ((BUCKET,), ["image", "users"], "image needs bucket demo-mlflow-artifacts"),
        ((NETWORK,), ["database"], "database needs network mlflow"),
        (DEPLOYED, ["image"], "image needs network mlflow"),
    ],
)
def test_a_run_of_some_parts_names_what_is_missing(preflight, missing, run_tags, finding):
    with pytest.raises(Exception, match=rf"Nothing was changed\. 1\) {finding}"):
        preflight(without(*missing), run_tags=run_tags)


def test_a_run_of_some_parts_in_a_new_project(preflight, google):
    with pytest.raises(
        Exception, match=r"limited to users, for which compute\.googleapis\.com must be enabled; run site without"
    ):
        preflight(disabled(google), run_tags=["users"])


@pytest.mark.parametrize("tags", [["verify"], ["something-else"], ["services"], ["network"], ["database", "network"]])
def test_parts_that_need_nothing(preflight, tags):
    preflight({}, run_tags=tags)


def test_a_part_is_not_needed_where_it_is_left_out(preflight):
    preflight(without(BACKEND), skip_tags=["front_door"])
    with pytest.raises(Exception, match="image needs bucket"):
        preflight(without(BUCKET), skip_tags=["bucket"])


def test_an_image_with_a_connector_needs_no_subnetwork(preflight):
    preflight(without(SUBNETWORK), {"cloudrun_vpc_connector": "c"}, run_tags=["image"])


def test_rejected_credentials_fail_once(preflight, google):
    with pytest.raises(Exception, match=r"^Cannot read project demo: .*\(401 "):
        preflight(dict.fromkeys(DEPLOYED, google.error(401, "UNAUTHENTICATED", "Expired.")))


def test_an_error_of_one_resource_names_it(preflight, google):
    with pytest.raises(Exception, match="^Cannot read bucket demo-mlflow-artifacts: Invalid"):
        preflight(DEPLOYED | {BUCKET: google.old_error(400, "invalid", "Invalid.")})


GIVEN = "europe-west2-docker.pkg.dev/dev/mlflow/server:1"
TAG = "https://artifactregistry.googleapis.com/v1/projects/dev/locations/europe-west2/repositories/mlflow/packages/server/tags/1"


def test_an_image_that_does_not_exist(preflight):
    with pytest.raises(Exception, match=f"mlflow_image is '{GIVEN}', but .*repositories/mlflow has no such image"):
        preflight(DEPLOYED, {"image_reference": GIVEN})
    preflight(DEPLOYED, {"image_reference": GIVEN}, run_tags=["bucket"])
    preflight(DEPLOYED | {TAG: {"version": "x/versions/sha256:1"}}, {"image_reference": GIVEN})
    preflight(DEPLOYED, {"image_reference": "docker.io/mlflow/server:1"})


CERTIFICATE = f"{COMPUTE}/global/sslCertificates/wildcard"
MAP = "https://certificatemanager.googleapis.com/v1/projects/demo/locations/global/certificateMaps/theirs"


def test_certificates_of_others_exist_and_are_for_the_domains(preflight):
    variables = {"iap_lb_certificate": "existing", "iap_lb_certificates": "wildcard"}
    for names in (["*.example.com"], ["mlflow.example.com"]):
        live = DEPLOYED | {CERTIFICATE: {"name": "wildcard", "subjectAlternativeNames": names}}
        assert preflight(live, variables)["findings"] == []
    with pytest.raises(Exception, match="project demo has no SSL certificate wildcard"):
        preflight(DEPLOYED, variables)
    live = DEPLOYED | {CERTIFICATE: {"name": "wildcard", "subjectAlternativeNames": ["*.other.com"]}}
    with pytest.raises(Exception, match=r"none of them is for mlflow\.example\.com; they are for \*\.other\.com"):
        preflight(live, variables)
    variables = {"iap_lb_certificate": "existing", "iap_lb_certificate_map": "theirs"}
    assert preflight(DEPLOYED | {MAP: {"name": "theirs"}}, variables)["findings"] == []
    with pytest.raises(Exception, match="there is no certificate map of that name"):
        preflight(DEPLOYED, variables)


# -- another front door

CLOUD_RUN = {"mlflow_front_door": "cloud_run", "iap_cloud_run_users": ["user:jane@example.com"]}
OWN_PROXY = {SERVICE: DEPLOYED[SERVICE] | {"iapEnabled": True}}
BALANCER = (ADDRESS, BACKEND, RULE)
WITHOUT_BALANCER = {url: body for url, body in DEPLOYED.items() if url not in BALANCER}


def test_everything_of_a_load_balancer_that_goes_is_found(preflight):
    found = preflight(DEPLOYED, CLOUD_RUN)["front_door"]
    removed = ["forwarding rule mlflow-lb-https", "backend service mlflow-lb-backend", "address mlflow-lb-ip"]
    assert (found["changes"], found["remove"], found["addresses"]) == (True, removed, ["203.0.113.7"])
    assert found["iap_lb"] == {"remove": removed, "address": "203.0.113.7", "records": [], "certificate_manager": False}


def test_its_records_and_what_certificate_manager_has_of_it(preflight):
    zone = "https://dns.googleapis.com/dns/v1/projects/demo/managedZones/example/rrsets"
    certificate_map = f"{CERTIFICATES}/certificateMaps/mlflow-lb"
    sets = [
        {"name": f"{name}.example.com.", "type": kind, "rrdatas": data}
        for name, kind, data in (
            ("mlflow", "A", ["203.0.113.7"]),
            ("both", "A", ["203.0.113.7", "203.0.113.8"]),
            ("other", "A", ["203.0.113.8"]),
            ("text", "TXT", ["203.0.113.7"]),
        )
    ]
    live = DEPLOYED | {zone: {"rrsets": sets}, certificate_map: {"name": "mlflow-lb"}}
    found = preflight(live, CLOUD_RUN | {"iap_lb_dns_zone": "example"})["front_door"]["iap_lb"]
    assert (found["records"], found["certificate_manager"]) == (["mlflow.example.com"], True)


def test_an_address_of_others_stays(preflight):
    live = WITHOUT_BALANCER | OWN_PROXY | {f"{COMPUTE}/global/addresses/theirs": {"address": "203.0.113.9"}}
    found = preflight(live, CLOUD_RUN | {"iap_lb_address_name": "theirs"})["front_door"]
    assert (found["changes"], found["remove"]) == (False, [])


@pytest.mark.parametrize(
    ("live", "variables", "changes"),
    [
        (DEPLOYED, {}, False),
        (DEPLOYED | OWN_PROXY, {}, True),
        (WITHOUT_BALANCER | OWN_PROXY, CLOUD_RUN, False),
        # The load balancer is gone, and the run was interrupted.
        (WITHOUT_BALANCER, CLOUD_RUN, True),
        ({PROJECT: DEPLOYED[PROJECT]}, CLOUD_RUN, False),
    ],
)
def test_whether_the_front_door_changes(preflight, live, variables, changes):
    assert preflight(live, {"iap_lb_users": ["user:jane@example.com"]} | variables)["front_door"]["changes"] is changes


@pytest.mark.parametrize("tag", ["image", "front_door", "users"])
def test_only_a_whole_run_changes_it(preflight, tag):
    with pytest.raises(Exception, match="mlflow_front_door is 'cloud_run', but the deployment has another front door"):
        preflight(DEPLOYED, CLOUD_RUN, run_tags=[tag])
    preflight(DEPLOYED, CLOUD_RUN, run_tags=["bucket"])


def test_somebody_can_sign_in_at_the_new_one(preflight):
    nobody = CLOUD_RUN | {"iap_cloud_run_users": []}
    with pytest.raises(Exception, match="mlflow_webapp_users is .*nobody could sign in at the new one"):
        preflight(DEPLOYED, nobody)
    preflight(DEPLOYED, nobody | {"mlflow_allow_nobody": True})
    preflight(WITHOUT_BALANCER | OWN_PROXY, nobody)


# -- the internal one

INTERNAL_LB = {
    "iap_internal_lb_project_id": "demo",
    "iap_internal_lb_region": "europe-west2",
    "iap_internal_lb_name": "mlflow-internal",
}
INTERNAL = INTERNAL_LB | {
    "mlflow_front_door": "internal",
    "iap_internal_lb_domain": "mlflow.corp.example",
    "iap_internal_lb_users": ["user:jane@example.com"],
}
REGIONAL = f"{COMPUTE}/regions/europe-west2"
INTERNAL_ADDRESS = {f"{REGIONAL}/addresses/mlflow-internal-ip": {"address": "10.10.0.9"}}
MANAGER = "https://certificatemanager.googleapis.com/v1/projects/demo/locations/europe-west2"
CORP = "https://dns.googleapis.com/dns/v1/projects/demo/managedZones/corp"
PRIVATE = {CORP: {"dnsName": "corp.example.", "visibility": "private"}, f"{CORP}/rrsets": {"rrsets": []}}


def test_what_an_internal_load_balancer_has_left_is_found_by_its_address(preflight):
    issued = {f"{MANAGER}/certificates": {"certificates": [{"name": "projects/demo/x/mlflow-internal-0123abcd"}]}}
    issued[f"{MANAGER}/certificateIssuanceConfigs"] = {}
    found = preflight(DEPLOYED | INTERNAL_ADDRESS | issued, INTERNAL_LB | {"iap_lb_users": ["user:jane@example.com"]})
    door = found["front_door"]
    assert (door["changes"], door["closes"], door["addresses"]) == (True, False, ["10.10.0.9"])
    assert door["iap_lb"]["remove"] == []
    assert door["iap_internal_lb"] == {
        "remove": ["address mlflow-internal-ip", "certificate mlflow-internal-0123abcd"],
        "address": "10.10.0.9",
        "records": [],
        "certificate_manager": True,
    }
    assert preflight(DEPLOYED, INTERNAL_LB)["front_door"]["changes"] is False


def test_one_that_is_asked_for_stays_and_the_other_goes(preflight):
    door = preflight(DEPLOYED | INTERNAL_ADDRESS, INTERNAL)["front_door"]
    assert (door["iap_internal_lb"]["remove"], door["addresses"]) == ([], ["203.0.113.7"])
    assert "address mlflow-lb-ip" in door["remove"]
    door = preflight(WITHOUT_BALANCER | INTERNAL_ADDRESS, INTERNAL)["front_door"]
    assert (door["changes"], door["remove"]) == (False, [])
    door = preflight(WITHOUT_BALANCER | OWN_PROXY, INTERNAL)["front_door"]
    assert (door["changes"], door["closes"]) == (True, True)


def test_a_private_zone_is_for_the_internal_one(preflight):
    zone = INTERNAL | {"iap_internal_lb_dns_zone": "corp"}
    preflight(WITHOUT_BALANCER | PRIVATE, zone)
    with pytest.raises(Exception, match="zone corp is not authoritative for mlflow.other.example"):
        preflight(WITHOUT_BALANCER | PRIVATE, zone | {"iap_internal_lb_domain": "mlflow.other.example"})
    record = {"name": "mlflow.corp.example.", "type": "A", "rrdatas": ["203.0.113.7"]}
    led = PRIVATE | {f"{CORP}/rrsets": {"rrsets": [record]}}
    # The address of the load balancer that goes, or one of somebody else.
    preflight(DEPLOYED | led, zone)
    with pytest.raises(Exception, match="iap_internal_lb_domain is 'mlflow.corp.example', but .*203.0.113.7"):
        preflight(WITHOUT_BALANCER | led, zone)


def test_a_backend_service_of_the_internal_name_with_another_scheme(preflight):
    backend = {f"{REGIONAL}/backendServices/mlflow-internal-backend": {"loadBalancingScheme": "EXTERNAL_MANAGED"}}
    with pytest.raises(Exception, match="iap_internal_lb_name is 'mlflow-internal', but loadBalancingScheme"):
        preflight(WITHOUT_BALANCER | backend, INTERNAL)


@pytest.mark.parametrize(
    ("variables", "chosen"),
    [
        ({}, {needs.INTERNAL, needs.PROXIES}),
        # Its administrator makes the proxy-only subnetwork.
        ({"network_name": "theirs"}, {needs.INTERNAL}),
        ({"iap_internal_lb_certificate": "ca_pool"}, {needs.INTERNAL, needs.PROXIES, needs.BY_POOL}),
    ],
)
def test_the_permissions_for_an_internal_load_balancer(variables, chosen):
    params = {
        "variables": VARIABLES | INTERNAL | variables,
        "names": NAMES,
        "run_tags": ["front_door"],
        "skip_tags": [],
    }
    site = Site(SimpleNamespace(params=params, client=None))
    assert set(needs.chosen(site)) == chosen
    zone = INTERNAL | {"iap_internal_lb_dns_zone": "projects/dns/managedZones/corp"}
    params["variables"] |= zone
    assert needs.by_project(Site(SimpleNamespace(params=params, client=None)))["dns"][0] == needs.ZONE


@pytest.mark.parametrize(
    ("door", "allowed", "refused"),
    [
        ("internal", "in:INTERNAL", False),
        ("internal", "INTERNAL_HTTP_HTTPS", False),
        ("internal", "in:EXTERNAL", True),
        ("load_balancer", "in:INTERNAL", True),
        ("cloud_run", "in:INTERNAL", False),
    ],
)
def test_the_types_of_load_balancers_that_a_policy_allows(door, allowed, refused):
    rules = policies.Rules.of({"spec": {"rules": [{"values": {"allowedValues": [allowed]}}]}})
    check = policies.CHECKS["compute.restrictLoadBalancerCreationForTypes"]
    assert bool(check(SimpleNamespace(door=door), rules)) is refused
