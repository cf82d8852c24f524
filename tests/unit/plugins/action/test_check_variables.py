# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import template
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.mlflow_gcp.plugins.action import check_variables
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import recorded, values
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.shared import SharedChecks

# Before ansible-core 2.19, every text may be a template.
trust_as_template = getattr(template, "trust_as_template", str)
ROLES = ["services", "network", "cloudsql", "bucket", "image", "cloudrun", "iap_lb", "iap_cloud_run", "iap_internal_lb"]
CLIENT = "977178309684-7gcg621ahtq39p03.apps.googleusercontent.com"
REQUIRED = {
    "mlflow_project_id": "my-project",
    "mlflow_region": "europe-west2",
    "mlflow_domain": "mlflow.example.com",
    "mlflow_webapp_users": ["user:jane@example.com"],
}
# As playbooks/vars/wiring.yml has it.
WIRING = {
    "cloudsql_private_network": "{{ network_result.network_path }}",
    "cloudrun_database_host": "{{ cloudsql_result.private_ip_address }}",
    "cloudrun_database_name": "{{ cloudsql_result.database }}",
    "cloudrun_database_user": "{{ cloudsql_result.user }}",
    "cloudrun_password_secret": "{{ cloudsql_result.password_secret }}",
    "cloudrun_password_version": "{{ cloudsql_result.password_version }}",
    "cloudrun_bucket": "{{ bucket_result.name }}",
    "cloudrun_image": "{{ deployed_image.image }}",
    "deployed_image": "{{ image_result | default(mlflow_existing.image) }}",
    "iap_lb_service": "{{ cloudrun_name }}",
    "iap_cloud_run_service": "{{ cloudrun_name }}",
    "iap_internal_lb_service": "{{ cloudrun_name }}",
    "iap_internal_lb_network": "{{ network_result.network_path }}",
    "iap_internal_lb_subnetwork": "{{ network_result.subnetwork_path }}",
}


def trusted(value: Any) -> Any:
    """VALUE as an inventory gives it, whose text may be templates."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, list):
        return [trusted(part) for part in value]
    return {key: trusted(part) for key, part in value.items()} if isinstance(value, dict) else value


def check(arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """What the action returns."""
    task = SimpleNamespace(
        args=arguments, async_val=0, check_mode=False, diff=False, no_log=False, name="", action="check_variables"
    )
    loader = DataLoader()
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    action = check_variables.ActionModule(task, connection, None, loader, Templar(loader), None)
    return action.run(task_vars=trusted(variables))


def site(**variables: Any) -> dict[str, Any]:
    """The check of site.yml, with the variables that have to be set unless they are given."""
    return check({"roles": ROLES}, REQUIRED | WIRING | variables)


def refusal(**variables: Any) -> str:
    """What the check of site.yml finds wrong."""
    with pytest.raises(AnsibleActionFail) as failure:
        site(**variables)
    return str(failure.value)


@pytest.fixture(autouse=True)
def new_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a run of its own, in which nothing has been checked yet."""
    monkeypatch.setattr(check_variables, "CHECKED", SharedChecks())


def test_what_has_to_be_set_is_enough():
    result = site()
    assert not result["changed"] and "warnings" not in result
    assert result["variables"]["iap_lb_name"] == "mlflow-lb"
    assert result["variables"]["bucket_name"] == "my-project-mlflow-artifacts"
    assert result["variables"]["mlflow_gc_older_than"] == "30d"


def test_the_variable_to_name_for_one_that_passes_on_a_value():
    names = site(bucket_location="EU")["names"]
    assert (names["cloudsql_region"], names["network_name"]) == ("mlflow_region", "mlflow_network_name")
    assert "bucket_location" not in names and "mlflow_region" not in names


@pytest.mark.parametrize("name", REQUIRED)
def test_what_has_to_be_set_is_named_once(name):
    variables = {key: value for key, value in (REQUIRED | WIRING).items() if key != name}
    with pytest.raises(AnsibleActionFail) as failure:
        check({"roles": ROLES}, variables)
    assert str(failure.value).startswith(f"{name} is not set; allowed: ")
    assert str(failure.value).count("not set") == 1


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_value_is_not_set(empty):
    assert refusal(mlflow_domain=empty).startswith("mlflow_domain is not set; allowed: a domain name")


def test_users_that_are_not_set_are_no_empty_list():
    site(mlflow_webapp_users=[])
    assert "mlflow_webapp_users is not set" in refusal(mlflow_webapp_users=None)
    assert "or [] for none" in refusal(mlflow_webapp_users=None)


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("mlflow_domain", "mlflow", "mlflow_domain is 'mlflow'; allowed: a domain name"),
        ("mlflow_webapp_users", ["jane@example.com"], "mlflow_webapp_users has 'jane@example.com'; allowed: user:"),
        ("mlflow_oauth", "okta", "mlflow_oauth is 'okta'; allowed: google_managed, custom, brand."),
        ("mlflow_lb_name", "LB", "mlflow_lb_name is 'LB'; allowed: 1 to 54 lower-case letters"),
        ("mlflow_gc_older_than", "a month", "mlflow_gc_older_than is 'a month'; allowed: days"),
        ("iap_lb_domain", "mlflow", "iap_lb_domain is 'mlflow'; allowed: a domain name"),
        ("cloudsql_disk_size_gb", "ten", "cloudsql_disk_size_gb is 'ten'; allowed: a whole number, 10 to 65536."),
        ("cloudsql_maintenance_window", {"hour": 24}, "cloudsql_maintenance_window is "),
        ("cloudrun_memory", "2GB", "cloudrun_memory is '2GB'; allowed: a size such as"),
        ("cloudrun_bucket", "{{ bukcet_name }}", "cloudrun_bucket cannot be evaluated: 'bukcet_name' is undefined."),
        ("mlflow_labels", "{{ 1 / 0 }}", "mlflow_labels cannot be evaluated: "),
        (
            "mlflow_zone",
            "us-east1-b",
            "mlflow_zone is 'us-east1-b', mlflow_region is 'europe-west2': a zone of europe-",
        ),
        ("cloudrun_min_instances", 9, "cloudrun_min_instances is 9, cloudrun_max_instances is 4: give at most"),
    ],
)
def test_one_problem_is_one_sentence(name, value, sentence):
    told = refusal(**{name: value})
    assert told.startswith(sentence)
    assert len(told) < 300 and told.endswith(".")


