"""Cloud Run: services, revisions and jobs, and the containers behind them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import ssl
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import aiohttp
import psutil
import pytest
import requests
from gcp_sandbox.images import ImageError, Images, read

REGION = "europe-west2"
HELLO = "us-docker.pkg.dev/cloudrun/container/hello"
IMAGE = "europe-west2-docker.pkg.dev/test/images/app:1"
APP = """
import http.server, json, os, sys, threading, time, urllib.request

MODE = os.environ.get("MODE", "")
if MODE == "fail":
    sys.exit("I cannot start")
if MODE == "websocket":
    from aiohttp import web

    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        print("closed", socket.close_code, flush=True)
        return socket

    app = web.Application()
    app.router.add_get("/echo", echo)
    web.run_app(app, host=os.environ["HOST"], port=int(os.environ["PORT"]))
    sys.exit()
if os.environ.get("CLOUD_RUN_JOB"):
    print("task", os.environ["CLOUD_RUN_TASK_INDEX"], sys.argv[1:], os.environ.get("SECRET"))
    sys.exit(1 if MODE == "fail-task" else 0)


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, answer = 200, {"path": self.path, "headers": dict(self.headers), "env": dict(os.environ), "pid": os.getpid(),
                               "cwd": os.getcwd(), "argv": sys.argv[1:]}
        if self.path == "/slow":
            time.sleep(0.4)
        elif self.path == "/very-slow":
            time.sleep(5)
        elif self.path == "/exit":
            os._exit(1)
        elif self.path == "/broken":
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf")
            self.wfile.flush()
            os._exit(1)
        elif self.path == "/ready":
            status = 200 if os.path.exists(os.environ["READY"]) else 503
        elif self.path == "/status/204":
            status = 204
        elif self.path.startswith("/metadata/"):
            url = "http://" + os.environ["GCE_METADATA_HOST"] + "/computeMetadata/v1" + self.path.removeprefix("/metadata")
            request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
            answer = {"text": urllib.request.urlopen(request).read().decode()}
        elif self.path.startswith("/file"):
            answer = {"text": open(os.environ["FILE"]).read()}
        body = json.dumps(answer).encode() if status == 200 else b""
        self.send_response(status)
        self.send_header("X-Twice", "a")
        self.send_header("X-Twice", "b")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        size = 0
        if self.headers.get("Transfer-Encoding"):
            while n := int(self.rfile.readline(), 16):
                size += len(self.rfile.read(n))
                self.rfile.readline()
            self.rfile.readline()
        else:
            size = len(self.rfile.read(int(self.headers["Content-Length"])))
        body = str(size).encode()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\\r\\n%s\\r\\n0\\r\\n\\r\\n" % (len(body), body))


