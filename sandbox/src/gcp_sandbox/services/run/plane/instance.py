"""One running instance: its containers as processes, each in a session of its own, on the instance's own address.

https://cloud.google.com/run/docs/container-contract
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.network import Source
from gcp_sandbox.images import Image, ImageError, Images
from gcp_sandbox.services.run.plane import memory, probes, secrets
from gcp_sandbox.services.run.plane.metadata import MetadataServer
from gcp_sandbox.services.run.plane.output import Output
from gcp_sandbox.services.run.plane.workload import StartError, Workload, total_memory

_log = logging.getLogger("gcp_sandbox.run")
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 10.0


class Instances:
    """All instances of a sandbox: who has which address, and whose a process is."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.images = Images(cloud.folder)
        self.sessions: dict[int, Instance] = {}
        self.folder = cloud.folder / "run"
        self._taken: set[str] = set()

    @contextlib.contextmanager
    def address(self, port: int) -> Iterator[str]:
        """A loopback address on which the port is free, held until the block ends."""
        for third in range(240, 255):
            for fourth in range(1, 255):
                address = f"127.{self.cloud.settings.network}.{third}.{fourth}"
                if address in self._taken or not _free(address, port):
                    continue
                self._taken.add(address)
                try:
                    yield address
                finally:
                    self._taken.discard(address)
                return
        raise StartError("gcp-sandbox has no address left for another instance.")

    def source_of(self, pid: int) -> Source:
        """How the instance that a process belongs to is attached to VPC networks; a process of nobody's is not."""
        try:
            found = self.sessions.get(os.getsid(pid))
            if found is None:
                for parent in psutil.Process(pid).parents():
                    if found := self.sessions.get(parent.pid):
                        break
        except (OSError, psutil.Error):
            return Source()
        return found.workload.source if found else Source()


