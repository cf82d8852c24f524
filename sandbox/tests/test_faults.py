"""Configurable faults, and durations."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from gcp_sandbox.core import latency
from gcp_sandbox.core.faults import FaultError, parse

PROJECT = "sandbox-project"
USAGE = f"https://serviceusage.googleapis.com/v1/projects/{PROJECT}/services"
COMPUTE = f"https://compute.googleapis.com/compute/v1/projects/{PROJECT}/global"
SECRETS = f"https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
SQL = f"https://sqladmin.googleapis.com/v1/projects/{PROJECT}/instances"


class Faulty:
    """A separate sandbox for the module, and a client of it."""

    def __init__(self, running: Any) -> None:
        self.running = running
        self.session = running.session()

    def add(self, *words: str) -> str:
        return self.running.command("fault", "add", *words)

    def __call__(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        return self.session.request(method, url, timeout=60, **kwargs)

    def statuses(self, method: str, url: str, times: int) -> list[int]:
        return [self(method, url).status_code for _ in range(times)]

    def wait(self, answer: requests.Response) -> dict[str, Any]:
        operation = answer.json()
        assert answer.status_code == 200, operation
        link = operation.get("selfLink") or "/".join(answer.url.split("/")[:4]) + f"/{operation['name']}"
        while not operation.get("done") and operation.get("status") != "DONE":
            time.sleep(0.02)
            operation = self("GET", link).json()
        return operation


@pytest.fixture(scope="module")
def module_faulty(launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    rules = tmp_path_factory.mktemp("faults") / "rules"
    rules.write_text("# the first seconds of every API\n'*' service-disabled seconds=1\n\n")
    return Faulty(launch("--faults", str(rules), "--latency", "realistic:0.001"))


@pytest.fixture
def faulty(module_faulty: Faulty) -> Iterator[Faulty]:
    yield module_faulty
    module_faulty.running.command("fault", "clear")


def test_api_is_disabled_for_the_first_seconds(faulty):
    faulty.wait(
        faulty(
            "POST",
            f"{USAGE}:batchEnable",
            json={"serviceIds": ["compute.googleapis.com", "secretmanager.googleapis.com", "sqladmin.googleapis.com"]},
        )
    )
    assert faulty("GET", f"{USAGE}/compute.googleapis.com").json()["state"] == "ENABLED"
    answer = faulty("GET", f"{COMPUTE}/networks")
    assert answer.status_code == 403
    assert "SERVICE_DISABLED" in answer.text
    time.sleep(1)
    assert faulty("GET", f"{COMPUTE}/networks").status_code == 200


def test_429_says_when_to_retry(faulty):
    assert ": 'compute.networks.*' 429" in faulty.add("compute.networks.*", "429", "retry-after=2", "first=2")
    answer = faulty("GET", f"{COMPUTE}/networks")
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["error"]["errors"][0]["reason"] == "rateLimitExceeded"
    assert faulty.statuses("GET", f"{COMPUTE}/networks", 3) == [429, 200, 200]
    assert faulty.statuses("GET", f"{COMPUTE}/routes", 1) == [200]
    assert "(matched 4, affected 2)" in faulty.running.command("fault", "list")


@pytest.mark.parametrize("status", [500, 503])
def test_every_third_call_fails(faulty, status):
    faulty.add("secretmanager.googleapis.com/v1/*/secrets", str(status), "every=3", "message=Not now.")
    assert faulty.statuses("GET", SECRETS, 6) == [200, 200, status, 200, 200, status]


@pytest.mark.parametrize(
    ("host", "status", "kind", "text"),
    [
        ("nobody-123456.europe-west2.run.app/", 503, "text/html", "The service you requested is not available yet."),
        ("nobody-123456.europe-west2.run.app/", 429, "text/plain", "Rate exceeded."),
        ("storage.googleapis.com/bucket/object", 503, "application/xml", "<Code>ServiceUnavailable</Code>"),
        ("bucket.storage.googleapis.com/object", 429, "application/xml", "<Code>SlowDown</Code>"),
        ("oauth2.googleapis.com/token", 503, "application/json", "UNAVAILABLE"),
    ],
)
def test_each_host_fails_in_its_own_way(faulty, host, status, kind, text):
    faulty.add(host, str(status), "retry-after=3")
    answer = faulty("GET", f"https://{host}")
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (status, kind)
    assert answer.headers["Retry-After"] == "3"
    assert text in answer.text


def test_each_distinct_call_fails_once(faulty):
    faulty.add("secretmanager.*", "503", "each=1")
    assert faulty.statuses("GET", SECRETS, 2) == [503, 200]
    assert faulty.statuses("GET", f"{SECRETS}/of-each", 2) == [503, 404]
    body = {"replication": {"automatic": {}}}
    made = [faulty("POST", f"{SECRETS}?secretId={name}", json=body).status_code for name in ("each-a", "each-b") * 2]
    assert made == [503, 503, 200, 200]
    # The same URL, with other bodies.
    policies = [{"policy": {"bindings": [{"role": f"roles/{role}", "members": []}]}} for role in ("viewer", "editor")]
    answers = [faulty("POST", f"{SECRETS}/each-a:setIamPolicy", json=policy).status_code for policy in policies * 2]
    assert answers == [503, 503, 200, 200]
    assert "(matched 12, affected 6)" in faulty.running.command("fault", "list")


def test_each_operation_fails_once(faulty):
    faulty.add("compute.networks.insert", "operation-error", "each=1")
    for name in ("each-a", "each-b"):
        body = {"name": name, "autoCreateSubnetworks": False}
        ended = [faulty.wait(faulty("POST", f"{COMPUTE}/networks", json=body)) for _attempt in range(2)]
        assert ["error" in operation for operation in ended] == [True, False]


def test_probability(faulty):
    faulty.add("secretmanager.*", "503", "probability=0.5")
    seen = faulty.statuses("GET", SECRETS, 60)
    assert 5 < seen.count(503) < 55


def test_valid_token_is_refused_once(faulty):
    faulty.add("*", "401", "first=1")
    answer = faulty("GET", SECRETS)
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"
    assert faulty.statuses("GET", SECRETS, 1) == [200]


def test_reset_comes_before_the_work_and_lost_after(faulty):
    for fault, name, then in (("reset", "one", 404), ("lost", "two", 200)):
        faulty.add("secretmanager.projects.secrets.create", fault)
        with pytest.raises(requests.ConnectionError):
            faulty("POST", f"{SECRETS}?secretId={name}", json={"replication": {"automatic": {}}})
        assert faulty("GET", f"{SECRETS}/{name}").status_code == then
        faulty.running.command("fault", "clear")


def test_slow(faulty):
    faulty.add("*/secrets", "slow", "seconds=0.5", "first=1")
    begin = time.monotonic()
    assert faulty.statuses("GET", SECRETS, 1) == [200]
    assert time.monotonic() - begin >= 0.5


def test_failed_operation_undoes_its_changes(faulty):
    faulty.add(
        "compute.networks.*", "operation-error", "code=QUOTA_EXCEEDED", "message=Quota 'NETWORKS' exceeded.", "first=1"
    )
    body = {"name": "net", "autoCreateSubnetworks": False}
    operation = faulty.wait(faulty("POST", f"{COMPUTE}/networks", json=body))
    assert (operation["httpErrorStatusCode"], operation["httpErrorMessage"]) == (403, "FORBIDDEN")
    error = operation["error"]["errors"][0]
    assert error == {"code": "QUOTA_EXCEEDED", "message": "Quota 'NETWORKS' exceeded."}
    assert faulty("GET", f"{COMPUTE}/networks/net").status_code == 404
    assert "error" not in faulty.wait(faulty("POST", f"{COMPUTE}/networks", json=body))
    before = faulty("GET", f"{COMPUTE}/networks/net").json()
    for method, change in (("PATCH", {"routingConfig": {"routingMode": "GLOBAL"}}), ("DELETE", None)):
        faulty.running.command("fault", "clear")
        faulty.add("compute.networks.*", "operation-error", "first=1")
        assert "error" in faulty.wait(faulty(method, f"{COMPUTE}/networks/net", json=change))
        assert faulty("GET", f"{COMPUTE}/networks/net").json() == before
    assert "error" not in faulty.wait(faulty("DELETE", f"{COMPUTE}/networks/net"))


def test_failed_operation_that_has_already_finished_keeps_its_changes(faulty):
    faulty.wait(faulty("POST", f"{COMPUTE}/addresses", json={"name": "labelled"}))
    url = f"{COMPUTE}/addresses/labelled"
    faulty.add("compute.globalAddresses.setLabels", "operation-error")
    mark = faulty("GET", url).json()["labelFingerprint"]
    answer = faulty("POST", f"{url}/setLabels", json={"labels": {"a": "b"}, "labelFingerprint": mark}).json()
    assert answer["status"] == "DONE" and "error" in answer
    assert faulty("GET", url).json()["labels"] == {"a": "b"}


def test_failed_operation_of_another_dialect(faulty):
    faulty.add("serviceusage.services.enable", "operation-error", "code=UNAVAILABLE", "message=Try later.")
    operation = faulty.wait(faulty("POST", f"{USAGE}/dns.googleapis.com:enable", json={}))
    assert operation["error"] == {"code": 14, "message": "Try later."}
    assert faulty("GET", f"{USAGE}/dns.googleapis.com").json()["state"] == "DISABLED"


def test_tokens_live_shorter(faulty):
    faulty.add("deployer@*", "token-lifetime", "seconds=1")
    from google.auth.transport.requests import Request
    from google.oauth2 import service_account

    key = service_account.Credentials.from_service_account_file(
        faulty.running.state / "deployer.json", scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    key.refresh(Request(session=faulty.session))
    headers = {"Authorization": f"Bearer {key.token}"}
    assert faulty("GET", SECRETS, headers=headers).status_code == 200
    time.sleep(1.1)
    assert faulty("GET", SECRETS, headers=headers).status_code == 401


def test_policies_take_seconds_to_be_seen(faulty):
    faulty("POST", f"{SECRETS}?secretId=shared", json={"replication": {"automatic": {}}})
    faulty.add("//secretmanager.googleapis.com/*", "iam-delay", "seconds=1")
    policy = {"bindings": [{"role": "roles/secretmanager.viewer", "members": ["user:alice@example.com"]}]}
    alice = faulty.running.session("alice@example.com")
    assert faulty("POST", f"{SECRETS}/shared:setIamPolicy", json={"policy": policy}).status_code == 200
    assert "alice" in faulty("GET", f"{SECRETS}/shared:getIamPolicy").text
    assert alice.get(f"{SECRETS}/shared", timeout=9).status_code == 403
    time.sleep(1)
    assert alice.get(f"{SECRETS}/shared", timeout=9).status_code == 200
    faulty("POST", f"{SECRETS}/shared:setIamPolicy", json={"policy": {}})
    assert alice.get(f"{SECRETS}/shared", timeout=9).status_code == 200
    time.sleep(1)
    assert alice.get(f"{SECRETS}/shared", timeout=9).status_code == 403


def test_the_policy_that_a_bucket_is_created_with_is_seen_at_once(faulty):
    """A project's owner has no permission on objects, other than by the policy of each bucket."""
    faulty.add("//storage.googleapis.com/*", "iam-delay", "seconds=30")
    url = "https://storage.googleapis.com"
    assert faulty("POST", f"{url}/storage/v1/b?project={PROJECT}", json={"name": "at-once"}).status_code == 200
    upload = f"{url}/upload/storage/v1/b/at-once/o?uploadType=media&name=x"
    assert faulty("POST", upload, data=b"x").status_code == 200
    policy = faulty("GET", f"{url}/storage/v1/b/at-once/iam").json()
    assert faulty("PUT", f"{url}/storage/v1/b/at-once/iam", json=policy | {"bindings": []}).status_code == 200
    assert faulty("POST", upload, data=b"y").status_code == 200


