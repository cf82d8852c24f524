"""The command ``gcp-sandbox``."""

from __future__ import annotations

import argparse
import asyncio
import collections
import errno
import json
import logging
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import psutil

from gcp_sandbox import __version__
from gcp_sandbox.core import network
from gcp_sandbox.core.faults import Book, FaultError, read
from gcp_sandbox.core.latency import Latency
from gcp_sandbox.core.restrictions import KINDS as RESTRICTIONS
from gcp_sandbox.core.restrictions import Book as Restrictions
from gcp_sandbox.core.restrictions import RestrictionError
from gcp_sandbox.core.settings import Settings, account_email, default_state

# A project of a domain, example.com:my-project, too: old ones exist, although new ones cannot be created.
PROJECT_ID = r"(([a-z0-9-]+\.)+[a-z]+:)?[a-z]([a-z0-9-]{0,28}[a-z0-9])?"

READY_SECONDS = 60
METADATA = ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT")


def fail(text: str) -> NoReturn:
    """Exit with a message and status 1."""
    print(f"gcp-sandbox: {text}", file=sys.stderr)
    raise SystemExit(1)


# -- the running process -------------------------------------------------


def _process(state: Path) -> dict[str, Any] | None:
    """The process file of the running sandbox of this state, or None if none is running (or it was killed)."""
    try:
        doc = json.loads((state / "run.json").read_text(encoding="utf-8"))
        process = psutil.Process(doc["pid"])
        # The state may be a copy that was made while the original was running.
        alive = (
            process.create_time() == doc["started"]
            and process.status() != psutil.STATUS_ZOMBIE
            and Path(doc["state"]).samefile(state)
        )
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
    return doc if alive else None


def _running(state: Path) -> dict[str, Any]:
    doc = _process(state)
    if doc is None:
        fail(
            f"no sandbox is running with the state {state}; start one: gcp-sandbox up --detach --state {shlex.quote(str(state))}"
        )
    return doc


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for processes to end; returns those that have not.  Zombie processes count as ended."""
    deadline = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [p for p in left if not _ended(p)]
    return left


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _sweep(state: Path) -> None:
    """End processes that a killed sandbox left running: those with its state folder in their environment."""
    mark = str(state.resolve())
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.environ().get("GCP_SANDBOX_CHILD_OF") == mark:
                process.kill()
        except psutil.Error:
            continue


async def _serve(settings: Settings, announce: Callable[[], None]) -> None:
    # The system's CAs are not needed, and aiohttp would load them twice (150 ms).
    os.environ["SSL_CERT_FILE"] = str(settings.state / "ca.pem")
    from gcp_sandbox.core.cloud import Cloud
    from gcp_sandbox.gateway.server import Server

    cloud = Cloud(settings)
    server = Server(cloud)
    await server.start()
    _write_credentials(cloud)
    announce()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop()


def _write_credentials(cloud: Any) -> None:
    """Write the deployer's key file, as `gcloud iam service-accounts keys create` does."""
    from gcp_sandbox.services.iam import key_file

    path = cloud.folder / "deployer.json"
    if not path.exists():
        path.touch(0o600)
        path.write_text(json.dumps(key_file(cloud, cloud.settings.deployer), indent=2) + "\n", encoding="utf-8")


