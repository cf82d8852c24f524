"""Services and their revisions.

https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.run import checks, defaults, names
from gcp_sandbox.services.run import resources as common
from gcp_sandbox.services.run.fleet import fleet
from gcp_sandbox.services.run.plane.workload import StartError
from gcp_sandbox.services.run.resources import DONE, FAILED, PENDING, SERVICE, condition

Doc = dict[str, Any]
_ROW = "run.services"
_OUTPUT = (
    "conditions",
    "observedGeneration",
    "latestReadyRevision",
    "latestCreatedRevision",
    "trafficStatuses",
    "uri",
    "urls",
)
# What a revision takes over from its template.
_FROM_TEMPLATE = (
    "scaling",
    "vpcAccess",
    "maxInstanceRequestConcurrency",
    "timeout",
    "serviceAccount",
    "containers",
    "volumes",
    "executionEnvironment",
    "encryptionKey",
    "encryptionKeyRevocationAction",
    "encryptionKeyShutdownDuration",
    "sessionAffinity",
    "nodeSelector",
    "serviceMesh",
    "gpuZonalRedundancyDisabled",
    "labels",
    "annotations",
    "client",
    "clientVersion",
)


# -- services ------------------------------------------------------------------


@SERVICE.method("run.projects.locations.services.create", permission="run.services.create")
async def create(call: Call) -> Operation | Doc:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/create"""
    parent, _ = common.parent(call)
    short = call.params.get("serviceId", "")
    checks.name("service_id", short, 49)
    return await common.settled(call, begin(call, f"{parent}/services/{short}"), _ROW)


def begin(call: Call, name: str) -> Operation:
    """Create a service of this resource name from the call's body."""
    if call.cloud.store.peek("run.services", name) is not None:
        raise ApiError(409, f"Resource '{name.rsplit('/', 1)[-1]}' already exists.")
    parent, _, _ = name.rpartition("/")
    quota = call.cloud.restrictions.quota("run.services", call.project_id, parent.split("/")[3])
    if quota and len(call.cloud.store.list("run.services", f"{parent}/")) >= quota[0]:
        raise ApiError(429, f"Quota exceeded for the number of services in the region: the limit is {quota[0]}.")
    body = common.declared(call, "services", call.body)
    doc = common.born(call, name, _spec(call, name, body))
    return _deploy(call, doc, new_revision=True)


def _spec(call: Call, name: str, body: Doc) -> Doc:
    within = common.message(call, "Service")
    checks.required(body, within)
    spec = defaults.service(body, call.project_number, recorded_environments=call.cloud.settings.recorded_environments)
    checks.service(spec, within)
    checks.account(call, spec["template"]["serviceAccount"])
    if spec.get("iapEnabled"):
        checks.one_proxy(call.cloud, name)
    checks.encryption(call, names.parts(name)["locations"], spec["template"])
    return spec


