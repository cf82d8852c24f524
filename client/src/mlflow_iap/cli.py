# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command mlflow-iap: doctor, token, proxy, import."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata

import requests

from mlflow_iap import proxy
from mlflow_iap.errors import IapError
from mlflow_iap.identity import client_of
from mlflow_iap.provider import SKEW, IapAuth, skew
from mlflow_iap.settings import Settings, origin


def _url(given: str | None) -> str:
    url = given or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not url:
        raise IapError("The server's URL is not set: set MLFLOW_TRACKING_URI to https://<the domain>, or use --uri.")
    return url.rstrip("/")


def token(asked: argparse.Namespace) -> int:
    """Print a token for the server, as in 'curl -H "Authorization: Bearer $(mlflow-iap token)" …'."""
    print(IapAuth().cache(_url(asked.uri)).get().value)
    return 0


def run_proxy(asked: argparse.Namespace) -> int:
    """Run a proxy on http://127.0.0.1:PORT that signs in for other clients, until it is stopped."""
    url = _url(asked.uri)
    auth = IapAuth()
    auth.cache(url).get()  # report problems now instead of at the first request
    server = proxy.make(url, asked.port, auth)
    print(
        f"mlflow-iap: http://127.0.0.1:{server.server_port} forwards to {origin(url)}; set MLFLOW_TRACKING_URI to the former",
        flush=True,
    )
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    return 0


class Doctor:
    """Ten checks of a sign-in, one line each; the first one that fails says what to do, and is the last."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.auth = IapAuth()
        self.clock: float | None = None

    def server(self) -> str:
        """MLFLOW_TRACKING_URI"""
        return origin(self.url)

    def plugin(self) -> str:
        """MLFLOW_TRACKING_AUTH"""
        chosen = os.environ.get("MLFLOW_TRACKING_AUTH", "")
        if chosen != "iap":
            raise IapError(f"MLFLOW_TRACKING_AUTH is {chosen!r}: set it to iap, so that MLflow's client signs in.")
        return "iap"

    def mlflow(self) -> str:
        """MLflow's client"""
        for name in ("mlflow", "mlflow-skinny", "mlflow-tracing"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                return f"{name} {metadata.version(name)}"
        raise IapError("MLflow is not installed in this environment: run 'pip install mlflow'.")

    def front_door(self) -> str:
        """the server's load balancer and Identity-Aware Proxy"""
        try:
            answer = requests.get(self.url, allow_redirects=False, timeout=30, headers={"Accept": "text/html"})
        except requests.exceptions.SSLError as error:
            raise IapError(
                f"{self.url} has no certificate that this machine trusts: either it has not been issued yet, or add the CA of "
                f"your company's proxy to REQUESTS_CA_BUNDLE ({error})."
            ) from error
        except requests.RequestException as error:
            raise IapError(f"{self.url} cannot be reached from this machine: {error}.") from error
        self.clock = skew(answer)
        if not (answer.is_redirect and "accounts.google.com" in answer.headers.get("Location", "")):
            raise IapError(
                f"{self.url} answers with {answer.status_code} instead of a redirect to the sign-in page: is IAP enabled?"
            )
        return "redirects to Google's sign-in page"

    def clock_of_this_machine(self) -> str:
        """this machine's clock"""
        if self.clock is None:
            return "the server does not report its time"
        if abs(self.clock) > SKEW:
            raise IapError(f"The clock of this machine is off by {abs(self.clock):.0f} s: correct it.")
        return f"within {max(1, round(abs(self.clock)))} s of the server's"

    def client(self) -> str:
        """the OAuth client of the sign-in page"""
        return client_of(origin(self.url)) or "not said"

    def credentials(self) -> str:
        """Google credentials of this machine"""
        return f"{self.auth.identity.kind}{f', {self.auth.identity.own}' if self.auth.identity.own else ''}"

    def account(self) -> str:
        """the account to sign in as"""
        return self.auth.identity.account

    def token(self) -> str:
        """a token"""
        found = self.auth.cache(self.url).get()
        return f"{found.kind}, valid for {max(0, found.expires - time.time()) / 60:.0f} more minutes"

    def answer(self) -> str:
        """MLflow behind the proxy"""
        answer = requests.get(f"{self.url}/version", auth=self.auth, allow_redirects=False, timeout=60)
        if answer.status_code != 200 or "<html" in answer.text[:200].lower():
            raise IapError(
                f"{self.url}/version answers with {answer.status_code}: {' '.join(answer.text.split())[:200]}"
            )
        return f"version {answer.text.strip()[:40]}"

    def storage(self) -> str:
        """Cloud Storage, for direct transfers of large files"""
        try:
            requests.get("https://storage.googleapis.com/", timeout=15, allow_redirects=False)
        except requests.RequestException as error:
            raise IapError(
                "https://storage.googleapis.com cannot be reached from this machine, so uploads of 500 MiB and more "
                f"fail: allow it, or set MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false ({error})."
            ) from error
        return "reached"


def doctor(asked: argparse.Namespace) -> int:
    """Check whether this machine can log to the server."""
    one = Doctor(_url(asked.uri))
    looks: list[Callable[[], str]] = [
        one.server,
        one.plugin,
        one.mlflow,
        one.front_door,
        one.clock_of_this_machine,
        one.client,
        one.credentials,
        one.account,
        one.token,
        one.answer,
        one.storage,
    ]
    for look in looks:
        try:
            print(f"ok    {look.__doc__}: {look()}", flush=True)
        except IapError as error:
            print(f"FAIL  {look.__doc__}: {error}", flush=True)
            return 1
    print("This machine can log.")
    return 0


def run_import(asked: argparse.Namespace) -> int:
    """Import everything of another MLflow server or store; it can be repeated, and then goes on where it was."""
    url = _url(asked.uri)
    try:
        from mlflow_iap import importer
    except ImportError as error:
        raise IapError(f"Importing needs MLflow: run 'pip install mlflow' in this environment ({error}).") from None

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    report = importer.run(asked.source, url, say, dry=asked.dry_run)
    print(json.dumps(report.as_dict()))
    return 1 if report.problems else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status is 0, or 1 if there is a problem."""
    parser = argparse.ArgumentParser(prog="mlflow-iap", description="Sign in to MLflow behind Identity-Aware Proxy.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in (("doctor", doctor), ("token", token), ("proxy", run_proxy), ("import", run_import)):
        text = command.__doc__ or ""
        one = commands.add_parser(name, help=text.rstrip(".").split(", ")[0], description=text)
        one.add_argument("--uri", help="the server's URL (default: MLFLOW_TRACKING_URI)")
        if name == "proxy":
            one.add_argument("--port", type=int, default=5001, help="port on 127.0.0.1 (default: 5001)")
        if name == "import":
            one.add_argument("--dry-run", action="store_true", help="only count what the source has")
            one.add_argument("source", help="https://…, sqlite:///PATH, or the path of a file store")
        one.set_defaults(command=command)
    asked = parser.parse_args(arguments)
    try:
        Settings.read()
        return asked.command(asked)
    except IapError as error:
        print(f"mlflow-iap: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"mlflow-iap: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
