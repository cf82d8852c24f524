"""One engine for the resources of most APIs: a `Collection` declares what is particular to one of them.

It creates, gets, lists, patches and deletes; keeps names, masks, etags and states; answers at once or by a long-running
operation; and serves what goes with resources: operations, locations and policies.  A declaration, and all it takes to
play it (https://google.aip.dev/121):

    INSTANCES = Collection(
        SERVICE,
        "redis.projects.locations.instances",
        "redis.instances",
        operates="create patch delete",
        states={"create": "CREATING", "patch": "UPDATING", "delete": "DELETING", "done": "READY"},
        type="google.cloud.redis.v1.Instance",
        ident=parameter("instanceId", "[a-z][a-z0-9-]{0,39}"),
        prepare=lambda call, key, new, old: {"tier": "BASIC", "port": 6379} | new,
        missing=lambda name: ApiError(404, f"Resource '{name}' was not found"),
    )
    serve(INSTANCES, "create get list patch delete")
    serve_operations(SERVICE, "redis.projects.locations.operations", "get list delete", permission="redis.operations")
    serve_locations(SERVICE, "redis.projects.locations", "get list", {"us-central1": {}})
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

from gcp_sandbox.core import masks, policies, projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Answer, Call, Service

Doc = dict[str, Any]
_VERBS = {"patch": "update"}
_UUID = 36  # letters that every operation's name ends with
_EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
_PROJECT = re.compile(r"^projects/[^/]+")


def _absent(name: str) -> ApiError:
    return ApiError(404, "Requested entity was not found.")


def _exists(name: str) -> ApiError:
    return ApiError(409, "Requested entity already exists")


# -- names -----------------------------------------------------------------


def name_of(call: Call, *, number: bool = False) -> str:
    """What a call is about, or where: its name, resource or parent, with the project's id (or number)."""
    named = call.params.get("name") or call.params.get("resource") or call.params["parent"]
    return _PROJECT.sub(f"projects/{call.project_number if number else call.project_id}", named)


def parameter(param: str, pattern: str, wrong: Callable[[str], ApiError] | None = None) -> Callable[[Call], str]:
    """An `ident` of a collection: the id is a query parameter that matches a pattern; else wrong(id) is raised."""

    def ident(call: Call) -> str:
        text: str = call.params.get(param, "")
        if not re.fullmatch(pattern, text):
            raise wrong(text) if wrong else ApiError(400, f"{param} must match the pattern {pattern}: {text!r}.")
        return text

    return ident


# -- declarations ----------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Hooks:
    """The rules of a collection that a table has no words for; each has a default.

    named(call): the name that a call is about, or its parent's.  key(call): key of the resource a call names.
    parent(call): key of what a created or listed one is in, "-" standing for all of a kind.
    ident(call): id of the one that a call creates, checked.
    permit(call, permission): raises where the caller may not.
    find(cloud, key): the document, for reading, or None.  docs(call): all that there is, where it is not in the store.
    prepare(call, key, new, old): the document to keep, checked and completed; old is None for a new one.
    after(call, key, doc): what comes of a document's being kept.
    shown(cloud, key, doc): the document as it is answered.  listing(call, docs): the answer of list, of docs as shown.
    erase(call, key, doc): deletes, and gives the answer.
    operation(call, method, key): further keywords of Operations.start (scope, metadata, extra, latency, …).
    missing(name), taken(name), wrong(path of a mask), stale(etag given, etag): the refusals.  Without stale no etag is
    looked at; with it a patch (in its body) and a delete (in its query) may name the one that they are based on.
    """

    named: Callable[[Call], str] = name_of
    key: Callable[[Call], str] | None = None
    parent: Callable[[Call], str] | None = None
    ident: Callable[[Call], str] | None = None
    permit: Callable[[Call, str], None] | None = None
    find: Callable[[Cloud, str], Doc | None] | None = None
    docs: Callable[[Call], list[Doc]] | None = None
    prepare: Callable[[Call, str, Doc, Doc | None], Doc] = lambda call, key, new, old: new
    after: Callable[[Call, str, Doc], None] = lambda call, key, doc: None
    shown: Callable[[Cloud, str, Doc], Doc] = lambda cloud, key, doc: doc
    listing: Callable[[Call, list[Doc]], Doc] | None = None
    erase: Callable[[Call, str, Doc], Answer | Awaitable[Answer]] | None = None
    operation: Callable[[Call, str, str], Doc] = lambda call, method, key: {}
    missing: Callable[[str], ApiError] = _absent
    taken: Callable[[str], ApiError] = _exists
    wrong: Callable[[str], ApiError] = masks.refused
    stale: Callable[[str, str], ApiError] | None = None


