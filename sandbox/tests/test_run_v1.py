"""Cloud Run by the v1 API, which shows and changes the same resources as v2."""

from __future__ import annotations

import copy
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

REGION = "europe-west2"
HELLO = "us-docker.pkg.dev/cloudrun/container/hello"
IMAGE = "europe-west2-docker.pkg.dev/test/v1/task:1"
RUN, SERVING = "run.googleapis.com", "serving.knative.dev"


@pytest.fixture(scope="module")
def run(api, enable, done, project, sandbox, tmp_path_factory):
    """A project with Cloud Run, an image of a task, and short ways to ask both versions of the API."""
    folder = tmp_path_factory.mktemp("task")
    (folder / "Containerfile").write_text('FROM python:3\nCOPY task.py /task.py\nENTRYPOINT ["python", "/task.py"]\n')
    (folder / "task.py").write_text(
        "import os, sys, time\ntime.sleep(float(os.environ.get('SLEEP', 0)))\nprint(sys.argv)\n"
    )
    sandbox.command("image", "add", IMAGE, str(folder), "--python", sys.executable)
    enable(
        project,
        "run.googleapis.com",
        "compute.googleapis.com",
        "secretmanager.googleapis.com",
        "iam.googleapis.com",
        "cloudresourcemanager.googleapis.com",
    )
    host = f"https://{REGION}-run.googleapis.com"
    serving, jobs = (f"{host}/apis/{g}/v1/namespaces/{project}" for g in (SERVING, RUN))
    v2 = f"https://run.googleapis.com/v2/projects/{project}/locations/{REGION}"
    number = api("GET", f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}").json()["projectNumber"]

    def service(
        name: str, annotations: Any = (), template: Any = (), image: str = HELLO, **spec: Any
    ) -> dict[str, Any]:
        container = {"image": image} | spec.pop("container", {})
        return {
            "apiVersion": f"{SERVING}/v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": project, "annotations": dict(annotations)},
            "spec": {
                "template": {"metadata": {"annotations": dict(template)}, "spec": {"containers": [container], **spec}}
            },
        }

    def ready(answer: Any) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        operation = answer.json()["metadata"]["annotations"][f"{RUN}/operation-id"]
        done(api("GET", f"{host}/v1/projects/{project}/locations/{REGION}/operations/{operation}"))
        collection = serving + "/services" if answer.json()["kind"] == "Service" else jobs + "/jobs"
        return api("GET", f"{collection}/{answer.json()['metadata']['name']}").json()

    return SimpleNamespace(
        host=host, serving=serving, jobs=jobs, v2=v2, number=number, project=project, service=service, ready=ready
    )


@pytest.fixture(scope="module")
def web(run, api):
    """A service that was created by v1, with its URL there."""
    body = run.service("web", {f"{RUN}/ingress": "internal"}, {"autoscaling.knative.dev/maxScale": "3"})
    run.ready(api("POST", f"{run.serving}/services", json=body))
    return f"{run.serving}/services/web"


def states(doc: dict[str, Any]) -> dict[str, str]:
    """Conditions: type -> status."""
    return {c["type"]: c["status"] for c in doc["status"]["conditions"]}


def refusal(answer: Any, code: int) -> str:
    """The message of an error."""
    assert answer.status_code == code, answer.text
    return answer.json()["error"]["message"]


# -- services ----------------------------------------------------------------------


