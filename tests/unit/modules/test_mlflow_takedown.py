# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_takedown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.modules import test_mlflow_preflight as preflight
from tests.unit.modules.test_mlflow_preflight import COMPUTE, INSTANCES, LINK, NETWORK, PROJECT, SQL, SUBNETWORK

BALANCER = f"{COMPUTE}/global"
BUCKETS, OBJECTS = "https://storage.googleapis.com/storage/v1/b", f"{preflight.BUCKET}/o"
BACKUPS = "https://sqladmin.googleapis.com/v1/projects/demo/backups"
POLICY = f"{PROJECT}:getIamPolicy"
ACCOUNTS = "https://iam.googleapis.com/v1/projects/demo/serviceAccounts"
SECRETS = preflight.SECRET.rpartition("/")[0]
CONNECTIONS = "https://servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
NEGS = f"{COMPUTE}/aggregated/networkEndpointGroups"
REPOSITORY = "https://artifactregistry.googleapis.com/v1/projects/demo/locations/europe-west2/repositories/mlflow"
BUILDER = "mlflow-build@demo.iam.gserviceaccount.com"
SERVER = "mlflow-server@demo.iam.gserviceaccount.com"
VARIABLES = preflight.VARIABLES | {
    "mlflow_confirm_destroy": "prod",
    "mlflow_destroy_data": "no",
    "cloudrun_job_name": "mlflow-admin",
    "cloudrun_account_id": "mlflow-server",
    "cloudrun_keys_prefix": "mlflow",
    "cloudsql_final_backup": True,
    "cloudsql_final_backup_days": "30",
    "iap_lb_logger_account_id": "mlflow-logger",
    "iap_lb_oauth": "google_managed",
    "image_project_id": "demo",
    "image_reference": "",
    "image_region": "europe-west2",
    "image_repository": "mlflow",
    "image_readers": [],
    "image_source_bucket": "demo-mlflow-source",
    "image_build_account_id": "mlflow-build",
}
EMPTY = {INSTANCES: {}, BACKUPS: {}, BUCKETS: {}, POLICY: {}, CONNECTIONS: {}, f"{BALANCER}/sslCertificates": {}}


def connection(*ranges: str) -> dict[str, Any]:
    return {CONNECTIONS: {"connections": [{"network": "n", "reservedPeeringRanges": list(ranges)}]}}


def instances(*names: str) -> dict[str, Any]:
    settings = {"ipConfiguration": {"privateNetwork": f"{LINK}/global/networks/mlflow"}}
    return {INSTANCES: {"items": [{"name": name, "settings": settings} for name in names]}}


def network(*subnetworks: str, **more: Any) -> dict[str, Any]:
    links = [f"{LINK}/regions/europe-west2/subnetworks/{name}" for name in subnetworks]
    return {NETWORK: {"name": "mlflow", "subnetworks": links, **more}}


DEPLOYED = {
    **EMPTY,
    PROJECT: {"projectNumber": "123456789012"},
    **{
        f"{BALANCER}/{path}": {"name": "n"}
        for path in (
            "forwardingRules/mlflow-lb-https",
            "forwardingRules/mlflow-lb-http",
            "targetHttpsProxies/mlflow-lb-https",
            "targetHttpProxies/mlflow-lb-http",
            "urlMaps/mlflow-lb",
            "urlMaps/mlflow-lb-redirect",
            "backendServices/mlflow-lb-backend",
            "securityPolicies/mlflow-lb-allowed",
            "addresses/mlflow-lb-ip",
            "addresses/mlflow-services",
        )
    },
    f"{BALANCER}/sslCertificates": {
        "items": [
            {"name": "mlflow-lb-0123abcd", "type": "MANAGED"},
            {"name": "mlflow-lb-theirs", "type": "MANAGED"},
            {"name": "mlflow-lb", "type": "SELF_MANAGED"},
        ]
    },
    NEGS: {
        "items": {
            "regions/europe-west2": {
                "networkEndpointGroups": [{"name": "mlflow-lb-neg-00ff", "networkEndpointType": "SERVERLESS"}]
            }
        }
    },
    f"{ACCOUNTS}/mlflow-logger@demo.iam.gserviceaccount.com": {"email": "x"},
    f"{ACCOUNTS}/{SERVER}": {"email": SERVER},
    preflight.SERVICE: {"name": "mlflow"},
    preflight.SERVICE.replace("services/mlflow", "jobs/mlflow-admin"): {"name": "mlflow-admin"},
    f"{ACCOUNTS}/{BUILDER}": {"email": BUILDER},
    REPOSITORY: {"name": "mlflow"},
    POLICY: {
        "bindings": [
            {"role": "roles/cloudsql.client", "members": [f"serviceAccount:{SERVER}", "user:a@b.com"]},
            {"role": "roles/logging.logWriter", "members": [f"serviceAccount:{BUILDER}"]},
        ]
    },
    **{f"{SECRETS}/mlflow-{key}": {"name": key} for key in ("webhook-key", "kek-passphrase", "session-key")},
    preflight.SECRET: {"name": "mlflow-db-password"},
    SQL: {"name": "mlflow", "settings": {"deletionProtectionEnabled": True}},
    f"{SQL}/databases": {"items": [{"name": "postgres"}, {"name": "mlflow"}, {"name": "reports"}]},
    BUCKETS: {"items": [{"name": "demo-mlflow-artifacts"}, {"name": "demo-mlflow-source"}]},
    OBJECTS: {"items": [{"name": "a"}, {"name": "b"}]},
    SUBNETWORK: {"name": "mlflow-europe-west2"},
    **instances("mlflow"),
    **network("mlflow-europe-west2", peerings=[{"name": "servicenetworking-googleapis-com"}]),
    **connection("mlflow-services"),
}