http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), App).serve_forever()
"""


@pytest.fixture(scope="module")
def run(api, enable, done, project, sandbox, tmp_path_factory):
    """A project with Cloud Run, an image, and short ways to create services, call them and wait."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP)
    (folder / "Containerfile").write_text(
        "FROM python:3\nENV FROM_IMAGE=yes MODE=''\nCOPY app.py /opt/app/\nWORKDIR /home/app\nUSER 1000\n"
        'ENTRYPOINT ["python", "/opt/app/app.py"]\nCMD ["default"]\n'
    )
    sandbox.command("image", "add", IMAGE, str(folder), "--python", sys.executable)
    enable(
        project,
        "run.googleapis.com",
        "compute.googleapis.com",
        "secretmanager.googleapis.com",
        "iam.googleapis.com",
        "iamcredentials.googleapis.com",
        "cloudresourcemanager.googleapis.com",
    )
    enable(
        "sandbox-project", "iam.googleapis.com", "iamcredentials.googleapis.com", "cloudresourcemanager.googleapis.com"
    )
    base = f"https://run.googleapis.com/v2/projects/{project}/locations/{REGION}"
    accounts = f"https://iam.googleapis.com/v1/projects/{project}/serviceAccounts"

    def account(name: str) -> str:
        api("POST", accounts, json={"accountId": name})
        email = f"{name}@{project}.iam.gserviceaccount.com"
        member = "serviceAccount:deployer@sandbox-project.iam.gserviceaccount.com"
        bindings = [{"role": f"roles/iam.serviceAccount{r}", "members": [member]} for r in ("TokenCreator", "User")]
        answer = api("POST", f"{accounts}/{email}:setIamPolicy", json={"policy": {"bindings": bindings}})
        assert answer.status_code == 200, answer.text
        return email

    def template(image: str = IMAGE, **more: Any) -> dict[str, Any]:
        container = {"image": image} | more.pop("container", {})
        if env := more.pop("env", None):
            container["env"] = [{"name": k, "value": v} for k, v in env.items()]
        return {"containers": [container], **more}

    def deploy(name: str, spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        body = {"template": spec or template()} | fields
        return done(api("PATCH", f"{base}/services/{name}?allowMissing=true", json=body))

    def token(email: str, audience: str) -> str:
        url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:generateIdToken"
        answer = api("POST", url, json={"audience": audience, "includeEmail": True})
        assert answer.status_code == 200, answer.text
        return answer.json()["token"]

    invoker = account("invoker")
    tokens: dict[str, str] = {}
    client = sandbox.session()
    del client.headers["Authorization"]

    def call(name: str, path: str = "/", method: str = "GET", **kwargs: Any) -> requests.Response:
        doc = api("GET", f"{base}/services/{name}").json()
        if name not in tokens:
            bindings = [{"role": "roles/run.invoker", "members": [f"serviceAccount:{invoker}"]}]
            api("POST", f"{base}/services/{name}:setIamPolicy", json={"policy": {"bindings": bindings}})
            tokens[name] = token(invoker, doc["urls"][0])
        headers = {"Authorization": f"Bearer {tokens[name]}"} | kwargs.pop("headers", {})
        return client.request(method, doc["urls"][0] + path, headers=headers, timeout=60, **kwargs)

    return SimpleNamespace(
        base=base,
        account=account,
        template=template,
        deploy=deploy,
        token=token,
        call=call,
        client=client,
        project=project,
        invoker=invoker,
    )


def error(operation: dict[str, Any]) -> str:
    """Message of an operation that failed."""
    assert operation.get("done") and "error" in operation, operation
    return operation["error"]["message"]


# -- services ------------------------------------------------------------------


def test_a_service_gets_ready_and_says_what_it_is(run, api):
    operation = run.deploy("hello", run.template(HELLO), labels={"a": "b"})
    doc = operation["response"]
    assert doc["@type"].endswith("run.v2.Service")
    doc = api("GET", f"{run.base}/services/hello").json()
    assert doc["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert doc["observedGeneration"] == doc["generation"] == "1" and "reconciling" not in doc
    assert doc["latestReadyRevision"] == doc["latestCreatedRevision"]
    assert re.fullmatch(r"https://hello-\w{10}-nw\.a\.run\.app", doc["uri"])
    assert doc["urls"][0].endswith(f".{REGION}.run.app") and doc["urls"][1] == doc["uri"]
    container = doc["template"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "1000m", "memory": "512Mi"}
    assert doc["template"]["timeout"] == "300s" and doc["template"]["maxInstanceRequestConcurrency"] == 80
    revisions = api("GET", f"{run.base}/services/hello/revisions").json()["revisions"]
    assert [r["name"] for r in revisions] == [doc["latestReadyRevision"]] and "name" not in container
    assert [c["name"] for c in revisions[0]["containers"]] == ["hello-1"]
    assert re.fullmatch(rf"{HELLO}@sha256:\w{{64}}", revisions[0]["containerStatuses"][0]["imageDigest"])
    assert "It's running!" in run.call("hello").text


def test_reading_back_and_sending_again_changes_nothing(run, api, done):
    first = api("POST", f"{run.base}/services?serviceId=same", json={"template": run.template()})
    done(first)
    before = api("GET", f"{run.base}/services/same").json()
    assert before["etag"] == first.json()["metadata"]["etag"]  # reconciling is not a change of the user's
    stamp, name = (base64.urlsafe_b64decode(part + "==") for part in before["etag"].strip('"').split("/"))
    assert stamp[:1] == b"\x08" and name.decode() == before["name"]
    done(api("PATCH", f"{run.base}/services/same", json=before))
    after = api("GET", f"{run.base}/services/same").json()
    assert (after["generation"], after["latestCreatedRevision"]) == (
        before["generation"],
        before["latestCreatedRevision"],
    )
    stale = before | {"etag": '"stale"', "labels": {"x": "y"}}
    answer = api("PATCH", f"{run.base}/services/same", json=stale)
    assert (answer.status_code, answer.json()["error"]["status"]) == (409, "ABORTED")


def test_an_update_mask_changes_only_what_it_names(run, api, done):
    run.deploy("masked", labels={"keep": "me"})
    body = {"template": {"scaling": {"minInstanceCount": 0, "maxInstanceCount": 7}}, "description": "ignored"}
    done(api("PATCH", f"{run.base}/services/masked?updateMask=template.scaling", json=body))
    doc = api("GET", f"{run.base}/services/masked").json()
    assert doc["template"]["scaling"]["maxInstanceCount"] == 7 and doc["labels"] == {"keep": "me"}
    assert "description" not in doc and doc["template"]["containers"][0]["image"] == IMAGE


def test_validate_only_keeps_nothing(run, api, done):
    body = {"template": run.template()}
    operation = done(api("POST", f"{run.base}/services?serviceId=checked&validateOnly=true", json=body))
    assert operation["response"]["template"]["timeout"] == "300s"
    assert api("GET", f"{run.base}/services/checked").status_code == 404


def test_deleting(run, api, done):
    run.deploy("short")
    assert api("DELETE", f"{run.base}/services/short?etag=wrong").status_code == 409
    operation = done(api("DELETE", f"{run.base}/services/short"))
    assert operation["response"]["deleteTime"]
    answer = api("GET", f"{run.base}/services/short")
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (
            {"labels": {"a": "b"}},
            400,
            "Violation in CreateServiceRequest.service.template: required field not present.",
        ),
        ({"template": {}}, 400, "at least one container"),
        (
            {
                "template": {"containers": [{"image": HELLO}]},
                "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100, "tag": "Bad_Tag"}],
            },
            400,
            "Traffic tag 'Bad_Tag' must be",
        ),
        (
            {"template": {"containers": [{"image": "https://x"}]}},
            400,
            "Violation in CreateServiceRequest.service.template.containers[0].image: must be a container image path",
        ),
        (
            {"template": {"containers": [{"image": HELLO, "ports": [{"containerPort": 1}, {"containerPort": 2}]}]}},
            400,
            "Violation in CreateServiceRequest.service.template.containers[0].ports: ports should contain 0 or 1 port.",
        ),
        (
            {"template": {"containers": [{"image": HELLO}], "timeout": "7200s"}},
            400,
            "Violation in CreateServiceRequest.service.template.timeout: maximum allowed time is one hour.",
        ),
        (
            {"template": {"containers": [{"image": HELLO, "resources": {"limits": {"memory": "8Gi"}}}]}},
            400,
            "Invalid value specified for container memory. For 1.0 CPU, memory must be between 128Mi and 4Gi inclusive.",
        ),
        (
            {
                "template": {
                    "containers": [{"image": HELLO, "resources": {"limits": {"memory": "256Mi"}, "cpuIdle": True}}],
                    "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN2",
                }
            },
            400,
            "Total memory < 512 Mi is not supported with gen2 execution environment.",
        ),
        (
            {
                "template": {
                    "containers": [{"image": HELLO, "resources": {"limits": {"cpu": "500m"}}}],
                    "maxInstanceRequestConcurrency": 2,
                }
            },
            400,
            "Total cpu < 1 is not supported with concurrency > 1.",
        ),
        (
            {"template": {"containers": [{"image": HELLO, "env": [{"name": "PORT", "value": "1"}]}]}},
            400,
            "reserved env names",
        ),
        ({"template": {"containers": [{"image": HELLO, "imag": 1}]}}, 400, 'Unknown name "imag"'),
        ({"template": {"containers": [{"image": HELLO, "resources": {"limits": {"cpu": "3"}}}]}}, 400, "cpu"),
        (
            {"template": {"containers": [{"image": HELLO}, {"image": HELLO}]}},
            400,
            "exactly one container with an exposed port",
        ),
        (
            {"template": {"containers": [{"image": HELLO}], "serviceAccount": "no@x.iam.gserviceaccount.com"}},
            403,
            "actas",
        ),
        ({"template": {"containers": [{"image": HELLO}]}, "traffic": [{"percent": 50}]}, 400, "add up to 100"),
        ({"template": {"containers": [{"image": HELLO}]}, "ingress": "INGRESS_NO"}, 400, "Invalid value at"),
        (
            {"template": {"containers": [{"image": HELLO}]}, "labels": {"team": "A"}},
            400,
            "At least one label does not conform to GCP naming style. Label value 'A' violates format constraints.",
        ),
        ({"template": {"containers": [{"image": HELLO}], "timeout": "long"}}, 400, "duration must end with 's'"),
        (
            {"template": {"containers": [{"image": HELLO, "env": [{"name": "A", "value": "a", "valueSource": {}}]}]}},
            400,
            "Invalid value at 'service.template.containers[0].env[0]' (oneof), oneof field 'values' is already set.",
        ),
        (
            {"template": {"containers": [{"image": HELLO, "startupProbe": {"httpGet": {}, "tcpSocket": {}}}]}},
            400,
            "Invalid value at 'service.template.containers[0].startup_probe' (oneof)",
        ),
        (
            {"template": {"containers": [{"image": HELLO, "readinessProbe": {"tcpSocket": {}}}]}},
            400,
            "template.containers[0].readinessProbe.tcp_socket: A readiness probe must be of type HTTP or gRPC.",
        ),
        (
            {"template": {"containers": [{"image": HELLO, "startupProbe": {"initialDelaySeconds": 241}}]}},
            400,
            "at most 240",
        ),
        (
            {"template": {"containers": [{"image": HELLO}], "volumes": [{"name": "v", "emptyDir": {}}] * 2}},
            400,
            "unique",
        ),
        ({"template": {"containers": [{"image": HELLO, "resources": {"limits": {"disk": "1Gi"}}}]}}, 400, "'disk'"),
    ],
)
def test_what_is_refused_at_once(run, api, body, status, words):
    answer = api("POST", f"{run.base}/services?serviceId=refused", json=body)
    assert answer.status_code == status and words.lower() in answer.json()["error"]["message"].lower(), answer.text
    assert api("GET", f"{run.base}/services/refused").status_code == 404


