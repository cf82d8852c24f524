# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which credentials a task has, and that no two of them are taken for the same."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleLookupError, AnsibleUndefinedVariable
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.mlflow_gcp.plugins.lookup import access_token
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import credentials
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.client import (
    Client,
    Token,
    TokenAuth,
    authorized_session,
)
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import hints, host_credentials
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.shared import SharedReads, SharedTokens

KEY = {"type": "service_account", "client_email": "a@demo.iam.gserviceaccount.com", "private_key": "not-to-be-seen"}
NOTHING = dict.fromkeys(credentials.OPTIONS.keys() - {"scopes"})
URL = "https://compute.googleapis.com/network"
LIFETIME = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/b@demo.iam.gserviceaccount.com:generateAccessToken"


def plain(value: Any) -> Any:
    return value


def of_host(**variables: Any) -> dict[str, Any]:
    return host_credentials.of_host(plain, variables)


def test_without_variables_the_environment_counts():
    assert of_host(mlflow_auth_kind="", mlflow_impersonate_delegates=[], mlflow_name="mlflow") == {}
    assert host_credentials.arguments({"name": "x"}, plain, {}) == {"name": "x"}


@pytest.mark.parametrize(
    ("variable", "value", "kind"),
    [
        ("service_account_file", "key.json", "serviceaccount"),
        ("service_account_contents", json.dumps(KEY), "serviceaccount"),
        ("credentials_file", "adc.json", "application"),
        ("access_token", "ya29.x", "accesstoken"),
        ("service_account_email", "a@demo.iam.gserviceaccount.com", "machineaccount"),
    ],
)
def test_one_variable_is_enough_and_nothing_comes_from_the_environment(variable, value, kind):
    assert of_host(**{f"mlflow_{variable}": value}) == NOTHING | {variable: value, "auth_kind": kind}


def test_a_kind_alone_replaces_the_environment_too():
    assert of_host(mlflow_auth_kind="machineaccount") == NOTHING | {"auth_kind": "machineaccount"}


def test_contents_are_text_however_they_are_given():
    """Otherwise Ansible hides each part of them, so the ID of the project."""
    assert json.loads(of_host(mlflow_service_account_contents=KEY)["service_account_contents"]) == KEY


def test_impersonation_stands_on_the_environments_credentials():
    given = of_host(
        mlflow_impersonate_service_account="b@x", mlflow_impersonate_delegates="c@x, d@x", mlflow_quota_project="q"
    )
    assert given == {
        "impersonate_service_account": "b@x",
        "impersonate_delegates": ["c@x", "d@x"],
        "quota_project": "q",
    }


def test_a_task_that_names_credentials_has_only_these():
    variables = {"mlflow_service_account_file": "key.json", "mlflow_impersonate_service_account": "b@x"}
    args = {"auth_kind": "application", "name": "x"}
    assert host_credentials.arguments(args, plain, variables) == args
    asked = host_credentials.arguments({"name": "x", "impersonate_service_account": "c@x"}, plain, variables)
    assert (asked["service_account_file"], asked["impersonate_service_account"]) == ("key.json", "c@x")


def test_what_contradicts_itself_or_cannot_be_evaluated_is_refused_without_its_value():
    with pytest.raises(
        AnsibleActionFail, match="^mlflow_access_token, mlflow_service_account_file are set: set one of them only$"
    ):
        of_host(mlflow_access_token="ya29.x", mlflow_service_account_file="key.json")

    def fails(value: Any) -> Any:
        raise AnsibleUndefinedVariable(f"'secret' is undefined in {value}")

    with pytest.raises(AnsibleActionFail, match="^mlflow_access_token cannot be evaluated$"):
        host_credentials.of_host(fails, {"mlflow_access_token": "{{ secret }}"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"credentials_file": "f"},
            "option credentials_file only works with auth_kind application, not serviceaccount",
        ),
        (
            {"impersonate_delegates": ["c@x"]},
            "option impersonate_delegates only works with impersonate_service_account",
        ),
    ],
)
def test_options_that_contradict_each_other(options, message):
    with pytest.raises(GcpError, match=message):
        authorized_session({"auth_kind": "serviceaccount", "service_account_file": "f", **options})