def test_all_problems_are_reported_at_once():
    told = refusal(mlflow_domain="x", mlflow_region="y", cloudsql_tier="z")
    assert all(name in told for name in ("mlflow_domain is", "mlflow_region is", "cloudsql_tier is"))


def test_what_is_made_of_a_wrong_value_is_not_reported_besides():
    told = refusal(mlflow_name="MLflow")
    assert told.startswith("mlflow_name is 'MLflow'") and told.count("allowed:") == 1


KEY = "projects/security/locations/{}/keyRings/r/cryptoKeys/k"


def test_a_key_in_another_location_names_the_variable_of_the_user():
    assert "mlflow_kms_key" in site(mlflow_kms_key=KEY.format("europe-west2"))["names"]["bucket_kms_key"]
    text = refusal(mlflow_kms_key=KEY.format("us-east1"))
    assert (
        f"mlflow_kms_key is '{KEY.format('us-east1')}', mlflow_region is 'europe-west2': the key is in us-east1" in text
    )
    text = refusal(mlflow_kms_key=KEY.format("europe-west2"), bucket_location="EU")
    assert "bucket_location is 'EU': the key is in europe-west2, and a bucket in EU needs one in europe" in text
    text = refusal(mlflow_kms_key=KEY.format("europe-west2"), mlflow_secret_locations="europe-west1, europe-west2")
    assert "store the secret only there" in text
    site(mlflow_kms_key=KEY.format("europe-west2"), bucket_location="EU", bucket_kms_key=KEY.format("europe"))


def test_one_wrong_tier_is_one_problem():
    told = refusal(
        cloudsql_tier="large",
        cloudrun_database_connections="{{ cloudsql_tier | mlops.mlflow_gcp.max_connections }}",
    )
    assert told.startswith("cloudsql_tier is 'large', cloudsql_edition is 'ENTERPRISE': ") and told.count(":") == 1


def test_a_name_that_is_too_long_for_one_of_its_uses():
    told = refusal(mlflow_name="m" * 24)
    assert told == (
        f"mlflow_name is '{'m' * 24}', 24 characters, and has at most 23 here: the name of the server's service account "
        f"(cloudrun_account_id) is '{'m' * 24}-server', and has at most 30."
    )
    variables = {
        "mlflow_logger_service_account": "mlflow-logger",
        "cloudrun_account_id": "mlflow-server",
        "mlflow_image": "docker.io/a/b:1",
    }
    told = refusal(mlflow_name="m" * 51, **variables)
    assert (
        told.startswith("mlflow_name is 'mmm") and "has at most 42 here: the name of the bucket (bucket_name)" in told
    )


def test_a_variable_of_the_user_that_passes_on_another_one():
    assert refusal(mlflow_domain="{{ domain }}", domain="x").startswith("mlflow_domain is 'x'")


def test_text_as_surveys_of_awx_give_it():
    text = {
        "bucket_versioning": "yes",
        "cloudrun_cpu": 2,
        "cloudrun_env": "MLFLOW_LOGGING_LEVEL: DEBUG\r\nNOTE: 'a, b=c'\r\n",
        "cloudrun_max_instances": "4",
        "cloudsql_labels": "team=ml,prod=true",
        "cloudsql_maintenance_window": '{"day": "7", "hour": 3}',
        "iap_lb_log_sample_rate": "1.0",
        "mlflow_extra_domains": '["models.example.com", "ml.example.com"]',
        "mlflow_gc_dry_run": "False",
        "mlflow_labels": '{"team": "ml", "prod": true, "number": 1234}',
        "mlflow_webapp_users": "user:jane@example.com\r\n\r\n- 'group:ml@example.com'\n",
        "services_names": "run.googleapis.com, iap.googleapis.com",
    }
    found = site(**text)["variables"]
    assert {name: found[name] for name in text} == {
        "bucket_versioning": True,
        "cloudrun_cpu": "2",
        "cloudrun_env": {"MLFLOW_LOGGING_LEVEL": "DEBUG", "NOTE": "a, b=c"},
        "cloudrun_max_instances": 4,
        "cloudsql_labels": {"team": "ml", "prod": "true"},
        "cloudsql_maintenance_window": {"day": "7", "hour": 3},
        "iap_lb_log_sample_rate": 1.0,
        "mlflow_extra_domains": ["models.example.com", "ml.example.com"],
        "mlflow_gc_dry_run": False,
        "mlflow_labels": {"team": "ml", "prod": True, "number": 1234},
        "mlflow_webapp_users": ["user:jane@example.com", "group:ml@example.com"],
        "services_names": ["run.googleapis.com", "iap.googleapis.com"],
    }