def test_names_regions_and_doubles(run, api):
    body = {"template": run.template(HELLO)}
    assert api("POST", f"{run.base}/services?serviceId=No_Name", json=body).status_code == 400
    assert api("GET", f"{run.base.replace(REGION, '-')}/services").status_code == 400
    elsewhere = run.base.replace(REGION, "mars-north1")
    assert api("POST", f"{elsewhere}/services?serviceId=x", json=body).status_code == 403
    run.deploy("twice", run.template(HELLO))
    answer = api("POST", f"{run.base}/services?serviceId=twice", json=body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (409, "ALREADY_EXISTS")


def test_permissions(run, api):
    run.deploy("guarded", run.template(HELLO))
    stranger = run.account("stranger")
    answer = api("GET", f"{run.base}/services/guarded", as_=stranger)
    assert answer.status_code == 403 and "run.services.get" in answer.json()["error"]["message"]
    bindings = [{"role": "roles/run.admin", "members": [f"serviceAccount:{stranger}"]}]
    policy = api("POST", f"{run.base}/services/guarded:setIamPolicy", json={"policy": {"bindings": bindings}}).json()
    assert policy["bindings"] == bindings
    assert api("GET", f"{run.base}/services/guarded", as_=stranger).status_code == 200
    body = {"template": run.template(HELLO, env={"A": "b"})}
    answer = api("PATCH", f"{run.base}/services/guarded", as_=stranger, json=body)
    assert answer.status_code == 403 and "actAs" in answer.json()["error"]["message"]


# -- revisions that fail -------------------------------------------------------


def test_unknown_image(run):
    text = error(run.deploy("noimage", run.template("europe-docker.pkg.dev/no/such/image:1")))
    assert "Image 'europe-docker.pkg.dev/no/such/image:1' not found." in text


def test_a_failing_revision_leaves_the_old_one_serving(run, api, sandbox):
    run.deploy("sturdy", run.template(env={"GREETING": "first"}))
    text = error(run.deploy("sturdy", run.template(env={"MODE": "fail"})))
    assert "failed to start and listen on the port defined provided by the PORT=8080 environment variable" in text
    doc = api("GET", f"{run.base}/services/sturdy").json()
    assert doc["terminalCondition"]["state"] == "CONDITION_FAILED"
    assert doc["latestReadyRevision"] != doc["latestCreatedRevision"]
    assert run.call("sturdy").json()["env"]["GREETING"] == "first"
    assert "I cannot start" in sandbox.command("logs", "sturdy")
    assert "response" in run.deploy("sturdy", run.template(env={"GREETING": "second"}))
    assert run.call("sturdy").json()["env"]["GREETING"] == "second"


def test_a_startup_probe_decides(run):
    probe = {"httpGet": {"path": "/", "port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    text = error(run.deploy("unhealthy", run.template(container={"startupProbe": probe})))
    assert "failed the configured startup probe checks" in text
    good = {"httpGet": {"path": "/health"}, "periodSeconds": 1, "failureThreshold": 20}
    assert "response" in run.deploy("unhealthy", run.template(container={"startupProbe": good}))


def test_a_readiness_probe_withholds_requests_and_restarts_nothing(run, sandbox, tmp_path):
    flag = tmp_path / "ready"
    flag.touch()
    tmp_path.chmod(0o755)
    probe = {"httpGet": {"path": "/ready"}, "periodSeconds": 1, "failureThreshold": 1}
    template = run.template(
        env={"READY": str(flag)}, container={"readinessProbe": probe}, scaling={"maxInstanceCount": 1}
    )
    assert "response" in run.deploy("moody", template)
    pid = run.call("moody").json()["pid"]
    flag.unlink()
    logged(sandbox, "moody", "READINESS HTTP probe failed; the instance gets no new requests.")
    assert run.call("moody").status_code == 429
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run.call, "moody")
        flag.touch()
        assert waiting.result().json()["pid"] == pid
    logged(sandbox, "moody", "READINESS HTTP probe succeeded; the instance gets requests again.")


def logged(sandbox, service: str, line: str) -> None:
    """Wait until a service's log has a line."""
    deadline = time.monotonic() + 10
    while line not in sandbox.command("logs", service):
        assert time.monotonic() < deadline, f"the log of {service} has no line {line!r}"


def test_a_secret_needs_its_version_and_the_role(run, api):
    account = run.account("reader")
    secrets = f"https://secretmanager.googleapis.com/v1/projects/{run.project}/secrets"
    env = [{"name": "SECRET", "valueSource": {"secretKeyRef": {"secret": "password", "version": "1"}}}]
    spec = run.template(container={"env": env}, serviceAccount=account)
    assert (
        f"Permission denied on secret: projects/{_number(run, api)}/secrets/password/versions/1 for Revision "
        f"service account {account}." in error(run.deploy("secretive", spec))
    )
    assert api("POST", f"{secrets}?secretId=password", json={"replication": {"automatic": {}}}).status_code == 200
    api("POST", f"{secrets}/password:addVersion", json={"payload": {"data": base64.b64encode(b"s3cret").decode()}})
    assert "Permission denied on secret" in error(run.deploy("secretive", spec))
    bindings = [{"role": "roles/secretmanager.secretAccessor", "members": [f"serviceAccount:{account}"]}]
    api("POST", f"{secrets}/password:setIamPolicy", json={"policy": {"bindings": bindings}})
    assert "response" in run.deploy("secretive", spec)
    assert run.call("secretive").json()["env"]["SECRET"] == "s3cret"
    mounted = run.template(
        container={
            "volumeMounts": [{"name": "v", "mountPath": "/secrets"}],
            "env": [{"name": "FILE", "value": "/secrets/password"}],
        },
        volumes=[{"name": "v", "secret": {"secret": "password"}}],
        serviceAccount=account,
    )
    assert "response" in run.deploy("secretive", mounted)
    assert run.call("secretive", "/file").json()["text"] == "s3cret"


def _number(run, api) -> str:
    return api("GET", f"https://cloudresourcemanager.googleapis.com/v1/projects/{run.project}").json()["projectNumber"]


def test_a_network_must_be_there_and_its_subnet_large_enough(run, api, done):
    def attached(network: str, subnet: str) -> dict[str, Any]:
        return run.template(vpcAccess={"networkInterfaces": [{"network": network, "subnetwork": subnet}]})

    assert "does not exist" in error(run.deploy("attached", attached("nowhere", "nowhere")))
    compute = f"https://compute.googleapis.com/compute/v1/projects/{run.project}"
    done(api("POST", f"{compute}/global/networks", json={"name": "own", "autoCreateSubnetworks": False}))
    ranges = {
        "small": {"ipCidrRange": "10.1.0.0/27"},
        "large": {"ipCidrRange": "10.2.0.0/26"},
        "newer": {"stackType": "IPV6_ONLY", "ipv6AccessType": "EXTERNAL"},
    }
    for name, own in ranges.items():
        body = {"name": name, "network": f"projects/{run.project}/global/networks/own"} | own
        done(api("POST", f"{compute}/regions/{REGION}/subnetworks", json=body))
    assert "/26" in error(run.deploy("attached", attached("own", "small")))
    assert "IPv4" in error(run.deploy("attached", attached("own", "newer")))
    assert "response" in run.deploy("attached", attached("own", "large"))
    both = {"connector": "c", "networkInterfaces": [{"network": "own"}]}
    answer = api("POST", f"{run.base}/services?serviceId=x", json={"template": run.template(vpcAccess=both)})
    assert answer.status_code == 400


def test_a_subnet_is_held_for_a_while_after_a_service(run, api, done, sandbox):
    compute = f"https://compute.googleapis.com/compute/v1/projects/{run.project}"
    done(api("POST", f"{compute}/global/networks", json={"name": "held", "autoCreateSubnetworks": False}))
    network, subnet = f"projects/{run.project}/global/networks/held", f"{compute}/regions/{REGION}/subnetworks/held"
    body = {"name": "held", "network": network, "ipCidrRange": "10.9.0.0/26"}
    done(api("POST", subnet.rpartition("/")[0], json=body))
    template = run.template(vpcAccess={"networkInterfaces": [{"network": "held", "subnetwork": "held"}]})
    assert "response" in run.deploy("holder", template)
    assert "/addresses/serverless-ipv4-" in api("DELETE", subnet).text
    sandbox.command("fault", "add", "compute.subnetworks.delete", "held", "seconds=2")
    try:
        done(api("DELETE", f"{run.base}/services/holder"))
    finally:
        sandbox.command("fault", "clear")
    answer = api("DELETE", subnet)
    assert answer.status_code == 400 and "/addresses/serverless-ipv4-" in answer.text
    time.sleep(2)
    assert api("DELETE", subnet).status_code == 200


# -- the container's world -----------------------------------------------------


def test_a_container_sees_what_cloud_run_gives_it(run, api):
    run.deploy("inside", run.template(env={"DECLARED": "yes"}, container={"args": ["one", "/opt/app"]}))
    answer = run.call("inside", "/x?y=%2F").json()
    env = answer["env"]
    assert env["PORT"] == "8080" and env["K_SERVICE"] == env["K_CONFIGURATION"] == "inside"
    assert env["K_REVISION"].startswith("inside-00001-")
    assert env["DECLARED"] == "yes" and env["FROM_IMAGE"] == "yes" and answer["argv"][0] == "one"
    assert not set(env) & {"USER", "LOGNAME", "GOOGLE_APPLICATION_CREDENTIALS", "GCP_PROJECT", "VIRTUAL_ENV", "OLDPWD"}
    assert env["HOST"].startswith("127.") and env["PATH"].startswith(os.path.dirname(sys.executable))
    assert answer["path"] == "/x?y=%2F" and answer["headers"]["X-Forwarded-Proto"] == "https"
    assert answer["headers"]["Host"].endswith(".run.app")
    assert answer["headers"]["Authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")


def test_the_metadata_server_speaks_for_the_service_account(run, api):
    account = run.account("runner")
    run.deploy("who", run.template(serviceAccount=account))

    def metadata(path: str) -> str:
        return run.call("who", f"/metadata/{path}").json()["text"]

    assert metadata("project/project-id") == run.project
    assert metadata("project/numeric-project-id") == _number(run, api)
    assert metadata("instance/region").endswith(f"/regions/{REGION}")
    assert metadata("instance/service-accounts/default/email") == account
    whole = json.loads(metadata("instance/service-accounts/default/?recursive=true"))
    assert whole["email"] == account and whole["aliases"] == ["default"]
    access = json.loads(metadata("instance/service-accounts/default/token"))
    assert access["token_type"] == "Bearer" and access["expires_in"] > 3000
    headers = {"Authorization": f"Bearer {access['access_token']}"}
    answer = run.client.get(f"{run.base}/services", headers=headers)
    assert answer.status_code == 403 and "run.services.list" in answer.text
    identity = metadata("instance/service-accounts/default/identity?audience=https://a.example")
    claims = json.loads(base64.urlsafe_b64decode(identity.split(".")[1] + "=="))
    assert (claims["aud"], claims["email"]) == ("https://a.example", account)


# -- requests ------------------------------------------------------------------


def test_who_may_call(run, api):
    run.deploy("private")
    url = api("GET", f"{run.base}/services/private").json()["urls"]
    assert run.client.get(url[0] + "/p").status_code == 403
    assert "does not have permission to get URL <code>/p</code>" in run.client.get(url[0] + "/p").text
    for target in url:
        bearer = {"Authorization": f"Bearer {run.token(run.invoker, target)}"}
        assert run.client.get(target, headers=bearer).status_code == 403
    assert run.call("private").status_code == 200
    wrong = {"Authorization": f"Bearer {run.token(run.invoker, 'https://elsewhere.example')}"}
    assert run.client.get(url[0], headers=wrong).status_code == 401
    own = wrong | {"X-Serverless-Authorization": f"Bearer {run.token(run.invoker, url[1])}"}
    seen = run.client.get(url[0], headers=own).json()["headers"]
    assert seen["Authorization"] == wrong["Authorization"]
    run.deploy("private", invokerIamDisabled=True)
    answer = run.client.get(url[0], headers=wrong)
    assert answer.json()["headers"]["Authorization"] == wrong["Authorization"]  # a token for the service to check
    trace = answer.headers["X-Cloud-Trace-Context"].partition(";")[0]
    assert answer.json()["headers"]["traceparent"].startswith(f"00-{trace}-")
    run.deploy("private", invokerIamDisabled=True, ingress="INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER")
    assert run.client.get(url[0]).status_code == 404
    assert run.client.get("https://nothing-123456.europe-west2.run.app/").status_code == 404


def test_bodies_pass_both_ways_within_the_limit(run):
    run.deploy("bodies")
    size = 31 * 1024 * 1024
    assert run.call("bodies", "/", "POST", data=b"x" * size).text == str(size)
    assert run.call("bodies", "/", "POST", data=iter([b"abc", b"de"])).text == "5"
    answer = run.call("bodies", "/", "POST", data=b"x" * (33 * 1024 * 1024))
    assert answer.status_code == 413 and "too large" in answer.text
    assert run.call("bodies", "/status/204").status_code == 204
    assert run.call("bodies", "/", "HEAD").status_code == 501
    assert run.call("bodies").headers["X-Twice"] == "a, b"


def test_traffic_is_split_and_tagged(run, api):
    run.deploy("split", run.template(env={"V": "1"}))
    first = api("GET", f"{run.base}/services/split").json()["latestReadyRevision"].rsplit("/", 1)[-1]
    latest = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"}
    pinned = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": first}
    spec = run.template(env={"V": "2"})
    run.deploy("split", spec, traffic=[pinned | {"percent": 100}, latest | {"tag": "next"}])
    assert {run.call("split").json()["env"]["V"] for _ in range(5)} == {"1"}
    doc = api("GET", f"{run.base}/services/split").json()
    tagged = next(s["uri"] for s in doc["trafficStatuses"] if s.get("tag") == "next")
    bearer = {"Authorization": f"Bearer {run.token(run.invoker, doc['uri'])}"}
    assert run.client.get(tagged, headers=bearer).json()["env"]["V"] == "2"
    run.deploy("split", spec, traffic=[pinned | {"percent": 50}, latest | {"percent": 50}])
    assert {run.call("split").json()["env"]["V"] for _ in range(30)} == {"1", "2"}
    missing = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "split-gone", "percent": 100}
    assert "does not exist or is deleted" in error(run.deploy("split", spec, traffic=[missing]))
    assert run.call("split").status_code == 200


def test_concurrency_and_instances(run):
    run.deploy("busy", run.template(maxInstanceRequestConcurrency=1, scaling={"maxInstanceCount": 3}))
    run.call("busy")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: run.call("busy", "/slow"), range(6)))
    assert {a.status_code for a in answers} == {200}
    assert 2 <= len({a.json()["pid"] for a in answers}) <= 3