def test_rules_and_their_counts_survive_kill(faulty):
    faulty.add("secretmanager.*", "503", "first=2")
    assert faulty.statuses("GET", SECRETS, 1) == [503]
    os.kill(json.loads((faulty.running.state / "run.json").read_text())["pid"], signal.SIGKILL)
    time.sleep(0.2)
    faulty.running.command("up", "--detach")
    assert faulty.statuses("GET", SECRETS, 2) == [503, 200]


def test_operations_take_their_time(faulty):
    begin = time.monotonic()
    operation = faulty("POST", f"{COMPUTE}/networks", json={"name": "slow", "autoCreateSubnetworks": False})
    assert operation.json()["status"] != "DONE"
    assert faulty("GET", f"{COMPUTE}/networks/slow").status_code == 404
    faulty.wait(operation)
    assert time.monotonic() - begin > 20 * 0.001 * 0.8
    assert faulty("GET", f"{COMPUTE}/networks/slow").status_code == 200


def test_one_operation_at_a_time_on_an_sql_instance(faulty):
    body = {
        "name": "db",
        "region": "europe-west2",
        "databaseVersion": "POSTGRES_17",
        "settings": {"tier": "db-f1-micro", "edition": "ENTERPRISE"},
    }
    first = faulty("POST", SQL, json=body)
    second = faulty("PATCH", f"{SQL}/db", json={"settings": {"userLabels": {"a": "b"}}})
    assert second.status_code == 409
    assert second.json()["error"]["errors"][0]["reason"] == "operationInProgress"
    assert faulty("GET", f"{SQL}/db").json()["state"] == "PENDING_CREATE"
    assert "error" not in faulty.wait(first)
    third = faulty("PATCH", f"{SQL}/db", json={"settings": {"userLabels": {"a": "b"}}})
    assert faulty("DELETE", f"{SQL}/db").json()["error"]["errors"][0]["reason"] == "operationInProgress"
    faulty.wait(third)
    faulty.wait(faulty("DELETE", f"{SQL}/db"))


