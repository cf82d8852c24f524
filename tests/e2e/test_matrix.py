"""
A first deployment, upgrades and a takedown, each with a crash after every write and with every fault at every call.

`make matrix` runs all of it and prints the table; `make test` runs a change with a crash and one fault.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gcp_sandbox.core.faults import Book, counts
from gcp_sandbox.testing import CallError

from tests.conftest import IMAGE

from .conftest import IMAGE_PYTHON, PROJECT, ROOT, Cloud, Play, killing, kills
from .scripts import scripts
from .test_destroy import resources
from .test_keep import DOWNGRADE, statements

COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
SECRETS = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
SQL = f"sqladmin.googleapis.com/v1/projects/{PROJECT}"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}/locations/europe-west2"
REGISTRY = f"artifactregistry.googleapis.com/v1/projects/{PROJECT}/locations/europe-west2/repositories"
STORAGE = "storage.googleapis.com/storage/v1/b"
ACCOUNTS = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"
PROJECT_URL = f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}"
SERVICES = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services"
# With an OAuth client of its own, which has a secret and could be there twice.
UP = ("--project", PROJECT, "--image-python", IMAGE_PYTHON, "--iap-oauth-admin-api")
OAUTH = {"mlflow_oauth": "brand", "mlflow_support_email": "mlops@example.com"}
NEWER = f"europe-west2-docker.pkg.dev/{PROJECT}/mlflow/server:newer"
# All calls but those for an access token.
SIGNED_IN = ("[!o]*", "or*")
FAULTS = {
    "429": [["*", "429", "each=1"]],
    "503": [["*", "503", "each=1"]],
    "reset": [["*", "reset", "each=1"]],
    "lost": [["*", "lost", "each=1"]],
    "failed operation": [["*", "operation-error", "code=INTERNAL", "each=1"]],
    "expired token": [["*", "token-lifetime", "seconds=5"], *([glob, "401", "each=1"] for glob in SIGNED_IN)],
    "delayed IAM": [["*", "iam-delay", "seconds=8"]],
    "just enabled": [["*", "service-disabled", "seconds=5"]],
}
# Faults that follow what only a first deployment does.
ONCE = ("delayed IAM", "just enabled")
RUNS = 200


class Runs:
    """Runs of playbooks on one sandbox, and everything that they write: output, logs, events, plans, what is in their home."""

    def __init__(self, cloud: Cloud, folder: Path, variables: dict[str, Any]) -> None:
        self.cloud, self.folder, self.variables = cloud, folder, variables
        self.plays: list[Play] = []
        self.secrets: set[str] = set()

    def play(self, book: str, *arguments: str, image: str = "", limit: int = 0, **variables: Any) -> Play:
        """Run a playbook as talkative as it can be; with LIMIT, it is killed after so many new writes."""
        number = f"{len(self.plays):03}"
        shown = self.folder / "shown"
        (shown / "home").mkdir(parents=True, exist_ok=True)
        env = {
            "HOME": str(shown / "home"),
            "ANSIBLE_HOME": str(shown / "home" / ".ansible"),
            "ANSIBLE_LOG_PATH": str(shown / "ansible.log"),
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "killed" / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "mlops.mlflow_gcp.timeline,events",
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(shown / "facts"),
            "MLFLOW_GCP_TIMELINE_FILE": str(shown / f"{number}.html"),
            "JOB_EVENTS": str(shown / "events.jsonl"),
        }
        given = json.dumps({**self.variables, **variables})
        play = self.cloud.playbook(
            book, "-vvv", "--diff", "-e", given, *arguments, image=image, **env, **killing(self.folder, limit)
        )
        self.plays.append(play)
        (shown / f"{number}.out").write_text(play.output)
        return play

    def learn(self) -> None:
        """Note the secrets that exist now."""
        cloud = self.cloud
        for secret in listed(cloud, SECRETS, "secrets"):
            for version in listed(cloud, f"secretmanager.googleapis.com/v1/{secret['name']}/versions", "versions"):
                answer = cloud.call("GET", f"secretmanager.googleapis.com/v1/{version['name']}:access")
                data = answer["payload"]["data"]
                self.secrets |= {data, base64.b64decode(data).decode()}
        for client in oauth_clients(cloud):
            self.secrets.add(client["secret"])

    def leaks(self) -> list[str]:
        """The files that contain a secret of the deployment, an access token or a part of the deployer's private key."""
        key = json.loads(Path(self.cloud.env["GCP_SERVICE_ACCOUNT_FILE"]).read_text())["private_key"]
        parts = [line for line in key.splitlines() if not line.startswith("-")]
        tokens = (self.folder / "tokens").read_text().splitlines()
        values = [value.encode() for value in {*self.secrets, *parts, *tokens} if len(value) >= 12]
        assert len(self.secrets) >= 8 and tokens, "no secrets to look for"
        files = [path for path in (self.folder / "shown").rglob("*") if path.is_file()]
        assert {".out", ".log", ".jsonl", ".html"} <= {path.suffix for path in files}
        contents = ((path, path.read_bytes()) for path in files)
        return [path.name for path, content in contents if any(value in content for value in values)]


