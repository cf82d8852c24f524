"""The running servers and addresses of all PostgreSQL instances of a sandbox."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import weakref
from datetime import datetime
from pathlib import Path
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.network import Source
from gcp_sandbox.services.sqladmin import certificates
from gcp_sandbox.services.sqladmin.plane import users
from gcp_sandbox.services.sqladmin.plane.postgres import KEEPING, Server, identifier, installed
from gcp_sandbox.services.sqladmin.plane.relay import PORT, Peer, Relay, Way, process_of

_log = logging.getLogger("gcp_sandbox.sqladmin")
KIND = "sqladmin.instances"
_planes: weakref.WeakKeyDictionary[Cloud, Plane] = weakref.WeakKeyDictionary()
# max_connections by the machine's memory in GB.
# https://cloud.google.com/sql/docs/postgres/flags#postgres-m
_CONNECTIONS = ((0.7, 25), (3.7, 50), (6, 100), (7.5, 200), (15, 400), (30, 500), (60, 600), (120, 800))


def plane(cloud: Cloud) -> Plane:
    """The data plane of a sandbox."""
    if cloud not in _planes:
        _planes[cloud] = Plane(cloud)
    return _planes[cloud]


def served(doc: dict[str, Any]) -> bool:
    """Whether an instance has a server here: replicas are records only."""
    return "masterInstanceName" not in doc


def recoverable(doc: dict[str, Any]) -> bool:
    """Whether an instance keeps the logs for recovery to a point in time."""
    return bool(doc["settings"].get("backupConfiguration", {}).get("pointInTimeRecoveryEnabled"))


def memory(tier: str) -> float:
    """Memory of a tier in GB."""
    fixed = {"db-f1-micro": 0.6, "db-g1-small": 1.7}
    if tier in fixed:
        return fixed[tier]
    last = tier.rpartition("-")[2]
    if not last.isdigit():
        return 3.75
    return int(last) / 1024 if tier.startswith("db-custom-") else int(last) * 8


def max_connections(tier: str) -> int:
    """Default of the flag max_connections for a tier."""
    size = memory(tier)
    return next((count for limit, count in _CONNECTIONS if size < limit), 1000)


def network_key(doc: dict[str, Any]) -> str:
    """Store key of the instance's private network, or ""."""
    link = doc["settings"]["ipConfiguration"].get("privateNetwork", "")
    return link[link.index("projects/") :] if "projects/" in link else link