def test_questions_that_were_not_answered():
    text = {"mlflow_zone": "", "mlflow_brand_name": "", "mlflow_network_name": ""}
    containers = {"mlflow_labels": "", "cloudrun_env": "", "cloudsql_database_flags": None, "mlflow_extra_domains": ""}
    found = site(**text, **containers, cloudsql_maintenance_window="")["variables"]
    assert [found[name] for name in containers] == [{}, {}, {}, []]
    told = refusal(mlflow_webapp_users="", mlflow_oauth="", cloudrun_max_instances="", bucket_versioning=None)
    assert "mlflow_webapp_users is not set; allowed: user:" in told and "or [] for none" in told
    assert "mlflow_oauth is not set; allowed: google_managed, custom, brand." in told
    assert "cloudrun_max_instances is not set; allowed: a whole number, 1 to 10000." in told
    assert "bucket_versioning is not set; allowed: true or false." in told
    assert "mlflow_network_name is not set; allowed: 1 to 63" in refusal(mlflow_network_name=None)


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("mlflow_labels", "team", "mlflow_labels is 'team'; allowed: a dictionary, or text such as"),
        ("mlflow_labels", ["team"], "mlflow_labels is ['team']; allowed: a dictionary, or text such as"),
        ("mlflow_labels", {"team": "ml", "Prod": True}, "mlflow_labels has 'Prod: true'; allowed: keys and values"),
        (
            "mlflow_labels",
            {"team": {"name": "ml"}},
            "mlflow_labels has \"team: {'name': 'ml'}\"; allowed: keys and values",
        ),
        ("mlflow_labels", '{"mlflow-gcp-labels": "team"}', "mlflow_labels has 'mlflow-gcp-labels: team'; allowed: "),
        ("cloudrun_env", "PORT=80", "cloudrun_env has 'PORT'; allowed: a variable's name other than PORT"),
        ("cloudrun_env", {"A": ["x"]}, "cloudrun_env has \"A: ['x']\"; allowed: a variable's name"),
        (
            "cloudsql_database_flags",
            "max_connections=lots",
            "cloudsql_database_flags has 'max_connections: lots'; allowed",
        ),
        (
            "cloudsql_database_flags",
            {"max_connections": ""},
            "cloudsql_database_flags has 'max_connections: '; allowed",
        ),
        ("cloudsql_maintenance_window", "day=7", "cloudsql_maintenance_window is {'day': '7'}; allowed: day 1"),
        ("cloudrun_max_instances", True, "cloudrun_max_instances is True; allowed: a whole number, 1 to 10000."),
        ("cloudsql_user", ["mlflow"], "cloudsql_user is ['mlflow']; allowed: 1 to 63"),
        ("services_names", "run", "services_names is 'run'; allowed: the full name of an API"),
        ("bucket_location", "EUR", "bucket_location is 'EUR'; allowed: a region of Google Cloud"),
    ],
)
def test_text_that_is_no_value_is_refused_by_name(name, value, sentence):
    told = refusal(**{name: value})
    assert told.startswith(sentence) and told.endswith(".")


@pytest.mark.parametrize(
    "flags",
    [
        {"max_connections": 30},
        '{"max_connections": 30}',
        "max_connections: 30",
        "max_connections=30",
        {"max_connections": "30"},
    ],
)
def test_the_connections_of_the_database_are_counted_however_the_flags_are_given(flags):
    wired = "{{ cloudsql_tier | mlops.mlflow_gcp.max_connections(cloudsql_database_flags) }}"
    told = refusal(cloudsql_database_flags=flags, cloudrun_database_connections=wired)
    assert "cloudrun_database_connections is 30: a rollout takes" in told
    for none in ("", None, {"max_connections": None}, "max_connections: null"):
        found = site(cloudsql_database_flags=none, cloudrun_database_connections=wired)["variables"]
        assert found["cloudrun_database_connections"] == 50


WIRED = {
    "cloudrun_database_connections": "{{ cloudsql_tier | mlops.mlflow_gcp.max_connections(cloudsql_database_flags) }}"
}


def test_a_size_sets_everything_that_grows_together():
    found = site(mlflow_size="large", cloudrun_min_instances=1, **WIRED)["variables"]
    assert found["cloudsql_tier"] == "db-custom-2-7680" and found["cloudsql_availability_type"] == "REGIONAL"
    assert (found["cloudrun_cpu"], found["cloudrun_min_instances"], found["cloudrun_max_instances"]) == ("2", 1, 12)
    assert found["cloudrun_database_connections"] == 400


def test_a_wrong_size_is_one_finding():
    told = refusal(mlflow_size="tiny")
    assert (
        told.startswith("mlflow_size is 'tiny'; allowed: small, medium, large, xlarge.") and "cloudsql_tier" not in told
    )


@pytest.mark.parametrize(
    "own", [{"cloudrun_max_instances": 7}, {"cloudsql_tier": "db-g1-small"}, {"cloudrun_pool_size": 6}]
)
def test_what_is_set_beside_a_size_must_fit_too(own):
    assert "a rollout takes" in refusal(mlflow_size="medium", **own, **WIRED)


@pytest.mark.parametrize("location", ["EU", "eu", "US", "asia1", "EUR4", "nam4", "europe-west2", "EUROPE-WEST2"])
def test_places_of_a_bucket(location):
    assert "warnings" not in site(bucket_location=location)


