# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module secret_manager_secret."""

from __future__ import annotations

import base64
import json
import string
from datetime import datetime, timezone

import pytest

SECRETS = "https://secretmanager.googleapis.com/v1/projects/demo/secrets"
URL = f"{SECRETS}/db-password"
NAME = "projects/123456789012/secrets/db-password"
LIVE = {
    "name": NAME,
    "createTime": "2026-01-01T00:00:00Z",
    "etag": '"16211a"',
    "labels": {"team": "ml", "mlflow-gcp-labels": "team"},
    "replication": {"automatic": {}},
}


def version(number, state="ENABLED"):
    return {"name": f"{NAME}/versions/{number}", "state": state, "etag": '"1"', "createTime": "2026-01-01T00:00:00Z"}


def payload(value):
    return {"name": f"{NAME}/versions/1", "payload": {"data": base64.b64encode(value).decode(), "dataCrc32c": "1"}}


def absent(google):
    return google.error(404, "NOT_FOUND", f"Secret [{NAME}] not found.")


def no_version(google, disabled=()):
    """Scripts that there is no enabled version."""
    for state, found in (("ENABLED", ()), ("DISABLED", disabled)):
        versions = [version(number, state) for number in found]
        google.expect("GET", f"{URL}/versions", {"versions": versions}, params={"filter": f"state:{state}"})


def test_generates_a_password_once_and_never_shows_it(google, run_module):
    google.expect("GET", URL, absent(google))
    google.expect(
        "POST",
        SECRETS,
        {**LIVE, "labels": {}},
        params={"secretId": "db-password"},
        body={"labels": {}, "replication": {"automatic": {}}},
    )
    google.expect("POST", f"{URL}:addVersion", version(1))
    result = run_module("secret_manager_secret", name="db-password", generate_length=32)
    password = base64.b64decode(google.sent[-1].body["payload"]["data"]).decode()
    assert len(password) == 32 and set(password) <= set(string.ascii_letters + string.digits)
    assert password not in json.dumps(result)
    assert (result["changed"], result["version"]) == (True, "1")
    assert result["name"] == "projects/demo/secrets/db-password"
    assert result["version_name"] == "projects/demo/secrets/db-password/versions/1"
    assert result["resource"] == {**LIVE, "labels": {}}


def test_second_run_changes_nothing(google, run_module):
    google.expect("GET", URL, LIVE)
    google.expect(
        "GET",
        f"{URL}/versions",
        {"versions": [version(3, "DISABLED"), version(2), version(1)]},
        params={"filter": "state:ENABLED"},
    )
    result = run_module("secret_manager_secret", name="db-password", generate_length=32, labels={"team": "ml"})
    assert (result["changed"], result["version"]) == (False, "2")
    assert result["diff"]["before"] == result["diff"]["after"]


def test_a_value_is_compared_and_never_shown(google, run_module):
    for live, answers in (("s3cret-1", []), ("s3cret-0", [version(2)])):
        google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
        google.expect("GET", f"{URL}/versions/1:access", payload(live.encode()))
        for answer in answers:
            google.expect(
                "POST", f"{URL}:addVersion", answer, body={"payload": {"data": base64.b64encode(b"s3cret-1").decode()}}
            )
        result = run_module("secret_manager_secret", name="db-password", value="s3cret-1")
        assert "s3cret" not in json.dumps(result)
        assert (result["changed"], result["version"]) == (bool(answers), "2" if answers else "1")


def test_labels_are_merged_with_the_etag(google, run_module):
    before = {**LIVE["labels"], "cost-center": "4711"}
    google.expect("GET", URL, {**LIVE, "labels": before}).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    labels = {"cost-center": "4711", "unit": "data", "cost": "7", "mlflow-gcp-labels": "cost--unit"}
    after = {**LIVE, "labels": labels, "etag": '"16211b"'}
    google.expect(
        "PATCH",
        URL,
        after,
        params={"updateMask": "labels"},
        body={"labels": labels, "etag": '"16211a"'},
    )
    result = run_module(
        "secret_manager_secret", name="db-password", labels={"unit": "data", "cost": 7}, generate_length=32
    )
    assert result["resource"] == after
    assert result["diff"]["before"]["labels"] == before
    assert result["diff"]["after"]["labels"] == labels


