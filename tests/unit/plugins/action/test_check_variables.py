# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.mlops.mlflow_gcp.plugins.action import check_variables
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values

ROLES = ["services", "network", "cloudsql", "bucket", "cloudrun", "iap_lb"]
CLIENT = "977178309684-7gcg621ahtq39p03.apps.googleusercontent.com"
REQUIRED = {
    "mlflow_project_id": "my-project",
    "mlflow_region": "europe-west2",
    "mlflow_image": "europe-docker.pkg.dev/my-project/mlflow/server:3.17.2",
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
    "iap_lb_service": "{{ cloudrun_name }}",
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
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, diff=False)
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


def test_what_has_to_be_set_is_enough():
    result = site()
    assert not result["changed"] and "warnings" not in result
    assert result["variables"]["iap_lb_name"] == "mlflow-lb"
    assert result["variables"]["bucket_name"] == "my-project-mlflow-artifacts"
    assert result["variables"]["mlflow_gc_older_than"] == "30d"


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
        ("mlflow_oauth", "okta", "value of mlflow_oauth must be one of: google_managed, custom, brand, got: okta."),
        ("mlflow_lb_name", "LB", "mlflow_lb_name is 'LB'; allowed: 1 to 54 lower-case letters"),
        ("mlflow_gc_older_than", "a month", "mlflow_gc_older_than is 'a month'; allowed: days"),
        ("iap_lb_domain", "mlflow", "iap_lb_domain is 'mlflow'; allowed: a domain name"),
        ("cloudsql_disk_size_gb", "ten", "argument 'cloudsql_disk_size_gb' is of type str"),
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


def test_one_wrong_tier_is_one_problem():
    told = refusal(
        cloudsql_tier="large",
        cloudrun_database_connections="{{ cloudsql_tier | mlops.mlflow_gcp.max_connections }}",
    )
    assert told.startswith("cloudsql_tier is 'large', cloudsql_edition is 'ENTERPRISE': ") and told.count(":") == 1


def test_a_name_that_is_too_long_for_one_of_its_uses():
    assert refusal(mlflow_name="m" * 30).startswith("mlflow_logger_service_account is ")
    variables = {"mlflow_logger_service_account": "mlflow-logger", "cloudrun_account_id": "mlflow-server"}
    assert refusal(mlflow_name="m" * 51, **variables).startswith("mlflow_name is 'mmm")


def test_a_variable_of_the_user_that_passes_on_another_one():
    assert refusal(mlflow_domain="{{ domain }}", domain="x").startswith("mlflow_domain is 'x'")


def test_text_as_surveys_of_awx_give_it():
    text = {"bucket_versioning": "yes", "cloudrun_max_instances": "4", "iap_lb_log_sample_rate": "1.0"}
    site(**text, mlflow_webapp_users="user:jane@example.com\n\n group:ml@example.com\n")


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


def test_what_comes_later_is_checked_by_the_role(monkeypatch):
    play = site()
    assert "cloudrun_bucket" not in play["variables"]
    variables = REQUIRED | WIRING | {"bucket_result": {"name": "Bucket"}}
    with pytest.raises(AnsibleActionFail, match="^cloudrun_bucket is 'Bucket'; allowed: 3 to 63"):
        check({"role": "cloudrun", "checked": play["variables"]}, variables | later())


def later() -> dict[str, Any]:
    """What the roles before cloudrun return."""
    database = {"private_ip_address": "10.0.0.3", "database": "d", "user": "u", "password_secret": "s"}
    return {"cloudsql_result": {**database, "password_version": "1"}}


def test_nothing_is_checked_twice(monkeypatch):
    play, checked = site(), []
    check_kind = values.Kind.check
    monkeypatch.setattr(values.Kind, "check", lambda kind, value: checked.append(value) or check_kind(kind, value))
    for role in ROLES:
        # The defaults of all roles of a play are known to each.
        variables = (
            REQUIRED
            | WIRING
            | later()
            | {"cloudrun_name": "mlflow"}
            | {"bucket_result": {"name": "b-1"}, "network_result": {"network_path": "n"}}
        )
        check({"role": role, "checked": play["variables"]}, variables)
    assert checked == ["b-1"]


def test_another_value_is_checked_again():
    play = site()
    variables = REQUIRED | {"iap_lb_oauth": "custom"}
    with pytest.raises(AnsibleActionFail, match="custom needs the client's id and secret"):
        check({"role": "iap_lb", "checked": play["variables"]}, variables)


def test_a_role_that_is_included_alone():
    check({"role": "network"}, {"network_project_id": "my-project", "network_region": "europe-west2"})
    with pytest.raises(AnsibleActionFail) as failure:
        check({"role": "network"}, {"network_region": "europe-west2"})
    assert str(failure.value).startswith("mlflow_project_id (or network_project_id) is not set; allowed: a project id")


def test_a_role_that_is_not_there():
    with pytest.raises(AnsibleActionFail, match="no role 'nework'"):
        check({"role": "nework"}, {})


def test_every_rule_is_about_a_variable_that_exists():
    options = check_variables.Variables(DataLoader(), Templar(DataLoader()), {}, ["mlflow", *ROLES]).options
    names = {name for _, together in values.TOGETHER for name in together}
    assert names <= options.keys()
    endings = {name.removeprefix(f"{role}_") for role in ["mlflow", *ROLES] for name in options}
    assert values.KINDS.keys() <= options.keys() | endings