@dataclasses.dataclass(frozen=True)
class Collection(_Hooks):
    """What is particular to the resources of one collection (see also _Hooks).

    ids: discovery ids without the method, apart by spaces where several serve the same resources.
    kind: of the store, where keys are names with the project's id.
    permission: what methods are appended to (default: kind).  verbs: method -> last word of its permission, where it is
    another than create, get, list, update, delete.  version: the only one of the API that is served.
    segment: what ids stand behind in names (default: the last word of ids).
    output: fields that the server alone writes, besides those that are readOnly in the discovery document; where "name"
    is one, a new document has it.  mutable: fields that a patch may change (default: all others), and does, as far as it
    has them, where it comes without a mask.
    policy: permissions count also by the resource's own policy.  number: clients see names with the project's number.
    newest: lists begin with what has the last createTime.  children: kinds of what is below a resource and goes with it.
    operates: methods that answer with a long-running operation.  over: it is, when it is answered.
    type: of an operation's response ("google.cloud.vpcaccess.v1.Connector"), "{version}" standing for the API's.
    states: state of a resource while an operation lasts ("create", "patch", "delete") and after it ("done"); without
    them a resource is kept when its operation is done.
    """

    service: Service
    ids: str
    kind: str
    _: dataclasses.KW_ONLY
    permission: str = ""
    verbs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    version: str = ""
    segment: str = ""
    output: tuple[str, ...] = ("name",)
    mutable: tuple[str, ...] = ()
    policy: bool = False
    number: bool = False
    newest: bool = False
    children: tuple[str, ...] = ()
    operates: str = ""
    over: bool = False
    type: str = ""
    states: Mapping[str, str] = dataclasses.field(default_factory=dict)

    # -- names -------------------------------------------------------------

    @property
    def place(self) -> str:
        """What ids stand behind in names."""
        return self.segment or self.ids.rpartition(".")[2]

    def key_of(self, call: Call) -> str:
        """Key of the resource that a call is about, or about something in it."""
        if self.key:
            return self.key(call)
        name = self.named(call)
        found = re.match(rf"(?:[^/]+/[^/]+/)*?{self.place}/[^/]+", name)
        return found.group() if found else name

    def parent_of(self, call: Call) -> str:
        """Key of what a call creates a resource in or lists."""
        return self.parent(call) if self.parent else self.named(call)

    def full_name(self, call: Call) -> str:
        """Full resource name, for policies, of the resource that a call is about."""
        return f"//{self.service.host}/{self.key_of(call)}"

    def public(self, cloud: Cloud, key: str) -> str:
        """A resource's name as clients see it."""
        project = projects.find(cloud, key.split("/")[1]) if self.number and "/" in key else None
        return _PROJECT.sub(f"projects/{project['projectNumber']}", key) if project else key

    # -- documents ---------------------------------------------------------

    def found(self, cloud: Cloud, key: str) -> Doc | None:
        """The document of a key, for reading, or None."""
        return self.find(cloud, key) if self.find else cloud.store.peek(self.kind, key)

    def read(self, cloud: Cloud, key: str) -> Doc:
        """The document of a key, for reading.  Raises ApiError 404."""
        doc = self.found(cloud, key)
        if doc is None:
            raise self.missing(self.public(cloud, key))
        return doc

    def existing(self, call: Call) -> Doc:
        """The document, for reading, of the resource that a call is about.  Raises ApiError 404."""
        key = self.key_of(call)
        if self.docs is None:
            return self.read(call.cloud, key)
        for doc in self.docs(call):
            if _bare(doc["name"]) == _bare(key):
                return doc
        raise self.missing(self.public(call.cloud, key))

    def show(self, call: Call, key: str, doc: Doc) -> Doc:
        """A document as a call's version of the API answers it: without private fields, and those it does not know."""
        out = self._shown(call.cloud, key, doc)
        api = call.method.api
        get = api.methods.get(f"{self.ids.split()[0]}.get")
        known = api.schemas[get.response]["properties"] if get and get.response else out
        return {k: v for k, v in out.items() if k in known}

    def _shown(self, cloud: Cloud, key: str, doc: Doc) -> Doc:
        out = {k: v for k, v in self.shown(cloud, key, doc).items() if not k.startswith("_")}
        return {"name": self.public(cloud, key)} | {k: v for k, v in out.items() if k != "name"} if self.number else out

    def within(self, cloud: Cloud, parent: str) -> list[tuple[str, Doc]]:
        """(key, document) pairs of what is in a parent, by key or the newest first; documents are for reading only."""
        words = f"{parent}/{self.place}".split("/")
        pattern = re.compile("/".join("[^/]+" if word == "-" else re.escape(word) for word in words) + "/.+")
        stem = parent.partition("/-")[0] + "/"
        out = [pair for pair in cloud.store.list(self.kind, stem) if pattern.fullmatch(pair[0])]
        return sorted(out, key=lambda pair: str(pair[1]["createTime"]), reverse=True) if self.newest else out

    def remove(self, cloud: Cloud, key: str) -> None:
        """Take a resource out of the store, with its policy and all that is below it."""
        with cloud.store.atomic():
            for kind in self.children:
                for child, _ in cloud.store.list(kind, f"{key}/"):
                    cloud.store.delete(kind, child)
            cloud.store.delete(self.kind, key)
            cloud.iam.drop(f"//{self.service.host}/{key}")

    # -- checks ------------------------------------------------------------

    def writable(self, call: Call) -> list[str]:
        """The fields of a call's message that clients write."""
        fields: dict[str, Doc] = call.method.api.schemas[str(call.method.request)]["properties"]
        return [f for f, schema in fields.items() if not schema.get("readOnly") and f not in self.output]

    def check_etag(self, doc: Doc, given: str) -> None:
        """Raise the collection's refusal where a request names another etag than a document's."""
        if self.stale and given and given != doc["etag"]:
            raise self.stale(given, doc["etag"])

    def allow(self, call: Call, method: str) -> None:
        """Raise ApiError 403 where the caller may not call a method."""
        permission = f"{self.permission or self.kind}.{self.verbs.get(method) or _VERBS.get(method, method)}"
        if self.permit:
            self.permit(call, permission)
        else:
            call.require(permission, self.full_name(call) if self.policy and method not in ("create", "list") else "")

    def play(self, method: str, call: Call) -> Answer | Awaitable[Answer]:
        """The answer of a method: "create", "get", "list", "patch" or "delete"."""
        self.allow(call, method)
        call.guard()
        return _METHODS[method](self, call)