def test_a_service_that_is_asked_while_it_is_deleted_leaves_nothing(run, api, done):
    run.deploy("asked", invokerIamDisabled=True)
    url = api("GET", f"{run.base}/services/asked").json()["uri"]
    pids: set[int] = set()

    def ask(_: int) -> None:
        while (answer := run.client.get(url, timeout=60)).status_code != 404:
            if answer.status_code == 200:
                pids.add(answer.json()["pid"])

    with ThreadPoolExecutor(4) as threads:
        asked = threads.map(ask, range(4))
        while not pids:
            time.sleep(0.01)
        done(api("DELETE", f"{run.base}/services/asked"))
        list(asked)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_plain_http_is_redirected(run, api):
    run.deploy("plain")
    url = api("GET", f"{run.base}/services/plain").json()["uri"].replace("https", "http", 1)
    answer = api("GET", f"{url}/a?b=c")
    assert (answer.status_code, answer.headers["Location"]) == (302, url.replace("http", "https", 1) + "/a?b=c")


def test_the_request_timeout(run, sandbox):
    run.deploy("late", run.template(timeout="1s"))
    answer = run.call("late", "/very-slow")
    assert (answer.status_code, answer.text) == (504, "upstream request timeout")
    assert "has reached the maximum request timeout" in sandbox.command("logs", "late")