def test_labels_are_merged_again_after_a_change_by_another_run(google, run_module):
    options = {"name": "db-password", "labels": {"env": "prod"}}
    theirs = {**LIVE, "etag": '"16211b"', "labels": {**LIVE["labels"], "new": "theirs"}}
    stale = google.error(400, "FAILED_PRECONDITION", 'The provided etag ["16211a"] does not match the current etag.')
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    google.expect("PATCH", URL, stale).expect("GET", URL, theirs)
    google.expect("PATCH", URL, lambda request: {**theirs, "labels": request.body["labels"]})
    assert run_module("secret_manager_secret", **options)["changed"] is True
    sent = google.sent[-1].body
    assert sent["etag"] == '"16211b"' and {"new": "theirs", "env": "prod"}.items() <= sent["labels"].items()


def test_check_mode_writes_nothing(google, run_module):
    google.expect("GET", URL, absent(google))
    result = run_module("secret_manager_secret", name="db-password", generate_length=32, check=True)
    assert (result["changed"], result["version"]) == (True, "1")
    google.expect("GET", URL, LIVE)
    no_version(google)
    result = run_module("secret_manager_secret", name="db-password", generate_length=32, labels={}, check=True)
    assert (result["changed"], result["version"], result["resource"]["labels"]) == (True, "1", {})
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {})
    assert run_module("secret_manager_secret", name="db-password", state="absent", check=True)["changed"] is True


SERVER, OTHER = "serviceAccount:mlflow-server@demo.iam.gserviceaccount.com", "user:jane@example.com"


ACCESSOR = "roles/secretmanager.secretAccessor"


def policy(*members):
    bindings = [{"role": "roles/secretmanager.viewer", "members": [OTHER]}]
    if members:
        bindings.append({"role": "roles/secretmanager.secretAccessor", "members": list(members)})
    return {"etag": "BwY=", "version": 3, "bindings": bindings}


