"""One engine for all Compute Engine resources: a `Kind` declares the specifics of one of them.

It inserts, gets, lists, patches, updates, deletes, labels and sets single fields; maintains IDs, links, fingerprints;
checks names, references between resources, immutable fields and whether a resource is in use.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from gcp_sandbox.core import labels, policies
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.masks import patched
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.service import Answer, Call
from gcp_sandbox.services.compute import filters, places
from gcp_sandbox.services.compute.base import (
    BASE,
    NAME,
    PENDING,
    SERVICE,
    Doc,
    in_use,
    invalid,
    key_of,
    kind_of,
    link,
    missing,
    not_found,
    not_ready,
)
from gcp_sandbox.services.compute.dialect import compute_time
from gcp_sandbox.services.compute.kinds import KINDS, Draft, Kind
from gcp_sandbox.services.compute.references import part, resolve, users

# Output-only fields of all resources.
_OUTPUT = frozenset(
    {
        "kind",
        "id",
        "selfLink",
        "selfLinkWithId",
        "creationTimestamp",
        "region",
        "zone",
        "usedBy",
        "users",
        "labelFingerprint",
        "fingerprint",
    }
)
_KEPT = ("kind", "id", "name", "selfLink", "selfLinkWithId", "creationTimestamp", "region", "zone", "labels")
_PERMISSION = {"insert": "create", "patch": "update", "aggregatedList": "list"}
_ON_PROJECT = ("list", "aggregatedList")
# Fields whose links a recorder of the beta API rewrote to v1 together with its request URLs (see --recorded-links);
# clients that used v1 itself, for which nothing was rewritten, are those that do not send alt=json.
_REWRITTEN = (
    "items",
    "network",
    "networkProfile",
    "region",
    "selfLink",
    "selfLinkWithId",
    "subnetworks",
    "target",
    "targetLink",
    "zone",
    "nextHopGateway",
)


# -- registration ----------------------------------------------------------


def declare(kind: Kind) -> None:
    """Register a kind and its methods."""
    KINDS[kind.store] = kind
    generic: dict[str, Callable[[Kind, Call], Answer | Awaitable[Answer]]] = {
        "insert": insert,
        "get": get,
        "list": list_,
        "delete": delete,
        "patch": patch,
        "update": update,
        "aggregatedList": aggregated,
        "setLabels": set_labels,
        "getIamPolicy": get_policy,
        "setIamPolicy": set_policy,
        "testIamPermissions": test_permissions,
    }
    for resource in kind.resources:
        for verb in ("insert get list delete " + kind.verbs).split():
            if verb == "aggregatedList" and resource != kind.collection:
                continue  # only the resource with the same name as the collection has it
            permission = "" if verb == "testIamPermissions" else f"compute.{resource}.{_PERMISSION.get(verb, verb)}"
            where = None if verb in _ON_PROJECT else partial(_full_name, kind)
            SERVICE.method(f"compute.{resource}.{verb}", permission=permission, resource=where)(
                partial(generic[verb], kind)
            )
        for verb in kind.setters:
            SERVICE.method(
                f"compute.{resource}.{verb}",
                permission=f"compute.{resource}.{verb}",
                resource=partial(_full_name, kind),
            )(partial(setter, kind))


def _full_name(kind: Kind, call: Call) -> str:
    """The resource on which a permission is required: the one that a call names or would create."""
    inserts = call.method.id.endswith(".insert")
    return f"//compute.googleapis.com/{key_for(kind, call, str(call.body.get('name', '')) if inserts else None)}"


def key_for(kind: Kind, call: Call, name: str | None = None) -> str:
    """The key of the resource that a call names (or would create)."""
    name = call.params[call.method.names[-1]] if name is None else name
    return f"projects/{call.project_id}/{places.scope(call)}/{kind.collection}/{name}"


def existing(kind: Kind, call: Call) -> tuple[str, Doc]:
    """Key and copy of the resource that a call names.  Raises ApiError 404."""
    key = key_for(kind, call)
    doc = call.cloud.store.get(kind.store, key)
    if doc is None:
        raise not_found(key)
    return key, doc


def changing(kind: Kind, call: Call) -> tuple[str, Doc]:
    """Like existing, for a resource that is about to change.  Raises ApiError 400 if it is being deleted."""
    key, doc = existing(kind, call)
    if "_deleting" in doc:
        raise not_ready(key)
    return key, doc


# -- reading ---------------------------------------------------------------


def show(call: Call, kind: Kind, key: str, doc: Doc) -> Doc:
    """The resource as returned to the client."""
    out = {k: v for k, v in doc.items() if not k.startswith("_")}
    if kind.computed:
        out |= kind.computed(call.cloud, key, doc)
    if kind.beta and call.method.api.version == "v1" and not call.cloud.settings.recorded_links:
        out = {k: v for k, v in out.items() if k not in kind.beta}
    return render(call, out)


def render(call: Call, out: Doc) -> Doc:
    """Links of the requested API version."""
    version = call.method.api.version
    if version != "v1":
        return _relinked(out, version)
    if call.cloud.settings.recorded_links and "alt" in call.request.query:
        return {k: v if k in _REWRITTEN else _relinked(v, "beta") for k, v in out.items()}
    return out


def _relinked(value: Any, version: str) -> Any:
    return json.loads(json.dumps(value).replace(BASE, BASE.replace("/v1/", f"/{version}/")))


def get(kind: Kind, call: Call) -> Doc:
    key, doc = existing(kind, call)
    return show(call, kind, key, doc)


def collection(call: Call, name: str, path: str, items: list[Doc]) -> Doc:
    """The response of a list method.  name: as in compute#<name>List; path: below the project."""
    found, following = filters.page(items, call.params)
    out: Doc = {"kind": f"compute#{name}List", "id": path}
    if found:
        out["items"] = found
    if following:
        out["nextPageToken"] = following
    return render(call, out | {"selfLink": link(path)})


