# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs at the same time: what the other one has just created or changed is read again."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.unit.modules import test_secret_manager_secret as secrets
from tests.unit.modules import test_sql_instance as sql

EXISTS = "The Cloud SQL instance already exists."


@pytest.fixture
def taken(google):
    """An instance that the other run creates between the first request and the second."""
    google.expect("GET", sql.URL, sql.absent(google))
    return google.expect("POST", sql.INSTANCES, google.old_error(409, "instanceAlreadyExists", EXISTS))


def test_a_resource_that_another_run_has_just_created(taken, run_module):
    taken.expect("GET", sql.URL, {**sql.live(), "state": "PENDING_CREATE"})
    taken.expect("GET", sql.OPERATIONS, {"items": []}).expect("GET", sql.URL, sql.live())
    result = run_module("sql_instance", **sql.OPTIONS)
    assert result["private_ip_address"] == "10.20.0.3"


def test_it_is_updated_if_the_other_run_has_other_variables(taken, run_module):
    taken.expect("GET", sql.URL, sql.live(tier="db-g1-small"))
    taken.expect("PATCH", sql.URL, {"kind": "sql#operation", "name": "o", "status": "DONE"})
    taken.expect("GET", sql.URL, sql.live())
    assert run_module("sql_instance", **sql.OPTIONS)["changed"]


def test_it_is_refused_if_it_cannot_be_updated(taken, run_module):
    taken.expect("GET", sql.URL, {**sql.live(), "region": "us-east1"})
    with pytest.raises(Exception, match="region is 'us-east1' and cannot be changed"):
        run_module("sql_instance", **sql.OPTIONS)


STALE = "The settings version is out of date."


def test_an_update_that_another_run_preceded(google, run_module):
    old = sql.live(tier="db-g1-small")
    google.expect("GET", sql.URL, old).expect("PATCH", sql.URL, google.old_error(412, "staleData", STALE))
    google.expect("GET", sql.URL, sql.live())
    assert run_module("sql_instance", **sql.OPTIONS)["changed"]


def test_an_update_is_repeated_once_if_another_run_changed_something_else(google, run_module):
    old = sql.live(tier="db-g1-small")
    for _attempt in range(2):
        google.expect("GET", sql.URL, old).expect("PATCH", sql.URL, google.old_error(412, "staleData", STALE))
    google.expect("GET", sql.URL, old)
    with pytest.raises(Exception, match=f"Cannot update Cloud SQL instance mlflow: {STALE[:-1]}"):
        run_module("sql_instance", **sql.OPTIONS)


def test_the_value_of_a_secret_is_generated_once(google, run_module):
    created = {**secrets.LIVE, "createTime": datetime.now(timezone.utc).isoformat()}
    google.expect("GET", secrets.URL, secrets.absent(google))
    google.expect("POST", secrets.SECRETS, google.error(409, "ALREADY_EXISTS", "Secret already exists."))
    for attempt in range(2):
        # Neither an enabled nor a disabled version.
        google.expect("GET", secrets.URL, created)
        google.expect("GET", f"{secrets.URL}/versions", {}).expect("GET", f"{secrets.URL}/versions", {})
        if not attempt:
            google.expect("GET", f"{secrets.URL}/versions", {}, params={"pageSize": "1"})
    google.expect("GET", secrets.URL, created)
    google.expect("GET", f"{secrets.URL}/versions", {"versions": [secrets.version(1)]})
    result = run_module("secret_manager_secret", name="db-password", generate_length=32)
    assert result["version"] == "1"


def test_a_value_that_the_other_run_never_added(google, run_module):
    now = datetime.now(timezone.utc).isoformat()

    def find(request):
        return {**secrets.LIVE, "createTime": now} if request.url == secrets.URL else {}

    google.expect("GET", secrets.URL, secrets.absent(google))
    google.expect("POST", secrets.SECRETS, google.error(409, "ALREADY_EXISTS", "Secret already exists."))
    # As often as it looks until it loses patience.
    for attempt in range(24):
        google.expect("GET", secrets.URL, find)
        google.expect("GET", f"{secrets.URL}/versions", find).expect("GET", f"{secrets.URL}/versions", find)
        if not attempt:
            google.expect("GET", f"{secrets.URL}/versions", find)
    google.expect("POST", f"{secrets.URL}:addVersion", secrets.version(1))
    assert run_module("secret_manager_secret", name="db-password", generate_length=32)["version"] == "1"
