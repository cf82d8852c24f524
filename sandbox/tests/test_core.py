"""Common to all APIs: the proxy, authentication, validation with discovery documents."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import requests
from gcp_sandbox.core.pretty import pretty

NETWORKS = "https://compute.googleapis.com/compute/v1/projects/{}/global/networks"
SECRETS = "https://secretmanager.googleapis.com/v1/projects/{}/secrets"


@pytest.fixture(scope="module", autouse=True)
def apis(project: str, enable: Callable[..., None]) -> None:
    enable(project, "compute.googleapis.com", "secretmanager.googleapis.com")


def test_refuses_every_other_host(sandbox):
    session = sandbox.session()
    for url in ("https://example.org/", "https://googleapis.com.example.org/", "http://example.org/"):
        try:
            answer = session.get(url, timeout=10)
        except requests.exceptions.ProxyError:
            continue
        assert answer.status_code == 403
        assert "not part of this sandbox" in answer.text


def test_no_token_and_wrong_token(api, project):
    url = SECRETS.format(project)
    none = api("GET", url, headers={"Authorization": None})
    assert none.status_code == 401
    assert none.json()["error"]["status"] == "UNAUTHENTICATED"
    assert none.headers["WWW-Authenticate"] == 'Bearer realm="https://accounts.google.com/"'
    wrong = api("GET", NETWORKS.format(project), headers={"Authorization": "Bearer nonsense"})
    assert wrong.status_code == 401
    assert wrong.json()["error"]["errors"][0]["reason"] == "authError"
    assert wrong.headers["WWW-Authenticate"].endswith('error="invalid_token"')


def test_expired_token(sandbox, api, project):
    token = sandbox.command("token", "--lifetime", "-1").strip()
    assert api("GET", SECRETS.format(project), headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_unknown_field_names_where(api, project):
    answer = api("POST", SECRETS.format(project) + "?secretId=s", json={"replication": {"automatic": {}, "foo": 1}})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert (
        error["message"]
        == "Invalid JSON payload received. Unknown name \"foo\" at 'secret.replication': Cannot find field."
    )


def test_wrong_type(api, project):
    answer = api("POST", NETWORKS.format(project), json={"name": "n", "mtu": "large"})
    assert answer.status_code == 400
    assert "mtu" in answer.json()["error"]["message"]


def test_a_duration_has_its_unit(api, project):
    answer = api("POST", SECRETS.format(project) + "?secretId=s", json={"replication": {"automatic": {}}, "ttl": "1h"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == (
        "Invalid value at 'secret.ttl' (type.googleapis.com/google.protobuf.Duration), Field 'ttl', Illegal duration format; "
        "duration must end with 's'"
    )


def test_half_a_surrogate_pair_is_rejected(api, project):
    answer = api(
        "POST", NETWORKS.format(project), data=b'{"name": "\\ud800"}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Invalid JSON payload received.")


def test_lists_have_no_holes(api, project):
    policy = {"bindings": [{"role": "roles/secretmanager.secretAccessor", "members": [None]}]}
    answer = api("POST", SECRETS.format(project) + "/s:setIamPolicy", json={"policy": policy})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Invalid value at 'policy.bindings[0].members[0]', null"


def test_unknown_query_parameter(api, project):
    answer = api("GET", SECRETS.format(project) + "?colour=red")
    assert answer.status_code == 400
    assert 'Unknown name "colour"' in answer.json()["error"]["message"]


def test_bad_json(api, project):
    answer = api("POST", SECRETS.format(project), data="{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_unknown_path_is_an_html_404(api, project):
    answer = api("GET", f"https://compute.googleapis.com/compute/v1/projects/{project}/global/nonsense/x/y/z")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_several_calls_in_one_request(api, project):
    path = f"/v1/projects/{project}/secrets"
    create = json.dumps({"replication": {"automatic": {}}})
    calls = [
        f"POST {path}?secretId=batched HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{create}",
        f"GET https://secretmanager.googleapis.com{path}/batched HTTP/1.1\r\n\r\n",
        f"GET {path}/missing",
    ]
    parts = [
        f"--b\r\nContent-Type: application/http\r\nContent-ID: <id + {n}>\r\n\r\n{c}\r\n" for n, c in enumerate(calls)
    ]
    headers = {"Content-Type": 'multipart/mixed; boundary="b"'}
    answer = api("POST", "https://secretmanager.googleapis.com/batch", data="".join(parts) + "--b--", headers=headers)
    assert answer.status_code == 200
    boundary = answer.headers["Content-Type"].partition("boundary=")[2]
    answers = answer.text.split(f"--{boundary}")[1:-1]
    assert [re.search(r"HTTP/1.1 (\d+)", one)[1] for one in answers] == ["200", "200", "404"]
    assert [re.search(r"Content-ID: (.*)\r", one)[1] for one in answers] == [f"<response-id + {n}>" for n in range(3)]
    assert json.loads(answers[1].split("\r\n\r\n")[2])["name"].endswith("/secrets/batched")


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("cloudresourcemanager.googleapis.com/v3/liens", "cloudresourcemanager.liens.list"),
        ("compute.googleapis.com/compute/v1/projects/{}/global/httpHealthChecks", "compute.httpHealthChecks.list"),
        ("compute.googleapis.com/compute/v1/projects/{}/global/licenses", "compute.licenses.list"),
        ("compute.googleapis.com/compute/v1/projects/{}/global/targetTcpProxies", "compute.targetTcpProxies.list"),
        ("compute.googleapis.com/compute/v1/projects/{}/zones/z/instanceGroups", "compute.instanceGroups.list"),
        ("dns.googleapis.com/dns/v1/projects/{}/managedZones/z/dnsKeys", "dns.dnsKeys.list"),
        ("dns.googleapis.com/dns/v1/projects/{}/responsePolicies", "dns.responsePolicies.list"),
        ("sqladmin.googleapis.com/v1/projects/{}/instances/i/sslCerts", "sql.sslCerts.list"),
        ("storage.googleapis.com/storage/v1/b/b/folders", "storage.folders.list"),
        ("storage.googleapis.com/storage/v1/b/b/notificationConfigs", "storage.notifications.list"),
        ("storage.googleapis.com/storage/v1/projects/{}/hmacKeys", "storage.projects.hmacKeys.list"),
    ],
)
def test_method_that_is_not_implemented_says_so(api, project, enable, path, method):
    enable(project, *(f"{name}.googleapis.com" for name in ("cloudresourcemanager", "compute", "dns", "sqladmin")))
    answer = api("GET", f"https://{path.format(project)}")
    assert answer.status_code == 501, answer.text
    assert method in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("monitoring.googleapis.com/v3/projects/p/alertPolicies", "monitoring.projects.alertPolicies.list (v3)"),
        ("secretmanager.googleapis.com/v1beta1/projects/p/secrets", "secretmanager.projects.secrets.list (v1beta1)"),
        ("iam.googleapis.com/v2/policies/point/denypolicies", "iam.policies.listPolicies (v2)"),
        ("cloudresourcemanager.googleapis.com/v2/folders", "cloudresourcemanager.folders.list (v2)"),
    ],
)
def test_api_or_version_that_is_not_implemented_says_so(api, path, method):
    answer = api("GET", f"https://{path}")
    assert answer.status_code == 501
    assert method in answer.json()["error"]["message"]


def test_api_not_enabled(api, project):
    answer = api("GET", f"https://run.googleapis.com/v2/projects/{project}/locations/europe-west2/services")
    assert answer.status_code == 403
    details = {d["@type"].rsplit(".", 1)[-1]: d for d in answer.json()["error"]["details"]}
    assert details["ErrorInfo"]["reason"] == "SERVICE_DISABLED"
    assert details["ErrorInfo"]["metadata"]["service"] == "run.googleapis.com"


def test_permission_denied(api, project):
    answer = api("GET", SECRETS.format(project), as_="mallory@example.net")
    assert answer.status_code == 403
    assert "secretmanager.secrets.list" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        "x",
        3,
        {"a": [], "b": {}, "c": None},
        [[], [1], [[{}]]],
        {'é"\n': [1.5, "x", True, {"b": [{"c": -1}, "y"]}]},
    ],
)
def test_json_is_written_as_the_library_does(value):
    assert pretty(value) == json.dumps(value, indent=2)