def test_an_instance_that_ends_is_replaced(run):
    run.deploy("crashing")
    first = run.call("crashing").json()["pid"]
    crashed = run.call("crashing", "/exit")
    assert (crashed.status_code, crashed.text) == (
        503,
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
    )
    assert run.call("crashing").json()["pid"] != first


def test_an_answer_that_breaks_off_is_not_taken_for_whole(run):
    run.deploy("broken")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        run.call("broken", "/broken")
    assert run.call("broken").status_code == 200


def test_websockets(run, api, sandbox):
    run.deploy("sockets", run.template(env={"MODE": "websocket"}), invokerIamDisabled=True)
    url = api("GET", f"{run.base}/services/sockets").json()["uri"]
    env = sandbox.environment

    async def talk() -> str:
        context = ssl.create_default_context(cafile=env["SSL_CERT_FILE"])
        session = aiohttp.ClientSession()
        connected = session.ws_connect(f"{url}/echo", proxy=env["HTTPS_PROXY"], ssl=context)
        async with session, connected as socket:
            await socket.send_str("hello")
            return await socket.receive_str(timeout=10)

    assert asyncio.run(talk()) == "HELLO"
    assert "closed 1000" in sandbox.command("logs", "sockets")
    run.deploy("sockets", run.template(env={"MODE": "websocket"}, timeout="1s"), invokerIamDisabled=True)

    async def wait() -> int | None:
        context = ssl.create_default_context(cafile=env["SSL_CERT_FILE"])
        session = aiohttp.ClientSession()
        connected = session.ws_connect(f"{url}/echo", proxy=env["HTTPS_PROXY"], ssl=context)
        async with session, connected as socket:
            await socket.receive(timeout=10)
            return socket.close_code

    assert asyncio.run(wait()) == 1006  # cut when the request's time is over
    assert "has reached the maximum request timeout" in sandbox.command("logs", "sockets")