def test_certificate_becomes_active_in_the_background(faulty):
    def make(collection: str, **body: Any) -> str:
        operation = faulty.wait(faulty("POST", f"{COMPUTE}/{collection}", json={"name": "front"} | body))
        assert "error" not in operation, operation
        return f"projects/{PROJECT}/global/{collection}/front"

    def status() -> str:
        return faulty("GET", f"{COMPUTE}/sslCertificates/front").json()["managed"]["status"]

    certificate = make("sslCertificates", type="MANAGED", managed={"domains": ["front.example.com"]})
    backend = make("backendServices", loadBalancingScheme="EXTERNAL_MANAGED", protocol="HTTP")
    urls = make("urlMaps", defaultService=backend)
    proxy = make("targetHttpsProxies", urlMap=urls, sslCertificates=[certificate])
    time.sleep(1.1)
    assert status() == "PROVISIONING"  # no forwarding rule leads to it
    make("forwardingRules", target=proxy, portRange="443", loadBalancingScheme="EXTERNAL_MANAGED")
    assert status() == "PROVISIONING"
    time.sleep(1.2)
    assert status() == "ACTIVE"


def test_every_duration_is_used():
    code = "".join(p.read_text() for p in Path(latency.__file__).parents[1].rglob("*.py") if p.name != "latency.py")
    for row in filter(None, latency.SECONDS):
        service, _, rest = row.partition(".")
        assert row in code or service in ("compute", "cloudresourcemanager", "sqladmin"), row
        assert not rest or rest.split(".")[0] in code
    assert latency.base("sqladmin.users.insert") == latency.SECONDS["sqladmin"]
    assert latency.base("sqladmin.instances.insert") == 420
    assert latency.base("dns.changes.create") == latency.SECONDS[""]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("x", "at least two words"),
        ("x 200", "must be 400 to 599"),
        ("x burn", "unknown fault 'burn'"),
        ("x 429 every=no", "not a number"),
        ("x 429 every=0", "too small"),
        ("x 429 probability=2", "at most 1"),
        ("x slow", "needs seconds=N"),
        ("x iam-delay seconds=1 every=2", "options of iam-delay are seconds="),
        ("x status", "unknown fault"),
    ],
)
def test_rule_that_cannot_be_understood(rule, text):
    with pytest.raises(FaultError, match=text):
        parse(rule.split())