@SERVICE.method("run.projects.locations.services.patch")
async def patch(call: Call) -> Operation | Doc:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/patch"""
    return await common.settled(call, update(call), _ROW)


def update(call: Call, *, retry: bool = True) -> Operation:
    """Bring the service that a call names to the declaration in its body; retry: what failed, though it is the same."""
    name = common.key(call)
    old = call.cloud.store.get("run.services", name)
    if old is None:
        if not call.params.get("allowMissing"):
            call.require("run.services.update", f"//run.googleapis.com/{name}")
            raise common.missing(name)
        call.require("run.services.create")
        call.guard()
        checks.name("service.name", name.rsplit("/", 1)[-1], 49)
        return begin(call, name)
    call.require("run.services.update", f"//run.googleapis.com/{name}")
    call.guard()
    common.check_etag(name, old, call.body.get("etag", ""))
    body = common.merged(call, "services", old, call.body)
    spec = _spec(call, name, body)
    before = common.declared(call, "services", {k: v for k, v in old.items() if not k.startswith("_")})
    failed = old["terminalCondition"]["state"] == FAILED
    again = failed and spec["traffic"] == before["traffic"]  # else it is a roll back
    renew = spec["template"] != before["template"] or retry and again or bool(call.params.get("forceNewRevision"))
    if spec == before and not renew:
        return common.operation(call, old, "Service", "run.unchanged", {"name": name, "kind": "Service"}, "")
    return _deploy(call, common.changed(call, old, spec, _OUTPUT), new_revision=renew)


def _deploy(call: Call, doc: Doc, *, new_revision: bool) -> Operation:
    name = doc["name"]
    revision_key = doc.get("latestCreatedRevision", "")
    doc["urls"] = names.urls(name, call.project_number)
    doc["conditions"] = [condition("RoutesReady", PENDING), condition("ConfigurationsReady", PENDING)]
    if new_revision:
        revision_key = f"{name}/revisions/{_revision_name(call, doc)}"
    if call.params.get("validateOnly"):
        return common.validated(call, doc, "Service")
    store = call.cloud.store
    with store.atomic():
        if new_revision:
            store.put("run.revisions", revision_key, _revision(call, doc, revision_key))
        doc["latestCreatedRevision"] = revision_key
        store.put("run.services", name, doc)
    args = {"name": name, "revision": revision_key, "generation": doc["generation"]}
    return common.operation(call, doc, "Service", "run.reconcile", args, _ROW)


def _revision_name(call: Call, doc: Doc) -> str:
    short = doc["name"].rsplit("/", 1)[-1]
    wanted = doc["template"].get("revision", "")
    if not wanted:
        return f"{short}-{int(doc['generation']):05d}-{names.suffix(3)}"
    if not wanted.startswith(f"{short}-") or not names.NAME.fullmatch(wanted):
        raise checks.invalid("template.revision", f"Revision name must begin with the name of its service: '{short}-'.")
    if call.cloud.store.peek("run.revisions", f"{doc['name']}/revisions/{wanted}") is not None:
        raise ApiError(409, f"Revision named '{wanted}' with different configuration already exists.")
    return wanted


def _revision(call: Call, doc: Doc, key: str) -> Doc:
    stamp = now()
    part = names.parts(key)
    taken = {k: doc["template"][k] for k in _FROM_TEMPLATE if k in doc["template"]}
    taken["containers"] = [
        {"name": f"{names.image(container['image'])}-{number}"} | container
        for number, container in enumerate(taken["containers"], 1)
    ]
    return {
        "name": key,
        "uid": str(uuid.uuid4()),
        "generation": "1",
        **taken,
        "createTime": stamp,
        "updateTime": stamp,
        "launchStage": doc["launchStage"],
        "service": part["services"],
        "reconciling": True,
        "conditions": [condition("Ready", PENDING)],
        "creator": call.principal.email,
        "logUri": "https://console.cloud.google.com/logs/viewer?project="
        + part["projects"]
        + f"&resource=cloud_run_revision/service_name/{part['services']}/revision_name/{part['revisions']}",
        "etag": names.etag(key),
        "_configuration": doc["generation"],
        **{k: doc[k] for k in ("_v1",) if k in doc},
    }


@SERVICE.action("unchanged")
async def unchanged(cloud: Cloud, op: Doc) -> Doc | None:
    """An update that changes nothing."""
    doc = cloud.store.peek(f"run.{op['args']['kind'].lower()}s", op["args"]["name"])
    return names.public(doc, op["args"]["kind"]) if doc else None


@SERVICE.action("reconcile")
async def reconcile(cloud: Cloud, op: Doc) -> Doc | None:
    """Bring a service to its declared state: its new revision ready, then the traffic routed."""
    args = op["args"]
    async with fleet(cloud).locks[args["name"]]:
        doc = cloud.store.get("run.services", args["name"])
        if doc is None:
            raise ApiError(404, f"Resource '{args['name'].rsplit('/', 1)[-1]}' was deleted.")
        error: StartError | None = None
        try:
            await _make_ready(cloud, args["revision"])
        except StartError as failure:
            short = args["revision"].rsplit("/", 1)[-1]
            text = f"Revision '{short}' is not ready and cannot serve traffic. {failure}"
            error = StartError(text, failure.reason, failure.status)
        doc = cloud.store.get("run.services", args["name"])
        if doc is None:
            raise ApiError(404, f"Resource '{args['name'].rsplit('/', 1)[-1]}' was deleted.")
        if error is None:
            doc["latestReadyRevision"] = args["revision"]
        if "latestReadyRevision" in doc:  # what is ready serves, whatever the newest revision does
            try:
                _route(cloud, doc)
            except StartError as failure:
                error = error or failure
        if doc["generation"] == args["generation"] and "deleteTime" not in doc:
            _settle(doc, error)
        cloud.store.put("run.services", doc["name"], doc)
    op["metadata"] = names.public(doc, "Service")
    fleet(cloud).spawn(tidy(cloud, doc["name"]))
    if error is not None:
        raise ApiError(400, str(error), status=error.status)
    return names.public(doc, "Service")


def _settle(doc: Doc, error: StartError | None) -> None:
    doc.pop("reconciling", None)
    doc["observedGeneration"] = doc["generation"]
    if error is None:
        doc["terminalCondition"] = condition("Ready", DONE)
        doc["conditions"] = [condition("RoutesReady", DONE), condition("ConfigurationsReady", DONE)]
        doc["uri"] = doc["urls"][-1]
    else:
        doc["terminalCondition"] = condition("Ready", FAILED, str(error), reason="REVISION_FAILED")
        old = {c["type"]: c for c in doc["conditions"]}
        routes = DONE if doc.get("_routes") else FAILED
        doc["conditions"] = [
            old["RoutesReady"] | {"state": routes},
            condition("ConfigurationsReady", FAILED, str(error), reason="REVISION_FAILED"),
        ]
    doc["updateTime"] = now()


async def _make_ready(cloud: Cloud, key: str) -> None:
    revision = cloud.store.get("run.revisions", key)
    if revision is None:
        raise StartError("The revision was deleted.")
    state = revision["conditions"][0]["state"]
    if state == DONE:
        return
    error: StartError | None = None
    part = names.parts(key)
    try:
        checks.networks(cloud, part["projects"], part["locations"], revision.get("vpcAccess"))
        checks.secret_problems(cloud, part["projects"], revision)
        checks.images(cloud, part["projects"], revision)
        await fleet(cloud).pool(key, revision).launch()
    except StartError as failure:
        error = failure
    except OSError as failure:
        error = StartError(f"gcp-sandbox cannot start the container: {failure}", status="INTERNAL")
    revision = cloud.store.get("run.revisions", key)
    if revision is None:
        raise StartError("The revision was deleted.")
    revision.pop("reconciling", None)
    revision["observedGeneration"] = revision["generation"]
    revision["updateTime"] = now()
    if error is None:
        kinds = ("Ready", "Active", "ContainerHealthy", "ContainerReady", "ResourcesAvailable")
        revision["conditions"] = [condition(kind, DONE) for kind in kinds]
        revision["containerStatuses"] = _statuses(cloud, revision)
    else:
        revision["conditions"] = [
            condition("Ready", FAILED, str(error), **error.reason),
            condition("ContainerHealthy", FAILED, str(error), **error.reason),
            condition("ResourcesAvailable", DONE),
        ]
    cloud.store.put("run.revisions", key, revision)
    if error is not None:
        await fleet(cloud).retire(key, drain=0)
        raise error


def _statuses(cloud: Cloud, revision: Doc) -> list[Doc]:
    out = []
    for container in revision["containers"]:
        image = fleet(cloud).instances.images.lookup(container["image"])
        repository = container["image"].partition("@")[0]
        repository = repository.removesuffix(":" + repository.rpartition("/")[2].partition(":")[2])
        out.append({"name": container["name"], "imageDigest": f"{repository}@{image.digest if image else ''}"})
    return out


def _route(cloud: Cloud, doc: Doc) -> None:
    """Set where requests go, from the declared traffic.  Raises StartError."""
    routes, statuses = [], []
    for target in doc["traffic"]:
        short = target.get("revision", "")
        if target["type"] == defaults.LATEST:
            key = doc["latestReadyRevision"]
        else:
            key = f"{doc['name']}/revisions/{short}"
            found = cloud.store.peek("run.revisions", key)
            if found is None or found["conditions"][0]["state"] != DONE:
                raise StartError(
                    f"Revision '{short}' does not exist or is deleted. Update all traffic to route to currently available "
                    "revisions.",
                    status="INTERNAL",
                )
        route: Doc = {"revision": key, "percent": target.get("percent", 0)}
        status = {k: target[k] for k in ("type", "revision", "percent", "tag") if target.get(k)}
        if tag := target.get("tag"):
            route["tag"] = tag
            status["uri"] = names.tagged(doc["urls"][-1], tag)
        routes.append(route)
        statuses.append(status)
    doc["_routes"], doc["trafficStatuses"] = routes, statuses


async def tidy(cloud: Cloud, name: str) -> None:
    """Keep instances of the revisions that get traffic, stop all others."""
    doc = cloud.store.peek("run.services", name)
    wanted = {route["revision"] for route in doc.get("_routes", ())} if doc else set()
    for key, revision in cloud.store.list("run.revisions", f"{name}/revisions/"):
        if doc is None or key not in wanted:
            if revision["conditions"][0]["state"] != PENDING:  # one that is being started may be wanted soon
                fleet(cloud).spawn(fleet(cloud).retire(key))
        else:
            try:
                await fleet(cloud).pool(key, revision).ensure_minimum(doc)
            except (StartError, OSError):
                continue


def _parent(call: Call) -> str:
    parent, location = common.parent(call)
    if location == "-":
        raise checks.invalid("parent", "Location must be a valid Google Cloud region, and cannot be the '-' wildcard.")
    return parent


async def delete(call: Call, name: str, doc: Doc) -> Operation | Doc:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/delete"""
    common.check_etag(name, doc, call.params.get("etag", ""))
    doc = removal(call, doc)
    if call.params.get("validateOnly"):
        return common.validated(call, doc, "Service")
    call.cloud.store.put("run.services", name, doc)
    op = common.operation(call, doc, "Service", "run.delete", {"name": name}, _ROW)
    return await common.settled(call, op, _ROW)


