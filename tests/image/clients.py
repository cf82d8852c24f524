"""Many of MLflow's own clients in one process, run by the image's Python: clients.py CLIENTS ROUNDS KIND…; prints JSON.

Each client is a run that logs ROUNDS batches of 20 metrics (KIND batch), as many traces by OTLP (KIND trace), or searches
runs and registered models (KIND search); the kinds alternate. Everything that was acknowledged is read back at the end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import mlflow
import requests
from mlflow.entities import Metric
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

URL = os.environ["MLFLOW_TRACKING_URI"]
METRICS = 20
client = mlflow.MlflowClient()
errors: list[str] = []
seconds: list[float] = []


def batch(run: str, step: int) -> None:
    client.log_batch(run, metrics=[Metric(f"m{key}", key, 1000 + step, step) for key in range(METRICS)])


def trace(run: str, step: int) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = os.urandom(16), os.urandom(8), f"{run} {step}"
    span.start_time_unix_nano, span.end_time_unix_nano = time.time_ns(), time.time_ns() + 1000
    headers = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}
    requests.post(f"{URL}/v1/traces", request.SerializeToString(), headers=headers, timeout=120).raise_for_status()


def search(run: str, step: int) -> None:
    client.search_runs(["0"], max_results=20)
    client.search_registered_models(max_results=20)


def one(call, run: str, rounds: int) -> int:
    """Make the calls; returns how many were acknowledged."""
    done = 0
    for step in range(rounds):
        begin = time.monotonic()
        try:
            call(run, step)
            done += 1
        except Exception as error:
            errors.append(f"{type(error).__name__}: {str(error)[:300]}")
        seconds.append(time.monotonic() - begin)
    return done


def main(clients: int, rounds: int, kinds: list[str]) -> None:
    calls = [
        {"batch": batch, "trace": trace, "search": search}[kinds[number % len(kinds)]] for number in range(clients)
    ]
    runs = [client.create_run("0").info.run_id for _ in range(clients)]
    print("ready", flush=True)
    begin = time.monotonic()
    with ThreadPoolExecutor(clients) as executor:
        done = list(executor.map(one, calls, runs, [rounds] * clients))
    wall = time.monotonic() - begin
    lost = doubled = 0
    for call, run, acknowledged in zip(calls, runs, done, strict=True):
        if call is batch:
            stored = [len(client.get_metric_history(run, f"m{key}")) for key in range(METRICS)]
            lost += sum(max(0, acknowledged - count) for count in stored)
            doubled += sum(max(0, count - rounds) for count in stored)
    seconds.sort()
    result = {
        "calls": len(seconds),
        "failed": len(errors),
        "errors": errors[:5],
        "lost": lost,
        "doubled": doubled,
        "calls_per_second": round(len(seconds) / wall, 1),
        "p50": round(seconds[len(seconds) // 2], 3),
        "p99": round(seconds[int(len(seconds) * 0.99)], 3),
        "slowest": round(seconds[-1], 3),
    }
    print(json.dumps(result))


main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