def test_no_two_credentials_are_taken_for_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = [tmp_path / name for name in ("one.json", "two.json")]
    for file in files:
        file.write_text(file.name)
    given: list[dict[str, Any]] = [
        {"auth_kind": "application"},
        {"auth_kind": "machineaccount"},
        {"auth_kind": "machineaccount", "service_account_email": "a@x"},
        *({"auth_kind": "serviceaccount", "service_account_file": str(file)} for file in files),
        *({"auth_kind": "application", "credentials_file": str(file)} for file in files),
        {"auth_kind": "serviceaccount", "service_account_contents": "{}"},
        *({"auth_kind": "accesstoken", "access_token": token} for token in ("x", "y")),
        {"auth_kind": "application", "impersonate_service_account": "b@x"},
        {"auth_kind": "application", "impersonate_service_account": "b@x", "impersonate_delegates": ["c@x"]},
        {"auth_kind": "application", "quota_project": "q"},
        {"auth_kind": "application", "scopes": ["https://www.googleapis.com/auth/compute"]},
    ]
    keys = [credentials.identity(params) for params in given]
    assert all(keys) and len({*keys}) == len(given)
    assert keys == [credentials.identity(params) for params in given]
    files[0].write_text("another key under the same name")
    assert credentials.identity(given[3]) != keys[3]
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GOOGLE_CLOUD_QUOTA_PROJECT"):
        monkeypatch.setenv(name, str(files[1]))
        assert credentials.identity(given[0]) not in keys
    assert credentials.identity({"auth_kind": "application", "credentials_file": str(tmp_path / "none")}) == ""


def test_what_was_read_ahead_is_for_the_same_credentials_only(google, monkeypatch: pytest.MonkeyPatch):
    reads = SharedReads()
    monkeypatch.setattr(Client, "reads", reads)
    monkeypatch.setattr(TokenAuth, "shared", None)
    monkeypatch.setattr(hints.Task, "others", lambda self: [json.dumps(["GET", URL, None, None])])
    reads.begin(hints.Task("demo", "Deploy", "a task", (), ("all",)))
    mine, other = (
        Client(authorized_session({"auth_kind": "accesstoken", "access_token": token})) for token in ("mine", "other")
    )
    google.expect("GET", URL, {"read by": "me"})
    with ThreadPoolExecutor(1) as pool:
        mine.read_ahead(pool)
    google.expect("GET", URL, {"read by": "the other"})
    assert other.get(URL) == {"read by": "the other"}
    assert mine.get(URL) == {"read by": "me"}


def lookup(variables: dict[str, Any] | None = None, **options: Any) -> str:
    """What the lookup plugin returns."""
    plugin = access_token.LookupModule(templar=Templar(DataLoader()))
    plugin._load_name = "mlops.mlflow_gcp.access_token"
    plugin.set_options = lambda var_options=None, direct=None: None
    plugin.get_option = options.get
    (token,) = plugin.run([], variables or {})
    return token


def test_the_lookup_returns_a_token_of_the_host():
    assert lookup({"mlflow_access_token": "ya29.not-to-be-seen"}) == "ya29.not-to-be-seen"


def test_the_lookup_acts_as_an_account_and_shares_its_token(google, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TokenAuth, "shared", SharedTokens())
    hour = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    google.expect("POST", LIFETIME, {"accessToken": "ya29.of-b", "expireTime": hour})
    host = {"mlflow_access_token": "ya29.of-a"}
    asked = {"impersonate_service_account": "b@demo.iam.gserviceaccount.com"}
    assert [lookup(host, **asked), lookup(host, **asked), lookup(host)] == ["ya29.of-b", "ya29.of-b", "ya29.of-a"]


