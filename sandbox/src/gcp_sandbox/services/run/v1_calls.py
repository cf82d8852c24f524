"""What the methods of the v1 API have in common: names, permissions, lists, and the way to the v2 API's own code.

A v1 call reads and writes the same stored resources as v2: it is turned into a v2 call, and the resource is shown as v1
shows it.  https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.errors import ApiError, error_info
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.resources import Collection, serve
from gcp_sandbox.core.service import Call, Handler
from gcp_sandbox.services.run import checks, v1_views
from gcp_sandbox.services.run import resources as common
from gcp_sandbox.services.run.v1_annotations import invalid

Doc = dict[str, Any]
_HOST = "-run.googleapis.com"
_PARENTS = {"revisions": "/services/-", "executions": "/jobs/-", "tasks": "/jobs/-/executions/-"}
# Where v1 has what v2's code finds fault with.
_FIELDS = (
    ("template.timeout", "spec.template.spec.timeout_seconds"),
    ("template.scaling.min_instance_count", "spec.template.metadata.annotations[autoscaling.knative.dev/minScale]"),
    ("template.max_instance_request_concurrency", "spec.template.spec.container_concurrency"),
    ("template.revision", "spec.template.metadata.name"),
    ("template.vpc_access", "spec.template.metadata.annotations"),
    ("template", "spec.template.spec"),
    ("traffic", "spec.traffic"),
)
_IN = {"services": "", "revisions": "services.", "jobs": "", "executions": "jobs.", "tasks": "jobs.executions."}
_STORED = {"configurations": "services", "routes": "services"}


def ids(methods: str) -> tuple[str, ...]:
    """Discovery ids of the same method by namespace and by location: "services.get"."""
    return f"run.namespaces.{methods}", f"run.projects.locations.{methods}"


def method(name: str, permission: str) -> Callable[[Handler], Handler]:
    """Register a handler for a v1 method ("services.get"), which requires a permission."""

    def register(handler: Handler) -> Handler:
        def checked(call: Call) -> Any:
            require(call, permission)
            return handler(call)

        checked.__doc__ = handler.__doc__
        return common.SERVICE.method(*ids(name), version="v1")(checked)

    return register


def declare(kind: str, methods: str, erase: Callable[[Call, str, Doc], Any] | None = None) -> None:
    """Serve a kind of resource ("Revision"): a view of what v2 keeps.  erase: v2's delete."""
    collection, _ = v1_views.KINDS[kind]
    stored = _STORED.get(collection, collection)

    async def delete(call: Call, name: str, doc: Doc) -> Doc:
        answer = erase and erase(as_v2(call, f"{_IN[stored]}{stored}.delete", {"name": name}), name, doc)
        if inspect.isawaitable(answer):
            await answer
        return _deleted(kind, doc)

    serve(
        Collection(
            common.SERVICE,
            " ".join(ids(collection)),
            f"run.{stored}",
            permission=f"run.{collection}",
            version="v1",
            segment=stored,
            newest=True,
            key=locate,
            parent=lambda call: f"projects/{call.project_id}/locations/{location(call)}{_PARENTS.get(stored, '')}",
            permit=require,
            shown=lambda cloud, key, doc: v1_views.views(cloud, key.split("/")[1]).of(kind, doc),
            listing=lambda call, found: _listing(call, kind, found),
            erase=delete,
            missing=common.missing,
        ),
        methods,
    )


def require(call: Call, permission: str) -> None:
    """Raise ApiError 403, as v1 words it, unless the caller has the permission on the project, service or job."""
    shown = call.params.get("name") or call.params["parent"]
    key = "" if "parent" in call.params else locate(call)
    owner = re.match(r"projects/[^/]+/locations/[^/]+/(services|jobs)/[^/]+", key)
    resources = [project_resource(call.project_id)] + ([f"//run.googleapis.com/{owner.group()}"] if owner else [])
    if not call.cloud.iam.allows(call.principal, permission, *resources):
        text = f"Permission '{permission}' denied on resource '{shown}' (or resource may not exist)."
        info = error_info("IAM_PERMISSION_DENIED", "run.googleapis.com", permission=permission, resource=shown)
        raise ApiError(403, text, details=[info])