def listed(cloud: Cloud, url: str, key: str = "items") -> list[Any]:
    """The resources of a list method; [] if the API or the parent does not exist."""
    try:
        return cloud.call("GET", url).get(key) or []
    except CallError as error:
        if re.search(r": 40[34] ", str(error)):
            return []
        raise


def oauth_clients(cloud: Cloud) -> list[dict[str, Any]]:
    """The OAuth clients of Identity-Aware Proxy."""
    brands = listed(cloud, f"iap.googleapis.com/v1/projects/{PROJECT}/brands", "brands")
    return [
        client
        for brand in brands
        for client in listed(
            cloud, f"iap.googleapis.com/v1/{brand['name']}/identityAwareProxyClients", "identityAwareProxyClients"
        )
    ]


def policy(cloud: Cloud, url: str, method: str = "POST") -> list[str]:
    """The members of each role, "role member"."""
    try:
        bindings = cloud.call(method, url, {} if method == "POST" else None).get("bindings", ())
    except CallError:
        bindings = ()
    return sorted(f"{binding['role']} {member}" for binding in bindings for member in binding["members"])


def inventory(cloud: Cloud) -> dict[str, list[str]]:
    """Everything that a deployment consists of, without what is different in each project: numbers, random parts of names."""
    secrets = [secret["name"] for secret in listed(cloud, SECRETS, "secrets")]
    buckets = [bucket["name"] for bucket in listed(cloud, f"{STORAGE}?project={PROJECT}")]
    accounts = [account["email"] for account in listed(cloud, ACCOUNTS, "accounts")]
    services = [service["name"] for service in listed(cloud, f"{RUN}/services", "services")]
    instances = [instance["name"] for instance in listed(cloud, f"{SQL}/instances")]
    packages = listed(cloud, f"{REGISTRY}/mlflow/packages", "packages")
    backends = [backend["name"] for backend in listed(cloud, f"{COMPUTE}/global/backendServices")]
    number = cloud.call("GET", PROJECT_URL)["projectNumber"]
    iap = f"iap.googleapis.com/v1/projects/{number}/iap_web/compute/services"
    found = {
        "resources": resources(cloud),
        "APIs": [entry["config"]["name"] for entry in listed(cloud, f"{SERVICES}?filter=state:ENABLED", "services")],
        "OAuth clients": [client["displayName"] for client in oauth_clients(cloud)],
        "policy of the project": policy(cloud, f"{PROJECT_URL}:getIamPolicy"),
    }
    for name in secrets:
        versions = listed(cloud, f"secretmanager.googleapis.com/v1/{name}/versions", "versions")
        found[f"versions of {name}"] = [f"{entry['name']} {entry['state']}" for entry in versions]
        found[f"policy of {name}"] = policy(cloud, f"secretmanager.googleapis.com/v1/{name}:getIamPolicy", "GET")
    for name in buckets:
        found[f"objects of {name}"] = [entry["name"] for entry in listed(cloud, f"{STORAGE}/{name}/o")]
        found[f"policy of {name}"] = policy(cloud, f"{STORAGE}/{name}/iam", "GET")
    for email in accounts:
        found[f"policy of {email}"] = policy(cloud, f"{ACCOUNTS}/{email}:getIamPolicy")
    for name in services:
        found[f"revisions of {name}"] = [
            "revision" for _entry in listed(cloud, f"run.googleapis.com/v2/{name}/revisions", "revisions")
        ]
        found[f"policy of {name}"] = policy(cloud, f"run.googleapis.com/v2/{name}:getIamPolicy", "GET")
    for name in instances:
        url = f"{SQL}/instances/{name}"
        found[f"users of {name}"] = [user["name"] for user in listed(cloud, f"{url}/users")]
        found[f"databases of {name}"] = [entry["name"] for entry in listed(cloud, f"{url}/databases")]
        found[f"backups of {name}"] = [
            entry.get("description", "") for entry in listed(cloud, f"{url}/backupRuns") if entry["type"] == "ON_DEMAND"
        ]
    for package in packages:
        url = f"artifactregistry.googleapis.com/v1/{package['name']}"
        found[f"versions of {package['name']}"] = ["version" for _entry in listed(cloud, f"{url}/versions", "versions")]
        found[f"tags of {package['name']}"] = [entry["name"] for entry in listed(cloud, f"{url}/tags", "tags")]
    for name in backends:
        found[f"policy of {name}"] = policy(cloud, f"{iap}/{name}:getIamPolicy")

    def plain(text: str) -> str:
        return re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", text.replace(str(number), "NUMBER"))

    return {plain(name): sorted(map(plain, entries)) for name, entries in found.items()}