def up(args: argparse.Namespace) -> None:
    """Start, in the foreground or detached."""
    state: Path = args.state
    other = _process(state)
    if other:
        if args.detach:
            print(
                f"already running: pid {other['pid']}, proxy http://127.0.0.1:{other['port']}, project {other['project']}"
            )
            options = (args.port, args.project, args.latency, args.calls, args.faults, args.image_python, args.machine)
            if any(value is not None for value in options):
                print("its options are unchanged; to start it with other options, stop it first: gcp-sandbox down")
            return
        fail(f"already running with this state: pid {other['pid']}")
    if args.port is not None and not 0 <= args.port <= 65535:
        fail(f"port {args.port}: must be 0 (any free one) to 65535")
    if args.project is not None and not re.fullmatch(PROJECT_ID, args.project):
        fail(
            f"project {args.project!r}: an ID has at most 30 lowercase letters, digits and hyphens, and starts with a letter "
            "(after the domain and a colon, if the project belongs to one)"
        )
    if args.image_python is not None and not args.image_python.is_file():
        fail(f"the interpreter {args.image_python} does not exist")
    try:
        Latency(args.latency or "none")
    except ValueError as error:
        fail(str(error))
    try:
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o700)
    except OSError as error:
        fail(f"the state folder {state} cannot be used: {error.strerror}")
    if args.faults:
        try:
            rules = read(args.faults)
        except FaultError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{args.faults}: {error.strerror}")
        book = Book(state)
        book.clear()
        for words in rules:
            book.add(words)
    if args.detach:
        _detach(state)
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.load(
        state,
        port=args.port,
        project=args.project,
        latency=args.latency,
        calls=str(args.calls.absolute()) if args.calls else None,
        iap_oauth_admin_api=args.iap_oauth_admin_api,
        recorded_links=args.recorded_links,
        recorded_environments=args.recorded_environments,
        image_python=str(args.image_python.absolute()) if args.image_python else None,
        machine=args.machine,
    )
    _sweep(state)

    def announce() -> None:
        me = psutil.Process()
        doc = {
            "pid": me.pid,
            "started": me.create_time(),
            "state": str(state),
            "port": settings.port,
            "project": settings.project,
            "machine": settings.machine,
        }
        (state / "run.json").write_text(json.dumps(doc), encoding="utf-8")
        print(f"ready: proxy http://127.0.0.1:{settings.port}, project {settings.project}, state {state}", flush=True)

    wanted = settings.port
    try:
        with network.reserved(settings):
            try:
                asyncio.run(_serve(settings, announce))
            except OSError as error:
                if args.port or not wanted or error.errno != errno.EADDRINUSE:
                    raise
                settings.port = 0  # the previous port is in use, and was not requested explicitly
                asyncio.run(_serve(settings, announce))
    except network.NoneLeft as error:
        fail(str(error))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            fail(f"port {wanted} is in use; choose another with --port, or --port 0 for any free one")
        raise
    finally:
        (state / "run.json").unlink(missing_ok=True)


def _detach(state: Path) -> None:
    log = state / "sandbox.log"
    argv = [a for a in sys.argv[1:] if a != "--detach"]
    with log.open("ab") as out:
        start = out.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "gcp_sandbox.cli", *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if (doc := _process(state)) and doc["pid"] == child.pid:
            print(f"ready: proxy http://127.0.0.1:{doc['port']}, project {doc['project']}, state {state}")
            return
        if child.poll() is not None:
            text = log.read_bytes()[start:].decode(errors="replace").strip()
            fail(
                text.splitlines()[-1].removeprefix("gcp-sandbox: ")
                if text
                else f"it exited with status {child.returncode}"
            )
        time.sleep(0.05)
    child.terminate()
    fail(f"not ready after {READY_SECONDS} s; see {log}")


def down(args: argparse.Namespace) -> None:
    """Stop, with all child processes."""
    doc = _process(args.state)
    if doc is None:
        _sweep(args.state)
        (args.state / "run.json").unlink(missing_ok=True)
        print("not running")
        return
    process = psutil.Process(doc["pid"])
    children = process.children(recursive=True)
    process.terminate()
    for left in _wait([process, *children], 30):
        left.kill()
    _sweep(args.state)
    print("stopped")