def test_a_project_of_a_domain():
    found = site(mlflow_project_id="example.com:proj")["variables"]
    assert found["cloudsql_project_id"] == "example.com:proj"
    assert found["bucket_name"] == "example-com-proj-mlflow-artifacts"
    assert "is 'example.com'; allowed: a project id" in refusal(mlflow_project_id="example.com")


def test_the_project_of_the_environment(monkeypatch):
    variables = {key: value for key, value in (REQUIRED | WIRING).items() if key != "mlflow_project_id"}
    monkeypatch.setenv("GCP_PROJECT", "of-the-environment")
    for_role = check({"role": "bucket"}, {"bucket_location": "EU"})
    assert for_role["variables"]["bucket_project_id"] == "of-the-environment"
    assert check({"roles": ROLES}, variables)["variables"]["bucket_project_id"] == "of-the-environment"


@pytest.mark.parametrize(
    "variables, sentence",
    [
        (
            {"mlflow_lb_name": "data-platform-machine-learning-experiment-tracking-lb-prod"},
            "mlflow_lb_name is 'data-platform-machine-learning-experiment-tracking-lb-prod', 58 characters, and has at most 54",
        ),
        ({"cloudrun_name": "m" * 50}, f"cloudrun_name is '{'m' * 50}', 50 characters, and has at most 23 here: "),
        ({"cloudrun_name": "m" * 50, "cloudrun_account_id": "server"}, "cloudrun_name is 'mmm"),
        (
            {"cloudsql_name": "s" * 60, "network_private_access": "psc", "cloudsql_private_access": "psc"},
            f"cloudsql_name is '{'s' * 60}', 60 characters, and has at most 59 here: the name of the endpoint",
        ),
        ({"network_prefix": "n" * 51}, f"network_prefix is '{'n' * 51}', 51 characters, and has at most 48 here: "),
        ({"bucket_name": "b" * 64}, "bucket_name is 'bbb"),
        (
            {"mlflow_name": "{{ stem }}-production-of-the-team", "stem": "mlflow"},
            "mlflow_name is 'mlflow-production-of-",
        ),
        (
            {"cloudsql_name": "s" * 90},
            f"cloudsql_name is '{'s' * 90}', 90 characters, and has at most 87 here: the name ",
        ),
    ],
)
def test_a_name_that_is_too_long_is_refused_by_the_variable_to_shorten(variables, sentence):
    told = refusal(**variables)
    assert told.startswith(sentence) and told.count("allowed:") + told.count("at most") <= 2


def test_a_name_that_is_not_used_may_be_long():
    prefix = {"network_prefix": "n" * 48, "network_name": "theirs", "network_subnetwork_name": "theirs"}
    site(**prefix, mlflow_region="northamerica-northeast1", cloudsql_name="s" * 80)


def test_every_name_that_a_role_gives_is_in_the_table():
    patterns = {name.pattern for name in values.NAMES}
    # Of what exists, or e-mail addresses.
    others = {"network_name", "network_subnetwork_name", "iap_lb_logger_account_id", "cloudrun_account_id"}
    for role in ROLES:
        folder = check_variables.ROLES / role
        own = yaml.safe_load((folder / "vars/main.yml").read_text()) if (folder / "vars/main.yml").is_file() else {}
        entries = [entry for file in (folder / "tasks").glob("*.yml") for entry in yaml.safe_load(file.read_text())]
        tasks = [task for entry in entries for task in entry.get("block", [entry])]
        names = [
            options["name"]
            for task in tasks
            for action, options in task.items()
            # The names of records are those of domains.
            if action.startswith(("mlops.mlflow_gcp.", "google.cloud."))
            and "name" in options
            and "dns_record" not in action
        ]
        assert names or role == "services"
        for name in names:
            if name == "{{ item }}":
                continue  # what exists
            while internal := re.search(r"\{\{ (\w+__\w+) \}\}", name):
                name = name.replace(internal[0], own[internal[1]])
            pattern = re.sub(r"\{\{ (\w+) \}\}", r"{\1}", name)
            if "|" in pattern:
                assert re.search(r"\w+", pattern)[0] in others, name
            elif "{item}" in pattern:
                assert {pattern.replace("{item}", key) for key in own["cloudrun__key_names"]} <= patterns
            else:
                # Or with the project, or with the part that is computed.
                assert any(re.fullmatch(rf"(?:.*:)?{re.escape(pattern)}(?:-0+)?", known) for known in patterns), name


def test_a_secret_is_never_shown():
    secret = {"mlflow_oauth_client_secret": "hush"}
    assert "hush" not in refusal(**secret, mlflow_oauth="custom")
    result = site(**secret, mlflow_oauth="custom", mlflow_oauth_client_id=CLIENT)
    assert "hush" not in str(result)
    assert result["variables"]["cloudsql_password_secret"] == "mlflow-db-password"


def test_a_region_that_this_release_does_not_know_is_a_warning():
    result = site(mlflow_region="europe-west13")
    (warning,) = result["warnings"]
    assert warning.startswith("mlflow_region is 'europe-west13', which is not a region that this release knows of")
    variables = REQUIRED | {"mlflow_region": "europe-west13"}
    assert "warnings" not in check({"role": "network"}, variables)