def test_an_account_that_may_not_be_impersonated(google, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TokenAuth, "shared", None)
    refused = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
    google.expect("POST", LIFETIME, google.error(403, "PERMISSION_DENIED", refused))
    host = {"mlflow_access_token": "ya29.of-a", "mlflow_impersonate_service_account": "b@demo.iam.gserviceaccount.com"}
    with pytest.raises(AnsibleError, match=r"getAccessToken.* grant it roles/iam\.serviceAccountTokenCreator"):
        lookup(host)


def test_a_lookup_without_credentials_says_how_to_sign_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GCP_AUTH_KIND", raising=False)
    with pytest.raises(AnsibleLookupError, match="^There are no credentials for Google Cloud: set GCP_AUTH_KIND"):
        lookup()
    with pytest.raises(AnsibleLookupError, match="value of auth_kind must be one of"):
        lookup({"mlflow_auth_kind": "password"})


def test_a_token_that_expires_soon_is_not_shared():
    tokens = SharedTokens()
    tokens.store("me", Token({"authorization": "Bearer x"}, datetime.now(timezone.utc) + timedelta(seconds=30)))
    assert not tokens.load("me").valid


EXTERNAL = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/runners/providers/oidc",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "token"},
}
AMAZON = {
    "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    "credential_source": {
        "environment_id": "aws1",
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
    },
}
PERSON = {
    "type": "authorized_user",
    "client_id": "c",
    "client_secret": "s",
    "refresh_token": "r",
    "quota_project_id": "q",
}
IMPERSONATED = {
    "type": "impersonated_service_account",
    "service_account_impersonation_url": LIFETIME,
    "source_credentials": PERSON,
    "delegates": [],
}
POOL = "projects/123456789012/locations/global/workloadIdentityPools/runners"


@pytest.mark.parametrize(
    ("content", "kind", "source", "pool"),
    [
        (PERSON, "authorized_user", "", ""),
        (EXTERNAL, "external_account", "", POOL),
        (EXTERNAL | {"service_account_impersonation_url": LIFETIME}, "external_account", "", POOL),
        (EXTERNAL | {"credential_source": {"executable": {"command": "x"}}}, "external_account", "", POOL),
        (EXTERNAL | AMAZON, "external_account", "", POOL),
        (IMPERSONATED, "impersonated_service_account", "authorized_user", ""),
    ],
)
def test_a_file_of_any_type(google, tmp_path: Path, content, kind, source, pool):
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps(content))
    loaded = credentials.load({"auth_kind": "application", "credentials_file": str(file)})
    assert credentials.described(loaded) == {"kind": kind, "source": source, "pool": pool}
    with_project = credentials.load(
        {"auth_kind": "application", "credentials_file": str(file), "quota_project": "mine"}
    )
    assert with_project.quota_project_id == "mine"


def test_credentials_without_a_file():
    token = {"auth_kind": "accesstoken", "access_token": "ya29.x"}
    assert credentials.described(credentials.load(token))["kind"] == "access_token"
    machine = credentials.load({"auth_kind": "machineaccount"})
    assert credentials.described(machine) == {"kind": "metadata_server", "source": "", "pool": ""}
    acting = credentials.load(token | {"impersonate_service_account": "b@x", "impersonate_delegates": ["c@x"]})
    assert credentials.described(acting) == {
        "kind": "impersonated_service_account",
        "source": "access_token",
        "pool": "",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"with .*none\.json: No such file or directory"),
        ("{", r"with .*none\.json: .*not a valid json file"),
        ('{"type": "password"}', r"with .*none\.json: .*does not have a valid type"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content, message):
    file = tmp_path / "none.json"
    if content:
        file.write_text(content)
    with pytest.raises(GcpError, match=f"^Cannot sign in to Google Cloud {message}"):
        credentials.load({"auth_kind": "application", "credentials_file": str(file)})