def _bare(name: str) -> str:
    return _PROJECT.sub("", unquote(name))


# -- methods ---------------------------------------------------------------


def serve(collection: Collection, methods: str) -> None:
    """Register methods of a collection: "create get list patch delete", and "policy" for the three of policies."""
    service = collection.service
    for ident in collection.ids.split():
        for method in methods.split():
            if method == "policy":
                name = collection.permission or collection.kind
                policies.serve(service, ident, collection.full_name, name, exists=collection.existing)
            else:
                service.method(f"{ident}.{method}", version=collection.version)(partial(collection.play, method))
    for method in collection.operates.split():
        service.action(f"{collection.kind}.{method}")(partial(_finish, collection, method))


def _create(c: Collection, call: Call) -> Answer:
    assert c.ident is not None
    ident = c.ident(call)
    key = f"{c.parent_of(call)}/{c.place}/{ident}"
    if c.found(call.cloud, key) is not None:
        raise c.taken(c.public(call.cloud, key))
    given = {field: call.body[field] for field in call.body if field in c.writable(call)}
    doc = ({"name": key} if "name" in c.output else {}) | given
    return _keep(c, call, "create", key, c.prepare(call, key, doc, None))


def _get(c: Collection, call: Call) -> Answer:
    return c.show(call, c.key_of(call), c.existing(call))


def _list(c: Collection, call: Call) -> Answer:
    docs = c.docs(call) if c.docs else [c.show(call, key, doc) for key, doc in c.within(call.cloud, c.parent_of(call))]
    if c.listing:
        return c.listing(call, docs)
    fields = call.method.api.schemas[str(call.method.response)]["properties"]
    return page(call, next(field for field, schema in fields.items() if "$ref" in schema.get("items", {})), docs)


def _patch(c: Collection, call: Call) -> Answer:
    key, old = c.key_of(call), c.existing(call)
    c.check_etag(old, call.body.get("etag", ""))
    mutable = c.mutable or c.writable(call)
    doc = masks.masked(
        call, old, masks.paths(call) or [field for field in call.body if field in mutable], mutable, c.wrong
    )
    return _keep(c, call, "patch", key, c.prepare(call, key, doc, old))


def _delete(c: Collection, call: Call) -> Answer | Awaitable[Answer]:
    key, doc = c.key_of(call), c.existing(call)
    c.check_etag(doc, call.params.get("etag", ""))
    if c.erase:
        return c.erase(call, key, doc)
    if "delete" in c.operates:
        return _keep(c, call, "delete", key, dict(doc))
    c.remove(call.cloud, key)
    return None


_METHODS: dict[str, Callable[[Collection, Call], Answer | Awaitable[Answer]]] = {
    "create": _create,
    "get": _get,
    "list": _list,
    "patch": _patch,
    "delete": _delete,
}