def test_what_comes_later_is_checked_by_the_role(monkeypatch):
    play = site()
    assert "cloudrun_bucket" not in play["variables"]
    variables = REQUIRED | WIRING | {"bucket_result": {"name": "Bucket"}}
    with pytest.raises(AnsibleActionFail, match="^cloudrun_bucket is 'Bucket'; allowed: 3 to 63"):
        check({"role": "cloudrun"}, variables | later())


def later() -> dict[str, Any]:
    """What the roles before cloudrun return."""
    database = {"private_ip_address": "10.0.0.3", "database": "d", "user": "u", "password_secret": "s"}
    return {"cloudsql_result": {**database, "password_version": "1"}, "image_result": {"image": "docker.io/a/b:1"}}


def test_nothing_is_checked_twice(monkeypatch):
    site()
    checked: list[Any] = []
    check_kind = values.Kind.check
    monkeypatch.setattr(values.Kind, "check", lambda kind, value: checked.append(value) or check_kind(kind, value))
    for role in ROLES:
        # The defaults of all roles of a play are known to each.
        variables = (
            REQUIRED
            | WIRING
            | later()
            | {"cloudrun_name": "{{ mlflow_name }}"}
            | {"bucket_result": {"name": "b-1"}, "network_result": {"network_path": "n", "subnetwork_path": "s"}}
        )
        check({"role": role}, variables)
    assert sorted(checked) == ["b-1", "d", "docker.io/a/b:1", "s", "u"]


def test_another_value_is_checked_again():
    site()
    variables = REQUIRED | {"iap_lb_oauth": "custom"}
    with pytest.raises(AnsibleActionFail, match="custom needs the client's id and secret"):
        check({"role": "iap_lb"}, variables)


def test_a_role_that_is_included_alone():
    check({"role": "network"}, {"network_project_id": "my-project", "network_region": "europe-west2"})
    with pytest.raises(AnsibleActionFail) as failure:
        check({"role": "network"}, {"network_region": "europe-west2"})
    told = str(failure.value)
    assert told.startswith("network_project_id (or mlflow_project_id) is not set; allowed: a project id")
    assert "GCP_PROJECT" in told


def test_a_role_that_is_not_there():
    with pytest.raises(AnsibleActionFail, match="no role 'nework'"):
        check({"role": "nework"}, {})


def test_every_rule_is_about_a_variable_that_exists():
    options = check_variables.Variables(Templar(DataLoader()), {}, ["mlflow", *ROLES]).options
    names = {name for _, together in values.TOGETHER for name in together}
    names |= {name.when[0] for name in values.NAMES if name.when}
    names |= {variable for name in values.NAMES for variable in re.findall(r"{(\w+)}", name.pattern)}
    assert names <= options.keys()
    endings = {name.removeprefix(f"{role}_") for role in ["mlflow", *ROLES] for name in options}
    assert values.KINDS.keys() <= options.keys() | endings


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"image_source": "/nowhere"},
            "image_source is '/nowhere'; allowed: the path of a folder with a Containerfile",
        ),
        ({"image_extra_packages": ["boto3>=1"]}, "image_extra_packages has 'boto3>=1'; allowed: Python packages, each"),
        ({"image_extra_packages": "a==1, b"}, "image_extra_packages has 'b'; allowed: Python packages, each"),
        ({"image_build_region": "europe"}, "image_build_region is 'europe'; allowed: a region of Google Cloud"),
        ({"image_keep_newest": 0}, "image_keep_newest is 0; allowed: 1 to 1000"),
        ({"image_readers": "allUsers"}, "image_readers is 'allUsers'; allowed: members by name"),
        ({"image_repository": "Mlflow"}, "image_repository is 'Mlflow'; allowed: 1 to 63 lower-case letters"),
        ({"mlflow_image": "docker.io/a/b:1", "image_extra_packages": ["c==1"]}, "an image that is given is not built"),
        (
            {"mlflow_image": "https://docker.io/a/b"},
            "mlflow_image is 'https://docker.io/a/b'; allowed: an image such as",
        ),
    ],
)
def test_what_cannot_be_built(variables, message):
    assert message in refusal(**variables)


def test_an_image_need_not_be_given():
    result = site()
    assert (
        result["variables"]["image_reference"] == "" and result["variables"]["image_build_account_id"] == "mlflow-build"
    )


def with_other(other: dict[str, Any], **variables: Any) -> dict[str, Any]:
    """The variables of host a, in a play with host b."""
    hosts = {"a": {}, "b": trusted(REQUIRED | {"mlflow_name": "b", "mlflow_domain": "b.example.com"} | other)}
    play = {"inventory_hostname": "a", "ansible_play_hosts_all": ["a", "b"]}
    return {**variables, **play, "hostvars": SimpleNamespace(raw_get=hosts.__getitem__)}


def test_hosts_with_load_balancers_of_their_own():
    site(**with_other({}))
    site(**with_other({"mlflow_name": "mlflow", "mlflow_project_id": "other-project"}))
    # What is wrong there is reported there.
    site(**with_other({"mlflow_domain": "{{ undefined }}", "mlflow_name": "mlflow"}))
    assert not check({"roles": ["network"]}, with_other({}, **REQUIRED))["changed"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            {"mlflow_domain": "mlflow.example.com"},
            "mlflow_domain is 'mlflow.example.com', which b has too: a domain leads to",
        ),
        (
            {"mlflow_extra_domains": "x.example.com, mlflow.example.com"},
            "mlflow_domain is 'mlflow.example.com', which b has",
        ),
        ({"iap_lb_domain": "models.example.com"}, "mlflow_extra_domains has 'models.example.com', which b has too"),
        (
            {"mlflow_name": "mlflow"},
            "mlflow_name is 'mlflow' on b too, in the same project my-project: give each host its",
        ),
        ({"iap_lb_name": "mlflow-lb"}, "mlflow_name is 'mlflow' on b too, in the same project my-project"),
    ],
)
def test_two_hosts_with_one_load_balancer_or_domain(other, told):
    assert refusal(**with_other(other, mlflow_extra_domains=["models.example.com"])).startswith(told)


