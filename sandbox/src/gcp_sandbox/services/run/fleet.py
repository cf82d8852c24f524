"""Which instances of which revisions run: scaling from zero, concurrency, a queue, restarts.

https://cloud.google.com/run/docs/about-instance-autoscaling
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import weakref
from pathlib import Path
from typing import Any

import aiohttp

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.run import checks, names
from gcp_sandbox.services.run.plane.instance import Instance, Instances
from gcp_sandbox.services.run.plane.workload import StartError, Workload

_log = logging.getLogger("gcp_sandbox.run")
Doc = dict[str, Any]
QUEUE_SECONDS = 10.0
IDLE_SECONDS = 900.0
_BACKOFF = (1.0, 2.0, 5.0, 10.0, 30.0)


class NoInstance(Exception):
    """A request cannot be served: 429 (all are busy) or 503 (none starts)."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def log_file(cloud: Cloud, key: str) -> Path:
    """The file with the output of a service or job (resource name)."""
    name = names.parts(key)
    short = name.get("services") or name["jobs"]
    return cloud.folder / "logs" / "run" / f"{name['projects']}.{name['locations']}.{short}.log"


def workload(cloud: Cloud, revision_key: str, revision: Doc) -> Workload:
    """What an instance of a revision runs.  Raises StartError."""
    name = names.parts(revision_key)
    project = projects.find(cloud, name["projects"])
    assert project is not None
    attached = checks.networks(cloud, name["projects"], name["locations"], revision.get("vpcAccess"))
    env = {"K_SERVICE": name["services"], "K_REVISION": name["revisions"], "K_CONFIGURATION": name["services"]}
    return Workload(
        name["revisions"],
        project,
        name["locations"],
        revision["serviceAccount"],
        revision,
        attached,
        env,
        log_file(cloud, revision_key),
    )