# -- names -----------------------------------------------------------------------


def location(call: Call) -> str:
    """The region that a call is about: of its name, else of the host; "-" for all."""
    name = call.params.get("name") or call.params.get("parent", "")
    found = re.match(r"projects/[^/]+/(?:locations|regions)/([^/]+)", name)
    region = found.group(1) if found else call.host.removesuffix(_HOST) if call.host.endswith(_HOST) else "-"
    checks.region(region)
    return region


def locate(call: Call) -> str:
    """The store key of the resource that a call names, whether or not there is one."""
    *_, collection, short = call.params["name"].split("/")
    region = location(call)
    if region == "-":
        raise invalid("name", f"'{call.params['name']}' can be used with a regional endpoint only.")
    base = f"projects/{call.project_id}/locations/{region}"
    stored = _STORED.get(collection, collection)
    if stored in ("services", "jobs"):
        return f"{base}/{stored}/{short}"
    for key, _ in call.cloud.store.list(f"run.{stored}", f"{base}/"):
        if key.endswith(f"/{stored}/{short}"):
            return key
    return f"{base}{_PARENTS[stored]}/{stored}/{short}"


def existing(call: Call) -> Doc:
    """The stored document that a call names.  Raises ApiError 404."""
    return common.existing(call, locate(call))


def named(call: Call, body: Doc, kind: str) -> str:
    """The name in the body of a create call.  Raises ApiError 400."""
    meta, group = body.get("metadata", {}), v1_views.KINDS[kind][1]
    for field, wanted in (("apiVersion", group), ("kind", kind)):
        if body.get(field) != wanted:
            raise invalid(field, f"Expected '{wanted}', but was '{body.get(field, '')}'.")
    if meta.get("namespace"):  # otherwise it is that of the URL
        found = projects.find(call.cloud, meta["namespace"])
        if found is None or found["projectId"] != call.project_id:
            raise invalid("metadata.namespace", f"'{meta['namespace']}' is not the project of the request.")
    checks.name("metadata.name", meta.get("name", ""), 49)
    return meta["name"]


def shown(call: Call, kind: str, doc: Doc) -> Doc:
    """A stored document as v1 shows it."""
    return v1_views.views(call.cloud, call.project_id).of(kind, doc)


# -- the way to v2 -----------------------------------------------------------------


def dry(call: Call) -> bool:
    """Whether a call only asks if it would succeed.  Raises ApiError 400."""
    if call.params.get("dryRun", "") not in ("", "all"):
        raise invalid("dryRun", f"Unsupported value '{call.params['dryRun']}': it must be 'all'.")
    return bool(call.params.get("dryRun"))


def as_v2(call: Call, verb: str, params: Doc, body: Doc | None = None) -> Call:
    """The v2 call that a v1 call comes to ("services.patch")."""
    api = call.service.api("v2")
    asked = api.methods[f"run.projects.locations.{verb}"]
    params = params | ({"validateOnly": True} if dry(call) else {})
    return dataclasses.replace(call, method=asked, params=params, body=api.body(asked, body or {}))


def translated(job: bool, work: Callable[[], Any]) -> Any:
    """What v2's code does, with its refusals about the fields that v1 has in their place."""
    try:
        return work()
    except ApiError as error:
        field = next((v.get("field", "") for d in error.details for v in d.get("fieldViolations", ())), "")
        path = re.sub(r"^Violation in \w+Request\.(service|job)\.", "", field)
        if error.code != 400 or not path.startswith(("template", "traffic")):
            raise
        for v2, own in (("template.template", "spec.template.spec.template.spec"),) if job else _FIELDS:
            if path.startswith(v2):
                path = own + path.removeprefix(v2)
                break
        path = path.replace("value_source", "value_from").replace("secret_key_ref.secret", "secret_key_ref.name")
        raise invalid(path, error.message.removeprefix(f"{field}: ")) from None