def test_other_hosts_are_checked_once():
    variables = with_other({"mlflow_domain": "mlflow.example.com"})
    site(inventory_hostname=variables["inventory_hostname"])
    assert check({"role": "iap_lb"}, REQUIRED | WIRING | variables | {"cloudrun_name": "{{ mlflow_name }}"})


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"iap_lb_certificate": "existing"}, "existing needs the names of certificates, or that of a certificate map"),
        (
            {"iap_lb_certificate": "existing", "iap_lb_certificates": "a, b", "iap_lb_certificate_map": "m"},
            "existing needs the names of certificates, or that of a certificate map, not both",
        ),
        ({"iap_lb_certificate_map": "m"}, "managed takes no certificate_map: leave it out or choose existing"),
        (
            {"iap_lb_certificate": "self"},
            "iap_lb_certificate is 'self'; allowed: managed, certificate_manager, existing",
        ),
        ({"mlflow_dns_zone": "example.com"}, "mlflow_dns_zone is 'example.com'; allowed: the name of a managed zone"),
        (
            {"mlflow_dns_zone": "projects/p/zones/z"},
            "mlflow_dns_zone is 'projects/p/zones/z'; allowed: the name of a managed",
        ),
        ({"iap_lb_dns_replaces": "1.2.3.4, a b"}, "iap_lb_dns_replaces has 'a b'; allowed: addresses or names"),
        ({"iap_lb_certificate_timeout": 0}, "iap_lb_certificate_timeout is 0; allowed: 1 or more"),
    ],
)
def test_certificates_and_zones(variables, told):
    assert told in refusal(**variables)


def test_a_zone_of_another_project_and_existing_certificates_are_accepted():
    site(
        mlflow_dns_zone="projects/dns-project/managedZones/example-com",
        iap_lb_dns_replaces=["203.0.113.9", "old.example.com"],
    )
    site(iap_lb_certificate="existing", iap_lb_certificates="wildcard")
    site(iap_lb_certificate="existing", iap_lb_certificate_map="projects/p/locations/global/certificateMaps/m")


# -- front doors

CLOUD_RUN = {"mlflow_front_door": "cloud_run", "mlflow_domain": ""}
INTERNAL = {
    **REQUIRED,
    "iap_internal_lb_network": "corp",
    "iap_internal_lb_subnetwork": "corp",
    "iap_internal_lb_certificate_chain": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n" * 2,
    "iap_internal_lb_private_key": "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----",
}
ENCRYPTED = "-----{0} ENCRYPTED PRIVATE KEY-----\n"
POOL = "projects/pki/locations/europe-west2/caPools/corp"


def test_the_front_door_of_cloud_run_needs_no_domain():
    result = site(**CLOUD_RUN)["variables"]
    assert (result["cloudrun_iap_enabled"], result["cloudrun_ingress"]) == (True, "INGRESS_TRAFFIC_ALL")
    # What takes a load balancer away has its names.
    assert (result["iap_lb_name"], result["iap_lb_address_name"]) == ("mlflow-lb", "mlflow-lb-ip")


def test_a_load_balancer_needs_one():
    assert "mlflow_domain is not set; allowed: a domain name" in refusal(mlflow_domain="")


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"mlflow_domain": "mlflow.example.com"},
            "mlflow_domain is 'mlflow.example.com', but the front door cloud_run",
        ),
        ({"mlflow_extra_domains": ["a.example.com"]}, "mlflow_extra_domains is ['a.example.com'], but the front door"),
        ({"iap_lb_certificate": "existing"}, "iap_lb_certificate is 'existing', but the front door cloud_run"),
        ({"iap_lb_certificate": "wrong"}, "iap_lb_certificate is set, but the front door cloud_run"),
        ({"iap_lb_users": ["user:eve@example.com"]}, "iap_lb_users is ['user:eve@example.com'], but"),
        (
            {
                "mlflow_front_door": "load_balancer",
                "mlflow_domain": "a.example.com",
                "iap_cloud_run_users": ["user:a@b.de"],
            },
            "iap_cloud_run_users is ['user:a@b.de'], but the front door load_balancer",
        ),
        ({"mlflow_oauth": "brand", "mlflow_support_email": "a@example.com"}, "takes google_managed or custom"),
        ({"mlflow_oauth": "custom"}, "custom needs the client's id and secret"),
        ({"cloudrun_iap_enabled": False}, "exactly that of the front door cloud_run: leave cloudrun_iap_enabled out"),
        ({"mlflow_front_door": "vpn"}, "mlflow_front_door is 'vpn'; allowed: load_balancer, cloud_run, internal."),
        ({"iap_internal_lb_ca_pool": POOL}, "iap_internal_lb_ca_pool is 'projects/pki/"),
        ({"mlflow_front_door": "internal"}, "mlflow_domain is not set; allowed: a domain name"),
        (
            {"mlflow_front_door": "internal", "mlflow_domain": "a.example.com"},
            "self_managed needs the certificate's chain and private key",
        ),
        (
            {"mlflow_front_door": "internal", "mlflow_allowed_ranges": ["203.0.113.0/24"]},
            "mlflow_allowed_ranges is ['203.0.113.0/24'], mlflow_front_door is 'internal': internal has no external load",
        ),
    ],
)
def test_what_a_front_door_has_no_use_for_is_refused(variables, told):
    assert told in refusal(**CLOUD_RUN | variables)