class Plane:
    """Starts and stops servers according to the instances' records."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._servers: dict[str, Server] = {}
        self._relays: dict[str, list[Relay]] = {}
        # A resumed operation and the restart of the sandbox must not both start a server.
        self._locks: dict[str, asyncio.Lock] = {}
        # By instance, its Private Service Connect endpoints by address.
        self._endpoints: dict[str, dict[str, Relay]] = {}

    # -- addresses ---------------------------------------------------------

    def address(self) -> str:
        """A new address of 127.N.192.0/19 or 127.N.224.0/20, N of this sandbox; the rest is Cloud Run's."""
        used = {a["ipAddress"] for _, doc in self._cloud.store.list(KIND) for a in doc.get("ipAddresses", [])}
        used |= {doc["address"] for _, doc in self._cloud.store.list("compute.addresses")}
        first = ipaddress.ip_address(f"127.{self._cloud.settings.network}.192.0")
        while True:
            address = str(first + self._cloud.store.counter("sqladmin.addresses", 2) % (48 * 256))
            if address not in used:
                return address

    def addresses(self, doc: dict[str, Any]) -> list[dict[str, str]]:
        """ipAddresses according to the instance's settings, keeping existing ones."""
        have = {a["type"]: a["ipAddress"] for a in doc.get("ipAddresses", [])}
        ip = doc["settings"]["ipConfiguration"]
        wanted = (["PRIMARY"] if ip["ipv4Enabled"] else []) + (["PRIVATE"] if ip.get("privateNetwork") else [])
        wanted += ["OUTGOING"] if ip["ipv4Enabled"] else []
        return [{"ipAddress": have.get(kind) or self.address(), "type": kind} for kind in wanted]

    # -- servers -----------------------------------------------------------

    def server(self, doc: dict[str, Any]) -> Server:
        """The server of an instance."""
        uid = doc["_uid"]
        if uid not in self._servers:
            folder = self._cloud.folder / "sql" / uid
            self._servers[uid] = Server(self._cloud.folder, folder, installed(doc["databaseVersion"]))
        return self._servers[uid]

    async def up(self, key: str, verifier: str = "", *, patient: bool = False) -> None:
        """Run the server of an instance with its current settings, and listen on its addresses.

        verifier: of the password of postgres, for a new instance.  patient: clients that connect early wait for the server.
        """
        doc = self._cloud.store.peek(KIND, key)
        if doc is None or not served(doc):
            return
        async with self._locks.setdefault(doc["_uid"], asyncio.Lock()):
            await self._up(key, doc, verifier, patient)

    async def _up(self, key: str, doc: dict[str, Any], verifier: str, patient: bool) -> None:
        await self._close(doc["_uid"])
        if doc["settings"]["activationPolicy"] == "NEVER":
            await self.server(doc).stop()
            return
        flags = {f["name"]: f.get("value", "on") for f in doc["settings"].get("databaseFlags", [])}
        flags.setdefault("max_connections", str(max_connections(doc["settings"]["tier"])))
        recovery = recoverable(doc)
        if recovery:
            flags |= KEEPING
        server = self.server(doc)
        known = server.initialised
        if known and patient:
            await self._listen(key, doc, patient=True)
        # Otherwise nothing is listening while the server starts: connections are refused, as at Google.
        await server.up(flags, users.setup(verifier))
        if recovery:
            await server.keep_logs()
        else:
            server.forget_logs()
        if not (known and patient):
            await self._listen(key, doc)

    async def _listen(self, key: str, doc: dict[str, Any], *, patient: bool = False) -> None:
        addresses = {a["type"]: a["ipAddress"] for a in doc["ipAddresses"]}
        context = self._context(doc, list(addresses.values()))
        relays = self._relays.setdefault(doc["_uid"], [])
        for kind, way in (("PRIVATE", self._by_network), ("PRIMARY", self._authorized)):
            if kind not in addresses:
                continue
            address = addresses[kind]

            async def ask(peer: Peer, way: Any = way, address: str = address) -> Way:
                return await way(key, peer, address)

            relay = Relay(address, self.server(doc), ask, context, lambda: self._ssl_mode(key), patient=patient)
            await relay.start()
            relays.append(relay)
        await self._listen_on_endpoints(key, doc)

    async def _listen_on_endpoints(self, key: str, doc: dict[str, Any]) -> None:
        """Listen on the addresses of the instance's Private Service Connect endpoints, and on no others."""
        from gcp_sandbox.services.compute.private_service_connect import endpoints

        attachment = doc.get("pscServiceAttachmentLink")
        wanted = endpoints(self._cloud, attachment) if attachment else {}
        running = self._endpoints.setdefault(doc["_uid"], {})
        for address in running.keys() - wanted.keys():
            await running.pop(address).stop()
        for address, (network, ranges) in wanted.items():
            if address in running:
                continue

            async def ask(peer: Peer, to: str = address, network: str = network, ranges: list[str] = ranges) -> Way:
                return await self._way(peer, to, network, ranges)

            context = self._context(doc, [address])
            running[address] = Relay(address, self.server(doc), ask, context, lambda: self._ssl_mode(key))
            await running[address].start()

    async def review_endpoints(self) -> None:
        """Listen on new endpoints, and no longer on deleted ones."""
        for key, doc in self._cloud.store.list(KIND):
            if doc.get("pscServiceAttachmentLink") and served(doc):
                async with self._locks.setdefault(doc["_uid"], asyncio.Lock()):
                    if doc["_uid"] in self._endpoints:
                        await self._listen_on_endpoints(key, doc)

    def _context(self, doc: dict[str, Any], addresses: list[str]) -> ssl.SSLContext:
        folder = self._cloud.folder / "sql" / doc["_uid"]
        name = f"{doc['project']}:{doc['name']}"
        cert, key = certificates.issue(doc["serverCaCert"]["cert"], doc["_caKey"], name, addresses)
        file = folder / "server.pem"
        file.unlink(missing_ok=True)
        file.touch(0o600)
        file.write_text(cert + key, encoding="utf-8")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _ssl_mode(self, key: str) -> str:
        doc = self._cloud.store.peek(KIND, key)
        return doc["settings"]["ipConfiguration"]["sslMode"] if doc else "ENCRYPTED_ONLY"

    async def upgrade(self, key: str, version: str) -> None:
        """Move an instance's data to the server of a newer database version."""
        doc = self._cloud.store.peek(KIND, key)
        assert doc is not None
        async with self._locks.setdefault(doc["_uid"], asyncio.Lock()):
            await self._close(doc["_uid"])
            old = self.server(doc)
            if not old.running:
                await old.up({}, [])
            new = Server(self._cloud.folder, old.folder, installed(version))
            dump = old.folder / "upgrade.sql"
            await old.dump(dump)
            await new.restore(dump)
            dump.unlink()
            self._servers[doc["_uid"]] = new
            await old.stop()

    async def copy(self, source: str, key: str, moment: datetime | None = None) -> None:
        """Create the server of an instance with the data of another one, of now or of an earlier time.

        Raises RuntimeError, SqlError.
        """
        old, new = self._cloud.store.peek(KIND, source), self._cloud.store.peek(KIND, key)
        assert old is not None and new is not None
        if moment:
            await self.server(new).recover(self.server(old), moment)
            await self.up(key)
            return
        if served(old) and served(new):
            folder = self._cloud.folder / "sql" / new["_uid"]
            dump = folder / "copy.sql"
            await self.server(old).dump(dump)
            folder.joinpath("admin.pgpass").write_bytes(self.server(old).folder.joinpath("admin.pgpass").read_bytes())
            await self.server(new).restore(dump)
            dump.unlink()
            await self.up(key)

    async def restore(self, key: str, dump: Path) -> None:
        """Restore a dump into an instance.  Raises SqlError."""
        doc = self._cloud.store.peek(KIND, key)
        assert doc is not None
        async with self._locks.setdefault(doc["_uid"], asyncio.Lock()):
            await self._close(doc["_uid"])
            await self.server(doc).restore(dump)
        await self.up(key)

    async def _close(self, uid: str) -> None:
        for relay in [*self._relays.pop(uid, []), *self._endpoints.pop(uid, {}).values()]:
            await relay.stop()

    async def remove(self, doc: dict[str, Any]) -> None:
        """Permanently delete an instance's server."""
        uid = doc["_uid"]
        async with self._locks.setdefault(uid, asyncio.Lock()):
            await self._close(uid)
            if served(doc):
                await self.server(doc).remove()
        self._servers.pop(uid, None)
        self._locks.pop(uid, None)

    async def start(self) -> None:
        """Restart all instances in the background: clients that connect early wait."""
        for key, doc in self._cloud.store.list(KIND):
            if served(doc) and doc["state"] == "RUNNABLE":
                self._cloud.keep(asyncio.get_running_loop().create_task(self._again(key)))
        await asyncio.sleep(0)  # by then they listen

    async def _again(self, key: str) -> None:
        try:
            await self.up(key, patient=True)
        except (OSError, RuntimeError):
            _log.exception("%s does not come up again", key)
            doc = self._cloud.store.get(KIND, key)
            if doc:
                await self._close(doc["_uid"])
                self._cloud.store.put(KIND, key, doc | {"state": "FAILED"})

    async def stop(self) -> None:
        """Stop everything; the data is kept."""
        for uid in list(self._relays):
            await self._close(uid)
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    # -- who may connect ---------------------------------------------------

    async def _by_network(self, key: str, peer: Peer, address: str) -> Way:
        """Over the peering of the instance's network."""
        from gcp_sandbox.services import servicenetworking

        doc = self._cloud.store.peek(KIND, key)
        if doc is None or not servicenetworking.connected(self._cloud, network_key(doc)):
            return Way.REFUSED
        network = network_key(doc)
        return await self._way(peer, address, network, servicenetworking.ranges(self._cloud, network))

    async def _way(self, peer: Peer, address: str, network: str, ranges: list[str]) -> Way:
        """From a process on a network to an address, which stands for one of these ranges."""
        from gcp_sandbox.services.compute import firewalls

        pid = await asyncio.to_thread(process_of, peer, address)
        source = self._cloud.source_of_process(pid) if pid is not None else Source()
        if network not in source.networks:
            return Way.REFUSED
        let_out = firewalls.lets_out(self._cloud, network, source, [address, *ranges], PORT)
        return Way.OPEN if let_out else Way.DROPPED

    async def _authorized(self, key: str, peer: Peer, address: str) -> Way:
        doc = self._cloud.store.peek(KIND, key)
        networks = doc["settings"]["ipConfiguration"]["authorizedNetworks"] if doc else []
        client = ipaddress.ip_address(peer[0])
        inside = any(client in ipaddress.ip_network(n["value"], strict=False) for n in networks)
        return Way.OPEN if inside else Way.REFUSED


def owned(database: str) -> str:
    """The statement that creates a database as the API does."""
    return f"CREATE DATABASE {identifier(database)} OWNER cloudsqlsuperuser"