common.declare("services", "get list delete", policy=True, parent=_parent, erase=delete)


def removal(call: Call, doc: Doc) -> Doc:
    """A resource as it is while it is being deleted."""
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)
    return doc | {
        "deleteTime": now(),
        "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reconciling": True,
        "generation": str(int(doc["generation"]) + 1),
        "lastModifier": call.principal.email,
        "terminalCondition": doc["terminalCondition"] | {"state": PENDING},
        "etag": names.etag(doc["name"]),
    }


@SERVICE.action("delete")
async def finish_delete(cloud: Cloud, op: Doc) -> Doc | None:
    """Stop a service's instances and forget it."""
    name = op["args"]["name"]
    async with fleet(cloud).locks[name]:
        doc = cloud.store.get("run.services", name)
        keys = [key for key, _ in cloud.store.list("run.revisions", f"{name}/revisions/")]
        # First of all no request comes any more: it would start another instance.
        cloud.store.delete("run.services", name)
        for key in keys:
            await fleet(cloud).retire(key, drain=0)
            cloud.store.delete("run.revisions", key)
        cloud.iam.drop(f"//run.googleapis.com/{name}")
    fleet(cloud).locks.pop(name, None)
    if doc is None:
        return None
    checks.hold_addresses(cloud, name, doc["template"].get("vpcAccess", {}))
    doc.pop("reconciling", None)
    doc["observedGeneration"] = doc["generation"]
    doc["terminalCondition"] = condition("Ready", DONE)
    op["metadata"] = names.public(doc, "Service")
    return op["metadata"]


common.policy_methods("services")


# -- revisions -----------------------------------------------------------------


def delete_revision(call: Call, name: str, doc: Doc) -> Operation:
    """https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services.revisions/delete"""
    common.check_etag(name, doc, call.params.get("etag", ""))
    owner = call.cloud.store.peek("run.services", name.rpartition("/revisions/")[0]) or {}
    short = name.rsplit("/", 1)[-1]
    if name == owner.get("latestCreatedRevision") or any(r["revision"] == name for r in owner.get("_routes", ())):
        text = f'Revision "{short}" cannot be directly deleted because it is actively serving.'
        raise ApiError(400, text, status="FAILED_PRECONDITION")
    if call.params.get("validateOnly"):
        return common.validated(call, doc, "Revision")
    return common.operation(call, doc | {"deleteTime": now()}, "Revision", "run.delete-revision", {"name": name}, _ROW)


common.declare("services.revisions", "get list delete", newest=True, erase=delete_revision)


@SERVICE.action("delete-revision")
async def finish_delete_revision(cloud: Cloud, op: Doc) -> Doc | None:
    """Forget a revision."""
    await fleet(cloud).retire(op["args"]["name"])
    cloud.store.delete("run.revisions", op["args"]["name"])
    return op["metadata"]