@pytest.fixture
def takedown(google, run_module, monkeypatch):
    """takedown(live, iap_lb_oauth="brand") -> what the module returns; LIVE are answers by their URLs."""

    def takedown(live: dict[str, Any], **variables: Any) -> dict[str, Any]:
        def send(_adapter, prepared, **_kwargs):
            url, _, query = prepared.url.partition("?")
            answer = live.get(url, google.error(404, "NOT_FOUND", "Not found."))
            if "softDeleted" in query:
                answer = live.get("softDeleted", {})
            # The script of the fixture has an order, these requests have none.
            return type(google)().expect(prepared.method, url, answer).send(_adapter, prepared)

        monkeypatch.setattr(google, "send", send)
        return run_module("mlflow_takedown", variables=VARIABLES | variables, deployment="prod")

    return takedown


def test_lists_everything_in_the_order_of_the_deletion(takedown):
    result = takedown(DEPLOYED)
    assert result["delete"] == [
        "forwarding rule mlflow-lb-https",
        "forwarding rule mlflow-lb-http",
        "HTTPS proxy mlflow-lb-https",
        "HTTP proxy mlflow-lb-http",
        "URL map mlflow-lb",
        "URL map mlflow-lb-redirect",
        "certificate mlflow-lb-0123abcd",
        "backend service mlflow-lb-backend",
        "Cloud Armor policy mlflow-lb-allowed",
        "serverless NEG mlflow-lb-neg-00ff",
        "address mlflow-lb-ip",
        "service account mlflow-logger@demo.iam.gserviceaccount.com",
        "Cloud Run service mlflow",
        "Cloud Run job mlflow-admin",
        f"roles/cloudsql.client of serviceAccount:{SERVER} on project demo",
        "secret mlflow-kek-passphrase",
        "secret mlflow-session-key",
        "secret mlflow-webhook-key",
        f"service account {SERVER}",
        "repository mlflow",
        "bucket demo-mlflow-source",
        f"roles/logging.logWriter of serviceAccount:{BUILDER} on project demo",
        f"service account {BUILDER}",
        "Cloud SQL instance mlflow with the databases mlflow, reports, after a final backup for 30 days",
        "secret mlflow-db-password",
        "bucket demo-mlflow-artifacts with 2 objects",
        "subnetwork mlflow-europe-west2",
        "private services access of mlflow",
        "range mlflow-services",
        "network mlflow",
    ]
    assert [entry.partition(":")[0] for entry in result["keep"]] == ["APIs", "DNS records of mlflow.example.com"]
    assert not result["changed"] and result["unread"] == []


def test_what_has_to_be_decided_first(takedown):
    findings = takedown(DEPLOYED, mlflow_confirm_destroy="dev")["findings"]
    assert [finding.partition(":")[0] for finding in findings] == [
        "mlflow_confirm_destroy is 'dev', and this deployment is called 'prod' in the inventory",
        "Cloud SQL instance mlflow has deletion protection",
        "bucket demo-mlflow-artifacts holds 2 objects",
    ]
    assert takedown(DEPLOYED, mlflow_destroy_data="yes")["findings"] == []
    given = takedown(DEPLOYED, image_reference="europe-docker.pkg.dev/p/r/server:1")["delete"]
    assert not [line for line in given if "repository" in line or BUILDER in line], (
        "a given image and its repository are not ours"
    )
    shared = takedown(DEPLOYED, mlflow_confirm_destroy="prod", image_readers=["user:a@b.com"])["findings"]
    assert "repository mlflow has images that ['user:a@b.com'] may run" in " ".join(shared)
    old = {f"{BALANCER}/forwardingRules/old-https": {"name": "old-https"}}
    found = takedown(DEPLOYED | old, iap_lb_previous_name="old", mlflow_destroy_data="yes")["findings"]
    assert [finding.partition(":")[0] for finding in found] == [
        "the load balancer old (iap_lb_previous_name) still exists"
    ]
    many = {OBJECTS: {"items": [{"name": "a"}] * 1000, "nextPageToken": "t"}}
    assert "holds more than 1000 objects" in takedown(DEPLOYED | many)["findings"][-1]