def _keep(c: Collection, call: Call, method: str, key: str, doc: Doc) -> Answer:
    """Keep a document, or begin the operation that will; the answer of a method that changes a resource."""
    store = call.cloud.store
    if method not in c.operates:
        with store.atomic():
            doc = store.put(c.kind, key, doc)
            c.after(call, key, doc)
        return c.show(call, key, doc)
    kind = c.type.format(version=call.method.api.version)
    args: Doc = {"key": key, "type": f"type.googleapis.com/{kind}"}
    if c.states:
        store.put(c.kind, key, doc | {"state": c.states[method]})
    elif method != "delete":
        args["doc"] = doc
    about: Doc = {
        "scope": key.rpartition(f"/{c.place}/")[0],
        "metadata": {"@type": f"type.googleapis.com/{kind.rpartition('.')[0]}.OperationMetadata"},
        "latency": c.kind,
    } | c.operation(call, method, key)
    if c.over:
        return call.operation(method, key, over=True, response=_finished(c, method, call.cloud, args), **about)
    return call.operation(method, key, action=f"{c.service.name}.{c.kind}.{method}", args=args, **about)


async def _finish(c: Collection, method: str, cloud: Cloud, op: Doc) -> Doc:
    """The action of an operation, whose metadata then has its endTime beside a createTime."""
    if "createTime" in op["metadata"]:
        op["metadata"] |= {"endTime": now()}
    return _finished(c, method, cloud, op["args"])


def _finished(c: Collection, method: str, cloud: Cloud, args: Doc) -> Doc:
    key = args["key"]
    if method == "delete":
        c.remove(cloud, key)
        return _EMPTY
    doc = cloud.store.get(c.kind, key)
    if method == "patch" or not doc:
        doc = args.get("doc", doc)
    if doc is None:
        raise c.missing(c.public(cloud, key))
    doc = cloud.store.put(c.kind, key, doc | ({"state": c.states["done"]} if c.states else {}))
    return {"@type": args["type"]} | c._shown(cloud, key, doc)


# -- what goes with resources ----------------------------------------------


def serve_locations(
    service: Service,
    ids: str,
    methods: str,
    places: Mapping[str, Doc],
    *,
    missing: Callable[[str], ApiError] = _absent,
    number: bool = False,
    version: str = "",
) -> None:
    """Register get and list of locations.

    ids, missing, number, version: as of a Collection.  places: id -> what its message has besides name and locationId.
    """

    def docs(call: Call) -> list[Doc]:
        base = f"projects/{call.project_number if number else call.project_id}/locations"
        return [{"name": f"{base}/{place}", "locationId": place} | more for place, more in places.items()]

    kind = f"{service.name}.locations"
    serve(Collection(service, ids, kind, docs=docs, missing=missing, number=number, version=version), methods)


def find_operation(call: Call, name: str, missing: Callable[[str], ApiError] = _absent) -> Operation:
    """The operation of a call's service and project that has a name; else missing(name) is raised."""
    op = call.cloud.operations.get(name[-_UUID:])
    if op is None or op["service"] != call.service.name or call.project and op["project"] != call.project_id:
        raise missing(name)
    if _bare(call.cloud.operations.render(op, call.service.host)["name"]) != _bare(name):
        raise missing(name)
    return op


def serve_operations(
    service: Service,
    ids: str,
    methods: str,
    *,
    permission: str = "",
    named: Callable[[Call], str] = name_of,
    missing: Callable[[str], ApiError] = _absent,
    shown: Callable[[Call, Operation], Doc] | None = None,
    version: str = "",
) -> None:
    """Register get, list, wait and delete of the long-running operations (google.longrunning) of a service.

    permission: what get, list and delete are appended to; "": none is needed.  named, missing, version: as of a Collection.
    shown(call, operation): as it is answered, where that is not as all are.
    """

    def found(call: Call) -> Operation:
        return find_operation(call, named(call), missing)

    def view(call: Call, op: Operation) -> Doc:
        return shown(call, op) if shown else call.cloud.operations.render(op, service.host)

    def get(call: Call) -> Doc:
        return view(call, found(call))

    async def wait(call: Call) -> Doc:
        loop = asyncio.get_running_loop()
        end = loop.time() + min(float(call.body.get("timeout", "30s").removesuffix("s") or 0), 120)
        while (op := found(call))["status"] != "DONE" and loop.time() < end:
            await asyncio.sleep(0.05)
        return view(call, op)

    def list_(call: Call) -> Doc:
        match = {"scope": named(call)} if "/" in call.params.get("name", "") else {}
        return page(
            call,
            "operations",
            [view(call, op) for op in call.cloud.operations.all(service=service.name, **match)],
        )

    def delete(call: Call) -> Doc:
        call.cloud.store.delete("operations", found(call)["id"])
        return {}

    handlers: dict[str, Callable[[Call], Answer | Awaitable[Answer]]] = {
        "get": get,
        "wait": wait,
        "list": list_,
        "delete": delete,
    }
    for method in methods.split():
        needed = f"{permission}.{'get' if method == 'wait' else method}" if permission else ""
        service.method(f"{ids}.{method}", permission=needed, version=version)(handlers[method])
