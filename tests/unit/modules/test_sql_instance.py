# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module sql_instance."""

from __future__ import annotations

import copy

import pytest

SQL = "https://sqladmin.googleapis.com/v1/projects/demo"
INSTANCES, URL = f"{SQL}/instances", f"{SQL}/instances/mlflow"
NETWORK = "projects/demo/global/networks/mlflow-network"
OPTIONS = {
    "name": "mlflow",
    "region": "europe-west2",
    "tier": "db-custom-1-3840",
    "private_network": "mlflow-network",
    "disk_size_gb": 10,
    "backup_retained": 7,
    "database_flags": {"max_connections": 100, "log_connections": True},
    "maintenance_window": {"day": 7, "hour": 3},
    "query_insights": True,
    "labels": {"team": "ml"},
}
SENT = {
    "name": "mlflow",
    "region": "europe-west2",
    "databaseVersion": "POSTGRES_17",
    "settings": {
        "activationPolicy": "ALWAYS",
        "edition": "ENTERPRISE",
        "tier": "db-custom-1-3840",
        "availabilityType": "ZONAL",
        "dataDiskSizeGb": "10",
        "storageAutoResize": True,
        "deletionProtectionEnabled": True,
        "ipConfiguration": {"ipv4Enabled": False, "authorizedNetworks": [], "privateNetwork": NETWORK},
        "backupConfiguration": {
            "enabled": True,
            "pointInTimeRecoveryEnabled": True,
            "backupRetentionSettings": {"retainedBackups": 7, "retentionUnit": "COUNT"},
        },
        "databaseFlags": [{"name": "log_connections", "value": "on"}, {"name": "max_connections", "value": "100"}],
        "maintenanceWindow": {"day": 7, "hour": 3},
        "insightsConfig": {"queryInsightsEnabled": True},
        "userLabels": {"team": "ml", "mlflow-gcp-labels": "team"},
    },
}


def live(**settings):
    """The instance as Google returns it: in its spelling, with many undeclared fields."""
    body = copy.deepcopy(SENT)
    body |= {
        "kind": "sql#instance",
        "state": "RUNNABLE",
        "etag": "e1",
        "project": "demo",
        "backendType": "SECOND_GEN",
        "connectionName": "demo:europe-west2:mlflow",
        "databaseInstalledVersion": "POSTGRES_17_5",
        "gceZone": "europe-west2-b",
        "ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.20.0.3"}],
        "serverCaCert": {"kind": "sql#sslCert", "cert": "-----BEGIN CERTIFICATE-----"},
    }
    filled = body["settings"]
    filled |= {
        "kind": "sql#settings",
        "settingsVersion": "4",
        "pricingPlan": "PER_USE",
        "dataDiskType": "PD_SSD",
        "replicationType": "SYNCHRONOUS",
        "storageAutoResizeLimit": "0",
    }
    filled["databaseFlags"].reverse()
    filled["backupConfiguration"] |= {
        "kind": "sql#backupConfiguration",
        "startTime": "12:00",
        "transactionLogRetentionDays": 7,
    }
    filled["ipConfiguration"] = {
        "privateNetwork": f"https://www.googleapis.com/compute/v1/{NETWORK}",
        "requireSsl": False,
        "sslMode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED",
    }
    filled["locationPreference"] = {"kind": "sql#locationPreference", "zone": "europe-west2-b"}
    filled["insightsConfig"] |= {"queryStringLength": 1024, "recordClientAddress": False}
    filled |= settings
    return body


def operation(status="DONE", **more):
    return {
        "kind": "sql#operation",
        "name": "op1",
        "status": status,
        "targetProject": "demo",
        "targetId": "mlflow",
        "selfLink": "https://sqladmin.googleapis.com/sql/v1beta4/projects/demo/operations/op1",
        **more,
    }


def absent(google):
    return google.old_error(404, "instanceDoesNotExist", "The Cloud SQL instance does not exist.")


def busy(google):
    return google.old_error(
        409, "operationInProgress", "Operation failed because another operation was already in progress."
    )