def test_generates_a_fernet_key_that_one_account_may_read(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", SECRETS, {**LIVE, "labels": {}})
    google.expect("POST", f"{URL}:addVersion", version(1))
    google.expect("GET", f"{URL}:getIamPolicy", {"etag": "BwY="})
    granted = {"role": "roles/secretmanager.secretAccessor", "members": [SERVER]}
    google.expect(
        "POST", f"{URL}:setIamPolicy", {}, body={"policy": {"etag": "BwY=", "version": 3, "bindings": [granted]}}
    )
    result = run_module("secret_manager_secret", name="db-password", generate_bytes=32, accessors=[SERVER])
    key = base64.b64decode(google.sent[2].body["payload"]["data"])
    assert len(key) == 44 and len(base64.urlsafe_b64decode(key)) == 32
    assert key.decode() not in json.dumps(result)
    assert (result["changed"], result["version"]) == (True, "1")
    assert result["resource"] == {**LIVE, "labels": {}}


@pytest.mark.parametrize("members", [(), (SERVER, OTHER), (OTHER,)])
def test_only_the_accessors_may_read(google, run_module, members):
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    google.expect("GET", f"{URL}:getIamPolicy", policy(*members)).expect("GET", f"{URL}:getIamPolicy", policy(*members))
    google.expect("POST", f"{URL}:setIamPolicy", {}, body={"policy": policy(SERVER)})
    result = run_module("secret_manager_secret", name="db-password", generate_bytes=32, accessors=[SERVER])
    assert result["diff"]["before"]["accessors"] == {"role": ACCESSOR, "members": sorted(members)}
    assert result["diff"]["after"]["accessors"] == {"role": ACCESSOR, "members": [SERVER]}


CONDITION = {"title": "until 2030", "expression": 'request.time < timestamp("2030-01-01T00:00:00Z")'}


def test_accessors_with_a_condition_and_everybody_lose_their_roles(google, run_module):
    conditional = {"role": ACCESSOR, "members": [OTHER], "condition": CONDITION}
    public = {"role": "roles/secretmanager.viewer", "members": ["allUsers", OTHER]}
    live = policy(SERVER)
    live["bindings"] += [conditional, public]
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    google.expect("GET", f"{URL}:getIamPolicy", live).expect("GET", f"{URL}:getIamPolicy", live)
    wanted = policy(SERVER)
    wanted["bindings"].insert(0, {**public, "members": [OTHER]})
    google.expect("POST", f"{URL}:setIamPolicy", {}, body={"policy": wanted})
    result = run_module("secret_manager_secret", name="db-password", generate_bytes=32, accessors=[SERVER])
    assert result["diff"]["before"]["accessors"]["conditional"] == [conditional]
    assert result["diff"]["after"]["accessors"] == {"role": ACCESSOR, "members": [SERVER]}


def test_accessors_with_a_condition_are_refused_before_a_write(google, run_module):
    live = policy(SERVER)
    live["bindings"].append({"role": ACCESSOR, "members": [OTHER], "condition": CONDITION})
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    google.expect("GET", f"{URL}:getIamPolicy", live)
    with pytest.raises(Exception, match=f"it is held by {OTHER} under the condition 'until 2030'"):
        run_module(
            "secret_manager_secret",
            name="db-password",
            generate_bytes=32,
            accessors=[SERVER],
            on_conditional="refuse",
            labels={"new": "label"},
        )


@pytest.mark.parametrize("options", [{"accessors": [SERVER.replace("mlflow", "MLflow")]}, {}])
def test_unchanged_accessors(google, run_module, options):
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    if options:
        google.expect("GET", f"{URL}:getIamPolicy", policy(SERVER))
    assert run_module("secret_manager_secret", name="db-password", generate_bytes=32, **options)["changed"] is False


def test_user_managed_replication(google, run_module):
    google.expect("GET", URL, absent(google))
    replication = {"userManaged": {"replicas": [{"location": "europe-west2"}]}}
    google.expect(
        "POST", SECRETS, {**LIVE, "replication": replication}, body={"labels": {}, "replication": replication}
    )
    result = run_module("secret_manager_secret", name="db-password", replication_locations=["europe-west2"])
    assert (result["version"], result["version_name"]) == ("", "")


# A new key could not decrypt what the old one has encrypted.
@pytest.mark.parametrize("option", [{"generate_length": 32}, {"generate_bytes": 32}])
def test_a_disabled_version_is_enabled_again(google, run_module, option):
    google.expect("GET", URL, LIVE)
    no_version(google, disabled=[1, 2])
    google.expect("POST", f"{URL}/versions/2:enable", version(2), body={})
    result = run_module("secret_manager_secret", name="db-password", **option)
    assert (result["changed"], result["version"], result["resource"]) == (True, "2", LIVE)


@pytest.mark.parametrize("state", ["DISABLED", "DESTROYED"])
def test_nothing_is_awaited_where_a_new_secret_has_a_version(google, run_module, state):
    disabled = [1] if state == "DISABLED" else []
    google.expect("GET", URL, {**LIVE, "createTime": datetime.now(timezone.utc).isoformat()})
    no_version(google, disabled)
    google.expect("GET", f"{URL}/versions", {"versions": [version(1, state)]}, params={"pageSize": "1"})
    method = "/versions/1:enable" if disabled else ":addVersion"
    google.expect("POST", f"{URL}{method}", version(1 if disabled else 2))
    result = run_module("secret_manager_secret", name="db-password", generate_length=32)
    assert (result["changed"], result["version"]) == (True, "1" if disabled else "2")


def test_a_given_value_does_not_become_a_disabled_one(google, run_module):
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {})
    google.expect("POST", f"{URL}:addVersion", version(3))
    assert run_module("secret_manager_secret", name="db-password", value="s3cret")["version"] == "3"


def test_an_existing_secret_keeps_its_replication(google, run_module):
    replication = {"userManaged": {"replicas": [{"location": "europe-west2"}]}}
    google.expect("GET", URL, {**LIVE, "replication": replication})
    google.expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    assert run_module("secret_manager_secret", name="db-password", generate_length=32)["changed"] is False