def check_version(doc: Doc, body: Doc) -> None:
    """Raise ApiError 409 where a declaration is about another version of a resource than the present one."""
    given, current = body.get("metadata", {}).get("resourceVersion", ""), v1_views.version(doc)
    if given and given != current:
        short = doc["name"].rsplit("/", 1)[-1]
        text = f"Conflict for resource '{short}': version '{given}' was specified but current version is '{current}'."
        raise ApiError(409, text, status="ABORTED")


def remembered(call: Call, kind: str, op: Operation, kept: Doc) -> Doc:
    """The resource that an operation has begun to change, with what v2 has no fields for; as v1 shows it."""
    store, key = call.cloud.store, op["target"]
    if dry(call):
        return shown(call, kind, (op["response"] or op["metadata"]) | {"_v1": kept})
    doc = store.get(f"run.{key.split('/')[-2]}", key)
    assert doc is not None
    doc["_v1"] = kept | {"operation": op["id"], "generation": doc["generation"]}
    store.put(f"run.{key.split('/')[-2]}", key, doc)
    revision = store.get("run.revisions", doc.get("latestCreatedRevision", ""))
    if revision is not None and revision.get("_configuration") == doc["generation"]:
        store.put("run.revisions", revision["name"], revision | {"_v1": {"template": kept["template"]}})
    return shown(call, kind, doc)


def _deleted(kind: str, doc: Doc) -> Doc:
    """The Status that answers a delete."""
    collection, group = v1_views.KINDS[kind]
    details = {
        "name": doc["name"].rsplit("/", 1)[-1],
        "group": group.partition("/")[0],
        "kind": collection,
        "uid": doc["uid"],
    }
    return {"status": "Success", "details": details}


# -- lists -------------------------------------------------------------------------


def _listing(call: Call, kind: str, found: list[Doc]) -> Doc:
    """A page of a collection by labelSelector, limit and continue."""
    collection, group = v1_views.KINDS[kind]
    wanted = list(_terms(call.params.get("labelSelector", "")))
    found = [each for each in found if all(term(each["metadata"]["labels"]) for term in wanted)]
    try:
        start = int(base64.urlsafe_b64decode(call.params.get("continue", "") or "MA=="))
    except ValueError:
        raise ApiError(400, "The continue token is invalid.") from None
    end = start + (call.params.get("limit") or len(found))
    meta = {"selfLink": f"/apis/{group}/namespaces/{call.project_number}/{collection}"}
    if end < len(found):
        meta["continue"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    out = {"apiVersion": group, "kind": f"{kind}List", "metadata": meta}
    return out | ({"items": found[start:end]} if found[start:end] else {})


def _terms(selector: str) -> Iterator[Callable[[Doc], bool]]:
    """The conditions of a label selector: =, !=, in, notin, exists.  Raises ApiError 400."""
    for text in filter(None, (part.strip() for part in re.split(r",(?![^(]*\))", selector))):
        found = re.fullmatch(
            r"(?P<no>!?)\s*(?P<key>[\w./-]+)\s*(?:(?P<op>==?|!=)\s*(?P<one>[\w.-]*)|(?P<set>in|notin)\s*\((?P<many>[^)]*)\))?",
            text,
        )
        if found is None or found["no"] and (found["op"] or found["set"]):
            raise ApiError(400, f"Invalid label selector: '{text}'.", status="INVALID_ARGUMENT")
        yield _term(
            found["key"],
            found["op"] or found["set"] or found["no"] or "exists",
            {v.strip() for v in (found["many"] or found["one"] or "").split(",")},
        )


def _term(key: str, operator: str, values: set[str]) -> Callable[[Doc], bool]:
    if operator in ("exists", "!"):
        return lambda labels: (key in labels) is (operator == "exists")
    return lambda labels: (labels.get(key) in values) is (operator in ("=", "==", "in"))