def test_a_port_named_h2c_wants_http2(run):
    run.deploy("h2c", run.template(container={"ports": [{"name": "h2c", "containerPort": 9000}]}))
    answer = run.call("h2c")
    assert answer.status_code == 503 and "protocol error" in answer.text


def test_sidecars_share_the_instance(run, api):
    """A container that the first depends on is started before it, and is asked by its own port."""
    side = {
        "name": "side",
        "image": HELLO,
        "env": [{"name": "PORT", "value": "8081"}],
        "startupProbe": {"tcpSocket": {"port": 8081}, "periodSeconds": 1, "failureThreshold": 20},
    }
    main = {
        "name": "main",
        "image": IMAGE,
        "ports": [{"containerPort": 8080}],
        "dependsOn": ["side"],
        "volumeMounts": [{"name": "tmp", "mountPath": "/shared"}],
        "env": [{"name": "DIR", "value": "/shared"}],
    }
    volumes = [{"name": "tmp", "emptyDir": {"medium": "MEMORY", "sizeLimit": "64Mi"}}]
    assert "response" in run.deploy("pair", {"containers": [main, side], "volumes": volumes})
    assert run.call("pair").json()["env"]["DIR"].endswith("/volumes/tmp")
    doc = api("GET", f"{run.base}/services/pair").json()["template"]
    assert doc["volumes"] == volumes and "ports" not in doc["containers"][1]