def test_replication_cannot_be_changed(google, run_module):
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {})
    with pytest.raises(Exception, match="^Cannot update secret db-password: replication is .*; leave replication_loca"):
        run_module("secret_manager_secret", name="db-password", replication_locations=["europe-west2"])


def test_a_lost_response_to_the_creation(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", SECRETS, google.error(503, "UNAVAILABLE", "Try again."))
    google.expect("POST", SECRETS, google.error(409, "ALREADY_EXISTS", f"Secret [{NAME}] already exists."))
    google.expect("GET", URL, LIVE)
    no_version(google)
    google.expect("POST", f"{URL}:addVersion", version(1))
    assert run_module("secret_manager_secret", name="db-password", generate_length=32)["version"] == "1"


def test_absent(google, run_module):
    google.expect("GET", URL, LIVE).expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    google.expect("DELETE", URL, {})
    assert run_module("secret_manager_secret", name="db-password", state="absent")["changed"] is True
    google.expect("GET", URL, absent(google))
    result = run_module("secret_manager_secret", name="db-password", state="absent")
    assert (result["changed"], result["version"]) == (False, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generate_length": 4}, "option generate_length: 4 is not allowed; give 8 to 1024"),
        ({"value": ""}, "option value: '0 bytes' is not allowed; give 1 byte to 64 KiB"),
        (
            {"name": "projects/demo/topics/t"},
            "option name: 'projects/demo/topics/t' is not allowed; give the name of a secret",
        ),
        ({"replication_locations": ["europe"]}, "option replication_locations: 'europe' is not allowed; give a region"),
        ({"generate_bytes": 8}, "option generate_bytes: 8 is not allowed; give 16 to 1024"),
        (
            {"accessors": ["jane@example.com"]},
            "option accessors: 'jane@example.com' is not allowed; give user:, group:",
        ),
        (
            {"value": "12345678", "generate_length": 8},
            "parameters are mutually exclusive: value|value_from|generate_length|generate_bytes",
        ),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception) as caught:
        run_module("secret_manager_secret", **{"name": "db-password", **options})
    assert str(caught.value).startswith(message)


SERVICE = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/web"
SOURCE = {"region": "europe-west2", "service": "web", "variable": "DB_PASSWORD"}


def service(**env):
    return {"template": {"containers": [{"env": [{"name": name, "value": value} for name, value in env.items()]}]}}


def test_a_value_moves_out_of_the_environment_of_a_service(google, run_module):
    google.expect("GET", URL, absent(google))
    google.expect("POST", SECRETS, {**LIVE, "labels": {}})
    google.expect("GET", SERVICE, service(OTHER="1", DB_PASSWORD="not-to-be-seen"))
    google.expect("POST", f"{URL}:addVersion", version(1))
    result = run_module("secret_manager_secret", name="db-password", value_from=SOURCE)
    assert (result["changed"], result["version"]) == (True, "1")
    assert base64.b64decode(google.sent[-1].body["payload"]["data"]) == b"not-to-be-seen"


def test_a_secret_that_has_the_value_of_the_service(google, run_module):
    google.expect("GET", URL, LIVE)
    google.expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    google.expect("GET", SERVICE, service(DB_PASSWORD="not-to-be-seen"))
    google.expect("GET", f"{URL}/versions/1:access", payload(b"not-to-be-seen"))
    assert not run_module("secret_manager_secret", name="db-password", value_from=SOURCE)["changed"]


@pytest.mark.parametrize(
    ("live", "words"), [({}, "no plain variable DB_PASSWORD"), (None, "service web does not exist in europe-west2")]
)
def test_a_service_without_the_variable(google, run_module, live, words):
    google.expect("GET", URL, LIVE)
    google.expect("GET", f"{URL}/versions", {"versions": [version(1)]})
    google.expect("GET", SERVICE, absent(google) if live is None else service(A="1", **live))
    with pytest.raises(Exception, match=words):
        run_module("secret_manager_secret", name="db-password", value_from=SOURCE)
    assert google.writes == []