def test_a_service_is_created_and_gets_ready(run, api):
    answer = api("POST", f"{run.serving}/services", json=run.service("first"))
    assert states(answer.json()) == {"Ready": "Unknown", "ConfigurationsReady": "Unknown", "RoutesReady": "Unknown"}
    operation = answer.json()["metadata"]["annotations"][f"{RUN}/operation-id"]
    url = f"{run.host}/v1/projects/{run.project}/locations/{REGION}/operations/{operation}:wait"
    waited = api("POST", url, json={"timeout": "30s"}).json()
    assert waited["done"] and waited["response"]["@type"] == "type.googleapis.com/google.cloud.run.v1.Service"
    doc = api("GET", f"{run.serving}/services/first").json()
    assert {k: v for k, v in waited["response"].items() if k != "@type"} == doc
    meta, status = doc["metadata"], doc["status"]
    assert (doc["apiVersion"], doc["kind"]) == (f"{SERVING}/v1", "Service")
    assert meta["namespace"] == run.number
    assert meta["selfLink"] == f"/apis/{SERVING}/v1/namespaces/{run.number}/services/first"
    assert meta["labels"] == {"cloud.googleapis.com/location": REGION}
    assert meta["generation"] == status["observedGeneration"] == 1
    assert meta["annotations"][f"{RUN}/ingress"] == meta["annotations"][f"{RUN}/ingress-status"] == "all"
    assert meta["annotations"][f"{SERVING}/creator"] == meta["annotations"][f"{SERVING}/lastModifier"]
    assert status["url"] == status["address"]["url"] and status["url"] in meta["annotations"][f"{RUN}/urls"]
    assert list(states(doc).items())[0] == ("Ready", "True") and set(states(doc).values()) == {"True"}
    revision = status["latestReadyRevisionName"]
    assert revision == status["latestCreatedRevisionName"] and revision.startswith("first-00001-")
    assert status["traffic"] == [{"revisionName": revision, "percent": 100, "latestRevision": True}]
    spec = doc["spec"]["template"]["spec"]
    assert (spec["containerConcurrency"], spec["timeoutSeconds"]) == (80, 300)
    assert spec["containers"][0]["resources"] == {"limits": {"cpu": "1000m", "memory": "512Mi"}}
    assert spec["containers"][0]["ports"] == [{"name": "http1", "containerPort": 8080}]
    assert doc["spec"]["template"]["metadata"]["labels"] == {f"{RUN}/startupProbeType": "Default"}
    assert doc["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert refusal(api("POST", f"{run.serving}/services", json=run.service("first")), 409) == (
        "Resource 'first' already exists."
    )


