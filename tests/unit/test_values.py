# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import InvalidInput


def key(location: str) -> str:
    """A key of Cloud KMS."""
    return f"projects/security/locations/{location}/keyRings/r/cryptoKeys/k"


CLIENT = "977178309684-7gcg621ahtq39p03.apps.googleusercontent.com"


@pytest.mark.parametrize(
    "kind, value",
    [
        (values.AGE, "30d"),
        (values.AGE, "1d12h30m5s"),
        (values.ACCOUNT_ID, "mlflow-server"),
        (values.BUCKET_NAME, "my-project-mlflow-artifacts"),
        (values.BUCKET_NAME, "artifacts.example.com"),
        (values.CPU, "2"),
        (values.CPU, "500m"),
        (values.DOMAIN, "mlflow.example.com"),
        (values.DOMAINS, "mlflow.example.com, models.example.com"),
        (values.DOMAINS, []),
        (values.EMAIL, "ml@example.com"),
        (values.ENVIRONMENT, {"MLFLOW_LOGGING_LEVEL": "DEBUG"}),
        (values.IMAGE, "europe-west2-docker.pkg.dev/my-project/mlflow/server:3.17.2"),
        (values.IMAGE, "europe-docker.pkg.dev/mlflow-gcp/mlflow:latest"),
        (values.IMAGE, "europe-docker.pkg.dev/example.com/proj/mlflow/server:1"),
        (values.IPV4, ""),
        (values.IPV4, "10.20.0.0"),
        (values.KMS_KEY, ""),
        (values.KMS_KEY, key("europe-west2")),
        (values.KMS_KEY, "projects/example.com:security/locations/global/keyRings/R_1/cryptoKeys/K-2"),
        (
            values.LABELS,
            {"team": "ml", "cost-centre": "", "prod": True, "number": 1234, "none": None, "équipe": "données"},
        ),
        (values.MAINTENANCE_WINDOW, {}),
        (values.MAINTENANCE_WINDOW, {"day": 7, "hour": 23}),
        (values.MEMBERS, "user:jane@example.com, group:ml@example.com"),
        (values.MEMBERS, ["serviceAccount:my-project.svc.id.goog[jobs/trainer]"]),
        (values.ANY_MEMBERS, ["allUsers", "deleted:user:jane@example.com?uid=1"]),
        (values.MEMORY, "2Gi"),
        (values.MEMORY, "0.5G"),
        (values.NAME, "mlflow"),
        (values.NAME, "m"),
        (values.OAUTH_CLIENT_ID, CLIENT),
        (values.PROJECT_ID, "my-project-1"),
        (values.REGION, "europe-west12"),
        (values.REGION, "northamerica-northeast2"),
        (values.SAMPLE_RATE, 0.5),
        (values.SOFT_DELETE_SECONDS, 0),
        (values.SUBNETWORK_RANGE, "10.10.0.0/24"),
        (values.TIME, "03:00"),
    ],
)
def test_a_right_value_is_taken(kind, value):
    kind.check(value)


