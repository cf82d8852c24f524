"""Replay recorded exchanges with Google's APIs against a separate sandbox, and count the matching responses.

fidelity.py RECORDINGS REPLAY [LOG...]: RECORDINGS contains the folders attested and other, REPLAY is the replayer; LOGs
restrict it to some logs.  Every log is replayed in a new project; logs that need methods that the sandbox does not implement
are skipped.  Exits with 1 if the score of a folder is below its target.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gcp_sandbox.testing import Sandbox

AIMS = {"attested": 98, "other": 95}  # percent
# The APIs that were enabled for the recordings.
APIS = (
    "artifactregistry",
    "cloudbilling",
    "cloudresourcemanager",
    "compute",
    "dns",
    "iam",
    "iamcredentials",
    "iap",
    "run",
    "secretmanager",
    "servicenetworking",
    "sqladmin",
    "storage",
    "vpcaccess",
)
# The recordings precede the shutdown of IAP's OAuth Admin API, compute/beta was rewritten in URLs, but
# not in bodies, and services of Cloud Run show an environment that nobody asked for.
OPTIONS = ("--iap-oauth-admin-api", "--recorded-links", "--recorded-environments")
RESOURCE_MANAGER = "cloudresourcemanager.googleapis.com/v1"
SERVICE_USAGE = "serviceusage.googleapis.com/v1"


class Replayed(Sandbox):
    """A sandbox for replaying recordings."""

    def start(self) -> None:
        """Start it, and make the caller an owner of everything."""
        self.up(*OPTIONS)
        self.organization = self._own()
        # Some APIs must be enabled in the caller's own project.
        self.enable(self.call("GET", f"{RESOURCE_MANAGER}/projects")["projects"][0]["projectId"])

    def _own(self) -> str:
        """Make the caller an owner of the organization, because a recording may replace a project's policy; returns its ID."""
        name = self.call("POST", f"{RESOURCE_MANAGER}/organizations:search", {})["organizations"][0]["name"]
        policy = self.call("POST", f"{RESOURCE_MANAGER}/{name}:getIamPolicy", {})
        admin = next(b["members"] for b in policy["bindings"] if b["role"] == "roles/resourcemanager.organizationAdmin")
        policy["bindings"].append({"role": "roles/owner", "members": admin})
        self.call("POST", f"{RESOURCE_MANAGER}/{name}:setIamPolicy", {"policy": policy})
        return name.rpartition("/")[2]

    def enable(self, project: str) -> None:
        """Enable everything in a project."""
        services = [f"{api}.googleapis.com" for api in APIS]
        self.call("POST", f"{SERVICE_USAGE}/projects/{project}/services:batchEnable", {"serviceIds": services})

    def project(self, name: str) -> str:
        """Create a project with everything enabled; returns its number."""
        self.call("POST", f"{RESOURCE_MANAGER}/projects", {"projectId": name})
        self.enable(name)
        return self.call("GET", f"{RESOURCE_MANAGER}/projects/{name}")["projectNumber"]

    def replay(self, replayer: Path, log: Path, project: str) -> list[dict[str, Any]]:
        """The replayer's verdicts on a log, in a new project."""
        out, copy = self.state / "replay.json", self.state / "replay.log"
        copy.write_text(named(log.read_text(encoding="utf-8")), encoding="utf-8")
        number, exports = self.project(project), self.exports
        command = [
            sys.executable,
            str(replayer),
            str(copy),
            "--quiet",
            "--json",
            str(out),
            "--proxy",
            exports["HTTPS_PROXY"],
            "--ca",
            exports["SSL_CERT_FILE"],
            "--token",
            self.command("token").strip(),
            "--project",
            project,
            "--project-number",
            number,
            "--bind",
            f"organizationID={self.organization}",
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout}\n{replayer} {log} exited with status {done.returncode}")
        return [r for r in json.loads(out.read_text())["files"][0]["results"] if r["verdict"] != "SKIP"]


def named(text: str) -> str:
    """A log whose URLs contain the names from its responses; the recorder wrote one placeholder for all names of a collection."""
    last: dict[str, str] = {}  # placeholder -> the last name it stood for
    out = []
    for exchange in text.split("\n---\n"):
        lead, line, rest = re.fullmatch(r"(\s*)([^\n]*)(.*)", exchange, re.S).groups()
        answer = re.split(r"^[1-5]\d\d ", rest, maxsplit=1, flags=re.M)[-1]

        def name(match: re.Match[str], answer: str = answer) -> str:
            collection, placeholder = match.groups()
            if f'"name": "${{{placeholder}}}"' not in text:
                if found := re.search(rf"/{collection}/([\w.-]*\$\{{uniqueId\}}[\w.-]*)", answer):
                    last[placeholder] = found[1]
                if placeholder in last:
                    return f"/{collection}/{last[placeholder]}"
            return match[0]

        out.append(lead + re.sub(r"/(\w+)/\$\{(\w+ID)\}", name, line) + rest)
    return "\n---\n".join(out)


def unplayed(results: list[dict[str, Any]]) -> bool:
    """Whether the sandbox responded with 501 to an exchange of a log, which invalidates the others."""
    found = (d for result in results for d in result["differences"] if d["path"] == "(status)")
    return any(d["live"] == 501 for d in found)


def score(verdicts: list[bool]) -> str:
    """The share of true values, as text."""
    return f"{sum(verdicts)}/{len(verdicts)} {100 * sum(verdicts) / len(verdicts):5.1f} %" if verdicts else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("replayer", type=Path)
    parser.add_argument("logs", nargs="*", type=Path)
    args = parser.parse_args()
    logs = {name: sorted((args.recordings / name).rglob("*.log")) for name in AIMS}
    if args.logs:
        wanted = {path.resolve() for path in args.logs}
        logs = {name: [log for log in found if log.resolve() in wanted] for name, found in logs.items()}
    if not args.replayer.is_file() or not any(logs.values()):
        print(f"Nothing to replay: no recordings in {args.recordings}, or no replayer {args.replayer}.")
        return
    by_api: dict[str, dict[str, list[bool]]] = collections.defaultdict(lambda: {name: [] for name in AIMS})
    number = 0
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        sandbox = Replayed(Path(folder) / "state")
        try:
            sandbox.start()
            for name, found in logs.items():
                for log in found:
                    number += 1
                    results = sandbox.replay(args.replayer, log, f"fidelity-{number}")
                    if unplayed(results):
                        print(f"{log.relative_to(args.recordings)}: skipped, it needs unsupported methods")
                        continue
                    for result in results:
                        by_api[urlsplit(result["url"]).netloc][name].append(result["verdict"] == "OK")
                        if result["verdict"] != "OK":
                            print(
                                f"{log.relative_to(args.recordings)}:{result['line']}: {result['method']} "
                                f"{urlsplit(result['url']).path}"
                            )
                            print("".join(f"    {d['text']}\n" for d in result["differences"]), end="")
        finally:
            sandbox.command("down")
    print(f"\n{'':36}" + "".join(f"{name:>20}" for name in AIMS))
    for host, verdicts in sorted(by_api.items()):
        print(f"{host:36}" + "".join(f"{score(v):>20}" for v in verdicts.values()))
    totals = {name: [ok for verdicts in by_api.values() for ok in verdicts[name]] for name in AIMS}
    print(f"{'all':36}" + "".join(f"{score(v):>20}" for v in totals.values()))
    print(f"{'target':36}" + "".join(f"{aim:>18} %" for aim in AIMS.values()))
    if any(sum(v) * 100 < AIMS[name] * len(v) for name, v in totals.items()):
        sys.exit(1)


if __name__ == "__main__":
    main()
