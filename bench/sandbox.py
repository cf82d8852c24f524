"""Measure the sandbox by itself: start, speed of reads, memory, and growth over rounds of deploying and destroying."""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import platform
import selectors
import socket
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gcp_sandbox.testing import Sandbox

REGION = "europe-west2"
PROJECT = "bench-project"
APIS = ("compute", "run", "secretmanager", "sqladmin", "iam")


class Measured(Sandbox):
    """The measured sandbox."""

    def start(self) -> float:
        """Seconds from the command to the first response to a client."""
        begin = time.monotonic()
        self.up("--project", PROJECT)
        with socket.create_connection(("127.0.0.1", self.port)):
            return time.monotonic() - begin

    @property
    def port(self) -> int:
        return json.loads((self.state / "run.json").read_text(encoding="utf-8"))["port"]

    def memory(self) -> float:
        """Resident MiB of the sandbox's own process."""
        return self.process.memory_info().rss / 2**20

    def disk(self) -> float:
        """MiB of its state."""
        return sum(p.stat().st_size for p in self.state.rglob("*") if p.is_file()) / 2**20


def load(state: str, port: int, token: str, url: str, clients: int, seconds: float) -> tuple[int, list[float]]:
    """GETs of one process with several connections: the number of responses with 200, and the seconds of each."""
    host, _, path = url.partition("/")
    context = ssl.create_default_context(cafile=f"{state}/ca.pem")
    request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    chosen = selectors.DefaultSelector()
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
        while not sock.recv(4096).endswith(b"\r\n\r\n"):
            pass
        tls = context.wrap_socket(sock, server_hostname=host)
        tls.sendall(request)
        chosen.register(tls, selectors.EVENT_READ, [b"", time.perf_counter()])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for key, _ in chosen.select(1):
            state_ = key.data
            state_[0] += key.fileobj.recv(65536)  # type: ignore[union-attr]
            head, blank, body = state_[0].partition(b"\r\n\r\n")
            if not blank or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
                continue
            if not head.startswith(b"HTTP/1.1 200"):
                sys.exit(state_[0].decode())
            now = time.perf_counter()
            times.append(now - state_[1])
            state_[:] = [b"", now]
            key.fileobj.sendall(request)  # type: ignore[union-attr]
    return len(times), times


def reads(sandbox: Measured, seconds: float = 10.0, processes: int = 2, clients: int = 8) -> tuple[float, float, float]:
    """GETs per second, the sandbox's share of a core, and its CPU time per GET in microseconds."""
    url = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/global/networks/default"
    arguments = (str(sandbox.state), sandbox.port, sandbox.command("token").strip(), url, clients, seconds)
    before = sandbox.process.cpu_times()
    begin = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        done = [pool.submit(load, *arguments) for _ in range(processes)]
        count = sum(one.result()[0] for one in done)
    elapsed, after = time.monotonic() - begin, sandbox.process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return count / seconds, spent / elapsed, spent / count * 1e6