def test_the_internal_front_door():
    certificate = {name: INTERNAL[f"iap_internal_lb_{name}"] for name in ("certificate_chain", "private_key")}
    certificate = {f"iap_internal_lb_{name}": value for name, value in certificate.items()}
    result = site(mlflow_front_door="internal", **certificate)["variables"]
    assert (result["iap_internal_lb_name"], result["iap_internal_lb_domain"]) == (
        "mlflow-internal",
        "mlflow.example.com",
    )
    assert result["cloudrun_ingress"] == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"


def test_a_name_that_only_another_front_door_would_make_longer_is_accepted():
    accounts = {
        "mlflow_logger_service_account": "logger",
        "cloudrun_account_id": "server",
        "image_build_account_id": "builder",
    }
    site(mlflow_name="m" * 46, cloudrun_job_name="admin", bucket_name="bbb", image_source_bucket="sss", **accounts)


def test_what_takes_a_previous_load_balancer_away_may_be_set():
    site(**CLOUD_RUN, mlflow_dns_zone="example-com", mlflow_lb_name="lb", iap_lb_address_name="theirs")


def test_the_front_doors_are_those_of_the_specification():
    (spec,) = yaml.safe_load((check_variables.ROLES / "mlflow/meta/argument_specs.yml").read_text())[
        "argument_specs"
    ].values()
    assert spec["options"]["mlflow_front_door"]["choices"] == list(values.FRONT_DOORS)
    assert set(values.FRONT_DOORS.values()) <= set(ROLES)
    assert values.ONLY_WITH.keys() <= spec["options"].keys()
    shared = {"project_id", "users", "logger_account_id", "logger_token_creators", "oauth", "allow_nobody"}
    for role in values.FRONT_DOORS.values():
        assert {f"{role}_{name}" for name in shared} <= check_variables.files(role)[0].keys()


def test_two_hosts_with_one_service():
    other = {**CLOUD_RUN, "mlflow_name": "mlflow"}
    assert "mlflow_name is 'mlflow' on b too, in the same project my-project" in refusal(
        **with_other(other, **CLOUD_RUN)
    )
    site(**with_other({**CLOUD_RUN, "mlflow_name": "other"}, **CLOUD_RUN))
    site(**with_other({**other, "mlflow_region": "europe-west1"}, **CLOUD_RUN))


def test_the_certificate_of_an_internal_load_balancer():
    found = check({"role": "iap_internal_lb"}, INTERNAL)
    assert "MHcC" not in str(found) and "MIIB" not in str(found)
    by_pool = {"iap_internal_lb_certificate": "ca_pool", "iap_internal_lb_ca_pool": POOL}
    nothing = {"iap_internal_lb_certificate_chain": "", "iap_internal_lb_private_key": ""}
    check({"role": "iap_internal_lb"}, INTERNAL | by_pool | nothing)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"iap_internal_lb_certificate_chain": "MIIB"},
            "iap_internal_lb_certificate_chain is 'VALUE_.*certificates in PEM",
        ),
        (
            {"iap_internal_lb_private_key": "SECRET"},
            "iap_internal_lb_private_key is 'VALUE_.*a private key in PEM without a pass",
        ),
        (
            {"iap_internal_lb_private_key": f"{ENCRYPTED.format('BEGIN')}SECRET\n{ENCRYPTED.format('END')}"},
            "without a passphrase",
        ),
        ({"iap_internal_lb_private_key": ""}, "self_managed needs the certificate's private key"),
        ({"iap_internal_lb_ca_pool": POOL}, "self_managed takes no CA pool"),
        ({"iap_internal_lb_certificate": "ca_pool"}, "ca_pool needs the CA pool"),
        (
            {"iap_internal_lb_certificate": "ca_pool", "iap_internal_lb_ca_pool": POOL},
            "ca_pool takes no certificate and key",
        ),
        (
            {"iap_internal_lb_certificate": "managed"},
            "iap_internal_lb_certificate is 'managed'; allowed: self_managed, ca_pool",
        ),
        (
            {"iap_internal_lb_proxy_range": "10.11.0.0/27"},
            "iap_internal_lb_proxy_range is '10.11.0.0/27'; allowed: an IPv4 range of /26",
        ),
        ({"mlflow_oauth": "brand"}, "iap_internal_lb_oauth is 'brand'; allowed: google_managed, custom"),
        ({"mlflow_oauth": "custom"}, "custom needs the client's id and secret"),
        ({"iap_internal_lb_name": "x" * 55}, "iap_internal_lb_name is 'x*', 55 characters, and has at most 54 here"),
    ],
)
def test_what_an_internal_load_balancer_cannot_have(variables, message):
    with pytest.raises(AnsibleActionFail) as failure:
        check({"role": "iap_internal_lb"}, INTERNAL | variables)
    assert re.search(message, str(failure.value), re.S), str(failure.value)
    assert not re.search("SECRET|MHcC|MIIB", str(failure.value))