# -- what is disturbed ---------------------------------------------------------


@dataclass
class Stage:
    """A run to disturb. base: the state folder that it begins with, made by an undisturbed run of an earlier stage."""

    base: str
    book: str
    variables: dict[str, Any] = field(default_factory=dict)
    image: str = ""
    after: str = ""
    """A playbook to run undisturbed afterwards."""

    def run(self, runs: Runs, limit: int = 0) -> Play:
        return runs.play(self.book, image=self.image, limit=limit, **self.variables)


NEVER = {"mlflow_db_upgrade": "never"}
STAGES = {
    "first deployment": Stage("", "site.yml"),
    "upgrade by site": Stage("behind", "site.yml", image=NEWER),
    "playbook upgrade": Stage("waiting", "upgrade.yml", NEVER, NEWER, after="site.yml"),
    "destroy": Stage("deployed", "destroy.yml", {"mlflow_confirm_destroy": "demo", "mlflow_destroy_data": True}),
}


@dataclass
class Row:
    """One row of the table."""

    scenario: str
    met: str
    runs: int
    seconds: float
    result: str = "converged"

    @staticmethod
    def line(*cells: Any) -> str:
        return "{:48}{:>21}{:>6}{:>9}  {}".format(*cells)

    def __str__(self) -> str:
        return self.line(self.scenario, self.met, self.runs, f"{self.seconds:.0f}", self.result)


