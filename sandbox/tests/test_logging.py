"""Cloud Logging: the entries of Cloud Run's containers, and the query language."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.logging import filters
from gcp_sandbox.services.logging.reading import Reader, Source

Doc = dict[str, Any]
REGION = "europe-west2"
IMAGE = "europe-docker.pkg.dev/test/images/talker:1"
LIST = "https://logging.googleapis.com/v2/entries:list"
TALKER = """
import http.server, json, os, sys

if os.environ.get("CLOUD_RUN_JOB"):
    print("at work")
    sys.exit("no luck")


class Talker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/count":
            for number in range(25):
                print("number", number, flush=True)
        elif self.path == "/json":
            print(json.dumps({"severity": "warning", "message": "low", "level": 3, "time": "2020-01-01T00:00:00.5Z",
                              "logging.googleapis.com/labels": {"my/label": "x"},
                              "logging.googleapis.com/trace": "projects/p/traces/t"}), flush=True)
        self.send_response(204)
        self.end_headers()


print("hello\\n\\nagain", flush=True)
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Talker).serve_forever()
"""


@pytest.fixture(scope="module")
def talker(api: Any, enable: Any, done: Any, project: str, sandbox: Any, tmp_path_factory: Any) -> str:
    """A service that has handled some requests, and a job that has failed; returns the project."""
    folder = tmp_path_factory.mktemp("talker")
    (folder / "talker.py").write_text(TALKER)
    (folder / "Containerfile").write_text(
        'FROM python:3\nCOPY talker.py /app/\nENTRYPOINT ["python", "/app/talker.py"]\n'
    )
    sandbox.command("image", "add", IMAGE, str(folder), "--python", sys.executable)
    enable("sandbox-project", "cloudresourcemanager.googleapis.com")
    enable(project, "compute.googleapis.com", "run.googleapis.com")  # the first has the default service account
    place = f"https://run.googleapis.com/v2/projects/{project}/locations/{REGION}"
    template = {"containers": [{"image": IMAGE, "name": "main", "ports": [{"containerPort": 8080}]}]}
    body = {"template": template, "invokerIamDisabled": True}
    assert "error" not in done(api("POST", f"{place}/services?serviceId=talker", json=body))
    url = api("GET", f"{place}/services/talker").json()["uri"]
    for path in ("/count", "/json"):
        assert api("GET", url + path).status_code == 204
    task = {"template": {"template": {"containers": [{"image": IMAGE}], "maxRetries": 0}}}
    assert "error" not in done(api("POST", f"{place}/jobs?jobId=worker", json=task))
    done(api("POST", f"{place}/jobs/worker:run", json={}))
    return project


@pytest.fixture(scope="module")
def ask(api: Any, talker: str) -> Callable[..., requests.Response]:
    def call(text: str = "", **more: Any) -> requests.Response:
        as_ = more.pop("as_", None)
        return api("POST", LIST, as_=as_, json={"resourceNames": [f"projects/{talker}"], "filter": text} | more)

    return call


@pytest.fixture(scope="module")
def find(ask: Any) -> Callable[..., list[Doc]]:
    def call(text: str = "", **more: Any) -> list[Doc]:
        answer = ask(text, **more)
        assert answer.status_code == 200, answer.text
        return answer.json().get("entries", [])

    return call


def test_a_line_of_a_container_is_an_entry(find: Any, talker: str) -> None:
    (entry,) = find('textPayload="hello"')
    revision = entry["resource"]["labels"].pop("revision_name")
    assert revision.startswith("talker-00001-")
    assert entry["resource"] == {
        "type": "cloud_run_revision",
        "labels": {"project_id": talker, "service_name": "talker", "configuration_name": "talker", "location": REGION},
    }
    assert entry["logName"] == f"projects/{talker}/logs/run.googleapis.com%2Fstdout"
    assert entry["labels"].keys() == {"instanceId", "container_name"} and entry["labels"]["container_name"] == "main"
    assert entry["insertId"] and entry["timestamp"] == entry["receiveTimestamp"] and "severity" not in entry
    (stderr,) = find('log_id("run.googleapis.com/stderr") AND "GET /count" AND resource.type=cloud_run_revision')
    assert stderr["insertId"] != entry["insertId"]
    (system,) = find('logName:varlog "probe succeeded"')
    assert system["severity"] == "INFO" and system["logName"].endswith("run.googleapis.com%2Fvarlog%2Fsystem")


def test_a_structured_line_has_its_own_fields(find: Any) -> None:
    (entry,) = find("jsonPayload.level=3")
    assert entry["jsonPayload"] == {"message": "low", "level": 3}
    assert entry["severity"] == "WARNING" and entry["trace"] == "projects/p/traces/t"
    assert entry["timestamp"] == "2020-01-01T00:00:00.500000Z" < entry["receiveTimestamp"]
    assert entry["labels"]["my/label"] == "x" and "instanceId" in entry["labels"]
    assert find('labels."my/label":* severity>=WARNING resource.labels.service_name=talker') == [entry]


def test_a_job_has_its_own_entries(find: Any, talker: str) -> None:
    out, error, end = find("resource.type=cloud_run_job AND resource.labels.job_name=worker")
    assert out["textPayload"] == "at work" and error["textPayload"] == "no luck"
    assert out["resource"]["labels"] == {"project_id": talker, "job_name": "worker", "location": REGION}
    assert out["labels"]["run.googleapis.com/execution_name"].startswith("worker-")
    assert out["labels"]["run.googleapis.com/task_index"] == "0"
    assert end["severity"] == "WARNING" and end["textPayload"] == "Container called exit(1)."


@pytest.mark.parametrize("order", ["timestamp asc", "timestamp desc"])
def test_pages_hold_every_entry_once_and_in_order(ask: Any, order: str) -> None:
    found, token = [], ""
    while True:
        answer = ask("number", orderBy=order, pageSize=7, pageToken=token).json()
        assert len(answer.get("entries", [])) <= 7
        found += [entry["textPayload"] for entry in answer.get("entries", [])]
        token = answer.get("nextPageToken", "")
        if not token:
            break
    expected = [f"number {number}" for number in range(25)]
    assert found == (expected if order.endswith("asc") else expected[::-1])


def test_what_is_refused(ask: Any, api: Any, talker: str) -> None:
    for body, text in [
        ({"filter": "severity>="}, "Unparseable filter: syntax error at line 1, column 11, token '<EOF>'"),
        ({"orderBy": "severity"}, "order_by"),
        ({"pageToken": "x"}, "page_token is invalid"),
        ({"resourceNames": []}, "resource_names"),
        ({"resourceNames": ["talker", f"projects/{talker}"]}, "is not a valid resource name"),
    ]:
        answer = ask(**body) if "filter" not in body else ask(body["filter"])
        assert answer.status_code == 400 and text in answer.json()["error"]["message"], answer.text
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    token = ask(pageSize=1).json()["nextPageToken"]
    assert "doesn't match" in ask("hello", pageToken=token).json()["error"]["message"]
    assert api("POST", "https://logging.googleapis.com/v2/entries:write", json={"entries": []}).status_code == 501


def test_who_may_read(ask: Any, find: Any, api: Any, talker: str) -> None:
    reader = "reader@example.com"
    answer = ask(as_=reader)
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "Permission denied for all log views"
    logs = f"https://logging.googleapis.com/v2/projects/{talker}/logs"
    assert api("GET", logs, as_=reader).status_code == 403
    project = f"https://cloudresourcemanager.googleapis.com/v1/projects/{talker}"
    policy = api("POST", f"{project}:getIamPolicy", json={}).json()
    policy["bindings"].append({"role": "roles/logging.viewer", "members": [f"user:{reader}"]})
    assert api("POST", f"{project}:setIamPolicy", json={"policy": policy}).status_code == 200
    names = [f"projects/{talker}", "projects/sandbox-project"]  # of which it may read the first
    assert find('"hello"', as_=reader, resourceNames=names)
    assert api("GET", logs, as_=reader).json()["logNames"] == [
        f"projects/{talker}/logs/run.googleapis.com%2F{name}" for name in ("stderr", "stdout", "varlog%2Fsystem")
    ]
    view = f"projects/{talker}/locations/global/buckets/{{}}/views/_AllLogs"
    assert find('"hello"', resourceNames=[view.format("_Default")]) and not find(
        resourceNames=[view.format("_Required")]
    )
    assert ask(resourceNames=[view.format("mine")]).status_code == 404


# -- the language ----------------------------------------------------------

ENTRY = {
    "logName": "projects/p/logs/run.googleapis.com%2Fstderr",
    "severity": "ERROR",
    "timestamp": "2026-01-02T03:04:05.000006Z",
    "resource": {"type": "cloud_run_revision", "labels": {"service_name": "hello"}},
    "labels": {"k/x": "v1", "a.b": "C"},
    "jsonPayload": {"message": "Hello (World)", "n": 5, "ok": True, "list": [1, {"z": "q"}], "none": None},
    "httpRequest": {"status": 502, "latency": "1.5s", "responseSize": "123", "remoteIp": "10.1.2.3"},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        'resource.type="cloud_run_revision" AND severity>=ERROR',
        "resource.type = CLOUD_RUN_REVISION \n severity >= DEFAULT",
        "severity=(INFO OR ERROR)",
        'severity="500"',
        "severity:err",
        'labels."k/x"=V1',
        'labels."a.b"=c',
        '"hello (world)"',
        "hello world",
        "-textPayload:x",
        "NOT severity<ERROR",
        "httpRequest.status>=500 httpRequest.latency>1s",
        "http_request.status=502",
        r'jsonPayload.message=~"^Hello \(W"',
        'jsonPayload.message!~"^hello"',
        'timestamp>="2026-01-02" timestamp<"2026-01-02T03:04:06Z"',
        'timestamp="2026-01-02T04:04:05.000006+01:00"',
        'log_id("run.googleapis.com/stderr")',
        "logName:stderr -- a remark\nAND severity=error",
        "jsonPayload.list.z:q",
        "jsonPayload.list=1",
        "jsonPayload.ok=true",
        "jsonPayload.n>4",
        "jsonPayload.n<10",
        "jsonPayload.none=NULL_VALUE",
        "resource.labels.service_name:*",
        "x OR hello AND NOT zebra OR y",
        'ip_in_net(httpRequest.remoteIp, "10.0.0.0/8")',
        'SEARCH("hello world")',
        'SEARCH(jsonPayload, "world")',
        "(resource.type=x OR resource.labels.service_name=hello)",
        "logName=projects/p/logs/run.googleapis.com%2Fstderr",
        "NOT jsonPayload.missing=x",
        "httpRequest.responseSize>99",
        "-(severity=INFO OR severity=DEBUG)",
        "jsonPayload.message:(hello AND NOT moon)",
    ],
)
def test_filters_that_match(text: str) -> None:
    assert filters.parse(text).match(ENTRY)


@pytest.mark.parametrize(
    "text",
    [
        "NOT hello",
        "severity<ERROR",
        "severity!=ERROR",
        "-severity:ERROR",
        'jsonPayload.message=~"^hello"',
        "absent",
        "jsonPayload.missing!=x",
        "jsonPayload.missing:*",
        "hello OR world AND absent",
        "hello NOT world",
        "resource.type=cloud",
        "jsonPayload.message:(hello AND moon)",
        "httpRequest.latency>1500ms",
        'timestamp>"2026-01-02T03:04:05.000006Z"',
    ],
)
def test_filters_that_do_not_match(text: str) -> None:
    assert not filters.parse(text).match(ENTRY)


@pytest.mark.parametrize(
    "text",
    [
        "severity=",
        "(a",
        "a)",
        "severity>=LOUD",
        "a AND",
        "AND a",
        "OR",
        "timestamp>x",
        "insertId = abc:def",
        '"open',
        'jsonPayload.x=~"("',
        "severity = = b",
        "f(x)",
        "a!b",
        ", b",
        "-",
        "- a",
        "insertId=()",
        "(" * 5000,
        "NOT " * 4000 + "a",
        'ip_in_net(httpRequest.remoteIp, "x")',
    ],
)
def test_filters_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ApiError, match="Unparseable filter: ") as caught:
        filters.parse(text)
    assert caught.value.code == 400


def test_a_field_that_entries_do_not_have() -> None:
    with pytest.raises(ApiError, match=r"Field not found: 'colour\.deep'"):
        filters.parse("colour.deep=red")


# -- reading ---------------------------------------------------------------


def _source(folder: Path, name: str, times: list[tuple[int, int]]) -> Source:
    """A file with lines, given by the times when they were received and written, in milliseconds."""

    def stamp(millis: int) -> str:
        return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    lines = [json.dumps({"time": stamp(r), "own": stamp(o), "n": o}, separators=(",", ":")) for r, o in times]
    (folder / name).write_text("".join(line + "\n" for line in lines))
    return Source(folder / name, lambda ident, line: {"timestamp": line["own"], "n": line["n"]})


@pytest.mark.parametrize("newest", [True, False])
def test_entries_of_several_files_come_in_the_order_of_their_own_times(tmp_path: Path, newest: bool) -> None:
    one = _source(tmp_path, "one", [(n * 100, n * 100 - n % 7 * 150) for n in range(10, 3000, 2)])
    two = _source(tmp_path, "two", [(n * 100, n * 100) for n in range(11, 3000, 2)])
    found, position, pages = [], ("", None), 0
    while True:  # in pages, as in the API
        bound, past = position
        reader = Reader(
            [one, two],
            lambda entry: True,
            newest_first=newest,
            past=past,
            since="" if newest else bound,
            until=bound if newest else "",
        )
        page = []
        for item in reader:
            if item:
                page.append(item)
                if len(page) == 100:
                    break
        found += [item.entry["n"] for item in page]
        pages += 1
        assert reader.read < 300
        if reader.done:
            break
        position = (reader.resume, page[-1].key)
    assert found == sorted(found, reverse=newest) and len(found) == 2990 and pages == 30


def test_a_page_reads_no_more_of_a_file_than_it_needs(tmp_path: Path) -> None:
    source = _source(tmp_path, "long", [(n * 100, n * 100) for n in range(20000)])
    reader = Reader([source], lambda entry: True, newest_first=True)
    assert next(item for item in reader if item).entry["n"] == 1999900 and reader.read < 5
    since = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=1990)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    late = Reader([source], lambda entry: True, newest_first=False, since=since)
    assert [item.entry["n"] for item in late if item][0] == 1990000 and late.read == 100