def test_a_ca_pool_in_another_region():
    pool = {"iap_internal_lb_certificate": "ca_pool", "iap_internal_lb_ca_pool": POOL.replace("west2", "west1")}
    nothing = {"iap_internal_lb_certificate_chain": "", "iap_internal_lb_private_key": ""}
    with pytest.raises(AnsibleActionFail, match="the CA pool is in europe-west1: give one in europe-west2"):
        check({"role": "iap_internal_lb"}, INTERNAL | pool | nothing)


ACCOUNT_KEY = (
    '{"type": "service_account", "client_email": "a@x.iam.gserviceaccount.com", "private_key": "not-to-be-seen"}'
)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"mlflow_auth_kind": "password"}, ["mlflow_auth_kind is 'password'; allowed: application, serviceaccount"]),
        (
            {"mlflow_auth_kind": "serviceaccount"},
            ["mlflow_auth_kind is 'serviceaccount': it needs mlflow_service_account_file or"],
        ),
        ({"mlflow_auth_kind": "accesstoken"}, ["it needs mlflow_access_token"]),
        (
            {"mlflow_auth_kind": "application", "mlflow_service_account_file": "key.json"},
            [
                "mlflow_service_account_file is 'key.json': mlflow_service_account_file is for mlflow_auth_kind serviceaccount"
            ],
        ),
        (
            {"mlflow_service_account_file": "key.json", "mlflow_access_token": "not-to-be-seen"},
            ["only one of mlflow_service_account_file, mlflow_access_token can be set"],
        ),
        (
            {"mlflow_service_account_contents": "not-to-be-seen"},
            ["mlflow_service_account_contents is", "the JSON of a service account"],
        ),
        ({"mlflow_access_token": "not-to-be-seen\n"}, ["mlflow_access_token is", "without blanks and line ends"]),
        (
            {"mlflow_impersonate_service_account": "deployer"},
            ["mlflow_impersonate_service_account is 'deployer'", "e-mail address"],
        ),
        (
            {"mlflow_impersonate_delegates": ["c@x.iam.gserviceaccount.com"]},
            ["it needs mlflow_impersonate_service_account"],
        ),
        ({"mlflow_quota_project": "No Project"}, ["mlflow_quota_project is 'No Project'"]),
    ],
)
def test_credentials_that_are_not_possible(given, parts):
    said = refusal(**given)
    assert all(part in said for part in parts), said
    assert "not-to-be-seen" not in said


def test_credentials_of_a_host_do_not_show():
    shown = site(mlflow_service_account_contents=json.loads(ACCOUNT_KEY))["variables"]
    assert shown["mlflow_service_account_contents"] == values.HIDDEN
    assert site(mlflow_service_account_contents=ACCOUNT_KEY)["variables"]["mlflow_auth_kind"] == ""


def test_a_deployment_records_the_names_that_are_not_the_default():
    where = {
        "mlflow_project_id": "my-project",
        "mlflow_region": "europe-west2",
        "mlflow_name": "mlflow",
        "mlflow_front_door": "load_balancer",
        "mlflow_domain": "mlflow.example.com",
    }
    assert site()["record"] == where
    # A default that somebody has written down, sizes, secrets and who has access are not recorded.
    same = site(
        cloudsql_name="mlflow",
        mlflow_lb_name="{{ mlflow_name }}-lb",
        mlflow_size="large",
        mlflow_extra_domains=[],
        mlflow_access_token="ya29.x",
    )
    assert same["record"] == where
    other = site(
        cloudsql_name="db", mlflow_extra_domains="b.example.com", iap_lb_project_id="front-project", mlflow_name="ml"
    )
    assert other["record"] == where | {
        "mlflow_name": "ml",
        "cloudsql_name": "db",
        "mlflow_extra_domains": ["b.example.com"],
        "iap_lb_project_id": "front-project",
    }
    assert "mlflow_domain" not in site(mlflow_front_door="cloud_run", mlflow_domain="")["record"]
    assert check({"role": "network"}, REQUIRED)["record"] == {}


def test_every_name_that_is_recorded_is_a_variable_and_no_secret():
    options = check_variables.Variables(Templar(DataLoader()), {}, [check_variables.DEPLOYMENT, *ROLES]).options
    assert options.keys() >= recorded.NAMES
    assert not [name for name in recorded.NAMES if options[name].secret]


def test_what_somebody_has_set_is_returned_without_secrets() -> None:
    """Nothing has to be set: the play finds out the rest."""
    set_by_somebody = {
        "mlflow_project_id": "my-project",
        "mlflow_webapp_users": "user:jane@example.com, user:joe@example.com",
        "cloudsql_password_secret": "mlflow-db-pwd",
        "network_reserved_range": "",
        "mlflow_oauth_client_secret": "not-to-be-seen",
    }
    result = check({"roles": ROLES, "only_given": True}, set_by_somebody | {"mlflow_region": ""})
    assert result["given"] == {
        "mlflow_project_id": "my-project",
        "mlflow_webapp_users": ["user:jane@example.com", "user:joe@example.com"],
        "cloudsql_password_secret": "mlflow-db-pwd",
        "network_reserved_range": "",
    }
    with pytest.raises(AnsibleActionFail, match=r"^mlflow_region is 'mars'; allowed: .* bucket_name is 'B'; allowed: "):
        check({"roles": ROLES, "only_given": True}, {"mlflow_region": "mars", "bucket_name": "B"})
