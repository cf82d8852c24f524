"""`gcp-sandbox status`: the state of the sandbox and its resources."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from gcp_sandbox.core.faults import Book
from gcp_sandbox.core.store import Doc, Store
from gcp_sandbox.images import Images

# Kinds that are not useful to users.
_INTERNAL = {"counters", "sandbox", "operations", "iam.policies", "serviceusage.enabled", "faults"}
# Number of resources of a kind that are named.
_NAMED = 8
_TITLES = {
    "run": "Cloud Run",
    "sqladmin": "Cloud SQL",
    "storage": "Cloud Storage",
    "compute": "Compute Engine",
    "secretmanager": "Secret Manager",
    "iam": "IAM",
    "iap": "Identity-Aware Proxy",
    "artifactregistry": "Artifact Registry",
    "certificatemanager": "Certificate Manager",
    "privateca": "Certificate Authority Service",
    "dns": "Cloud DNS",
    "servicenetworking": "Service Networking",
    "vpcaccess": "Serverless VPC Access",
    "projects": "Projects",
}
Row = tuple[str, ...]


def collect(state: Path, process: dict[str, Any] | None) -> dict[str, Any]:
    """The status as data.

    Keys: running, pid, proxy, project, memoryMiB, childProcesses, uptimeSeconds (while it runs); resources {kind: [key]},
    policies, overview {service: [[kind, name, …]]}, operations (in progress) and faults, if there is a state; images.
    """
    out: dict[str, Any] = {"state": str(state), "running": process is not None}
    if process:
        me = psutil.Process(process["pid"])
        children = me.children(recursive=True)
        out |= {
            "pid": process["pid"],
            "proxy": f"http://127.0.0.1:{process['port']}",
            "project": process["project"],
            "memoryMiB": round(me.memory_info().rss / 2**20),
            "childProcesses": len(children),
            "uptimeSeconds": round(time.time() - me.create_time()),
        }
    if (state / "state.sqlite").exists():
        store = Store(state / "state.sqlite")
        out["resources"] = {
            kind: [key for key, _ in store.list(kind)] for kind in store.kinds() if kind not in _INTERNAL
        }
        out["policies"] = {key: doc["bindings"] for key, doc in store.list("iam.policies")}
        out["overview"] = _overview(store)
        out["operations"] = [
            {
                "service": op["service"],
                "verb": op["verb"],
                "target": op["target"],
                "since": op["insertTime"],
                "secondsLeft": max(0, round(op.get("due", 0) - time.time())),
            }
            for _, op in store.list("operations")
            if op["status"] != "DONE"
        ]
        out["faults"] = [f"{rule.ident}: {rule.text}" for rule in Book(state).rules()]
        store.close()
    out["images"] = {reference: str(image["folder"]) for reference, image in Images(state).all().items()}
    return out


# -- rows of single kinds ------------------------------------------------------


def _last(link: str) -> str:
    return link.rpartition("/")[2]


def _scope(key: str) -> str:
    parts = key.split("/")
    return next((parts[i + 1] for i, p in enumerate(parts[:-1]) if p in ("regions", "zones", "locations")), "global")


def _ready(doc: Doc) -> str:
    if doc.get("reconciling"):
        return "reconciling"
    return "ready" if doc.get("terminalCondition", {}).get("state") == "CONDITION_SUCCEEDED" else "not ready"


def _size(octets: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}"
        octets /= 1024
    return f"{octets:.1f} GiB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _service(store: Store, key: str, doc: Doc) -> Iterator[Row]:
    yield "service", _last(key), _scope(key), _ready(doc), _last(doc.get("latestReadyRevision", "")) or "no revision"
    for url in doc.get("urls", ()):
        yield "", f"  {url}"


def _sql(store: Store, key: str, doc: Doc) -> Iterator[Row]:
    where = ", ".join(f"{a['ipAddress']} ({a['type'].lower()})" for a in doc.get("ipAddresses", ())) or "no address yet"
    yield "instance", doc["name"], doc["region"], doc["state"], doc["databaseVersion"], where
    for kind in ("databases", "users"):
        names = [d["name"] for _, d in store.list(f"sqladmin.{kind}", f"{key}/")]
        if names:
            yield "", f"  {kind}: {', '.join(names)}"


def _bucket(store: Store, key: str, doc: Doc) -> Iterator[Row]:
    objects = [d for _, d in store.list(f"storage.objects:{doc.get('_uid')}")]
    total = sum(int(d.get("size", 0)) for d in objects)
    yield "bucket", f"gs://{key}", doc["location"].lower(), _count(len(objects), "object"), _size(total)


def _certificate(store: Store, key: str, doc: Doc) -> Iterator[Row]:
    managed = doc.get("managed", {})
    names = managed.get("domains") or doc.get("subjectAlternativeNames", [])
    yield "certificate", _last(key), _scope(key), managed.get("status", "SELF_MANAGED"), ", ".join(names)


def _secret(store: Store, key: str, doc: Doc) -> Iterator[Row]:
    yield "secret", _last(key), _count(len(store.list("secretmanager.versions", f"{key}/")), "version")


# Kind -> its rows.  Other kinds are counted and named.
_ROWS: dict[str, Callable[[Store, str, Doc], Iterator[Row]]] = {
    "run.services": _service,
    "run.jobs": lambda store, key, doc: iter([("job", _last(key), _scope(key), _ready(doc))]),
    "sqladmin.instances": _sql,
    "storage.buckets": _bucket,
    "dns.managedZones": lambda store, key, doc: iter(
        [
            (
                "zone",
                doc["name"],
                doc["dnsName"],
                doc["visibility"],
                _count(len(store.list("dns.resourceRecordSets", f"{key}/rrsets/")), "record set"),
            )
        ]
    ),
    "secretmanager.secrets": _secret,
    "compute.addresses": lambda store, key, doc: iter(
        [("address", doc["name"], _scope(key), doc.get("address", ""), doc.get("purpose") or doc["addressType"])]
    ),
    "compute.forwardingRules": lambda store, key, doc: iter(
        [
            (
                "forwarding rule",
                doc["name"],
                _scope(key),
                f"{doc.get('IPAddress', '')}:{doc.get('portRange', '').partition('-')[0]}",
                "-> " + _last(doc.get("target") or doc.get("backendService", "")),
            )
        ]
    ),
    "compute.sslCertificates": _certificate,
    "iam.serviceAccounts": lambda store, key, doc: iter([("account", doc["email"])]),
    "servicenetworking.connections": lambda store, key, doc: iter(
        [("connection", f"{key.split('/')[4]}: {', '.join(doc.get('reservedPeeringRanges', ()))}")]
    ),
}
# Shown with the resource that they belong to, or not useful to users.
_WITHIN = {
    "sqladmin.databases",
    "sqladmin.users",
    "secretmanager.versions",
    "run.revisions",
    "iam.emails",
    "compute.routes",
    "compute.enabled",
    "compute.pending",
    "iam.serviceAccountKeys",
    "dns.resourceRecordSets",
    "dns.changes",
    "dns.managedZoneOperations",
    "storage.uploads",
    "storage.multipartUploads",
    "storage.parts",
}


def _several(number: int, many: str) -> str:
    """ "2 addresses", "1 address": a kind with a plural name."""
    if number != 1:
        return f"{number} {many}"
    return "1 " + (
        many[:-3] + "y" if many.endswith("ies") else many[:-2] if many.endswith("sses") else many.removesuffix("s")
    )


def _overview(store: Store) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = {}
    several = len(store.list("projects")) > 1
    for kind in [*_ROWS, *(k for k in store.kinds() if k not in _ROWS)]:
        if kind in _INTERNAL or kind in _WITHIN or ":" in kind:
            continue
        service, _, rest = kind.partition(".")
        groups: dict[str, list[tuple[str, Doc]]] = {}
        for key, doc in store.list(kind):
            project = key.split("/")[1] if key.startswith("projects/") else doc.get("_project", "")
            groups.setdefault(project if several else "", []).append((key, doc))
        for project, docs in groups.items():
            rows = out.setdefault(_TITLES.get(service, service) + (f" of {project}" if project else ""), [])
            if kind in _ROWS:
                for key, doc in docs:
                    rows += _ROWS[kind](store, key, doc)
                continue
            names = list(dict.fromkeys(_last(key) for key, _ in docs))
            more = f", … {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            rows.append((_several(len(docs), rest or kind), ", ".join(names[:_NAMED]) + more))
    return dict(sorted(out.items(), key=lambda item: item[0].partition(" of ")[2]))


# -- for users --------------------------------------------------------------


def _duration(seconds: int) -> str:
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")) if n]
    return " ".join(parts[:2]) or "0 s"


def _table(rows: list[Row]) -> list[str]:
    """Rows with aligned columns; the last column of a row may have any length."""
    first = max((len(row[0]) for row in rows), default=0)
    wide = [row for row in rows if len(row) > 2]
    widths = [max((len(row[i]) for row in wide if len(row) > i + 1), default=0) for i in range(1, 8)]
    return [
        "  " + "  ".join([row[0].ljust(first), *(c.ljust(w) for c, w in zip(row[1:], widths, strict=False))]).rstrip()
        if len(row) > 2
        else f"  {row[0].ljust(first)}  {row[1]}"
        for row in rows
    ]


def show(doc: dict[str, Any]) -> str:
    """The status as text."""
    if doc["running"]:
        up = f"running for {_duration(doc['uptimeSeconds'])}"
        lines = [f"{up}, pid {doc['pid']}, {doc['memoryMiB']} MiB, {doc['childProcesses']} child processes"]
        lines += [f"proxy    {doc['proxy']}", f"project  {doc['project']}"]
    else:
        lines = ["not running"]
    lines += [f"state    {doc['state']}"]
    lines += [f"image    {reference} -> {folder}" for reference, folder in doc["images"].items()]
    lines += [f"fault    {rule}" for rule in doc.get("faults", ())]
    if doc.get("operations"):
        rows: list[tuple[str, ...]] = [
            (op["verb"], _last(op["target"]), op["service"], f"{op['secondsLeft']} s left") for op in doc["operations"]
        ]
        lines += ["", "Operations in progress", *_table(rows)]
    for service, rows in doc.get("overview", {}).items():
        lines += ["", service, *_table(rows)]
    return "\n".join(lines)