def test_an_empty_project(takedown, google):
    assert (takedown(EMPTY)["delete"], takedown(EMPTY)["findings"]) == ([], [])
    off = google.error(403, "PERMISSION_DENIED", "Off.", details=[{"reason": "SERVICE_DISABLED"}])
    result = takedown(dict.fromkeys([*DEPLOYED, "softDeleted"], off))
    assert (result["delete"], result["unread"]) == ([], [])


def test_what_was_there_before_is_kept(takedown):
    before = {
        "network_name": "mlflow",
        "network_subnetwork_name": "mlflow-europe-west2",
        "network_reserved_range": "shared",
        "iap_lb_address_name": "old-ip",
        "iap_lb_oauth": "brand",
    }
    live = DEPLOYED | {f"{BALANCER}/addresses/{name}": {"name": name} for name in ("shared", "old-ip")}
    result = takedown(live | connection("shared"), **before)
    assert result["delete"][-1] == "bucket demo-mlflow-artifacts with 2 objects"
    assert result["keep"][:6] == [
        "address old-ip: it existed before (iap_lb_address_name)",
        "subnetwork mlflow-europe-west2: it existed before (network_subnetwork_name)",
        "private services access of mlflow: it existed before (network_reserved_range)",
        "range shared: it existed before (network_reserved_range)",
        "network mlflow: it existed before (network_name)",
        "brand and OAuth client: Google's API cannot delete a brand, and others of the project may use it",
    ]


@pytest.mark.parametrize(
    ("live", "deleted", "kept"),
    [
        (
            network("mlflow-europe-west2", "theirs"),
            ["private services access of mlflow", "range mlflow-services"],
            ["network mlflow: others use it (theirs)"],
        ),
        (
            network("mlflow-europe-west2", peerings=[{"name": "to-office"}]),
            ["private services access of mlflow", "range mlflow-services"],
            ["network mlflow: others use it (to-office)"],
        ),
        (
            instances("mlflow", "theirs"),
            [],
            [
                "private services access of mlflow: others use it (Cloud SQL theirs)",
                "range mlflow-services: others use it (Cloud SQL theirs)",
                "network mlflow: others use it (Cloud SQL theirs)",
            ],
        ),
        (
            instances("mlflow", "theirs") | connection("theirs", "mlflow-services"),
            ["private services access of mlflow: only the range mlflow-services", "range mlflow-services"],
            ["network mlflow: others use it (theirs)"],
        ),
    ],
)
def test_what_others_use_is_kept(takedown, live, deleted, kept):
    result = takedown(DEPLOYED | live)
    assert result["delete"][-1 - len(deleted) :] == ["subnetwork mlflow-europe-west2", *deleted]
    assert result["keep"][: len(kept)] == kept


def test_what_stays_for_a_while(takedown):
    backup = {
        "type": "FINAL",
        "name": "projects/demo/backups/1",
        "instance": "mlflow-2",
        "expiryTime": "2026-12-29T1:2:3Z",
    }
    others = [backup | {"instance": "other"}, backup | {"type": "ON_DEMAND"}]
    bucket = {"name": "demo-mlflow-artifacts", "hardDeleteTime": "2026-12-06T00:00:00Z"}
    live = EMPTY | {BACKUPS: {"backups": [*others, backup]}, "softDeleted": {"items": [bucket]}}
    assert takedown(live)["keep"][:2] == [
        "final backup projects/demo/backups/1 of Cloud SQL instance mlflow-2: until 2026-12-29, billed until then",
        "soft-deleted bucket demo-mlflow-artifacts: until 2026-12-06, billed until then",
    ]


def test_an_instance_under_another_name(takedown):
    labels = {"userLabels": {"mlflow-gcp-instead-of": "mlflow"}}
    live = {url: body for url, body in DEPLOYED.items() if url != SQL}
    result = takedown(live | {INSTANCES: {"items": [{"name": "mlflow-2", "settings": labels}]}})
    assert "Cloud SQL instance mlflow, named mlflow-2, after a final backup for 30 days" in result["delete"]