def test_zero_values_are_not_kept(run, api):
    run.deploy(
        "zero",
        run.template(scaling={"minInstanceCount": 0, "maxInstanceCount": 2}, env={"EMPTY": ""}),
        invokerIamDisabled=False,
    )
    doc = api("GET", f"{run.base}/services/zero").json()
    assert doc["template"]["scaling"] == {"maxInstanceCount": 2} and "invokerIamDisabled" not in doc
    assert doc["template"]["containers"][0]["env"] == [{"name": "EMPTY", "value": ""}]


# -- jobs ------------------------------------------------------------------------


def test_a_job_runs_its_tasks(run, api, done, sandbox):
    body = {"template": {"taskCount": 3, "parallelism": 2, "template": run.template()}}
    job = done(api("POST", f"{run.base}/jobs?jobId=batch", json=body))["response"]
    assert job["template"]["template"]["maxRetries"] == 3 and job["template"]["template"]["timeout"] == "600s"
    numbered = api("GET", f"{run.base}/jobs/batch", params={"$alt": "json;enum-encoding=int"}).json()
    assert (numbered["launchStage"], numbered["terminalCondition"]["state"]) == (4, 4)  # GA, CONDITION_SUCCEEDED
    again = api("PATCH", f"{run.base}/jobs/batch", json=body | {"launchStage": 3, "labels": {"a": "b"}})  # BETA
    assert done(again)["response"]["launchStage"] == "BETA"
    execution = done(api("POST", f"{run.base}/jobs/batch:run", json={}))["response"]
    assert execution["succeededCount"] == 3
    assert [(c["type"], c["state"]) for c in execution["conditions"]] == [
        (kind, "CONDITION_SUCCEEDED") for kind in ("Completed", "ResourcesAvailable", "Started", "ContainerReady")
    ]
    assert re.fullmatch(r"Execution completed successfully in [\d.]+s\.", execution["conditions"][0]["message"])
    tasks = api("GET", f"https://run.googleapis.com/v2/{execution['name']}/tasks").json()["tasks"]
    assert [t.get("index", 0) for t in tasks] == [0, 1, 2] and tasks[0]["lastAttemptResult"] == {"status": {}}
    assert "task 2 ['default'] None" in sandbox.command("logs", "batch")
    overrides = {
        "taskCount": 1,
        "containerOverrides": [{"args": ["a"], "env": [{"name": "MODE", "value": "fail-task"}]}],
    }
    operation = done(api("POST", f"{run.base}/jobs/batch:run", json={"overrides": overrides}))
    assert "task0 failed with exit code: 1 and message: The container exited with an error." in error(operation)
    assert operation["error"]["code"] == 10  # ABORTED
    assert operation["metadata"]["retriedCount"] == 3
    job = api("GET", f"{run.base}/jobs/batch").json()
    assert job["executionCount"] == 2 and job["latestCreatedExecution"]["completionStatus"] == "EXECUTION_FAILED"
    done(api("DELETE", f"{run.base}/jobs/batch"))
    assert api("GET", f"https://run.googleapis.com/v2/{execution['name']}").status_code == 404


def test_a_jobs_containers_get_their_defaults(run, api, done):
    """Recorded: containers of a job with several have half the memory, and a probe asks 8080 where no port is named."""
    probe = {"startupProbe": {"httpGet": {"path": "/"}}}
    containers = [{"name": n, "image": HELLO, **probe} for n in ("first", "second")] + [
        {"name": "third", "image": HELLO}
    ]
    containers[2]["dependsOn"] = ["first"]
    body = {"template": {"template": {"containers": containers}}}
    operation = done(api("POST", f"{run.base}/jobs?jobId=several", json=body))
    job = api("GET", f"{run.base}/jobs/several").json()
    assert "conditions" not in job and job["etag"] == operation["metadata"]["etag"]
    first, _, third = job["template"]["template"]["containers"]
    assert first["resources"]["limits"] == {"cpu": "1000m", "memory": "256Mi"} and "startupProbe" not in third
    assert first["startupProbe"] == {
        "httpGet": {"path": "/", "port": 8080},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "failureThreshold": 3,
    }
    done(api("PATCH", f"{run.base}/jobs/several", json=body))
    assert api("GET", f"{run.base}/jobs/several").json()["generation"] == "1"
    small = {"containers": [{"image": HELLO, "resources": {"limits": {"memory": "256Mi"}}}]}
    answer = api("POST", f"{run.base}/jobs?jobId=small", json={"template": {"template": small}})
    assert "Total memory < 512 Mi is not supported with gen2 execution environment with cpu always" in answer.text