class Matrix:
    """The state folders that stages begin with, and what is there at the end of their undisturbed runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_id = ""
        self.expected: dict[str, dict[str, list[str]]] = {}
        self.rows: list[Row] = []

    @contextmanager
    def cloud(self, base: str) -> Iterator[Cloud]:
        copy = {"copy_of": self.folder / base} if base else {}
        with Cloud.running(*(() if base else UP), **copy) as cloud:
            yield cloud

    def runs(self, cloud: Cloud) -> Runs:
        """Runs on a sandbox, whose secrets of now are known."""
        runs = Runs(cloud, Path(tempfile.mkdtemp(dir=self.folder)), OAUTH)
        runs.learn()
        return runs

    def keep(self, cloud: Cloud, name: str) -> None:
        """Keep the state of a sandbox, which is stopped."""
        cloud.command("down")
        # With the owners of files, unlike shutil.copytree.
        subprocess.run(["cp", "-a", cloud.state, self.folder / name], check=True)

    def finish(self, stage: str, runs: Runs) -> list[str]:
        """What is wrong after the last run of a stage."""
        what, wrong = STAGES[stage], []
        book = what.after or what.book
        if what.after:
            play = runs.play(book, image=what.image, **what.variables)
            wrong += [f"{book} fails:\n{tail(play)}"] if play.status else []
        found = inventory(runs.cloud)
        expected = self.expected.setdefault(stage, found)
        for name in sorted({*found, *expected}):
            here, there = Counter(found.get(name, [])), Counter(expected.get(name, []))
            if here != there:
                wrong.append(f"{name}: too many {[*(here - there).elements()]}, missing {[*(there - here).elements()]}")
        again = runs.play(book, image=what.image, **what.variables)
        if (again.status, again.recap("changed")) != (0, 0):
            wrong.append(f"a further run changes {again.changed}, status {again.status}:\n{tail(again)}")
        if stage != "destroy":
            plan = runs.folder / "shown" / "plan.json"
            planned = runs.play("plan.yml", image=what.image, **what.variables, mlflow_plan_file=str(plan))
            wrong += [] if planned.status == 0 and plan.exists() else [f"plan.yml fails:\n{tail(planned)}"]
            verified = runs.play("verify.yml", image=what.image, **what.variables)
            wrong += [f"verify.yml fails:\n{tail(verified)}"] if verified.status else []
            runs.learn()
        if stage not in ("destroy", "first deployment"):
            with scripts(runs.cloud, runs.folder) as client:
                read = client(READ.format(run=self.run_id))
            wrong += [] if read == "7 0.5 weights" else [f"the run logged before is {read}"]
        leaks = runs.leaks()
        wrong += [f"secrets in {leaks}"] if leaks else []
        return wrong


LOG = """
    with mlflow.start_run() as run:
        mlflow.log_param("depth", 7)
        mlflow.log_metric("loss", 0.5)
        mlflow.log_text("weights", "model/weights.txt")
    print(run.info.run_id)
"""
READ = """
    data = client.get_run("{run}").data
    text = mlflow.artifacts.load_text("runs:/{run}/model/weights.txt")
    print(data.params["depth"], data.metrics["loss"], text)