PSC = {**{key: value for key, value in OPTIONS.items() if key != "private_network"}, "psc_allowed_projects": ["demo"]}
ATTACHMENT = "projects/a1p-tp/regions/europe-west2/serviceAttachments/a-1"


def with_psc(*projects):
    """The instance with Private Service Connect, which accepts PROJECTS."""
    config = {"ipv4Enabled": False, "pscConfig": {"pscEnabled": True, "allowedConsumerProjects": list(projects)}}
    return {**live(ipConfiguration=config), "pscServiceAttachmentLink": ATTACHMENT, "ipAddresses": []}


def test_creates_an_instance_with_private_service_connect(google, run_module):
    psc = {"pscEnabled": True, "allowedConsumerProjects": ["demo"]}
    config = {"ipv4Enabled": False, "authorizedNetworks": [], "pscConfig": psc}
    sent = {**SENT, "settings": {**SENT["settings"], "ipConfiguration": config}}
    google.expect("GET", URL, absent(google)).expect("POST", INSTANCES, operation(), body=sent)
    google.expect("GET", URL, with_psc("demo"))
    result = run_module("sql_instance", **PSC)
    assert (result["psc_service_attachment"], result["private_ip_address"]) == (ATTACHMENT, "")


def test_projects_that_others_let_in_stay(google, run_module):
    google.expect("GET", URL, with_psc("theirs", "demo"))
    assert not run_module("sql_instance", **PSC)["changed"]
    google.expect("GET", URL, with_psc("theirs")).expect("PATCH", URL, operation())
    google.expect("GET", URL, with_psc("theirs", "demo"))
    assert run_module("sql_instance", **PSC)["changed"]
    (patch,) = google.writes
    config = patch.body["settings"]["ipConfiguration"]
    assert config["pscConfig"] == {"pscEnabled": True, "allowedConsumerProjects": ["theirs", "demo"]}
    assert "privateNetwork" not in config


