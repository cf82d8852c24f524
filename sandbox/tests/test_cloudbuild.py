"""Cloud Build: from an archive in a bucket to an image in Artifact Registry."""

from __future__ import annotations

import io
import sys
import tarfile
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from gcp_sandbox.testing import CallError, Sandbox, wait

Api = Callable[..., requests.Response]
Done = Callable[..., dict[str, Any]]
REGION = "europe-west2"
CONTAINERFILE = """
FROM docker.io/library/python:3.13-slim AS build
WORKDIR /build
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY src src
RUN pip install --no-deps /build/src

FROM docker.io/library/python:3.13-slim
COPY --from=build /opt /opt
USER 10001
ENTRYPOINT ["python", "-m", "served"]
"""
SERVED = """
import http.server, os, served
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(served.__file__.encode())
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
FILES = {
    "Containerfile": CONTAINERFILE,
    "requirements.txt": "# none\n",
    "src/pyproject.toml": "[project]\nname = 'served'\nversion = '1'\n",
    "src/served.py": SERVED,
}


def archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


class Builder:
    """A project with a repository, a bucket and an account for builds."""

    def __init__(self, sandbox: Sandbox, project: str) -> None:
        self.sandbox, self.project = sandbox, project
        self.email = f"builder@{project}.iam.gserviceaccount.com"
        self.bucket = f"{project}-source"
        self.repository = f"projects/{project}/locations/{REGION}/repositories/images"
        self.image = f"{REGION}-docker.pkg.dev/{project}/images/app"
        names = ["cloudbuild", "artifactregistry", "cloudresourcemanager", "run", "iam"]
        sandbox.call(
            "POST",
            f"serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable",
            {"serviceIds": [f"{name}.googleapis.com" for name in names]},
        )
        sandbox.call(
            "POST",
            f"artifactregistry.googleapis.com/v1/projects/{project}/locations/{REGION}/repositories?repositoryId=images",
            {"format": "DOCKER"},
        )
        sandbox.call("POST", f"storage.googleapis.com/storage/v1/b?project={project}", {"name": self.bucket})
        sandbox.call("POST", f"iam.googleapis.com/v1/projects/{project}/serviceAccounts", {"accountId": "builder"})
        for role in ("logging.logWriter", "artifactregistry.writer", "storage.objectUser"):
            self.grant(role)

    def grant(self, role: str, *, revoke: bool = False) -> None:
        url = f"cloudresourcemanager.googleapis.com/v1/projects/{self.project}"
        policy = self.sandbox.call("POST", f"{url}:getIamPolicy", {})
        kept = [binding for binding in policy["bindings"] if binding["role"] != f"roles/{role}"]
        new = [] if revoke else [{"role": f"roles/{role}", "members": [f"serviceAccount:{self.email}"]}]
        policy["bindings"] = kept + new
        self.sandbox.call("POST", f"{url}:setIamPolicy", {"policy": policy})

    def upload(self, files: dict[str, str], name: str = "source.tgz") -> dict[str, Any]:
        self.sandbox._deployer.post(
            f"https://storage.googleapis.com/upload/storage/v1/b/{self.bucket}/o",
            params={"uploadType": "media", "name": name},
            data=archive(files),
        ).raise_for_status()
        return {"storageSource": {"bucket": self.bucket, "object": name}}

    def body(self, files: dict[str, str], tag: str = "1", **more: Any) -> dict[str, Any]:
        return {
            "source": self.upload(files),
            "steps": [{"name": "gcr.io/cloud-builders/docker", "args": ["build", "-t", f"{self.image}:{tag}", "."]}],
            "images": [f"{self.image}:{tag}"],
            "serviceAccount": f"projects/{self.project}/serviceAccounts/{self.email}",
            "options": {"logging": "CLOUD_LOGGING_ONLY"},
            **more,
        }

    def url(self, place: str = REGION) -> str:
        return f"https://cloudbuild.googleapis.com/v1/projects/{self.project}/locations/{place}/builds"

    def create(self, body: dict[str, Any], place: str = REGION) -> requests.Response:
        return self.sandbox._deployer.post(self.url(place), json=body)

    def run(self, body: dict[str, Any], place: str = REGION) -> dict[str, Any]:
        """The build when it has ended."""
        answer = self.create(body, place)
        assert answer.ok, answer.text
        return wait(self.sandbox._deployer, answer)["metadata"]["build"]

    def log(self, build: str) -> list[str]:
        condition = f'resource.type="build" AND resource.labels.build_id="{build}"'
        body = {"resourceNames": [f"projects/{self.project}"], "filter": condition, "pageSize": 1000}
        found = self.sandbox.call("POST", "logging.googleapis.com/v2/entries:list", body)
        assert all(entry["logName"].endswith("/logs/cloudbuild") for entry in found.get("entries", ()))
        return [entry["textPayload"] for entry in found.get("entries", ())]


@pytest.fixture(scope="module")
def sandbox(launch: Callable[..., Sandbox]) -> Sandbox:
    return launch("--image-python", sys.executable, "--project", "builds")


@pytest.fixture(scope="module")
def builder(sandbox: Sandbox) -> Builder:
    return Builder(sandbox, "builds")


def test_a_build_becomes_an_image_that_cloud_run_runs(builder: Builder, sandbox: Sandbox) -> None:
    build = builder.run(builder.body(FILES, tags=["a"]))
    assert build["status"] == "SUCCESS", build
    (image,) = build["results"]["images"]
    assert image["name"] == f"{builder.image}:1" and image["digest"].startswith("sha256:")
    assert build["timing"].keys() == {"FETCHSOURCE", "BUILD", "PUSH"}
    assert build["sourceProvenance"]["resolvedStorageSource"]["bucket"] == builder.bucket
    lines = builder.log(build["id"])
    assert lines[0] == f'starting build "{build["id"]}"' and lines[-1] == "DONE"
    assert "Step 4/10 : RUN pip install --no-cache-dir -r requirements.txt" in lines
    assert f"Successfully tagged {builder.image}:1" in lines
    tag = sandbox.call("GET", f"artifactregistry.googleapis.com/v1/{builder.repository}/packages/app/tags/1")
    assert tag["version"].endswith(image["digest"])
    container = {"image": f"{builder.image}@{image['digest']}"}
    body = {"template": {"containers": [container], "serviceAccount": builder.email}, "invokerIamDisabled": True}
    url = f"run.googleapis.com/v2/projects/builds/locations/{REGION}/services?serviceId=app"
    service = sandbox.call("POST", url, body)
    served = sandbox.session(anonymous=True).get(service["response"]["uri"]).text
    # The code of the archive runs.
    assert served.startswith(str(sandbox.state)) and served.endswith("src/served.py")


def test_another_project_needs_a_grant_to_pull(builder: Builder, sandbox: Sandbox) -> None:
    build = builder.run(builder.body(FILES, "shared"))
    sandbox.call("POST", "cloudresourcemanager.googleapis.com/v1/projects", {"projectId": "consumer"})
    apis = {"serviceIds": ["cloudresourcemanager.googleapis.com", "iam.googleapis.com", "run.googleapis.com"]}
    sandbox.call("POST", "serviceusage.googleapis.com/v1/projects/consumer/services:batchEnable", apis)
    number = sandbox.call("GET", "cloudresourcemanager.googleapis.com/v1/projects/consumer")["projectNumber"]
    sandbox.call("POST", "iam.googleapis.com/v1/projects/consumer/serviceAccounts", {"accountId": "server"})
    container = {"image": f"{builder.image}@{build['results']['images'][0]['digest']}"}
    template = {"containers": [container], "serviceAccount": "server@consumer.iam.gserviceaccount.com"}
    url = f"run.googleapis.com/v2/projects/consumer/locations/{REGION}/services"
    with pytest.raises(CallError, match="must have permission to read the image.*from project .builds., which is not"):
        sandbox.call("POST", f"{url}?serviceId=denied", {"template": template})
    agent = f"serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
    policy = {"bindings": [{"role": "roles/artifactregistry.reader", "members": [agent]}]}
    sandbox.call("POST", f"artifactregistry.googleapis.com/v1/{builder.repository}:setIamPolicy", {"policy": policy})
    assert sandbox.call("POST", f"{url}?serviceId=allowed", {"template": template})["response"]["uri"]


def test_missing_requirement(builder: Builder) -> None:
    files = FILES | {"requirements.txt": "no-such-package==1.2.3\n"}
    build = builder.run(builder.body(files, "missing"))
    assert build["status"] == "FAILURE" and build["failureInfo"]["type"] == "USER_BUILD_STEP"
    assert build["steps"][0]["status"] == "FAILURE" and build["steps"][0]["exitCode"] == 1
    lines = builder.log(build["id"])
    assert lines[-5:] == [
        "ERROR: Could not find a version that satisfies the requirement no-such-package==1.2.3 (from versions: none)",
        "ERROR: No matching distribution found for no-such-package==1.2.3",
        "The command '/bin/sh -c pip install --no-cache-dir -r requirements.txt' returned a non-zero code: 1",
        "ERROR",
        'ERROR: build step 0 "gcr.io/cloud-builders/docker" failed: step exited with non-zero status: 1',
    ]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {"Containerfile": "FROM python\nCOPY gone.txt /\n"},
            "COPY failed: file not found in build context or excluded by .dockerignore: stat gone.txt: file does not exist",
        ),
        ({"readme": "x"}, "no such file or directory"),
        ({"Containerfile": "FROM python\nRUN pip install /opt/x\n"}, "ERROR: Directory '/opt/x' is not installable."),
        ({"Containerfile": "COPY a b\n"}, "no build stage in current context"),
    ],
)
def test_a_containerfile_that_cannot_be_built(builder: Builder, files: dict[str, str], line: str) -> None:
    build = builder.run(builder.body(files, "wrong"))
    assert build["status"] == "FAILURE"
    assert any(line in each for each in builder.log(build["id"]))


def test_a_source_that_was_cut_off(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = archive
    monkeypatch.setitem(globals(), "archive", lambda files: whole(files)[: len(whole(files)) // 2])
    build = builder.run(builder.body({**FILES, "noise": "".join(map(str, range(20000)))}, "cut"))
    assert (build["status"], build["failureInfo"]["type"]) == ("FAILURE", "FETCH_SOURCE_FAILED")


def test_global_builds_and_lists(builder: Builder, sandbox: Sandbox) -> None:
    url = "cloudbuild.googleapis.com/v1/projects/builds/builds"
    operation = sandbox.call("POST", url, builder.body(FILES, "global", tags=["mine", "other"]))
    build = operation["metadata"]["build"]
    assert operation["name"].startswith("operations/build/builds/")
    assert build["name"].split("/")[3] == "global"
    assert sandbox.call("GET", f"{url}/{build['id']}")["status"] == "SUCCESS"
    for condition, count in (('tags="mine"', 1), ('tags="mine" AND status="WORKING"', 0), ('tags="none"', 0)):
        found = sandbox.call("GET", url, params={"filter": condition}).get("builds", [])
        assert len(found) == count, condition
    assert builder.sandbox._deployer.get(f"{builder.url()}/{build['id']}").status_code == 404


def test_logs_bucket(builder: Builder, sandbox: Sandbox) -> None:
    body = builder.body(FILES, "bucket", logsBucket=f"gs://{builder.bucket}/logs", options={"logging": "GCS_ONLY"})
    build = builder.run(body)
    assert builder.log(build["id"]) == []
    name = f"logs%2Flog-{build['id']}.txt"
    text = sandbox._deployer.get(
        f"https://storage.googleapis.com/storage/v1/b/{builder.bucket}/o/{name}?alt=media"
    ).text
    assert text.startswith("starting build") and text.endswith("DONE\n")


def test_what_the_account_may_not_do(builder: Builder) -> None:
    body = builder.body(FILES, "denied")
    builder.grant("storage.objectUser", revoke=True)
    answer = builder.create(body)
    builder.grant("storage.objectUser")
    assert answer.status_code == 400 and "could not resolve source: googleapi: Error 403" in answer.text
    builder.grant("artifactregistry.writer", revoke=True)
    build = builder.run(body)
    builder.grant("artifactregistry.writer")
    assert build["failureInfo"]["type"] == "PUSH_FAILED"
    assert 'denied: Permission "artifactregistry.repositories.uploadArtifacts" denied' in builder.log(build["id"])[-4]
    builder.grant("logging.logWriter", revoke=True)
    build = builder.run(body)
    builder.grant("logging.logWriter")
    assert build["status"] == "SUCCESS" and "roles/logging.logWriter" in build["warnings"][0]["text"]
    assert builder.log(build["id"]) == []


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"steps": []}, 400, "no build steps are specified"),
        ({"options": {}}, 400, "if 'build.service_account' is specified, the build must either"),
        ({"serviceAccount": "builder"}, 400, "must be of the form"),
        ({"serviceAccount": "projects/builds/serviceAccounts/none@builds.iam.gserviceaccount.com"}, 403, "to act as"),
        ({"images": ["$_IMAGE"]}, 400, "is not a valid built-in substitution"),
        ({"substitutions": {"_X": "1"}}, 400, "is not matched in the template"),
        ({"images": ["Not An Image"]}, 400, "could not parse reference"),
        ({"source": {"storageSource": {"bucket": "builds-source", "object": "none"}}}, 400, "No such object"),
    ],
)
def test_invalid_builds(builder: Builder, change: dict[str, Any], status: int, message: str) -> None:
    answer = builder.create(builder.body(FILES) | change)
    assert answer.status_code == status and message in answer.json()["error"]["message"]


def test_who_may_build(builder: Builder, sandbox: Sandbox) -> None:
    answer = sandbox.session("jane@example.com").post(builder.url(), json=builder.body(FILES))
    assert answer.status_code == 403 and answer.json()["error"]["message"] == "The caller does not have permission"


def test_a_region_without_quota(builder: Builder, sandbox: Sandbox) -> None:
    metric = "cloudbuild.googleapis.com/concurrent_public_pool_build_cpus"
    sandbox.command("policy", "set", "quota", metric, "0", "region=europe-west9")
    answer = builder.create(builder.body(FILES), "europe-west9")
    assert answer.json()["error"]["status"] == "FAILED_PRECONDITION"
    assert "due to quota restrictions, Cloud Build cannot run builds in this region" in answer.text
    assert builder.run(builder.body(FILES, "there"), "europe-west4")["status"] == "SUCCESS"


def test_tags_and_cleanup(builder: Builder, sandbox: Sandbox) -> None:
    base = f"artifactregistry.googleapis.com/v1/{builder.repository}"
    image = builder.image.replace("/app", "/kept")
    digests = []
    for number in range(4):
        body = builder.body(FILES, images=[f"{image}:{number}"])
        body["steps"][0]["args"][2] = f"{image}:{number}"
        digests.append(builder.run(body)["results"]["images"][0]["digest"])
        if number == 0:
            version = {"version": f"{builder.repository}/packages/kept/versions/{digests[0]}"}
            sandbox.call("POST", f"{base}/packages/kept/tags?tagId=deployed", version)
            policies = {
                "newest": {"action": "KEEP", "mostRecentVersions": {"keepCount": 2, "packageNamePrefixes": ["kept"]}},
                "deployed": {"action": "KEEP", "condition": {"tagState": "TAGGED", "tagPrefixes": ["deployed"]}},
                "old": {"action": "DELETE", "condition": {"tagState": "ANY", "packageNamePrefixes": ["kept"]}},
            }
            sandbox.call("PATCH", base, {"cleanupPolicies": policies}, params={"updateMask": "cleanupPolicies"})
    left = sandbox.call("GET", f"{base}/packages/kept/versions")["versions"]
    assert {version["name"].rpartition("/")[2] for version in left} == {digests[0], *digests[2:]}
    tag = f"{base}/packages/kept/tags/deployed"
    moved = sandbox.call("PATCH", tag, {"version": f"{builder.repository}/packages/kept/versions/{digests[3]}"})
    assert moved["version"].endswith(digests[3])
    assert sandbox._deployer.delete(f"https://{base}/packages/kept/versions/{digests[3]}").status_code == 400
    sandbox.call("DELETE", f"{base}/packages/kept/versions/{digests[3]}?force=true")
    assert sandbox._deployer.get(f"https://{tag}").status_code == 404


def test_cancel_and_restart(own: Sandbox) -> None:
    own.up("--project", "slow", "--image-python", sys.executable, "--latency", "realistic:0.02")
    builder = Builder(own, "slow")
    answer = builder.create(builder.body(FILES))
    build = answer.json()["metadata"]["build"]
    assert build["status"] == "QUEUED"
    url = f"{builder.url().removeprefix('https://')}/{build['id']}"
    assert own.call("POST", f"{url}:cancel", {})["status"] == "CANCELLED"
    assert wait(own._deployer, answer)["error"]["code"] == 1
    assert own._deployer.post(f"https://{url}:cancel", json={}).status_code == 400
    build = builder.create(builder.body(FILES, "2")).json()["metadata"]["build"]
    own.process.kill()
    own.up()
    url = f"{builder.url().removeprefix('https://')}/{build['id']}"
    end = time.monotonic() + 60
    while own.call("GET", url)["status"] in ("QUEUED", "WORKING") and time.monotonic() < end:
        time.sleep(0.05)
    assert own.call("GET", url)["status"] == "SUCCESS"