"""


def tail(play: Play) -> str:
    return play.error[-1500:] or play.output[-1500:]


def undisturbed(matrix: Matrix) -> None:
    """Run all stages once, and keep the states that they begin with."""
    for stage, what in STAGES.items():
        with matrix.cloud(what.base) as cloud:
            runs = matrix.runs(cloud)
            play = what.run(runs)
            assert play.status == 0, tail(play)
            writes = len(kills(runs.folder).read_text().splitlines())
            wrong = matrix.finish(stage, runs)
            matrix.rows.append(Row(f"{stage}, undisturbed", f"{writes} writes", 1, play.seconds))
            assert not wrong, "\n".join(wrong)
            if stage == "first deployment":
                with scripts(cloud, matrix.folder) as client:
                    matrix.run_id = client(LOG)
                matrix.keep(cloud, "deployed")
                cloud.up()
                with statements(cloud, Path(tempfile.mkdtemp(dir=matrix.folder))) as sql:
                    sql(DOWNGRADE)
                cloud.command("image", "add", NEWER, str(ROOT / "image"), "--python", IMAGE_PYTHON)
                matrix.keep(cloud, "behind")
                cloud.up()
                waiting = runs.play("site.yml", image=NEWER, **NEVER)
                assert waiting.status and "playbook upgrade" in waiting.output, tail(waiting)
                matrix.keep(cloud, "waiting")


def crashes(matrix: Matrix, stage: str) -> tuple[Row, list[str]]:
    """Each run is killed after its first write that no earlier run has been killed after, until one ends by itself."""
    what, began = STAGES[stage], time.monotonic()
    with matrix.cloud(what.base) as cloud:
        runs = matrix.runs(cloud)
        while (play := what.run(runs, limit=1)).status == -signal.SIGKILL and len(runs.plays) < RUNS:
            pass
        number = len(runs.plays)
        wrong = [f"run {number} fails:\n{tail(play)}"] if play.status else []
        row = Row(f"{stage}, SIGKILL after each write", f"{number - 1} kills", number, time.monotonic() - began)
        return row, wrong or matrix.finish(stage, runs)


def faulty(matrix: Matrix, stage: str, fault: str) -> tuple[Row, list[str]]:
    """Every distinct call meets the fault once; later runs too, until one succeeds."""
    what, began = STAGES[stage], time.monotonic()
    with matrix.cloud(what.base) as cloud:
        runs = matrix.runs(cloud)
        book = Book(cloud.state)
        rules = [book.add(words) for words in FAULTS[fault]]
        while (play := what.run(runs)).status and len(runs.plays) < 3:
            pass
        struck = sum(counts(cloud.state, rule)[1] for rule in rules)
        book.clear()
        number = len(runs.plays)
        wrong = [f"run {number} fails:\n{tail(play)}"] if play.status else []
        if number > 1:
            wrong.append(f"the first run does not go through by itself:\n{tail(runs.plays[0])}")
        row = Row(
            f"{stage}, {fault} at each call",
            f"{struck} faults" if struck else "throughout",
            number,
            time.monotonic() - began,
        )
        return row, wrong or matrix.finish(stage, runs)


def two_runs(matrix: Matrix) -> tuple[Row, list[str]]:
    """Two first deployments at the same time."""
    began = time.monotonic()
    with matrix.cloud("") as cloud, ThreadPoolExecutor(2) as pool:
        both = [matrix.runs(cloud), matrix.runs(cloud)]
        plays = list(pool.map(STAGES["first deployment"].run, both))
        wrong = [f"a run fails:\n{tail(play)}" for play in plays if play.status]
        row = Row("first deployment, two runs at the same time", "", 2, time.monotonic() - began)
        wrong = wrong or matrix.finish("first deployment", both[0])
        both[1].secrets = both[0].secrets
        return row, wrong or both[1].leaks()


Scenario = Callable[[Matrix], tuple[Row, list[str]]]


def scenario(stage: str, what: str) -> Scenario:
    if what == "SIGKILL":
        return lambda matrix: crashes(matrix, stage)
    if what == "two runs":
        return two_runs
    return lambda matrix: faulty(matrix, stage, what)


SCENARIOS = [
    ("first deployment", "two runs"),
    *((stage, "SIGKILL") for stage in STAGES),
    *(("first deployment", fault) for fault in FAULTS),
    # Nothing is enabled or granted in these; the two writes of the playbook upgrade are those of site.
    *((stage, fault) for stage in ("upgrade by site", "destroy") for fault in FAULTS if fault not in ONCE),
]


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[dict[Any, Future[Any]]]:
    """The results of the scenarios to run, as many at the same time as there are processors; printed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mlflow-matrix-"))
    made = Matrix(folder)
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [call.params["of"] for call in calls if call and "of" in call.params]
    try:
        undisturbed(made)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = {of: pool.submit(scenario(*of), made) for of in chosen}
            yield results
            made.rows += [result.result()[0] for result in results.values() if not result.exception()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with pytestconfig.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
            print("\n" + Row.line("scenario", "met", "runs", "seconds", "result"), *made.rows, sep="\n")


def test_a_change_with_a_crash_and_a_fault_at_each_call(own_cloud: Cloud, tmp_path: Path) -> None:
    change = {"mlflow_labels": {"team": "ml"}, "mlflow_webapp_users": ["group:ml-team@example.com"]}
    runs = Runs(own_cloud, tmp_path, change)
    runs.learn()
    book = Book(own_cloud.state)
    assert runs.play("site.yml", image=IMAGE, limit=4).status == -signal.SIGKILL
    rules = [book.add(words) for words in FAULTS["expired token"]]
    play = runs.play("site.yml", image=IMAGE)
    struck = sum(counts(own_cloud.state, rule)[1] for rule in rules)
    book.clear()
    assert play.status == 0 and struck > 30, tail(play)
    again = runs.play("site.yml", image=IMAGE)
    assert (again.status, again.recap("changed")) == (0, 0), again.output
    assert runs.leaks() == []


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("of", SCENARIOS, ids=", ".join)
def test_converges(matrix, of):
    row, wrong = matrix[of].result()
    row.result = "FAILED" if wrong else row.result
    assert not wrong, "\n".join(wrong)