def list_(kind: Kind, call: Call) -> Doc:
    path = f"projects/{call.project_id}/{places.scope(call)}/{kind.collection}"
    items = [show(call, kind, key, doc) for key, doc in call.cloud.store.list(kind.store, path + "/")]
    return collection(call, kind.singular, path, items)


def aggregated(kind: Kind, call: Call) -> Doc:
    """Resources of all scopes, by scope; an empty scope has a warning."""
    prefix = f"projects/{call.project_id}/"
    by_scope: dict[str, list[Doc]] = {scope: [] for scope in ("global", *(f"regions/{r}" for r in places.REGIONS))}
    if "zones" in kind.resources.values() or call.params.get("includeAllScopes"):
        by_scope |= {f"zones/{zone}": [] for zone in places.zones()}
    items = [show(call, kind, key, doc) for key, doc in call.cloud.store.list(kind.store, prefix)]
    found, following = filters.page(items, call.params)
    for item in found:
        by_scope[key_of(item["selfLink"].replace("/beta/", "/v1/")).removeprefix(prefix).rsplit("/", 2)[0]].append(item)
    path = f"{prefix}aggregated/{kind.collection}"
    out: Doc = {"kind": f"compute#{kind.singular}AggregatedList", "id": path, "items": {}}
    for scope, docs in by_scope.items():
        out["items"][scope] = (
            {kind.collection: docs}
            if docs
            else {
                "warning": {
                    "code": "NO_RESULTS_ON_PAGE",
                    "message": f"No results for the scope '{scope}'.",
                    "data": [{"key": "scope", "value": scope}],
                }
            }
        )
    if following:
        out["nextPageToken"] = following
    return render(call, out | {"selfLink": link(path)})


# -- writing ---------------------------------------------------------------


def fingerprint(value: Any) -> str:
    return base64.b64encode(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:8]).decode()


def _tidy(value: Any) -> Any:
    """Without nulls and empty lists, which Google omits from its responses."""
    if isinstance(value, dict):
        return {k: _tidy(v) for k, v in value.items() if v is not None and v != []}
    return [_tidy(v) for v in value] if isinstance(value, list) else value


def _finish(draft: Draft) -> Doc:
    """Check and complete draft.doc (references, prepare, fingerprints)."""
    kind = draft.kind
    doc = draft.doc = resolve(draft, draft.doc)
    for field, value in kind.defaults.items():
        doc.setdefault(field, copy.deepcopy(value))
    if draft.old is not None:
        for field in kind.immutable:
            if field in draft.given and doc.get(field) != draft.old.get(field):
                raise invalid(field, draft.given[field], "The field is immutable and cannot be changed.")
    if kind.prepare:
        kind.prepare(draft)
    doc = draft.doc = _tidy(draft.doc)
    if kind.labels:
        doc["labelFingerprint"] = fingerprint(doc.get("labels", {}))
    if kind.fingerprint:
        content = {k: v for k, v in doc.items() if k not in ("fingerprint", "labels", "labelFingerprint")}
        doc["fingerprint"] = fingerprint(content)
    return doc


def _accepted(kind: Kind, body: Doc) -> Doc:
    return {k: v for k, v in body.items() if k not in _OUTPUT and k not in kind.output}