@pytest.mark.parametrize(
    "kind, value, allowed",
    [
        (values.AGE, "a month", "30d"),
        (values.AGE, "12h1d", "1d12h"),
        (values.AGE, "", "30d"),
        (values.ACCOUNT_ID, "ml", "6 to 30"),
        (values.BUCKET_NAME, "My_Bucket", "lower-case"),
        (values.BUCKET_NAME, "google-artifacts", "goog"),
        (values.BUCKET_NAME, "10.0.0.1", "3 to 63"),
        (values.BUCKET_NAME, "a" * 64, "3 to 63"),
        (values.CPU, "0", "500m"),
        (values.DOMAIN, "https://mlflow.example.com/", "without https://"),
        (values.DOMAIN, "mlflow", "mlflow.example.com"),
        (values.DOMAIN, "*.example.com", "mlflow.example.com"),
        (values.DOMAIN, "", "mlflow.example.com"),
        (values.DOMAINS, 7, "mlflow.example.com"),
        (values.EMAIL, "jane", "ml@example.com"),
        (values.IMAGE, "https://europe-docker.pkg.dev/p/mlflow", "server:3.17.2"),
        (values.IMAGE, "europe-docker.pkg.dev/example.com:proj/mlflow/server:1", "is example.com/my-project in it"),
        (values.IPV4, "10.20.0", "10.20.0.0"),
        (values.KMS_KEY, "mlflow", "a key of Cloud KMS such as projects/"),
        (values.KMS_KEY, f"{key('europe-west2')}/cryptoKeyVersions/1", "without a version"),
        (values.LABELS, ["team"], "lower-case"),
        (values.MAINTENANCE_WINDOW, {"day": 0}, "day 1 (Monday) to 7"),
        (values.MEMORY, "2GB", "2Gi"),
        (values.MEMORY, "0Gi", "2Gi"),
        (values.NAME, "MLflow", "lower-case"),
        (values.NAME, "mlflow-", "not ending with a hyphen"),
        (values.RUN_NAME, "m" * 50, "1 to 49"),
        (values.OAUTH_CLIENT_ID, "my-client", "apps.googleusercontent.com"),
        (values.PROJECT_ID, "My Project", "project id"),
        (values.REGION, "europe", "perhaps europe-"),
        (values.REGION, "europe-west99", "europe-west9"),
        (values.REGION, "EUROPE-WEST2", "perhaps europe-west2"),
        (values.REGION, "mars", "a region of Google Cloud such as europe-west2"),
        (values.REGION, "europe-west2-a", "europe-west2"),
        (values.SAMPLE_RATE, 1.5, "0 to 1"),
        (values.SOFT_DELETE_SECONDS, 60, "7 days"),
        (values.SUBNETWORK_RANGE, "10.10.0.0/28", "/26"),
        (values.SUBNETWORK_RANGE, "10.10.0.7/24", "first address"),
        (values.SUBNETWORK_RANGE, "ten", "10.10.0.0/24"),
        (values.TIME, "3 am", "03:00"),
        (values.TIME, "24:00", "03:00"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(kind, value, allowed):
    with pytest.raises(values.Refused) as refused:
        kind.check(value)
    assert refused.value.value == value
    assert allowed in refused.value.allowed


@pytest.mark.parametrize(
    "kind, value, part",
    [
        (values.DOMAINS, ["mlflow.example.com", "https://mlflow.example.com"], "https://mlflow.example.com"),
        (values.ENVIRONMENT, {"A": "1", "PORT": "80"}, "PORT"),
        (values.MEMBERS, "user:jane@example.com, bob@example.com", "bob@example.com"),
        (values.MEMBERS, ["allUsers"], "allUsers"),
        (values.API_NAMES, ["run"], "run"),
        (values.LABELS, {"team": "ml", "Team": "ml"}, "Team: ml"),
        (values.LABELS, {"prod": True, "cost": 1.5}, "cost: 1.5"),
        (values.LABELS, {"mlflow-gcp-labels-2": "team"}, "mlflow-gcp-labels-2: team"),
    ],
)
def test_the_wrong_part_of_a_value_is_named(kind, value, part):
    with pytest.raises(values.Refused) as refused:
        kind.check(value)
    assert refused.value.value == part


@pytest.mark.parametrize(
    "region, doubt",
    [
        ("europe-west2", None),
        ("europe-west13", "not a region that this release knows of; did you mean europe-west"),
        ("antarctica-central1", "not a region that this release knows of"),
    ],
)
def test_a_region_that_google_may_have_opened_is_taken_with_a_doubt(region, doubt):
    values.REGION.check(region)
    told = values.REGION.doubt(region)
    assert told is None if doubt is None else doubt in told


@pytest.mark.parametrize(
    "rule, given, allowed",
    [
        (values.tier_of_edition, ["db-g1-small", "ENTERPRISE"], None),
        (values.tier_of_edition, ["db-g1-small", "ENTERPRISE_PLUS"], "db-perf-optimized"),
        (values.tier_of_edition, ["db-perf-optimized-N-2", "ENTERPRISE"], "db-custom"),
        (values.tier_of_edition, ["db-custom-1-3841", "ENTERPRISE"], "multiple of 256"),
        (values.log_days_of_edition, [7, "ENTERPRISE"], None),
        (values.log_days_of_edition, [8, "ENTERPRISE"], "1 to 7"),
        (values.log_days_of_edition, [35, "ENTERPRISE_PLUS"], None),
        (values.logs_need_backups, [True, False], "backup_enabled"),
        (values.logs_need_backups, [False, False], None),
        (values.standby_needs_logs, ["REGIONAL", False], "point_in_time_recovery"),
        (values.standby_needs_logs, ["ZONAL", False], None),
        (values.least_of_most, [1, 1], None),
        (values.least_of_most, [3, 2], "at most max_instances, 2"),
        (values.connections, [4, 3, 1, 50], None),
        (values.connections, [4, 4, 1, 50], "= 50 connections, the database has 44"),
        (values.connections, [1, 3, 1, 25], None),
        (values.connections, [2, 3, 1, 25], "= 22 connections, the database has 19"),
        (values.subnetwork_of_network, ["", ""], None),
        (values.subnetwork_of_network, ["ml", "shared"], None),
        (values.subnetwork_of_network, ["ml", ""], "network's name"),
        (values.range_of_network, ["mlflow-services", "mlflow", "", "peering"], None),
        (values.range_of_network, ["theirs", "mlflow", "shared", "peering"], None),
        (values.range_of_network, ["", "mlflow", "shared", "peering"], None),
        (values.range_of_network, ["", "mlflow", "", "psc"], None),
        (values.range_of_network, ["", "mlflow", "", "peering"], "use mlflow-services, or an existing network"),
        (values.range_of_network, ["theirs", "mlflow", "", "peering"], "a new network has no peering"),
        (values.subnetwork_of_endpoint, ["peering", ""], None),
        (values.subnetwork_of_endpoint, ["psc", "projects/p/regions/r/subnetworks/s"], None),
        (values.subnetwork_of_endpoint, ["psc", ""], "needs the subnetwork"),
        (values.oauth, ["google_managed", "", "", ""], None),
        (values.oauth, ["google_managed", CLIENT, "s3cret", ""], "choose custom"),
        (values.oauth, ["custom", CLIENT, "s3cret", ""], None),
        (values.oauth, ["custom", CLIENT, "", ""], "secret is missing"),
        (values.oauth, ["custom", "", "s3cret", ""], "id is missing"),
        (values.oauth, ["custom", "", "", ""], "id and secret"),
        (values.oauth, ["brand", "", "", "ml@example.com"], None),
        (values.oauth, ["brand", "", "", ""], "support e-mail"),
        (values.zone_of_region, ["europe-west2-a", "europe-west2"], None),
        (values.zone_of_region, ["", "europe-west2"], None),
        (values.key_of_region, [key("europe-west2"), "europe-west2"], None),
        (values.key_of_region, ["", "europe-west2"], None),
        (values.key_of_region, [key("global"), "europe-west2"], "the key is in global: give one in europe-west2"),
        (values.key_of_bucket, [key("europe"), "EU"], None),
        (values.key_of_bucket, [key("us"), "us"], None),
        (values.key_of_bucket, [key("nam4"), "NAM4"], None),
        (values.key_of_bucket, [key("europe-west2"), "EUROPE-WEST2"], None),
        (values.key_of_bucket, [key("europe-west2"), "EU"], "a bucket in EU needs one in europe"),
        (values.key_of_secret, [key("europe-west2"), []], None),
        (values.key_of_secret, [key("europe-west2"), "europe-west2"], None),
        (values.key_of_secret, [key("global"), []], None),
        (values.key_of_secret, ["", ["europe-west1"]], None),
        (values.key_of_secret, [key("europe-west2"), ["europe-west1"]], "give a key in europe-west1"),
        (values.key_of_secret, [key("global"), ["europe-west1"]], "store the secret only there"),
        (values.key_of_secret, [key("europe"), []], "give one in a region, or a global one"),
        (values.zone_of_region, ["europe-west1-b", "europe-west2"], "europe-west2-a"),
    ],
)
def test_values_that_must_fit_together(rule, given, allowed):
    told = rule(*given)
    assert told is None if allowed is None else allowed in told


def test_an_option_of_a_module():
    values.check_option("name", "mlflow", values.NAME)
    with pytest.raises(InvalidInput, match="^option domains: 'b' is not allowed; give a domain name"):
        values.check_option("domains", ["a.example.com", "b"], values.DOMAINS)


def test_options_of_a_module_that_must_fit_together():
    values.check_together({"zone": None, "region": "europe-west2"}, values.zone_of_region, "zone", "region")
    with pytest.raises(InvalidInput, match="^option zone: 'a' is not allowed; a zone of europe-west2 is"):
        values.check_together({"zone": "a", "region": "europe-west2"}, values.zone_of_region, "zone", "region")


def test_ranges_need_a_front_door_that_can_refuse() -> None:
    assert values.ranges_of_front_door([], "cloud_run") is None
    assert values.ranges_of_front_door("10.0.0.0/8", "load_balancer") is None
    assert "internal has no external load balancer" in str(values.ranges_of_front_door(["10.0.0.0/8"], "internal"))


@pytest.mark.parametrize(
    ("previous", "name", "certificate", "told"),
    [
        ("", "lb", "certificate_manager", None),
        ("old", "lb", "managed", None),
        ("lb", "lb", "managed", "this is the name that it has"),
        ("old", "lb", "certificate_manager", "change to managed first"),
    ],
)
def test_a_load_balancer_with_another_name(previous: str, name: str, certificate: str, told: str | None) -> None:
    found = values.renamed(previous, name, certificate)
    assert found == told or told and told in str(found)