class Instance:
    """One instance; exited is set when its ingress container (or a task's container) has ended."""

    def __init__(self, instances: Instances, workload: Workload) -> None:
        self.workload = workload
        self.address = ""
        self.in_flight = 0
        self.quiet_since = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.ready = False
        # Whether its readiness probe lets traffic come, and what to do when it does so again.
        self.passes = True
        self.on_passing: Callable[[], None] = lambda: None
        self.stopping = False
        # Whether the container answers the protocol that its port is named after.
        self.answers = True
        self.exited = asyncio.Event()
        self.status: int | None = None
        self._instances = instances
        self._cloud = instances.cloud
        self._output = Output(workload.log, workload.name, workload.env)
        self._processes: list[asyncio.subprocess.Process] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()

    @property
    def pids(self) -> list[int]:
        """Processes of its containers (session leaders)."""
        return [process.pid for process in self._processes]

    def log(self, text: str, severity: str = "INFO") -> None:
        """Write a line of Cloud Run's own to the log."""
        self._output.system(text, severity)

    async def start(self, *, serves: bool = True) -> None:
        """Start the containers in order and wait until their startup probes succeed.

        serves: it must listen (a service); otherwise it only runs (a job).  Raises StartError, with nothing left running.
        """
        try:
            await self._start(serves)
        except BaseException:
            await self.stop(grace=0)
            raise

    async def _start(self, serves: bool) -> None:
        load = self.workload
        images = {id(c): self._image(c["image"]) for c in load.template["containers"]}
        self.address = self._stack.enter_context(self._instances.address(load.port if serves else 0))
        self._instances.folder.mkdir(exist_ok=True)
        load.log.parent.mkdir(parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix=f"{load.name}-", dir=self._instances.folder))
        self._stack.callback(shutil.rmtree, home, ignore_errors=True)
        mounts = secrets.write_volumes(self._cloud, load, home / "volumes")
        metadata = MetadataServer(self._cloud, load.account, load.project, load.region)
        self._output.facts["instance"] = metadata.instance_id
        endpoint = await metadata.start(self.address)
        self._stack.push_async_callback(metadata.stop)
        limit = total_memory(load.template["containers"])
        self._tasks.append(asyncio.create_task(self._keep_to(limit, home)))
        for container in _ordered(load.template["containers"]):
            image = images[id(container)]
            files = image.files | {
                m["mountPath"].rstrip("/"): str(mounts[m["name"]])
                for m in container.get("volumeMounts", ())
                if m["name"] in mounts
            }
            image = dataclasses.replace(image, files=files)
            main = container is load.ingress
            process = await self._spawn(container, image, home, endpoint, main and serves)
            if main:
                self._tasks.append(asyncio.create_task(self._watch(process)))
            probe = container.get("startupProbe")
            if serves and (probe or main):
                await self._probe(container, process, probe or probes.default(load.port), main)
        self.ready = not self.exited.is_set()
        if serves and (probe := load.ingress.get("livenessProbe")):
            self._tasks.append(asyncio.create_task(self._liveness(probe)))
        if serves and (probe := load.ingress.get("readinessProbe")):
            self._tasks.append(asyncio.create_task(self._readiness(probe)))

    def _image(self, reference: str) -> Image:
        try:
            image = self._instances.images.lookup(reference)
        except ImageError as error:
            raise StartError(f"Image '{reference}' cannot be used: {error}", {"reason": "CONTAINER_MISSING"}) from None
        if image is None:
            raise StartError(f"Image '{reference}' not found.", {"reason": "CONTAINER_MISSING"}, "NOT_FOUND")
        return image

    async def _spawn(
        self, container: dict[str, Any], image: Image, home: Path, endpoint: str, serves: bool
    ) -> asyncio.subprocess.Process:
        load = self.workload
        env = {name: image.local(value) for name, value in image.env.items()}
        env |= secrets.environment(self._cloud, load, container, image.local)
        env |= load.env | {"HOST": self.address}
        if serves:
            env["PORT"] = str(load.port)
        temporary = home / "tmp"
        temporary.mkdir(exist_ok=True)
        ca = str(self._cloud.authority.ca_file.resolve())
        proxy = f"http://127.0.0.1:{self._cloud.settings.port}"
        env = (
            {"HOME": str(home), "TMPDIR": str(temporary)}
            | env
            | {
                "HTTPS_PROXY": proxy,
                "https_proxy": proxy,
                "NO_PROXY": "127.0.0.0/8",
                "no_proxy": "127.0.0.0/8",
                "REQUESTS_CA_BUNDLE": ca,
                "SSL_CERT_FILE": ca,
                "CURL_CA_BUNDLE": ca,
                "GCE_METADATA_HOST": endpoint,
                "GCE_METADATA_IP": endpoint,
                "GCE_METADATA_ROOT": endpoint,
                "GCP_SANDBOX_CHILD_OF": str(self._cloud.folder.resolve()),
            }
        )
        try:
            argv = image.argv(container.get("command", []), container.get("args", []))
        except ImageError as error:
            raise StartError(str(error), {"reason": "CONTAINER_MISSING"}) from None
        program = shutil.which(argv[0], path=env["PATH"])
        if program is None:
            text = f"The container failed to start: exec: {argv[0]!r}: no such program in the container."
            self.log(text, "ERROR")
            raise StartError(self._failed(text), {"revisionReason": "HEALTH_CHECK_CONTAINER_ERROR"})
        out, err = (self._output.pipe(stream, container.get("name", "")) for stream in ("stdout", "stderr"))
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *argv[1:],
                env=env,
                cwd=image.folder(container.get("workingDir", "")) or home,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        finally:
            os.close(out)
            os.close(err)
        self._processes.append(process)
        self._instances.sessions[process.pid] = self
        return process

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        self.status = await process.wait()
        self.ready = False
        self._output.drain()
        self.exited.set()
        if not self.stopping:
            text = f"exit({self.status})" if self.status >= 0 else f"signal({-self.status})"
            self.log(f"Container called {text}.", "WARNING" if self.status else "INFO")

    async def _probe(
        self, container: dict[str, Any], process: asyncio.subprocess.Process, probe: dict[str, Any], main: bool
    ) -> None:
        done = asyncio.create_task(probes.until_ready(probe, self.address, self.workload.port))
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
            ok = done.done() and done.result()
            gone = ended.done()
        finally:
            for task in (done, ended):
                task.cancel()
            await asyncio.gather(done, ended, return_exceptions=True)
        label = probes.label(probe)
        name = container.get("name") or container["image"].rsplit("/", 1)[-1]
        if ok and main and self.workload.http2 and not await probes.speaks_http2(self.address, self.workload.port):
            self.answers = False
            self.log("The port is named h2c, but the container does not speak HTTP/2 on it.")
        if ok and not _free(f"127.{self._cloud.settings.network}.255.254", self.workload.port):
            self.log(
                "The container listens on all addresses of this machine; one that minds HOST is reached by requests only."
            )
        if ok:
            port = probes.port_of(probe, self.workload.port)
            self.log(f'STARTUP {label} probe succeeded for container "{name}" on port {port}.')
            return
        self.log(f'STARTUP {label} probe failed for container "{name}".', "ERROR")
        if gone or not container.get("startupProbe") or label == "TCP":
            text = (
                "The user-provided container failed to start and listen on the port defined provided by the "
                f"PORT={self.workload.port} environment variable within the allocated timeout. This can happen when the "
                "container port is misconfigured or if the timeout is too short. The health check timeout can be extended."
            )
        else:
            text = "The user-provided container failed the configured startup probe checks."
        raise StartError(self._failed(text), {"revisionReason": "HEALTH_CHECK_CONTAINER_ERROR"})

    def _failed(self, text: str) -> str:
        load = self.workload
        service, revision = load.env.get("K_SERVICE", ""), load.env.get("K_REVISION", "")
        if not service:
            return text
        return (
            f"{text} Logs for this revision might contain more information.\n\n"
            f"Logs URL: https://console.cloud.google.com/logs/viewer?project={load.project['projectId']}"
            f"&resource=cloud_run_revision/service_name/{service}/revision_name/{revision}"
            f"&advancedFilter=resource.type%3D%22cloud_run_revision%22%0Aresource.labels.service_name%3D%22{service}"
            f"%22%0Aresource.labels.revision_name%3D%22{revision}%22 \n"
            "For more troubleshooting guidance, see "
            "https://cloud.google.com/run/docs/troubleshooting#container-failed-to-start"
        )

    async def _keep_to(self, limit: float, home: Path) -> None:
        """Kill the instance when it holds more memory than it may."""
        self.log(await memory.exceeded(limit, lambda: self.pids, home), "ERROR")
        self.ready = False
        self._signal(signal.SIGKILL)

    async def _liveness(self, probe: dict[str, Any]) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        failures = 0
        while failures < probe.get("failureThreshold", 3):
            await asyncio.sleep(probe.get("periodSeconds", 10))
            failures = 0 if await probes.ask(probe, self.address, self.workload.port) else failures + 1
        self.log(
            f"LIVENESS {probes.label(probe)} probe failed {failures} times consecutively; the container is terminated.",
            "ERROR",
        )
        self.ready = False
        self._signal(signal.SIGKILL)

    async def _readiness(self, probe: dict[str, Any]) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        failures = 0
        while True:
            await asyncio.sleep(probe.get("periodSeconds", 10))
            failures = 0 if await probes.ask(probe, self.address, self.workload.port) else failures + 1
            passes = failures < probe.get("failureThreshold", 3)
            if passes == self.passes:
                continue
            self.passes = passes
            says = (
                "succeeded; the instance gets requests again" if passes else "failed; the instance gets no new requests"
            )
            self.log(f"READINESS {probes.label(probe)} probe {says}.", "INFO" if passes else "WARNING")
            if passes:
                self.on_passing()

    async def stop(self, *, grace: float = GRACE_SECONDS) -> None:
        """SIGTERM, after grace seconds SIGKILL; then nothing of it is left."""
        if self.stopping:
            return
        self.stopping, self.ready = True, False
        if grace and any(process.returncode is None for process in self._processes):
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(p.wait() for p in self._processes)), grace)
        self._signal(signal.SIGKILL)
        await asyncio.gather(*(process.wait() for process in self._processes))
        self._output.close()
        for process in self._processes:
            self._instances.sessions.pop(process.pid, None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.exited.set()
        await self._stack.aclose()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            # The leader's group first; at the end also what left the group but not the session.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        if number == signal.SIGKILL:
            for pid in _members(set(self.pids)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)


def _members(sessions: set[int]) -> list[int]:
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) in sessions:
                found.append(pid)
    return found


def _die_with_parent() -> None:
    # Runs between fork and exec: a killed sandbox takes its containers along.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _ordered(containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Containers with those they depend on before them."""
    left, out = list(containers), []
    while left:
        names = {c.get("name") for c in left}
        ready = [c for c in left if names.isdisjoint(c.get("dependsOn", ()))] or left
        out += ready
        left = [c for c in left if not any(c is r for r in ready)]
    return out