def operate(call: Call, kind: Kind, key: str, verb: str, doc: Doc, **kwargs: Any) -> Operation:
    """The operation of a method on a resource; doc gives its targetId."""
    resource, method = call.method.id.split(".")[1:]
    text = kind.types.get(verb, verb)
    if verb in kind.long_types:
        text = f"compute.{resource}.{method}"
    elif callable(text):
        text = text(doc)
    kwargs.setdefault("latency", f"{kind.store}.{verb}")
    scope = key.rsplit("/", 2)[0]
    return call.operation(text, link(key), scope=scope, extra={"targetId": doc["id"]}, **kwargs)


def check_name(name: Any) -> str:
    """A resource's name.  Raises ApiError 400."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise invalid("name", "" if name is None else name, f"Must be a match of regex '{NAME.pattern}'")
    return name


def insert(kind: Kind, call: Call) -> Operation:
    body = call.body
    if not body:
        raise missing("resource")
    key = key_for(kind, call, check_name(body.get("name")))
    if call.cloud.store.peek(kind.store, key) or call.cloud.store.peek(PENDING, key):
        raise ApiError(409, f"The resource '{key}' already exists", reason="alreadyExists")
    doc = _accepted(kind, body)
    if kind.labels != "insert":
        doc.pop("labels", None)
    check_labels(doc.get("labels", {}), "resource.labels")
    draft = new(call, kind, key, doc)
    if over := places.exceeded(call, kind.quota, draft.scope):
        if not over[1]:
            raise over[0]
        return operate(call, kind, key, "insert", draft.doc, action="compute.exceeded", args={"text": over[0].message})
    call.cloud.store.put(PENDING, key, draft.doc)
    return operate(call, kind, key, "insert", draft.doc, action="compute.insert", args={"key": key})


def check_labels(given: Doc, field: str) -> None:
    """Raise ApiError 400 for labels with characters that Google does not accept."""
    if wrong := labels.violation(given):
        raise ApiError(400, f"Invalid value for field '{field}': ''. {wrong}", reason="invalid")


def new(call: Call, kind: Kind, key: str, doc: Doc) -> Draft:
    """A validated and completed new resource."""
    scope = key.split("/", 2)[2].rsplit("/", 2)[0]
    number = str(secrets.randbelow(8 * 10**18) + 10**18)
    for field in kind.required:
        if doc.get(field) in (None, "", []):
            raise invalid(field, "", f"'{field}' must be specified.") if "." in field else missing(f"resource.{field}")
    draft = Draft(call.cloud, call, kind, key, scope, doc, dict(doc))
    draft.doc |= {
        "kind": f"compute#{kind.singular}",
        "id": number,
        "creationTimestamp": compute_time(),
        "name": key.rsplit("/", 1)[1],
        "selfLink": link(key),
    }
    if kind.with_id:
        draft.doc["selfLinkWithId"] = link(f"{key.rsplit('/', 1)[0]}/{number}")
    if "/" in scope:
        draft.doc[scope.split("/")[0][:-1]] = link(f"projects/{key.split('/')[1]}/{scope}")
    _finish(draft)
    return draft


@SERVICE.action("exceeded")
async def _exceeded(cloud: Cloud, op: Doc) -> None:
    raise ApiError(403, op["args"]["text"], reason="quotaExceeded")


@SERVICE.action("insert")
async def _insert(cloud: Cloud, op: Doc) -> None:
    key = op["args"]["key"]
    doc = cloud.store.get(PENDING, key)
    if doc is not None:
        create(cloud, key, doc)


def create(cloud: Cloud, key: str, doc: Doc) -> None:
    """Store a finished resource, with its side effects."""
    kind = KINDS[kind_of(key)]
    with cloud.store.atomic():
        cloud.store.put(kind.store, key, doc)
        cloud.store.delete(PENDING, key)
        if kind.after:
            kind.after(cloud, key, "insert")


def _bytes(text: str) -> str:
    """One spelling of base64: the URL-safe alphabet, which Google's JSON accepts as well, and padding do not matter."""
    return text.replace("-", "+").replace("_", "/").rstrip("=")


def check_fingerprint(given: Doc, old: Doc, field: str = "fingerprint") -> None:
    """Raise ApiError 412 if a request contains an outdated fingerprint."""
    if given.get(field) and _bytes(given[field]) != _bytes(old.get(field, "")):
        text = "Labels fingerprint either invalid or resource labels have changed"
        raise stale(text) if field == "labelFingerprint" else stale()


def stale(text: str = "Invalid fingerprint.") -> ApiError:
    """412 for a change that is not based on the resource's latest state."""
    return ApiError(412, text, reason="conditionNotMet", location="If-Match", location_type="header")