class Pool:
    """The instances of one revision."""

    def __init__(self, fleet: Fleet, key: str, revision: Doc) -> None:
        self.key, self.revision = key, revision
        self.minimum, self.maximum = 0, max(revision.get("scaling", {}).get("maxInstanceCount") or 100, 1)
        self.concurrency = revision.get("maxInstanceRequestConcurrency") or 80
        self.instances: list[Instance] = []
        self.starting = 0
        self.closed = False
        self._fleet = fleet
        self._waiting: collections.deque[asyncio.Future[Instance]] = collections.deque()
        self._failures = 0

    async def launch(self) -> Instance:
        """Start one instance and add it.  Raises StartError."""
        self.starting += 1
        try:
            instance = Instance(self._fleet.instances, workload(self._fleet.cloud, self.key, self.revision))
            try:
                await instance.start()
            except ApiError as error:
                raise StartError(error.message, status=error.status) from None
        finally:
            self.starting -= 1
        if self.closed:
            await instance.stop(grace=0)
            raise StartError("The revision was deleted.")
        instance.on_passing = self._pump
        self.instances.append(instance)
        instance.quiet_since = asyncio.get_running_loop().time()
        self._shrink(instance)
        self._fleet.spawn(self._follow(instance))
        self._pump()
        return instance

    async def acquire(self) -> Instance:
        """An instance with room for one more request; release() it after.  Raises NoInstance."""
        if self.closed:
            raise NoInstance(503)
        best = self._best()
        if best is None:
            self._grow()
            future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                while True:
                    done, _ = await asyncio.wait({future}, timeout=QUEUE_SECONDS)
                    if done:
                        return future.result()
                    if not self.starting:
                        raise NoInstance(429)
            except BaseException:
                if future in self._waiting:
                    self._waiting.remove(future)
                elif future.done() and not future.cancelled() and future.exception() is None:
                    self.release(future.result())
                raise
        best.in_flight += 1
        return best

    def release(self, instance: Instance) -> None:
        """The request of an acquire() is over."""
        instance.in_flight -= 1
        self._pump()
        instance.quiet_since = asyncio.get_running_loop().time()

    def _best(self) -> Instance | None:
        room = [i for i in self.instances if i.ready and i.passes and i.in_flight < self.concurrency]
        return min(room, key=lambda i: i.in_flight, default=None)

    def _grow(self) -> None:
        room = self.starting * self.concurrency
        if len(self.instances) + self.starting < self.maximum and len(self._waiting) >= room:
            self.starting += 1
            self._fleet.spawn(self._start_for_waiting())

    async def _start_for_waiting(self) -> None:
        self.starting -= 1
        try:
            await self.launch()
            self._failures = 0
        except (StartError, OSError) as error:
            _log.warning("%s does not start: %s", self.key, error)
            if not any(i.ready for i in self.instances):
                while self._waiting:
                    self._waiting.popleft().set_exception(NoInstance(503))
            return
        if self._waiting:
            self._grow()

    def _pump(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif best := self._best():
                best.in_flight += 1
                self._waiting.popleft().set_result(best)
            else:
                return

    async def _follow(self, instance: Instance) -> None:
        await instance.exited.wait()
        if instance.timer:
            instance.timer.cancel()
        if instance in self.instances:
            self.instances.remove(instance)
        await instance.stop(grace=0)
        if self.closed:
            return
        if len(self.instances) + self.starting < self.minimum:
            await asyncio.sleep(_BACKOFF[min(self._failures, len(_BACKOFF) - 1)])
            self._failures += 1
            if not self.closed and len(self.instances) + self.starting < self.minimum:
                with contextlib.suppress(StartError, OSError):
                    await self.launch()
        elif self._waiting:
            self._grow()

    def _shrink(self, instance: Instance) -> None:
        """Stop an instance that has had nothing to do for long; looks again when it may be time."""
        if instance not in self.instances or self.closed:
            return
        loop = asyncio.get_running_loop()
        left = IDLE_SECONDS if instance.in_flight else instance.quiet_since + IDLE_SECONDS - loop.time()
        if left <= 0 and len(self.instances) > self.minimum:
            self.instances.remove(instance)
            self._fleet.spawn(instance.stop())
        else:
            instance.timer = loop.call_later(max(left, 1.0) if left > 0 else IDLE_SECONDS, self._shrink, instance)

    async def ensure_minimum(self, service: Doc) -> None:
        """Start as many instances as the revision and its service ask for at least."""
        own, whole = self.revision.get("scaling", {}), service.get("scaling", {})
        self.minimum = max(own.get("minInstanceCount", 0), whole.get("minInstanceCount", 0))
        self.maximum = max(own.get("maxInstanceCount") or whole.get("maxInstanceCount") or 100, 1)
        if whole.get("scalingMode") == "MANUAL":
            self.minimum = self.maximum = whole.get("manualInstanceCount", 1)
        while not self.closed and len(self.instances) + self.starting < self.minimum:
            await self.launch()

    async def close(self, *, drain: float = 60.0) -> None:
        """Let requests end (at most drain seconds), then stop every instance."""
        self.closed = True
        end = asyncio.get_running_loop().time() + drain
        while (
            any(i.in_flight and not i.exited.is_set() for i in self.instances)
            and asyncio.get_running_loop().time() < end
        ):
            await asyncio.sleep(0.05)
        for future in self._waiting:
            if not future.done():
                future.set_exception(NoInstance(503))
        await asyncio.gather(*(instance.stop() for instance in self.instances), return_exceptions=True)
        self.instances.clear()


class Fleet:
    """All pools of a sandbox."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.instances = Instances(cloud)
        self.locks: collections.defaultdict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        self._pools: dict[str, Pool] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The client that requests reach instances with."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, force_close=False),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                trust_env=False,
            )
        return self._session

    def spawn(self, coroutine: Any) -> None:
        """Run something in the background until it ends or the sandbox stops."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pool(self, revision_key: str, revision: Doc) -> Pool:
        """The pool of a revision, made when first asked for."""
        if revision_key not in self._pools:
            self._pools[revision_key] = Pool(self, revision_key, revision)
        return self._pools[revision_key]

    def existing(self, revision_key: str) -> Pool | None:
        """The pool of a revision, if it has one."""
        return self._pools.get(revision_key)

    async def retire(self, revision_key: str, *, drain: float = 60.0) -> None:
        """Stop a revision's instances."""
        pool = self._pools.pop(revision_key, None)
        if pool is not None:
            await pool.close(drain=drain)

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(self.retire(key, drain=0) for key in list(self._pools)), return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None


_fleets: weakref.WeakKeyDictionary[Cloud, Fleet] = weakref.WeakKeyDictionary()


def fleet(cloud: Cloud) -> Fleet:
    """The fleet of a sandbox."""
    if cloud not in _fleets:
        _fleets[cloud] = Fleet(cloud)
    return _fleets[cloud]