def deploy_and_destroy(sandbox: Measured, number: int) -> None:
    """One round: load balancer, service, secret, bucket and object, account; a database every tenth time."""
    compute = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
    run = f"run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services"
    secret = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"
    bucket = "storage.googleapis.com/storage/v1/b"
    sql = f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances"
    account = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"
    made: list[str] = []

    def make(path: str, **body: Any) -> str:
        sandbox.call("POST", f"{compute}/{path}", {"name": "bench"} | body)
        made.append(f"{compute}/{path}/bench")
        return f"projects/{PROJECT}/{path}/bench"

    network = make("global/networks", autoCreateSubnetworks=False)
    make(f"regions/{REGION}/subnetworks", network=network, ipCidrRange="10.9.0.0/24")
    make("global/addresses")
    group = make(
        f"regions/{REGION}/networkEndpointGroups", networkEndpointType="SERVERLESS", cloudRun={"service": "bench"}
    )
    backend = make("global/backendServices", loadBalancingScheme="EXTERNAL_MANAGED", backends=[{"group": group}])
    urls = make("global/urlMaps", defaultService=backend)
    proxy = make("global/targetHttpProxies", urlMap=urls)
    make("global/forwardingRules", target=proxy, portRange="80", loadBalancingScheme="EXTERNAL_MANAGED")
    image = {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]}
    sandbox.call("POST", f"{run}?serviceId=bench", {"template": image})
    sandbox.call("POST", f"{secret}?secretId=bench", {"replication": {"automatic": {}}})
    sandbox.call("POST", f"{secret}/bench:addVersion", {"payload": {"data": "c2VjcmV0"}})
    sandbox.call(
        "POST", f"{bucket}?project={PROJECT}", {"name": "bench", "softDeletePolicy": {"retentionDurationSeconds": "0"}}
    )
    sandbox.call(
        "POST", "storage.googleapis.com/upload/storage/v1/b/bench/o?uploadType=media&name=o", data=b"x" * 100_000
    )
    sandbox.call("POST", account, {"accountId": f"bench-{number}"})
    if number % 10 == 0:
        settings = {"tier": "db-f1-micro", "edition": "ENTERPRISE"}
        body = {"name": f"bench-{number}", "region": REGION, "databaseVersion": "POSTGRES_17", "settings": settings}
        sandbox.call("POST", sql, body)
        sandbox.call("DELETE", f"{sql}/bench-{number}")
    sandbox.call("DELETE", f"{account}/bench-{number}@{PROJECT}.iam.gserviceaccount.com")
    sandbox.call("DELETE", f"{bucket}/bench/o/o")
    sandbox.call("DELETE", f"{bucket}/bench")
    sandbox.call("DELETE", f"{secret}/bench")
    sandbox.call("DELETE", f"{run}/bench")
    for url in reversed(made):
        sandbox.call("DELETE", url)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=100, help="number of rounds of deploying and destroying (default: 100)"
    )
    rounds = parser.parse_args().rounds
    missed = 0

    def row(what: str, value: float, unit: str, target: str, met: bool) -> None:
        nonlocal missed
        missed += not met
        print(f"{what:55} {value:8.1f} {unit:5} target {target}{'' if met else '  MISSED'}", flush=True)

    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as folder:
        sandbox = Measured(Path(folder) / "state")
        try:
            sandbox.start()
            sandbox.command("down")
            starts = []
            for _ in range(5):
                starts.append(sandbox.start())
                sandbox.command("down")
            row(
                "start to ready (median of 5)",
                statistics.median(starts),
                "s",
                "<= 1.5",
                statistics.median(starts) <= 1.5,
            )
            sandbox.start()
            usage = f"serviceusage.googleapis.com/v1/projects/{PROJECT}/services:batchEnable"
            sandbox.call("POST", usage, {"serviceIds": [f"{name}.googleapis.com" for name in APIS]})
            times = []
            for _ in range(300):
                begin = time.perf_counter()
                sandbox.call("GET", f"compute.googleapis.com/compute/v1/projects/{PROJECT}/global/networks")
                times.append((time.perf_counter() - begin) * 1000)
            row("median of 300 GETs, one client", statistics.median(times), "ms", "<= 5", statistics.median(times) <= 5)
            rate, share, spent = reads(sandbox)
            what = f"GETs a second, 16 clients (it had {share:.0%} of a core)"
            row(what, rate, "/s", ">= 2000", rate >= 2000)
            row("  upper bound according to CPU time per GET", 1e6 / spent, "/s", ">= 2000", spent <= 500)
            warm = max(1, rounds // 5)
            for number in range(rounds):
                if number == warm:
                    memory, disk = sandbox.memory(), sandbox.disk()
                deploy_and_destroy(sandbox, number)
            row(f"resident memory after {rounds} rounds", sandbox.memory(), "MiB", "<= 200", sandbox.memory() <= 200)
            grown = sandbox.memory() - memory
            row(f"  growth since round {warm}", grown, "MiB", "<= 5", grown <= 5)
            grown = sandbox.disk() - disk
            row(f"  growth of the state on disk since round {warm}", grown, "MiB", "<= 5", grown <= 5)
            left = len(sandbox.process.children(recursive=True))
            row("  processes left", left, "", "<= 0", left == 0)
        finally:
            sandbox.command("down")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