def test_what_may_not_be_read_is_told(takedown, google):
    result = takedown(DEPLOYED | {SQL: google.error(403, "PERMISSION_DENIED", "Permission denied.")})
    assert result["unread"] == ["Cloud SQL instance mlflow (Permission denied.)"]


REGIONAL = f"{COMPUTE}/regions/europe-west2"
INTERNAL = {
    "mlflow_front_door": "internal",
    "iap_internal_lb_project_id": "demo",
    "iap_internal_lb_network_project_id": "demo",
    "iap_internal_lb_region": "europe-west2",
    "iap_internal_lb_name": "mlflow-internal",
    "iap_internal_lb_domain": "mlflow.corp.example",
    "iap_internal_lb_dns_zone": "corp",
    "iap_internal_lb_certificate": "ca_pool",
    "iap_internal_lb_logger_account_id": "mlflow-logger",
}
CORP = "https://dns.googleapis.com/dns/v1/projects/demo/managedZones/corp/rrsets"
MANAGER = "https://certificatemanager.googleapis.com/v1/projects/demo/locations/europe-west2"
WITH_INTERNAL = {
    **{url: body for url, body in DEPLOYED.items() if "mlflow-lb" not in url},
    **{
        f"{REGIONAL}/{path}": {"name": "n"}
        for path in (
            "forwardingRules/mlflow-internal-https",
            "forwardingRules/mlflow-internal-http",
            "targetHttpsProxies/mlflow-internal-https",
            "targetHttpProxies/mlflow-internal-http",
            "urlMaps/mlflow-internal",
            "urlMaps/mlflow-internal-redirect",
            "backendServices/mlflow-internal-backend",
            "subnetworks/mlflow-internal-proxies",
        )
    },
    f"{BALANCER}/sslCertificates": {},
    f"{REGIONAL}/addresses/mlflow-internal-ip": {"address": "10.10.0.9"},
    f"{REGIONAL}/sslCertificates": {"items": [{"name": "mlflow-internal-0123abcd", "type": "SELF_MANAGED"}]},
    f"{REGIONAL}/forwardingRules": {
        "items": [
            {
                "name": "mlflow-internal-https",
                "loadBalancingScheme": "INTERNAL_MANAGED",
                "network": f"{LINK}/global/networks/mlflow",
            },
            {"name": "psc", "network": f"{LINK}/global/networks/mlflow"},
        ]
    },
    f"{MANAGER}/certificates": {"certificates": [{"name": "projects/demo/c/mlflow-internal-00000001"}]},
    f"{MANAGER}/certificateIssuanceConfigs": {
        "certificateIssuanceConfigs": [{"name": "projects/demo/i/mlflow-internal-00000002"}]
    },
    NEGS: {
        "items": {
            "regions/europe-west2": {
                "networkEndpointGroups": [{"name": "mlflow-internal-neg-00ff", "networkEndpointType": "SERVERLESS"}]
            }
        }
    },
    CORP: {"rrsets": [{"name": "mlflow.corp.example.", "type": "A", "rrdatas": ["10.10.0.9"]}]},
    **network("mlflow-europe-west2", "mlflow-internal-proxies"),
}


def test_an_internal_load_balancer_goes_with_its_proxies(takedown):
    result = takedown(WITH_INTERNAL, **INTERNAL)
    assert result["delete"][:14] == [
        "DNS record mlflow.corp.example.",
        "forwarding rule mlflow-internal-https",
        "forwarding rule mlflow-internal-http",
        "HTTPS proxy mlflow-internal-https",
        "HTTP proxy mlflow-internal-http",
        "URL map mlflow-internal",
        "URL map mlflow-internal-redirect",
        "certificate mlflow-internal-0123abcd",
        "certificate mlflow-internal-00000001",
        "name of a CA pool mlflow-internal-00000002",
        "backend service mlflow-internal-backend",
        "serverless NEG mlflow-internal-neg-00ff",
        "proxy-only subnetwork mlflow-internal-proxies",
        "address mlflow-internal-ip",
    ]
    assert (result["delete"][-1], result["internal_address"], result["address"]) == ("network mlflow", "10.10.0.9", "")
    assert [entry.partition(":")[0] for entry in result["keep"]] == ["APIs"]


def test_the_proxies_of_other_load_balancers_stay_with_the_network(takedown):
    theirs = {"name": "theirs", "loadBalancingScheme": "INTERNAL_MANAGED", "network": f"{LINK}/global/networks/mlflow"}
    result = takedown(WITH_INTERNAL | {f"{REGIONAL}/forwardingRules": {"items": [theirs]}}, **INTERNAL)
    assert result["keep"][:2] == [
        "proxy-only subnetwork mlflow-internal-proxies: others use it (theirs)",
        "network mlflow: others use it (mlflow-internal-proxies)",
    ]