def test_creates_and_waits(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", INSTANCES, operation("PENDING"), body=SENT)
    google.expect("GET", f"{SQL}/operations/op1", operation("RUNNING")).expect(
        "GET", f"{SQL}/operations/op1", operation()
    )
    google.expect("GET", URL, live())
    result = run_module("sql_instance", **OPTIONS)
    assert (result["changed"], result["private_ip_address"]) == (True, "10.20.0.3")
    assert result["connection_name"] == "demo:europe-west2:mlflow"
    assert result["diff"] == {"before": {}, "after": SENT}


def test_second_run_changes_nothing_with_one_request(google, run_module):
    google.expect("GET", URL, live())
    result = run_module("sql_instance", **OPTIONS)
    assert (result["changed"], result["private_ip_address"]) == (False, "10.20.0.3")


@pytest.mark.parametrize(
    "settings",
    [
        {"dataDiskSizeGb": "25"},
        {"edition": None},
        {"userLabels": {"team": "ml", "mlflow-gcp-labels": "team", "goog-dms": "x"}},
    ],
)
def test_equal_bodies(google, run_module, settings):
    google.expect("GET", URL, live(**settings))
    assert run_module("sql_instance", **OPTIONS)["changed"] is False


def test_updates_with_the_declaration_and_the_settings_version(google, run_module):
    google.expect(
        "GET",
        URL,
        live(
            tier="db-g1-small",
            userLabels={"team": "ml", "old": "x", "cost-center": "4711", "mlflow-gcp-labels": "old--team"},
            dataDiskSizeGb="25",
            databaseFlags=[{"name": "max_connections", "value": "50"}, {"name": "work_mem", "value": "4096"}],
        ),
    )
    wanted = copy.deepcopy(SENT)
    wanted["settings"] |= {
        "settingsVersion": "4",
        "userLabels": {"team": "ml", "old": None, "mlflow-gcp-labels": "team"},
    }
    del wanted["settings"]["dataDiskSizeGb"]
    wanted["settings"]["databaseFlags"].insert(0, {"name": "work_mem", "value": "4096"})
    google.expect("PATCH", URL, operation(), body=wanted).expect("GET", URL, live())
    result = run_module("sql_instance", **OPTIONS)
    before, after = result["diff"]["before"]["settings"], result["diff"]["after"]["settings"]
    assert (before["tier"], after["tier"]) == ("db-g1-small", "db-custom-1-3840")
    assert after["userLabels"] == {"team": "ml", "cost-center": "4711", "mlflow-gcp-labels": "team"}
    assert after["dataDiskSizeGb"] == "25"
    assert [flag["name"] for flag in after["databaseFlags"]] == ["work_mem", "log_connections", "max_connections"]


WORK_MEM, MAX_CONNECTIONS = {"name": "work_mem", "value": "4096"}, {"name": "max_connections", "value": "100"}


@pytest.mark.parametrize(
    ("flags", "before", "after"),
    [
        (None, [WORK_MEM], None),
        ({}, [WORK_MEM], None),
        ({"max_connections": 100}, [WORK_MEM, MAX_CONNECTIONS], None),
        ({"max_connections": 100}, [WORK_MEM], [WORK_MEM, MAX_CONNECTIONS]),
        ({"max_connections": 100}, None, [MAX_CONNECTIONS]),
        ({"max_connections": 100}, [MAX_CONNECTIONS | {"value": "10"}, WORK_MEM], [WORK_MEM, MAX_CONNECTIONS]),
        ({"max_connections": None}, [WORK_MEM, MAX_CONNECTIONS], [WORK_MEM]),
        ({"max_connections": None}, [MAX_CONNECTIONS], []),
        ({"max_connections": None}, [WORK_MEM], None),
    ],
)
def test_flags_of_others_stay(google, run_module, flags, before, after):
    now = live()
    now["settings"]["databaseFlags"] = before
    google.expect("GET", URL, now)
    if after is not None:
        google.expect("PATCH", URL, operation()).expect("GET", URL, live())
    result = run_module("sql_instance", **{**OPTIONS, "database_flags": flags})
    assert result["changed"] is (after is not None)
    if after is not None:
        assert google.writes[0].body["settings"]["databaseFlags"] == after


def test_a_new_instance_gets_no_flag_without_a_value(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", INSTANCES, operation()).expect("GET", URL, live())
    run_module("sql_instance", **{**OPTIONS, "database_flags": {"max_connections": None, "work_mem": 4096}})
    assert google.writes[0].body["settings"]["databaseFlags"] == [WORK_MEM]


def test_a_stopped_instance_is_started_before_anything_else(google, run_module):
    google.expect("GET", URL, live(activationPolicy="NEVER")).expect("PATCH", URL, operation()).expect(
        "GET", URL, live()
    )
    assert run_module("sql_instance", **OPTIONS)["changed"] is True
    assert google.writes[0].body["settings"]["activationPolicy"] == "ALWAYS"

    google.expect("GET", URL, live(activationPolicy="NEVER", tier="db-g1-small"))
    google.expect("PATCH", URL, operation("PENDING"), body={"settings": {"activationPolicy": "ALWAYS"}})
    google.expect("GET", f"{SQL}/operations/op1", operation())
    google.expect("GET", URL, live(tier="db-g1-small", settingsVersion="5")).expect("PATCH", URL, operation())
    google.expect("GET", URL, live())
    assert run_module("sql_instance", **OPTIONS)["changed"] is True
    assert google.writes[2].body["settings"]["settingsVersion"] == "5"


def test_nobody_gets_in_over_the_internet(google, run_module):
    open_to_all = live()
    everyone = [{"kind": "sql#aclEntry", "value": "0.0.0.0/0"}]
    open_to_all["settings"]["ipConfiguration"] |= {"ipv4Enabled": True, "authorizedNetworks": everyone}
    google.expect("GET", URL, open_to_all).expect("PATCH", URL, operation()).expect("GET", URL, live())
    assert run_module("sql_instance", **OPTIONS)["changed"] is True
    sent = google.writes[0].body["settings"]["ipConfiguration"]
    assert (sent["ipv4Enabled"], sent["authorizedNetworks"]) == (False, [])


def test_check_mode_writes_nothing(google, run_module):
    google.expect("GET", URL, live(tier="db-g1-small"))
    result = run_module("sql_instance", check=True, **OPTIONS)
    assert (result["changed"], result["resource"]["settings"]["tier"]) == (True, "db-custom-1-3840")
    google.expect("GET", URL, absent(google))
    assert run_module("sql_instance", check=True, **OPTIONS)["private_ip_address"] == "(known after the run)"


def test_waits_for_another_operation(google, run_module, clock):
    google.expect("GET", URL, live(tier="db-g1-small"))
    google.expect("PATCH", URL, busy(google)).expect("PATCH", URL, busy(google)).expect("PATCH", URL, operation())
    google.expect("GET", URL, live())
    assert run_module("sql_instance", **OPTIONS)["changed"] is True
    assert len(clock.slept) == 2


CREATING = {**live(), "state": "PENDING_CREATE", "ipAddresses": []}
OPERATIONS = "https://sqladmin.googleapis.com/v1/projects/demo/operations"


def test_waits_for_the_creation_of_an_earlier_task(google, run_module):
    google.expect("GET", URL, CREATING)
    google.expect("GET", OPERATIONS, {"items": [operation(operationType="CREATE", status="RUNNING")]})
    google.expect("GET", f"{OPERATIONS}/op1", operation(operationType="CREATE"))
    google.expect("GET", URL, live())
    assert run_module("sql_instance", **OPTIONS)["private_ip_address"] == "10.20.0.3"


def test_a_creation_whose_operation_is_not_listed_any_more(google, run_module):
    google.expect("GET", URL, CREATING).expect("GET", OPERATIONS, {"items": [operation(operationType="UPDATE")]})
    google.expect("GET", URL, CREATING).expect("GET", URL, live())
    assert run_module("sql_instance", **OPTIONS)["changed"] is False


def test_a_creation_of_an_earlier_task_that_fails(google, run_module):
    google.expect("GET", URL, CREATING)
    google.expect("GET", OPERATIONS, {"items": [operation(operationType="CREATE", status="RUNNING")]})
    problem = {"errors": [{"code": "INVALID_ARGUMENT", "message": "The range is used up."}]}
    google.expect("GET", f"{OPERATIONS}/op1", operation(operationType="CREATE", error=problem))
    with pytest.raises(Exception, match="The range is used up"):
        run_module("sql_instance", **OPTIONS)


def test_starts_the_creation_without_waiting_for_it(google, run_module):
    google.expect("GET", URL, absent(google)).expect("POST", INSTANCES, operation(status="PENDING"))
    google.expect("GET", URL, CREATING)
    result = run_module("sql_instance", wait=False, **OPTIONS)
    assert (result["changed"], result["resource"]["state"]) == (True, "PENDING_CREATE")
    google.expect("GET", URL, CREATING)
    assert run_module("sql_instance", wait=False, **OPTIONS)["changed"] is False


def test_a_lost_response_to_an_update(google, run_module):
    google.expect("GET", URL, live(tier="db-g1-small")).expect("PATCH", URL, google.error(502, "", "Bad gateway"))
    google.expect("PATCH", URL, google.old_error(412, "staleData", "The settings version is out of date."))
    google.expect("GET", URL, live())
    assert run_module("sql_instance", **OPTIONS)["changed"] is True


def test_a_name_that_is_still_kept(google, run_module):
    google.expect("GET", URL, absent(google)).expect(
        "POST", INSTANCES, google.old_error(409, "instanceAlreadyExists", "The Cloud SQL instance already exists.")
    )
    google.expect("GET", URL, absent(google))
    with pytest.raises(
        Exception,
        match="^Cannot create Cloud SQL instance mlflow: Google still keeps the name of an instance that was deleted "
        "within the last week; wait, or give option name another value",
    ):
        run_module("sql_instance", **OPTIONS)


RESERVED = "The Cloud SQL instance already exists. When you delete an instance, you cannot reuse the name for a week."
LABEL = {"mlflow-gcp-instead-of": "mlflow"}


def test_takes_the_next_free_name_if_the_name_is_reserved(google, run_module):
    google.expect("GET", URL, absent(google)).expect("GET", INSTANCES, {})
    for name in ("mlflow", "mlflow-2"):
        google.expect("POST", INSTANCES, google.old_error(409, "instanceAlreadyExists", RESERVED))
        google.expect("GET", f"{INSTANCES}/{name}", absent(google))
    google.expect("POST", INSTANCES, operation()).expect("GET", f"{INSTANCES}/mlflow-3", {**live(), "name": "mlflow-3"})
    result = run_module("sql_instance", **OPTIONS, if_reserved="number")
    assert (result["changed"], result["name"]) == (True, "mlflow-3")
    sent = google.writes[-1].body
    assert sent["name"] == "mlflow-3" and sent["settings"]["userLabels"].items() >= LABEL.items()


def test_finds_the_instance_under_the_name_that_it_got(google, run_module):
    labels = live()["settings"].get("userLabels", {})
    found = live(userLabels={**labels, **LABEL})
    others = [{**found, "name": "mlflow-dev"}, {**live(), "name": "mlflow-4"}]
    google.expect("GET", URL, absent(google)).expect(
        "GET", INSTANCES, {"items": [*others, {**found, "name": "mlflow-3"}]}
    )
    result = run_module("sql_instance", **OPTIONS, if_reserved="number")
    assert (result["changed"], result["name"]) == (False, "mlflow-3")


def test_a_name_in_use_is_not_passed_over(google, run_module):
    """Another run has created the instance at this moment."""
    google.expect("GET", URL, absent(google)).expect("GET", INSTANCES, {})
    google.expect("POST", INSTANCES, google.old_error(409, "instanceAlreadyExists", "It already exists."))
    google.expect("GET", URL, live()).expect("GET", URL, live())
    assert run_module("sql_instance", **OPTIONS, if_reserved="number")["name"] == "mlflow"


def test_a_final_backup(google, run_module):
    backup = {"enableFinalBackup": "true", "finalBackupTtlDays": "7"}
    google.expect("GET", URL, live(deletionProtectionEnabled=False)).expect("DELETE", URL, operation(), params=backup)
    options = {"final_backup": True, "final_backup_days": 7, "state": "absent"}
    assert run_module("sql_instance", name="mlflow", **options)["changed"]


def test_a_final_backup_that_is_not_possible(google, run_module):
    stopped = google.old_error(400, "invalid", "Invalid request since instance is not running.")
    google.expect("GET", URL, live(deletionProtectionEnabled=False)).expect("DELETE", URL, stopped)
    with pytest.raises(Exception, match="^Cannot delete Cloud SQL instance mlflow: .* give final_backup=false"):
        run_module("sql_instance", name="mlflow", final_backup=True, state="absent")


def test_a_failed_operation(google, run_module):
    message = "Failed to create subnetwork. Please create Service Networking connection with service first."
    google.expect("GET", URL, absent(google)).expect(
        "POST",
        INSTANCES,
        operation(
            error={
                "kind": "sql#operationErrors",
                "errors": [{"kind": "sql#operationError", "code": "INTERNAL_ERROR", "message": message}],
            }
        ),
    )
    with pytest.raises(Exception) as caught:
        run_module("sql_instance", **OPTIONS)
    assert str(caught.value) == f"Cannot create Cloud SQL instance mlflow: {message} (INTERNAL_ERROR)"


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED", "PENDING_DELETE"])
def test_an_instance_that_cannot_be_used(google, run_module, state):
    google.expect("GET", URL, {**live(), "state": state})
    with pytest.raises(Exception, match=f"^Cannot use Cloud SQL instance mlflow: it is {state}; "):
        run_module("sql_instance", **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"region": "europe-west1"},
            "region is 'europe-west2' and cannot be changed to 'europe-west1'; give another name",
        ),
        (
            {"database_version": "POSTGRES_16"},
            "databaseVersion is 'POSTGRES_17' and cannot be changed to 'POSTGRES_16'; back it up",
        ),
        (
            {"disk_type": "PD_HDD"},
            "settings.dataDiskType is 'PD_SSD' and cannot be changed to 'PD_HDD'; give its current type",
        ),
        (
            {"private_network": "other"},
            "settings.ipConfiguration.privateNetwork is 'https://www.googleapis.com/compute/v1/projects/demo/global/networks/"
            "mlflow-network' and cannot be changed to 'projects/demo/global/networks/other'",
        ),
    ],
)
def test_fields_that_cannot_be_changed(google, run_module, options, message):
    google.expect("GET", URL, live())
    with pytest.raises(Exception) as caught:
        run_module("sql_instance", check=True, **{**OPTIONS, **options})
    assert f"Cannot update Cloud SQL instance mlflow: {message}" in str(caught.value)