def reset(args: argparse.Namespace) -> None:
    """Stop, and delete everything except the certificate authority, the port and the images."""
    was = _process(args.state)
    down(args)
    for entry in args.state.iterdir() if args.state.exists() else ():
        if entry.name not in ("ca.pem", "ca.key", "settings.json", "images.json"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    print("state cleared")
    if was:
        print("start again: gcp-sandbox up --detach --state " + shlex.quote(str(args.state)))


# -- for clients -----------------------------------------------------------


def environment(state: Path, doc: dict[str, Any], vpc: str = "", region: str = "") -> dict[str, str]:
    """The environment variables that direct unmodified Google clients to the running sandbox, as a machine in a VPC network."""
    within = f"{urllib.parse.quote(vpc, safe='')}:{region}@" if vpc else ""
    proxy = f"http://{within}127.0.0.1:{doc['port']}"
    ca = str((state / "ca.pem").resolve())
    key = str((state / "deployer.json").resolve())
    # Where google-auth looks for a metadata server.
    metadata = {name: f"127.0.0.1:{doc['port']}" for name in METADATA if doc.get("machine")}
    return metadata | {
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "NO_PROXY": "",
        "no_proxy": "",
        "REQUESTS_CA_BUNDLE": ca,
        "SSL_CERT_FILE": ca,
        "CURL_CA_BUNDLE": ca,
        "HTTPLIB2_CA_CERTS": ca,
        "NODE_EXTRA_CA_CERTS": ca,
        "GCP_AUTH_KIND": "serviceaccount",
        "GCP_SERVICE_ACCOUNT_FILE": key,
        "GOOGLE_APPLICATION_CREDENTIALS": key,
        "GCP_PROJECT": doc["project"],
        "GOOGLE_CLOUD_PROJECT": doc["project"],
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": ca,
        "CLOUDSDK_CORE_PROJECT": doc["project"],
    }


def env(args: argparse.Namespace) -> None:
    """Print the export lines."""
    doc, vpc = _running(args.state), args.network
    if bool(vpc) != bool(args.region):
        fail("--network and --region go together: a machine is in a network and a region")
    if vpc and "/" not in vpc:
        vpc = f"projects/{doc['project']}/global/networks/{vpc}"
    for name, value in environment(args.state, doc, vpc, args.region).items():
        print(f"export {name}={shlex.quote(value)}")


def token(args: argparse.Namespace) -> None:
    """Print an access token of the deployer or of another account, or a user's credentials file."""
    from gcp_sandbox.core.auth import Principal, Tokens
    from gcp_sandbox.core.store import Store

    doc = _running(args.state)
    email = args.email or account_email("deployer", doc["project"])
    if args.credentials and Principal(email).is_service_account:
        fail(f"{email} is a service account, which has key files: name a user with --as")
    store = Store(args.state / "state.sqlite")
    tokens = Tokens(store)
    if args.credentials:
        client = {"client_id": "gcp-sandbox.apps.googleusercontent.com", "client_secret": "gcp-sandbox"}
        print(json.dumps(client | {"refresh_token": tokens.refresh_token(email), "type": "authorized_user"}, indent=2))
    else:
        print(tokens.access_token(email, lifetime=args.lifetime))
    store.close()


def browser(args: argparse.Namespace) -> None:
    """Print a command that opens a URL of the sandbox in Chromium or Chrome, with a separate profile."""
    from gcp_sandbox.core.tls import Authority

    doc = _running(args.state)
    name = next((n for n in ("chromium", "google-chrome", "chromium-browser", "chrome") if shutil.which(n)), "chromium")
    words = [
        name,
        f"--proxy-server=http://127.0.0.1:{doc['port']}",
        "--proxy-bypass-list=<-loopback>",
        f"--ignore-certificate-errors-spki-list={Authority(args.state).spki}",
        f"--user-data-dir={(args.state / 'browser').resolve()}",
        "--no-first-run",
        args.url,
    ]
    print(shlex.join(words))


def image_add(args: argparse.Namespace) -> None:
    """Register an image reference for a folder with a Containerfile, whose entry point is run as its container."""
    from gcp_sandbox.images import ImageError, Images

    args.state.mkdir(parents=True, exist_ok=True)
    try:
        Images(args.state).add(args.reference, args.folder, args.python)
    except ImageError as error:
        fail(str(error))
    print(f"{args.reference} -> {args.folder}")


def fault_add(args: argparse.Namespace) -> None:
    """Add a rule that makes calls fail; it applies from the next call on, and survives restarts."""
    args.state.mkdir(parents=True, exist_ok=True)
    try:
        rule = Book(args.state).add([args.call, args.fault, *args.options])
    except FaultError as error:
        fail(str(error))
    print(f"{rule.ident}: {rule.text}")


def fault_list(args: argparse.Namespace) -> None:
    """Show the rules, how many calls each one matched and how many it affected."""
    from gcp_sandbox.core.faults import counts

    for rule in Book(args.state).rules():
        met, struck = counts(args.state, rule)
        print(f"{rule.ident}: {rule.text}" + (f"  (matched {met}, affected {struck})" if met else ""))


def fault_clear(args: argparse.Namespace) -> None:
    """Remove the given rules, or all."""
    print(f"{Book(args.state).clear(*args.ids)} rules removed")


def _org_policy(args: argparse.Namespace, method: str, path: str, body: Any = None) -> Any:
    """The response of the running sandbox's Org Policy API to a call by its deployer; None if there is no such policy."""
    from gcp_sandbox.core.auth import Tokens
    from gcp_sandbox.core.store import Store

    doc = _running(args.state)
    store = Store(args.state / "state.sqlite")
    bearer = Tokens(store).access_token(account_email("deployer", doc["project"]))
    store.close()
    proxy = urllib.request.ProxyHandler({"https": f"http://127.0.0.1:{doc['port']}"})
    context = ssl.create_default_context(cafile=str(args.state / "ca.pem"))
    opener = urllib.request.build_opener(proxy, urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(
        f"https://orgpolicy.googleapis.com/v2/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
    )
    try:
        with opener.open(request, timeout=READY_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        fail(json.load(error)["error"]["message"])


def _set_constraint(args: argparse.Namespace, constraint: str, words: list[str]) -> str:
    """Set the policy of a constraint; returns it in words."""
    from gcp_sandbox.core.orgpolicy import CONSTRAINTS, written

    constraint = constraint.removeprefix("constraints/")
    if constraint not in CONSTRAINTS:
        fail(f"unknown policy {constraint!r}: must be {', '.join(RESTRICTIONS)} or one of {', '.join(CONSTRAINTS)}")
    place = next((w.removeprefix("on=") for w in words if w.startswith("on=")), "") or _organization(args.state)
    try:
        spec = written(constraint, [w for w in words if not w.startswith("on=")])
    except ValueError as error:
        fail(str(error))
    name = f"{place}/policies/{constraint}"
    if _org_policy(args, "PATCH", f"{name}?updateMask=spec", {"name": name, "spec": spec}) is None:
        _org_policy(args, "POST", f"{place}/policies", {"name": name, "spec": spec})
    return f"{place} {constraint} {' '.join(w for w in words if not w.startswith('on=')) or 'enforce'}"


def _organization(state: Path) -> str:
    from gcp_sandbox.core.store import Store

    store = Store(state / "state.sqlite")
    doc = store.get("sandbox", "organization") or {}
    store.close()
    return f"organizations/{doc.get('id', '')}"


def policy_set(args: argparse.Namespace) -> None:
    """Set an organization policy, or impose a perimeter, a quota or the state of a certificate; see the README."""
    args.state.mkdir(parents=True, exist_ok=True)
    if args.policy not in RESTRICTIONS:
        print(_set_constraint(args, args.policy, args.words))
        return
    try:
        rule = Restrictions(args.state).set([args.policy, *args.words])
    except RestrictionError as error:
        fail(str(error))
    print(f"{rule.ident}: {rule.text}")


def _policies(state: Path) -> dict[str, Any]:
    """The organization policies by name, as they are on disk."""
    from gcp_sandbox.core.orgpolicy import KIND
    from gcp_sandbox.core.store import Store

    if not (state / "state.sqlite").exists():
        return {}
    store = Store(state / "state.sqlite")
    found = dict(store.list(KIND))
    store.close()
    return found


def policy_list(args: argparse.Namespace) -> None:
    """Show the organization policies, and the rules for perimeters, quotas and certificates."""
    from gcp_sandbox.core.orgpolicy import words

    for name, doc in _policies(args.state).items():
        place, _, constraint = name.rpartition("/policies/")
        print(f"{constraint}: {words(doc.get('spec', {}))} on={place}")
    for rule in Restrictions(args.state).rules():
        print(f"{rule.ident}: {rule.text}")


def policy_clear(args: argparse.Namespace) -> None:
    """Remove the rules with these numbers and the policies of these constraints, or all."""
    numbers = [int(word) for word in args.names if word.isdigit()]
    wanted = {word.removeprefix("constraints/") for word in args.names if not word.isdigit()}
    count = 0
    for name in _policies(args.state):
        if not args.names or name.rpartition("/")[2] in wanted:
            _org_policy(args, "DELETE", name)
            count += 1
    if numbers or not args.names:
        count += Restrictions(args.state).clear(*numbers)
    print(f"{count} policies removed")


def logs(args: argparse.Namespace) -> None:
    """Print the output of the containers of a Cloud Run service or job."""
    files = {path.stem.rsplit(".", 1)[-1]: path for path in sorted((args.state / "logs" / "run").glob("*.log"))}
    if args.service not in files:
        fail(f"no logs of {args.service!r}; there are logs of: {', '.join(sorted(files)) or 'nothing yet'}")
    with files[args.service].open(encoding="utf-8", errors="replace") as stream:
        sys.stdout.writelines(collections.deque(stream, args.lines))
        while args.follow:
            sys.stdout.write(stream.read())
            sys.stdout.flush()
            time.sleep(0.5)


def supported(args: argparse.Namespace) -> None:
    """Print, as Markdown, the methods of each API that are implemented and those that are only validated (501)."""
    from gcp_sandbox.cli.supported import table, write

    if args.write is None:
        print(table(), end="")
        return
    try:
        write(args.write)
    except (OSError, ValueError) as error:
        fail(f"{args.write}: {error}")


def status(args: argparse.Namespace) -> None:
    """Show the state of the sandbox and its resources."""
    from gcp_sandbox.cli.report import collect, show

    doc = collect(args.state, _process(args.state))
    print(json.dumps(doc, indent=2) if args.json else show(doc))


def main(argv: list[str] | None = None) -> None:
    """Entry point of the command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state", type=Path, default=None, help=f"state folder (default {default_state()})")
    about = "A local emulation of the Google Cloud APIs."
    parser = argparse.ArgumentParser(prog="gcp-sandbox", description=about)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("up", up, "start (Ctrl-C stops it)")
    sub.add_argument("--detach", action="store_true", help="run in the background, return when it is ready")
    sub.add_argument("--port", type=int, help="port of the proxy (default: any free one, remembered)")
    sub.add_argument("--project", help="ID of the first project")
    sub.add_argument("--latency", help="none (default), realistic[:SCALE], call:SECONDS, or both: realistic,call:0.15")
    sub.add_argument("--calls", type=Path, metavar="FILE", help="append a line (JSON) to this file for every call")
    sub.add_argument(
        "--faults", type=Path, metavar="FILE", help="rules that make calls fail, replacing the existing ones"
    )
    sub.add_argument(
        "--iap-oauth-admin-api",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="enable the API of IAP's brands and OAuth clients, whose shutdown Google announced for March 2026",
    )
    sub.add_argument(
        "--image-python",
        type=Path,
        metavar="PATH",
        help="interpreter that stands for the python of images that Cloud Build makes, with the packages that they install",
    )
    sub.add_argument(
        "--machine",
        metavar="EMAIL",
        help="service account of the machine that clients run on, which gets a metadata server (GCE_METADATA_HOST)",
    )
    sub.add_argument(
        "--recorded-links",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="return compute/beta links in Compute Engine's resources, as in recordings that were made with the "
        "beta API and had their URLs rewritten to v1; Google returns v1 links (the default), and clients "
        "compare links as strings",
    )
    sub.add_argument(
        "--recorded-environments",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show the second generation as the execution environment of Cloud Run services without one, as in recordings "
        "that may be those of a fake; Terraform's provider shows that Google does not (the default)",
    )
    sub = command("env", env, "print export lines for clients")
    sub.add_argument(
        "--network",
        default="",
        help="VPC network that the client is in (NAME or projects/PROJECT/global/networks/NAME), for internal load balancers; "
        "by default it is on the internet",
    )
    sub.add_argument("--region", default="", help="region that the client is in, with --network")
    sub = command("token", token, "print an access token")
    sub.add_argument("--as", dest="email", help="account (default: the deployer)")
    sub.add_argument("--lifetime", type=int, default=3600, help="lifetime in seconds (default: 3600)")
    sub.add_argument(
        "--credentials",
        action="store_true",
        help="print a user's credentials file with a refresh token instead, "
        "as `gcloud auth application-default login` writes it",
    )
    sub = command("status", status, "show the state of the sandbox and its resources")
    sub.add_argument("--json", action="store_true")
    sub = command("supported", supported, supported.__doc__ or "")
    sub.add_argument("--write", type=Path, metavar="FILE", help="write it between the markers of this file instead")
    sub = command("logs", logs, logs.__doc__ or "")
    sub.add_argument("service", help="name of the service or job")
    sub.add_argument("--lines", type=int, default=100, help="number of last lines (default: 100)")
    sub.add_argument("--follow", action="store_true", help="print new output until Ctrl-C")
    command("reset", reset, "stop and delete all resources")
    command("down", down, "stop")
    sub = command("browser", browser, "print a command that opens a URL of the sandbox in a browser")
    sub.add_argument("url")
    images = commands.add_parser("image", help="container images").add_subparsers(required=True, metavar="COMMAND")
    sub = images.add_parser("add", parents=[common], help=image_add.__doc__)
    sub.set_defaults(run=image_add)
    sub.add_argument("reference", help="for example europe-docker.pkg.dev/p/r/name:tag")
    sub.add_argument("folder", type=Path, help="folder of the Containerfile")
    sub.add_argument("--python", type=Path, help="interpreter that replaces the image's python")
    faults = commands.add_parser("fault", help="rules that make calls fail").add_subparsers(
        required=True, metavar="COMMAND"
    )
    sub = faults.add_parser("add", parents=[common], help=fault_add.__doc__)
    sub.set_defaults(run=fault_add)
    sub.add_argument("call", help="glob of the calls: compute.*.insert, storage.googleapis.com/upload/*, …")
    sub.add_argument(
        "fault",
        help="an HTTP status, reset, lost, slow, operation-error, token-lifetime, service-disabled, iam-delay or held",
    )
    sub.add_argument(
        "options", nargs="*", metavar="OPTION=VALUE", help="every=3, first=2, each=1, probability=0.1, seconds=5, …"
    )
    sub = faults.add_parser("list", parents=[common], help=fault_list.__doc__)
    sub.set_defaults(run=fault_list)
    sub = faults.add_parser("clear", parents=[common], help=fault_clear.__doc__)
    sub.set_defaults(run=fault_clear)
    sub.add_argument("ids", nargs="*", type=int, metavar="NUMBER")
    policy = commands.add_parser("policy", help="policies that an organization imposes").add_subparsers(
        required=True, metavar="COMMAND"
    )
    sub = policy.add_parser("set", parents=[common], help=policy_set.__doc__, description=policy_set.__doc__)
    sub.set_defaults(run=policy_set)
    sub.add_argument("policy", help="a constraint (gcp.resourceLocations, …), perimeter, quota or certificate")
    sub.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="of a constraint: enforce, off, allow-all, deny-all, inherit, VALUE, deny:VALUE, on=projects/ID; "
        "perimeter PROJECT API; quota METRIC LIMIT [project=] [region=] [as=operation]; certificate DOMAIN STATE",
    )
    sub = policy.add_parser("list", parents=[common], help=policy_list.__doc__, description=policy_list.__doc__)
    sub.set_defaults(run=policy_list)
    sub = policy.add_parser("clear", parents=[common], help=policy_clear.__doc__, description=policy_clear.__doc__)
    sub.set_defaults(run=policy_clear)
    sub.add_argument("names", nargs="*", metavar="NUMBER|CONSTRAINT")
    args = parser.parse_args(argv)
    args.state = (args.state or default_state()).absolute()
    args.run(args)


if __name__ == "__main__":
    main()