def change(call: Call, kind: Kind, key: str, old: Doc, doc: Doc, given: Doc) -> Doc:
    """Replace a resource with a changed one; returns it as stored."""
    if given.get("name", old["name"]) != old["name"]:
        raise invalid("name", given["name"], f"The name of the resource must be '{old['name']}'.")
    check_fingerprint(given, old)
    scope = key.split("/", 2)[2].rsplit("/", 2)[0]
    draft = Draft(call.cloud, call, kind, key, scope, given, doc, old)
    done = _finish(draft)
    with call.cloud.store.atomic():
        call.cloud.store.put(kind.store, key, done)
        if kind.after:
            kind.after(call.cloud, key, "change")
    return done


async def patch(kind: Kind, call: Call) -> Operation:
    """JSON merge patch: null removes a field."""
    key, old = changing(kind, call)
    given = _accepted(kind, call.body) | {
        k: v for k, v in call.body.items() if k in ("fingerprint", "labelFingerprint")
    }
    doc = await patched(call, copy.deepcopy(old), _accepted(kind, call.body))
    done = change(call, kind, key, old, doc, given)
    return operate(call, kind, key, "patch", done)


def update(kind: Kind, call: Call) -> Operation:
    """Replace all fields that a client may write."""
    key, old = changing(kind, call)
    if kind.fingerprint and not call.body.get("fingerprint"):
        raise stale()
    kept = {k: v for k, v in old.items() if k in _KEPT or k.startswith("_") or k in kind.output}
    for field in kind.required:
        if call.body.get(field) in (None, "", []):
            raise missing(f"resource.{field}")
    done = change(
        call, kind, key, old, copy.deepcopy(kept) | _accepted(kind, call.body) | {"name": old["name"]}, call.body
    )
    return operate(call, kind, key, "update", done)


def setter(kind: Kind, call: Call) -> Operation:
    """A method that sets one field; a missing value removes it."""
    verb = call.method.id.rsplit(".", 1)[1]
    field, source = kind.setters[verb]
    key, old = changing(kind, call)
    doc = copy.deepcopy(old)
    value = call.body.get(source)
    if value in (None, "", []):
        doc.pop(field, None)
        if field in kind.required:
            raise missing(source)
    else:
        doc[field] = value
    given = {field: value} | {k: v for k, v in call.body.items() if k == "fingerprint"}
    done = change(call, kind, key, old, doc, given)
    return operate(call, kind, key, verb, done)


def set_labels(kind: Kind, call: Call) -> Operation:
    key, old = changing(kind, call)
    check_fingerprint(call.body, old, "labelFingerprint")
    check_labels(call.body.get("labels", {}), "labels")
    doc = copy.deepcopy(old) | {"labels": call.body.get("labels", {})}
    if not doc["labels"]:
        del doc["labels"]
    done = change(call, kind, key, old, doc, {})
    # Google answers this one when it is done (recorded).
    return call.operation(
        "setLabels", link(key), over=True, scope=key.rsplit("/", 2)[0], extra={"targetId": done["id"]}
    )


def delete(kind: Kind, call: Call) -> Operation:
    key, doc = changing(kind, call)
    if kind.guard:
        kind.guard(call.cloud, key, doc)
    for user in users(call.cloud, key):
        other = call.cloud.store.peek(kind_of(user), user) or {}
        if not other.get("_implied"):
            raise in_use(kind.singular, key, user, call.project_number)
    call.cloud.store.put(kind.store, key, doc | {"_deleting": True})
    return operate(call, kind, key, "delete", doc, action="compute.delete", args={"key": key})


@SERVICE.action("delete")
async def _delete(cloud: Cloud, op: Doc) -> None:
    remove(cloud, op["args"]["key"])


def remove(cloud: Cloud, key: str) -> None:
    """Remove a resource from the store, with its side effects."""
    kind = KINDS[kind_of(key)]
    with cloud.store.atomic():
        part(cloud, key)
        if kind.after and cloud.store.peek(kind.store, key) is not None:
            kind.after(cloud, key, "delete")
        cloud.store.delete(kind.store, key)
    cloud.iam.drop(f"//compute.googleapis.com/{key}")


# -- IAM policies of single resources --------------------------------------


def _policy_name(kind: Kind, call: Call) -> str:
    return f"//compute.googleapis.com/{existing(kind, call)[0]}"


def get_policy(kind: Kind, call: Call) -> Doc:
    policy = call.cloud.iam.policy(_policy_name(kind, call))
    return policies.shown(call, policy, call.params.get("optionsRequestedPolicyVersion", 0))


def set_policy(kind: Kind, call: Call) -> Doc:
    name = _policy_name(kind, call)
    policy = call.body.get("policy") or {k: v for k, v in call.body.items() if k in ("bindings", "etag")}
    call.cloud.iam.check(name, policy)
    return call.cloud.iam.set_policy(name, policy, conflict=412)


def test_permissions(kind: Kind, call: Call) -> Doc:
    return policies.granted(call, _policy_name(kind, call))