def test_a_protected_instance_is_not_deleted(google, run_module):
    google.expect("GET", URL, live())
    with pytest.raises(
        Exception, match="^Cannot delete Cloud SQL instance mlflow: it is protected; also give deletion_prot"
    ):
        run_module("sql_instance", name="mlflow", state="absent")


def test_disables_the_protection_and_deletes(google, run_module):
    google.expect("GET", URL, live())
    google.expect("PATCH", URL, operation("PENDING"), body={"settings": {"deletionProtectionEnabled": False}})
    google.expect("GET", f"{SQL}/operations/op1", operation())
    google.expect("DELETE", URL, busy(google)).expect("DELETE", URL, operation())
    result = run_module("sql_instance", name="mlflow", state="absent", deletion_protection=False)
    assert (result["changed"], result["diff"]["after"]) == (True, {})


def test_absent_already(google, run_module):
    google.expect("GET", URL, absent(google))
    assert run_module("sql_instance", name="mlflow", state="absent")["changed"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tier": "db-perf-optimized-N-2"},
            "option tier: 'db-perf-optimized-N-2' is not allowed; edition ENTERPRISE has "
            "db-f1-micro, db-g1-small or db-custom-CPUS-MEGABYTES",
        ),
        ({"edition": "ENTERPRISE_PLUS"}, "option tier: 'db-custom-1-3840' is not allowed; edition ENTERPRISE_PLUS has"),
        (
            {"tier": "db-custom-1-3841"},
            "option tier: 'db-custom-1-3841' is not allowed; the memory is a multiple of 256",
        ),
        ({"name": "Mlflow"}, "option name: 'Mlflow' is not allowed"),
        ({"region": None}, "option region: None is not allowed; it is required for state=present"),
        ({"private_network": None}, "option private_network: None is not allowed; give it or psc_allowed_projects"),
        ({"database_version": "MYSQL_8_0"}, "option database_version: 'MYSQL_8_0' is not allowed"),
        ({"disk_size_gb": 5}, "option disk_size_gb: 5 is not allowed; give 10 to 65536"),
        (
            {"transaction_log_retention_days": 8},
            "option transaction_log_retention_days: 8 is not allowed; edition ENTERPRISE ",
        ),
        ({"backup_start_time": "24:00"}, "option backup_start_time: '24:00' is not allowed; give a time of day in UTC"),
        (
            {"backup_enabled": False},
            "option point_in_time_recovery: True is not allowed; it requires backup_enabled=true",
        ),
        (
            {"availability_type": "REGIONAL", "point_in_time_recovery": False},
            "option availability_type: 'REGIONAL' is not allowed; it requires point_in_time_recovery=true",
        ),
        ({"maintenance_window": {"day": 0, "hour": 3}}, "option maintenance_window.day: 0 is not allowed; give 1 to 7"),
        ({"edition": "STANDARD"}, "value of edition must be one of: ENTERPRISE, ENTERPRISE_PLUS, got: STANDARD"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception) as caught:
        run_module("sql_instance", **{**OPTIONS, **options})
    assert str(caught.value).startswith(message)