def test_bad_file_of_rules(own, tmp_path):
    (tmp_path / "rules").write_text("* 429\n* burn\n")
    text = own.command("up", "--detach", "--faults", str(tmp_path / "rules"), check=False)
    assert "rules:2: unknown fault 'burn'" in text


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("pubsub.googleapis.com/*", f"https://pubsub.googleapis.com/v1/projects/{PROJECT}/topics"),
        ("pubsub.projects.topics.list", f"https://pubsub.googleapis.com/v1/projects/{PROJECT}/topics"),
        ("sts.googleapis.com/*", "https://sts.googleapis.com/v1/introspect"),
        ("nothing.googleapis.com/*", "https://nothing.googleapis.com/v1/anything"),
    ],
)
def test_calls_that_are_not_played_fail_as_well(faulty, rule, url):
    method = "POST" if "sts." in url else "GET"
    plain = faulty(method, url).status_code
    assert plain in (404, 501)
    faulty.add(rule, "503", "first=1")
    assert faulty.statuses(method, url, 2) == [503, plain]


def test_a_fault_at_the_token_exchange(faulty):
    faulty.add("sts.googleapis.com/*", "400", "first=1")
    answer = faulty("POST", "https://sts.googleapis.com/v1/token", data={"grant_type": "none"})
    assert answer.status_code == 400 and answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    answer = faulty("POST", "https://sts.googleapis.com/v1/token", data={"grant_type": "none"})
    assert answer.json()["error"] == "unsupported_grant_type"