def test_an_execution_can_be_cancelled(run, api, done):
    spec = run.template(container={"command": ["sleep", "60"]})
    done(api("POST", f"{run.base}/jobs?jobId=endless", json={"template": {"template": spec}}))
    started = api("POST", f"{run.base}/jobs/endless:run", json={}).json()
    name = started["metadata"]["name"]
    while api("GET", f"https://run.googleapis.com/v2/{name}").json().get("runningCount") != 1:
        time.sleep(0.05)
    execution = done(api("POST", f"https://run.googleapis.com/v2/{name}:cancel", json={}))["response"]
    assert execution["cancelledCount"] == 1 and execution["conditions"][0]["message"] == "Cancelled by user."
    assert "response" in done(api("GET", f"https://run.googleapis.com/v2/{started['name']}"))
    answer = api("POST", f"https://run.googleapis.com/v2/{name}:cancel", json={})
    assert "cannot be cancelled because it is not running" in answer.json()["error"]["message"]


# -- the program -------------------------------------------------------------------


def test_nothing_is_left_running_and_services_come_back(own, tmp_path):
    own.command("up", "--detach", "--latency", "realistic:0.02")
    session = own.session()
    usage = "https://serviceusage.googleapis.com/v1/projects/sandbox-project/services:batchEnable"
    session.post(usage, json={"serviceIds": ["run.googleapis.com", "compute.googleapis.com"]})
    base = f"https://run.googleapis.com/v2/projects/sandbox-project/locations/{REGION}/services"
    spec = {"containers": [{"image": HELLO}], "scaling": {"minInstanceCount": 1}}
    while "error" in session.get(base).json():
        time.sleep(0.05)
    operation = session.post(f"{base}?serviceId=s", json={"template": spec, "invokerIamDisabled": True}).json()
    assert operation["metadata"]["reconciling"] is True
    assert operation["metadata"]["terminalCondition"]["state"] == "CONDITION_PENDING"
    while not operation.get("done"):
        operation = session.get(f"https://run.googleapis.com/v2/{operation['name']}").json()
    url = operation["response"]["uri"]

    def containers() -> list[psutil.Process]:
        return [
            p
            for p in psutil.process_iter(["environ"])
            if (p.info["environ"] or {}).get("GCP_SANDBOX_CHILD_OF") == str(own.state.resolve())
        ]

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.05)

    assert session.get(url).status_code == 200 and len(containers()) == 1
    os.kill(json.loads((own.state / "run.json").read_text())["pid"], signal.SIGKILL)
    wait(lambda: not containers())
    own.command("up", "--detach")
    wait(lambda: len(containers()) == 1)
    assert own.session().get(url).status_code == 200
    own.command("down")
    assert not containers()


# -- images --------------------------------------------------------------------------


def test_a_containerfile_is_read(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").touch()
    (tmp_path / "run.sh").touch()
    (tmp_path / "Containerfile").write_text(
        "# syntax=docker/dockerfile:1\nARG BASE=python\nFROM $BASE AS build\nCMD nothing\nFROM python:3\n"
        'ENV A=1 \\\n  # a comment\n  B="two words"\nENV OLD style here\nARG DIR=app\nWORKDIR /srv/$DIR\n'
        "COPY --chown=1:1 src ./src\nCOPY run.sh /bin/\nRUN <<EOF\necho FROM here\nEOF\nEXPOSE 80/tcp\n"
        'CMD ["python3", "src/main.py", "--home=/srv/app/src"]\n'
    )
    image = read("a/b", tmp_path, None)
    assert image.env["A"] == "1" and image.env["B"] == "two words" and image.env["OLD"] == "style here"
    main = str(tmp_path / "src" / "main.py")
    assert image.argv([], []) == ["python3", main, f"--home={tmp_path / 'src'}"]
    assert image.argv(["sh", "-c", "exec /bin/run.sh"], []) == ["sh", "-c", f"exec {tmp_path / 'run.sh'}"]
    assert image.argv([], ["x"]) == ["x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CMD x", "comes before FROM"),
        ("FROM a\nCOPY gone /x\nCMD x", "Containerfile:2: COPY gone: no such file"),
        ("FROM a", "neither ENTRYPOINT nor CMD"),
        ("FROM a\nCMD ['x']", "JSON array"),
        ("FROM a\nCOPYY x y", "not a supported instruction"),
    ],
)
def test_a_containerfile_that_is_wrong(tmp_path, text, words):
    (tmp_path / "Containerfile").write_text(text)
    with pytest.raises(ImageError, match=re.escape(words)):
        Images(tmp_path).add("a/b:1", tmp_path, None)


def test_references(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM a\nCMD x")
    images = Images(tmp_path)
    images.add("host:5000/a/b", tmp_path, None)
    found = images.lookup("host:5000/a/b:latest")
    assert found is not None and images.lookup("host:5000/a/b:2") is None
    assert images.lookup(f"host:5000/a/b@{found.digest}") is not None
    assert images.lookup("host:5000/a/b@sha256:" + "0" * 64) is None
    with pytest.raises(ImageError, match="does not exist"):
        images.add("x/y", tmp_path / "none", None)