def test_what_v1_declares_v2_shows_and_the_other_way_round(run, api):
    network = '[{"network":"default","subnetwork":"default","tags":["a"]}]'
    annotations = {
        f"{RUN}/ingress": "internal-and-cloud-load-balancing",
        f"{RUN}/description": "words",
        f"{RUN}/minScale": "1",
        f"{RUN}/custom-audiences": '["https://a.example"]',
        f"{RUN}/binary-authorization": "default",
        f"{RUN}/invoker-iam-disabled": "true",
        f"{RUN}/launch-stage": "BETA",
        "mine": "1",
        f"{RUN}/client-name": "tester",
        f"{RUN}/build-id": "kept",
    }
    template = {
        "autoscaling.knative.dev/minScale": "1",
        "autoscaling.knative.dev/maxScale": "4",
        f"{RUN}/execution-environment": "gen1",
        f"{RUN}/network-interfaces": network,
        f"{RUN}/vpc-access-egress": "all-traffic",
        f"{RUN}/cpu-throttling": "False",
        f"{RUN}/startup-cpu-boost": "true",
        f"{RUN}/cloudsql-instances": "p:r:one,p:r:two",
        f"{RUN}/sessionAffinity": "true",
        f"{RUN}/secrets": "far:projects/elsewhere/secrets/s",
        "theirs": "2",
    }
    container = {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "far", "key": "7"}}}],
        "startupProbe": {"httpGet": {"path": "/up"}, "periodSeconds": 5, "failureThreshold": 9},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "s", "mountPath": "/s"}],
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
    }
    bucket = {"driver": "gcsfuse.run.googleapis.com", "volumeAttributes": {"bucketName": "bucket"}}
    volumes = [
        {"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}},
        {"name": "b", "csi": bucket},
        {"name": "s", "secret": {"secretName": "near", "items": [{"key": "latest", "path": "file"}]}},
    ]
    body = run.service(
        "wide", annotations, template, container=container, volumes=volumes, containerConcurrency=9, timeoutSeconds=60
    )
    body["metadata"]["labels"] = {"team": "a", "cloud.googleapis.com/location": REGION}
    answer = api("POST", f"{run.serving}/services?dryRun=all", json=body)
    assert answer.status_code == 200, answer.text
    assert api("GET", f"{run.serving}/services/wide").status_code == 404
    given = api("POST", f"{run.serving}/services", json=body).json()
    meta, spec = given["metadata"]["annotations"], given["spec"]["template"]
    assert annotations.items() <= meta.items()
    assert template | {f"{RUN}/cpu-throttling": "false"} == spec["metadata"]["annotations"]
    assert spec["spec"]["containers"][0]["env"] == [container["env"][0], container["env"][1]]
    assert spec["spec"]["volumes"] == volumes

    v2 = api("GET", f"{run.v2}/services/wide".replace("://run", f"://{REGION}-run")).json()
    assert (v2["ingress"], v2["launchStage"]) == ("INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", "BETA")
    assert (v2["labels"], v2["annotations"], v2["client"]) == ({"team": "a"}, {"mine": "1"}, "tester")
    assert (v2["scaling"], v2["invokerIamDisabled"]) == ({"minInstanceCount": 1}, True)
    assert (v2["customAudiences"], v2["binaryAuthorization"]) == (["https://a.example"], {"useDefault": True})
    inner = v2["template"]
    assert inner["scaling"] == {"minInstanceCount": 1, "maxInstanceCount": 4} and inner["sessionAffinity"]
    assert inner["vpcAccess"] == {
        "networkInterfaces": [{"network": "default", "subnetwork": "default", "tags": ["a"]}],
        "egress": "ALL_TRAFFIC",
    }
    assert inner["executionEnvironment"] == "EXECUTION_ENVIRONMENT_GEN1" and inner["annotations"] == {"theirs": "2"}
    assert (inner["maxInstanceRequestConcurrency"], inner["timeout"]) == (9, "60s")
    shown = inner["containers"][0]
    assert shown["resources"] == {"limits": {"cpu": "2", "memory": "1Gi"}, "startupCpuBoost": True}
    assert shown["env"][1]["valueSource"] == {
        "secretKeyRef": {"secret": "projects/elsewhere/secrets/s", "version": "7"}
    }
    assert {"name": "cloudsql", "mountPath": "/cloudsql"} in shown["volumeMounts"]
    assert [sorted(v) for v in inner["volumes"]] == [
        ["emptyDir", "name"],
        ["gcs", "name"],
        ["name", "secret"],
        ["cloudSqlInstance", "name"],
    ]


def test_reading_changing_and_writing_keeps_the_rest(run, api, done):
    """What v2 had declared stays, though v1 has no word for some of it; only a changed template makes a revision."""
    container = {"image": HELLO, "env": [{"name": "A", "value": ""}]}
    template = {"containers": [container], "vpcAccess": {"networkInterfaces": [{"network": "default"}]}}
    done(api("POST", f"{run.v2}/services?serviceId=mixed", json={"template": template}))
    before, url = api("GET", f"{run.v2}/services/mixed").json(), f"{run.serving}/services/mixed"
    doc = api("GET", url).json()
    assert run.ready(api("PUT", url, json=doc))["metadata"]["generation"] == 1
    doc["metadata"]["labels"]["team"] = "b"
    doc = run.ready(api("PUT", url, json=doc))
    after = api("GET", f"{run.v2}/services/mixed").json()
    assert (after["labels"], after["template"], after["generation"]) == ({"team": "b"}, before["template"], "2")
    assert after["latestReadyRevision"] == before["latestReadyRevision"]
    old = doc["status"]["latestReadyRevisionName"]

    doc["spec"]["template"]["metadata"]["name"] = "mixed-green"
    doc["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "2"}]
    doc["spec"]["traffic"] = [
        {"revisionName": old, "percent": 90},
        {"latestRevision": True, "percent": 10, "tag": "new"},
    ]
    doc = run.ready(api("PUT", url, json=doc))
    assert doc["status"]["latestReadyRevisionName"] == "mixed-green"
    assert doc["spec"]["traffic"][0] == {"revisionName": old, "percent": 90}
    first, second = doc["status"]["traffic"]
    assert first == {"revisionName": old, "percent": 90}
    assert second | {"url": ""} == {
        "revisionName": "mixed-green",
        "percent": 10,
        "tag": "new",
        "latestRevision": True,
        "url": "",
    }
    assert second["url"].startswith("https://new---mixed-")


def test_a_stale_resource_version_is_refused(web, api):
    doc = api("GET", web).json()
    stale = copy.deepcopy(doc)
    doc["metadata"]["labels"]["n"] = "1"
    assert api("PUT", web, json=doc).status_code == 200
    answer = api("PUT", web, json=stale)
    now = api("GET", web).json()["metadata"]["resourceVersion"]
    assert answer.json()["error"]["status"] == "ABORTED"
    assert refusal(answer, 409) == (
        f"Conflict for resource 'web': version '{stale['metadata']['resourceVersion']}' was "
        f"specified but current version is '{now}'."
    )


def test_a_revision_that_fails_says_why(run, api, done):
    answer = api("POST", f"{run.serving}/services", json=run.service("broken", image="nowhere.example/none"))
    doc = run.ready(answer)
    assert states(doc) == {"Ready": "False", "ConfigurationsReady": "False", "RoutesReady": "False"}
    condition = doc["status"]["conditions"][0]
    assert condition["reason"] == "RevisionFailed" and "Image 'nowhere.example/none' not found." in condition["message"]
    assert "url" not in doc["status"] and "latestReadyRevisionName" not in doc["status"]
    operation = doc["metadata"]["annotations"][f"{RUN}/operation-id"]
    ended = api("GET", f"{run.host}/v1/projects/{run.project}/locations/{REGION}/operations/{operation}").json()
    assert ended["error"]["message"] == condition["message"] and ended["metadata"]["kind"] == "Service"


def test_traffic_is_rolled_back_after_a_failure(run, api):
    url = f"{run.serving}/services/back"
    good = run.ready(api("POST", f"{run.serving}/services", json=run.service("back")))["status"][
        "latestReadyRevisionName"
    ]
    doc = run.ready(api("PUT", url, json=run.service("back", image="nowhere.example/none")))
    bad = doc["status"]["latestCreatedRevisionName"]
    assert doc["status"]["traffic"] == [{"revisionName": good, "percent": 100, "latestRevision": True}]
    assert (
        run.ready(api("PUT", url, json=doc))["metadata"]["generation"] == 2
    )  # what failed is not tried again by itself
    doc["spec"]["traffic"] = [{"revisionName": good, "percent": 100}]
    doc = run.ready(api("PUT", url, json=doc))
    assert doc["status"]["traffic"] == doc["spec"]["traffic"] and doc["status"]["latestCreatedRevisionName"] == bad
    assert states(doc) == {"Ready": "False", "ConfigurationsReady": "False", "RoutesReady": "True"}


def test_refusals(run, api, web):
    services = f"{run.serving}/services"

    def refused(body: dict[str, Any]) -> str:
        return refusal(api("POST", services, json=body), 400)

    assert refused(run.service("x", {f"{RUN}/secrets": "a"})) == (
        f"metadata.annotations: Annotation '{RUN}/secrets' is not supported on resources of kind 'Service'. Supported kinds "
        "are: Revision, Execution"
    )
    assert "is not supported on resources of kind 'Revision'" in refused(run.service("x", (), {f"{RUN}/no-such": "a"}))
    assert "Invalid value 'many'" in refused(run.service("x", (), {"autoscaling.knative.dev/minScale": "many"}))
    reserved = {"env": [{"name": "PORT", "value": "1"}]}
    assert refused(run.service("x", container=reserved)).startswith(
        "spec.template.spec.containers[0].env: The following reser"
    )
    assert refused(run.service("x", timeoutSeconds=9999)).startswith("spec.template.spec.timeout_seconds: ")
    assert refused(run.service("X")).startswith("metadata.name: ")
    assert refused(run.service("x") | {"kind": "Job"}).startswith("kind: Expected 'Service'")
    elsewhere = run.service("x")
    elsewhere["metadata"]["namespace"] = "sandbox-project"
    assert refused(elsewhere).startswith("metadata.namespace: ")
    assert "Unknown name \"replicas\" at 'service.spec'" in refused(run.service("x") | {"spec": {"replicas": 1}})
    text = f"Resource 'nosuch' of kind 'SERVICE' in region '{REGION}' in project '{run.project}' does not exist."
    for method in ("GET", "DELETE"):
        assert refusal(api(method, f"{services}/nosuch"), 404) == text
    assert refusal(api("PUT", f"{services}/nosuch", json=run.service("nosuch")), 404) == text
    shown = f"namespaces/{run.project}/services/web"
    assert refusal(api("GET", web, as_="nobody@example.com"), 403) == (
        f"Permission 'run.services.get' denied on resource '{shown}' (or resource may not exist)."
    )
    assert "regional endpoint" in refusal(api("GET", f"https://run.googleapis.com/apis/{SERVING}/v1/{shown}"), 400)
    assert refusal(api("GET", f"{services}?labelSelector=a%20~%20b"), 400) == "Invalid label selector: 'a ~ b'."
    assert api("GET", f"https://nowhere-run.googleapis.com/v1/projects/{run.project}/locations").status_code == 404


def test_a_service_is_deleted(run, api):
    url = f"{run.serving}/services/gone"
    doc = run.ready(api("POST", f"{run.serving}/services", json=run.service("gone")))
    status = api("DELETE", url).json()
    assert status["status"] == "Success"
    assert status["details"] == {"name": "gone", "group": SERVING, "kind": "services", "uid": doc["metadata"]["uid"]}
    end = time.monotonic() + 10
    while api("GET", url).status_code == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert api("GET", url).status_code == 404
    assert api("GET", f"{run.serving}/revisions/{doc['status']['latestReadyRevisionName']}").status_code == 404


# -- lists, and what belongs to a service ------------------------------------------


def test_lists_by_label_and_in_pages(run, api, web):
    base = f"https://run.googleapis.com/v1/projects/{run.project}/locations"
    elsewhere = run.host.replace(REGION, "us-central1") + f"/apis/{SERVING}/v1/namespaces/{run.number}/services"
    body = run.service("far")
    body["metadata"]["labels"] = {"tier": "two"}
    assert api("POST", elsewhere, json=body).status_code == 200
    everywhere = f"https://run.googleapis.com/apis/{SERVING}/v1/namespaces/{run.project}/services"

    def found(url: str, **params: Any) -> list[str]:
        answer = api("GET", url, params=params)
        assert answer.status_code == 200, answer.text
        return [item["metadata"]["name"] for item in answer.json().get("items", [])]

    assert found(elsewhere) == found(f"{base}/us-central1/services") == ["far"]
    assert {"far", "web"} <= set(found(everywhere)) == set(found(f"{base}/-/services"))
    assert found(everywhere)[0] == "far"  # the newest
    for selector in ("tier = two", "tier in (one, two),tier", "cloud.googleapis.com/location==us-central1"):
        assert found(everywhere, labelSelector=selector) == ["far"]
    for selector in ("!tier", "tier!=two", "tier notin (two)"):
        assert found(everywhere, labelSelector=selector) == found(everywhere)[1:]
    first = api("GET", everywhere, params={"limit": 1}).json()
    assert (first["kind"], len(first["items"])) == ("ServiceList", 1)
    assert found(everywhere, **{"limit": 500, "continue": first["metadata"]["continue"]}) == found(everywhere)[1:]
    assert "continue" not in api("GET", everywhere).json()["metadata"]
    locations = api("GET", base).json()["locations"]
    assert {
        "name": f"projects/{run.project}/locations/{REGION}",
        "locationId": REGION,
        "labels": {"cloud.googleapis.com/region": REGION},
    } in locations


def test_revisions_configurations_and_routes(run, api):
    url = f"{run.serving}/services/parts"
    old = run.ready(api("POST", f"{run.serving}/services", json=run.service("parts")))["status"][
        "latestReadyRevisionName"
    ]
    said = {f"{RUN}/cpu-throttling": "true", f"{RUN}/startup-cpu-boost": "false"}
    doc = run.ready(api("PUT", url, json=run.service("parts", (), said, timeoutSeconds=99)))
    new = doc["status"]["latestReadyRevisionName"]
    assert doc["spec"]["template"]["metadata"]["annotations"].items() >= said.items()
    selector = {"labelSelector": f"{SERVING}/service = parts"}
    revisions = api("GET", f"{run.serving}/revisions", params=selector).json()["items"]
    assert [r["metadata"]["name"] for r in revisions] == [new, old]
    assert [states(r)["Active"] for r in revisions] == ["True", "False"] and states(revisions[1])["Ready"] == "True"
    meta = revisions[0]["metadata"]
    assert (
        meta["labels"] | {f"{SERVING}/configuration": "parts", f"{SERVING}/configurationGeneration": "2"}
        == meta["labels"]
    )
    assert meta["ownerReferences"][0] | {"kind": "Configuration", "name": "parts"} == meta["ownerReferences"][0]
    assert revisions[0]["spec"]["timeoutSeconds"] == 99
    assert revisions[0]["status"]["imageDigest"].startswith(f"{HELLO}@sha256:")
    assert api("GET", f"{run.serving}/revisions/{new}").json() == revisions[0]
    by_location = f"{run.host}/v1/projects/{run.project}/locations/{REGION}"
    assert api("GET", f"{by_location}/revisions/{new}").json() == revisions[0]

    configuration = api("GET", f"{run.serving}/configurations/parts").json()
    assert configuration["spec"]["template"] == doc["spec"]["template"] and states(configuration) == {"Ready": "True"}
    assert configuration["status"]["latestReadyRevisionName"] == new
    route = api("GET", f"{by_location}/routes/parts").json()
    assert (route["status"]["url"], route["status"]["traffic"]) == (doc["status"]["url"], doc["status"]["traffic"])
    for kind in ("configurations", "routes"):
        assert "parts" in [i["metadata"]["name"] for i in api("GET", f"{run.serving}/{kind}").json()["items"]]

    assert "actively serving" in refusal(api("DELETE", f"{run.serving}/revisions/{new}"), 400)
    assert api("DELETE", f"{run.serving}/revisions/{old}").json()["details"]["kind"] == "revisions"
    end = time.monotonic() + 10
    while api("GET", f"{run.serving}/revisions/{old}").status_code == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert refusal(api("GET", f"{run.serving}/revisions/{old}"), 404).startswith(
        f"Resource '{old}' of kind 'REVISION' in"
    )


def test_policies_are_those_of_v2(run, api, web):
    url = f"{run.host}/v1/projects/{run.project}/locations/{REGION}/services/web"
    policy = {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}
    assert api("POST", f"{url}:setIamPolicy", json={"policy": policy}).status_code == 200
    assert api("GET", f"{url}:getIamPolicy").json() == api("GET", f"{run.v2}/services/web:getIamPolicy").json()
    asked = {"permissions": ["run.services.setIamPolicy"]}
    for name in ("web", "not-there-yet"):  # clients ask before they create it
        answer = api("POST", f"{url.replace('web', name)}:testIamPermissions", json=asked)
        assert answer.json() == asked, answer.text


# -- jobs --------------------------------------------------------------------------


def test_a_job_runs(run, api):
    job = {
        "apiVersion": f"{RUN}/v1",
        "kind": "Job",
        "metadata": {"name": "once", "namespace": run.number, "labels": {"a": "b"}},
        "spec": {
            "template": {
                "metadata": {"annotations": {f"{RUN}/execution-environment": "gen2"}, "labels": {"c": "d"}},
                "spec": {
                    "taskCount": 2,
                    "template": {
                        "spec": {
                            "containers": [{"image": IMAGE, "env": [{"name": "SLEEP", "value": "0"}]}],
                            "maxRetries": 0,
                            "timeoutSeconds": 60,
                        }
                    },
                },
            }
        },
    }
    doc = run.ready(api("POST", f"{run.jobs}/jobs", json=job))
    assert states(doc)["Ready"] == "True" and doc["spec"]["template"]["spec"]["taskCount"] == 2
    assert doc["metadata"]["selfLink"] == f"/apis/{RUN}/v1/namespaces/{run.number}/jobs/once"
    task = doc["spec"]["template"]["spec"]["template"]["spec"]
    assert (task["timeoutSeconds"], task["maxRetries"]) == ("60", 0)
    assert api("GET", f"{run.v2}/jobs/once").json()["template"]["template"]["timeout"] == "60s"
    doc["metadata"]["labels"]["a"] = "c"
    doc = run.ready(api("PUT", f"{run.jobs}/jobs/once", json=doc))
    assert (doc["metadata"]["labels"]["a"], doc["metadata"]["generation"]) == ("c", 2)

    overrides = {"containerOverrides": [{"args": ["x"], "env": [{"name": "E", "value": "1"}]}], "timeoutSeconds": 30}
    execution = api("POST", f"{run.jobs}/jobs/once:run", json={"overrides": overrides}).json()
    assert execution["kind"] == "Execution" and states(execution) == {"Completed": "Unknown"}
    name = execution["metadata"]["name"]
    end = time.monotonic() + 30
    while "completionTime" not in execution["status"] and time.monotonic() < end:
        time.sleep(0.05)
        execution = api("GET", f"{run.jobs}/executions/{name}").json()
    assert states(execution)["Completed"] == states(execution)["Started"] == "True"
    assert execution["status"]["succeededCount"] == 2
    assert (
        execution["metadata"]["labels"].items() >= {"c": "d", f"{RUN}/job": "once", f"{RUN}/jobGeneration": "2"}.items()
    )
    given = execution["spec"]["template"]["spec"]
    assert (given["timeoutSeconds"], given["containers"][0]["args"]) == ("30", ["x"])
    selector = {"labelSelector": f"{RUN}/execution = {name},{RUN}/runningState in (Succeeded)"}
    tasks = api("GET", f"{run.jobs}/tasks", params=selector).json()["items"]
    assert {t["status"]["index"] for t in tasks} == {0, 1}
    assert api("GET", f"{run.jobs}/tasks/{name}-task0").json() in tasks
    status = api("GET", f"{run.jobs}/jobs/once").json()["status"]
    assert (status["executionCount"], status["latestCreatedExecution"]["name"]) == (1, name)
    assert [j["metadata"]["name"] for j in api("GET", f"{run.jobs}/jobs").json()["items"]] == ["once"]

    slow = {"containerOverrides": [{"env": [{"name": "SLEEP", "value": "60"}]}], "taskCount": 1}
    second = api("POST", f"{run.jobs}/jobs/once:run", json={"overrides": slow}).json()["metadata"]["name"]
    assert api("POST", f"{run.jobs}/executions/{second}:cancel", json={}).status_code == 200
    end = time.monotonic() + 30
    while states(cancelled := api("GET", f"{run.jobs}/executions/{second}").json())["Completed"] == "Unknown":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert cancelled["status"]["conditions"][0]["reason"] == "Cancelled"
    assert api("DELETE", f"{run.jobs}/executions/{second}").json()["details"]["kind"] == "executions"
    assert api("DELETE", f"{run.jobs}/jobs/once").json()["details"]["group"] == RUN
    end = time.monotonic() + 10
    while api("GET", f"{run.jobs}/jobs/once").status_code == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert refusal(api("GET", f"{run.jobs}/jobs/once"), 404).startswith("Resource 'once' of kind 'JOB'")
