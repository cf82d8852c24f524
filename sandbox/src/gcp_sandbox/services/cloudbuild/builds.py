"""The methods of builds, regional and global.

https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds
"""

from __future__ import annotations

import base64
import re
import uuid
from typing import Any

from gcp_sandbox.core import projects
from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import Operation, now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.services.compute import filters
from gcp_sandbox.services.compute.places import REGIONS
from gcp_sandbox.services.iam import service_account
from gcp_sandbox.services.storage import permissions as storage
from gcp_sandbox.services.storage.common import BUCKETS
from gcp_sandbox.services.storage.objects import Objects

Doc = dict[str, Any]
KIND = "cloudbuild.builds"
ENDED = ("SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED")
# https://cloud.google.com/build/quotas; a machine of the default type has two CPUs.
CPUS, CPUS_OF_A_BUILD = "cloudbuild.googleapis.com/concurrent_public_pool_build_cpus", 2
_IDS = ("cloudbuild.projects.builds", "cloudbuild.projects.locations.builds")
_ACCOUNT = re.compile(r"projects/([^/]+)/serviceAccounts/([^/]+@[^/]+)")
_BUILT_IN = ("PROJECT_ID", "PROJECT_NUMBER", "BUILD_ID", "LOCATION")
_LOGGED_ELSEWHERE = ("CLOUD_LOGGING_ONLY", "NONE")


def _denied(call: Call, permission: str, shown: str) -> ApiError:
    return ApiError(403, "The caller does not have permission", status="PERMISSION_DENIED")


def _project(call: Call) -> str | None:
    """The project of a call; that of a global operation is in its name."""
    name = call.params.get("name") or call.params.get("parent") or ""
    if found := re.match(r"operations/build/([^/]+)/", name):
        return found[1]
    found = re.match(r"projects/([^/]+)", name)
    return found[1] if found else call.params.get("projectId")


SERVICE = Service("cloudbuild", "v1", denied=_denied)
SERVICE.project_of = _project


def _place(call: Call) -> str:
    name = call.params.get("name") or call.params.get("parent") or ""
    found = re.match(r"projects/[^/]+/locations/([^/]+)", name)
    place = found[1] if found else "global"
    if place not in ("global", "-", *REGIONS):
        raise ApiError(404, f"Location {place} is not found or access is unauthorized.")
    return place


def _parent(call: Call) -> str:
    return f"projects/{call.project_id}/locations/{_place(call)}"


def key_of(call: Call) -> str:
    """Key of the build that a call names, by its name or, in a call without a location, by its ID."""
    ident = call.params.get("id") or call.params["name"].rpartition("/")[2]
    return f"{_parent(call)}/builds/{ident}"


def existing(call: Call) -> Doc:
    """The build that a call names.  Raises ApiError 404."""
    doc = call.cloud.store.get(KIND, key_of(call))
    if doc is None:
        raise ApiError(404, "Requested entity was not found.")
    return doc


def shown(doc: Doc) -> Doc:
    """A build as clients see it."""
    return {key: value for key, value in doc.items() if not key.startswith("_")}


# -- creating --------------------------------------------------------------


@SERVICE.method(*(f"{ids}.create" for ids in _IDS), permission="cloudbuild.builds.create")
def create(call: Call) -> Operation:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds/create"""
    return begin(call, {key: value for key, value in call.body.items() if key not in ("id", "name", "projectId")})


def begin(call: Call, body: Doc) -> Operation:
    """Check a build, and start it.  Raises ApiError."""
    call.guard()
    cloud, place, ident = call.cloud, _place(call), str(uuid.uuid4())
    _check_region(call, place)
    if not body.get("steps"):
        raise _wrong("invalid build: no build steps are specified")
    email = _account(call, body)
    body = _substituted(call, body, ident, place)
    _check_images(body)
    key = f"projects/{call.project_id}/locations/{place}/builds/{ident}"
    region = "" if place == "global" else f";region={place}"
    doc: Doc = {
        "queueTtl": "3600s",
        "timeout": "3600s",
        **body,
        "name": f"projects/{call.project_number}/locations/{place}/builds/{ident}",
        "id": ident,
        "projectId": call.project_id,
        "status": "QUEUED",
        "createTime": now(),
        "logUrl": f"https://console.cloud.google.com/cloud-build/builds{region}/{ident}?project={call.project_number}",
        "serviceAccount": f"projects/{call.project_id}/serviceAccounts/{email}",
        "sourceProvenance": _provenance(call, body, email),
        "_account": email,
        "_body": call.body,
    }
    if body.get("images"):
        doc["artifacts"] = {"images": body["images"]} | body.get("artifacts", {})
    doc.setdefault("options", {"logging": "LEGACY"})
    if doc["options"].get("logging", "LEGACY") not in _LOGGED_ELSEWHERE:
        doc.setdefault("logsBucket", f"gs://{call.project_number}.cloudbuild-logs.googleusercontent.com")
    cloud.store.put(KIND, key, doc)
    name = base64.urlsafe_b64encode(ident.encode()).decode().rstrip("=")
    op = call.operation(
        "create",
        key,
        action="cloudbuild.build",
        args={"key": key, "place": place, "name": name},
        scope="" if place == "global" else f"projects/{call.project_id}/locations/{place}",
        extra={"prefix": f"build/{call.project_id}/"},
        metadata=metadata(doc),
        latency=KIND,
    )
    if "fault" in op:  # the build is there, and ends with the error
        cloud.store.put(KIND, key, doc | {"_fault": op.pop("fault")})
        op.pop("undo")
        cloud.store.put("operations", op["id"], op)
    return op


def metadata(doc: Doc) -> Doc:
    """The metadata of a build's operation."""
    return {"@type": "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata", "build": shown(doc)}


def _wrong(text: str) -> ApiError:
    return ApiError(400, text)


def _check_region(call: Call, place: str) -> None:
    limit = call.cloud.restrictions.quota(CPUS, call.project_id, place)
    if limit and limit[0] < CPUS_OF_A_BUILD:
        raise ApiError(
            400,
            "failed precondition: due to quota restrictions, Cloud Build cannot run builds in this region. Please "
            "contact support or see https://cloud.google.com/build/docs/locations#restricted_regions_for_some_projects",
            status="FAILED_PRECONDITION",
        )


def _account(call: Call, body: Doc) -> str:
    """The e-mail address of the account that a build runs as; the caller may act as it.  Raises ApiError."""
    given = body.get("serviceAccount", "")
    email = f"{call.project_number}-compute@developer.gserviceaccount.com"
    if given:
        found = _ACCOUNT.fullmatch(given)
        if not found:
            raise _wrong(
                f'invalid value for "build.service_account": "{given}" must be of the form '
                '"projects/{project}/serviceAccounts/{account}"'
            )
        email = found[2]
        options = body.get("options", {})
        if not (
            body.get("logsBucket")
            or options.get("defaultLogsBucketBehavior") == "REGIONAL_USER_OWNED_BUCKET"
            or options.get("logging") in _LOGGED_ELSEWHERE
        ):
            raise _wrong(
                "if 'build.service_account' is specified, the build must either (a) specify 'build.logs_bucket', (b) use "
                "the REGIONAL_USER_OWNED_BUCKET build.options.default_logs_bucket_behavior option, or (c) use either "
                "CLOUD_LOGGING_ONLY / NONE logging options: invalid argument"
            )
    account = service_account(call.cloud, email)
    project = account["projectId"] if account else ""
    resources = (project_resource(project), f"//iam.googleapis.com/projects/{project}/serviceAccounts/{email}")
    if account is None or not call.cloud.iam.allows(call.principal, "iam.serviceAccounts.actAs", *resources):
        shown_ = given or f"projects/{call.project_id}/serviceAccounts/{email}"
        raise ApiError(
            403, f"caller does not have permission to act as service account {shown_}", status="PERMISSION_DENIED"
        )
    return email


def _substituted(call: Call, body: Doc, ident: str, place: str) -> Doc:
    """A build with its substitutions made.  Raises ApiError for one that is not known, or not used."""
    given = body.get("substitutions", {})
    known = {"PROJECT_ID": call.project_id, "PROJECT_NUMBER": call.project_number, "BUILD_ID": ident, "LOCATION": place}
    used: set[str] = set()

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if found[0] == "$$":
            return "$"
        if name not in known and name not in given:
            raise _wrong(
                f'generic::invalid_argument: invalid value for "build.substitutions": key in the template "{name}" is not '
                f"a valid built-in substitution"
            )
        used.add(name)
        return str(known.get(name) or given[name])

    def replaced(part: Any) -> Any:
        if isinstance(part, str):
            return re.sub(r"\$\$|\$(?:([A-Z_][A-Z0-9_]*)|\{([A-Z_][A-Z0-9_]*)\})", value, part)
        if isinstance(part, list):
            return [replaced(item) for item in part]
        return {key: replaced(item) for key, item in part.items()} if isinstance(part, dict) else part

    out = body | {key: replaced(body[key]) for key in ("steps", "images", "tags", "artifacts") if key in body}
    loose = body.get("options", {}).get("substitutionOption") == "ALLOW_LOOSE"
    if (unused := sorted(given.keys() - used - set(_BUILT_IN))) and not loose:
        raise _wrong(
            f'generic::invalid_argument: invalid value for "build.substitutions": key in the substitution data '
            f'"{unused[0]}" is not matched in the template'
        )
    return out


def _check_images(body: Doc) -> None:
    for image in body.get("images", ()):
        if not re.fullmatch(r"[a-z0-9.-]+(?:/[a-z0-9._-]+)+(?::[\w.-]+)?", image):
            raise _wrong(f'invalid build: invalid image name "{image}": could not parse reference: {image}')


def _provenance(call: Call, body: Doc, email: str) -> Doc:
    """Where the source came from.  Raises ApiError if the build's account cannot read it."""
    source = body.get("source", {}).get("storageSource")
    if source is None:
        if body.get("source"):
            raise ApiError(501, "gcp-sandbox builds only from storageSource.")
        return {}
    bucket = call.cloud.store.get(BUCKETS, source.get("bucket", ""))
    name, principal = source.get("object", ""), Principal(email)
    if bucket is None:
        raise _wrong("could not resolve source: googleapi: Error 404: The specified bucket does not exist., notFound")
    if not storage.allows(call.cloud, principal, "storage.objects.get", bucket, name=name):
        raise _wrong(
            f"could not resolve source: googleapi: Error 403: {email} does not have storage.objects.get access to the "
            "Google Cloud Storage object. Permission 'storage.objects.get' denied on resource (or it may not exist)., "
            "forbidden"
        )
    found = Objects(call.cloud, bucket).get(name, source.get("generation"))
    if found is None:
        raise _wrong(
            f"could not resolve source: googleapi: Error 404: No such object: {bucket['name']}/{name}, notFound"
        )
    resolved = {"bucket": bucket["name"], "object": name, "generation": found["generation"]}
    return {"resolvedStorageSource": resolved}


# -- reading and changing --------------------------------------------------


@SERVICE.method(*(f"{ids}.get" for ids in _IDS), permission="cloudbuild.builds.get")
def get(call: Call) -> Doc:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds/get"""
    return shown(existing(call))


@SERVICE.method(*(f"{ids}.list" for ids in _IDS), permission="cloudbuild.builds.list")
def list_(call: Call) -> Doc:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds/list"""
    test = filters.matches(call.params["filter"]) if call.params.get("filter") else None
    place = _place(call)
    stem = f"projects/{call.project_id}/locations/"
    docs = [
        shown(doc)
        for key, doc in call.cloud.store.list(KIND, stem if place == "-" else f"{stem}{place}/")
        if test is None or _matches(test, doc)
    ]
    return page(call, "builds", sorted(docs, key=lambda doc: doc["createTime"], reverse=True))


def _matches(test: filters.Test, doc: Doc) -> bool:
    """Whether a filter matches a build, whose fields are written in snake case in it."""
    flat = {re.sub("[A-Z]", lambda found: "_" + found[0].lower(), key): value for key, value in doc.items()}
    return any(test(flat | {"tags": tag}) for tag in doc.get("tags") or [""])


@SERVICE.method(*(f"{ids}.cancel" for ids in _IDS), permission="cloudbuild.builds.update")
def cancel(call: Call) -> Doc:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds/cancel"""
    doc = existing(call)
    if doc["status"] in ENDED:
        raise ApiError(400, f"cannot cancel build {doc['id']} in status {doc['status']}", status="FAILED_PRECONDITION")
    doc |= {"status": "CANCELLED", "finishTime": now()}
    return shown(call.cloud.store.put(KIND, key_of(call), doc))


@SERVICE.method(*(f"{ids}.retry" for ids in _IDS), permission="cloudbuild.builds.create")
def retry(call: Call) -> Operation:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds/retry"""
    doc = existing(call)
    if doc["status"] not in ENDED:
        raise ApiError(400, f"build {doc['id']} is not finished", status="FAILED_PRECONDITION")
    return begin(call, doc["_body"])


@SERVICE.method("cloudbuild.projects.locations.getDefaultServiceAccount", permission="cloudbuild.builds.list")
def default_account(call: Call) -> Doc:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.locations/getDefaultServiceAccount"""
    email = f"{call.project_number}-compute@developer.gserviceaccount.com"
    return {
        "name": f"projects/{call.project_number}/locations/{_place(call)}/defaultServiceAccount",
        "serviceAccountEmail": f"projects/{call.project_number}/serviceAccounts/{email}",
    }


# -- operations ------------------------------------------------------------


def _operation(call: Call) -> Operation:
    found = call.cloud.operations.get(call.params["name"].rpartition("/")[2])
    if found is None or found["service"] != SERVICE.name or found["project"] != call.project_id:
        raise ApiError(404, "Requested entity was not found.")
    return found


@SERVICE.method(
    "cloudbuild.operations.get", "cloudbuild.projects.locations.operations.get", permission="cloudbuild.builds.get"
)
def get_operation(call: Call) -> Operation:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/operations/get"""
    op = _operation(call)
    doc = call.cloud.store.peek(KIND, op["args"]["key"])
    return Operation(op | {"metadata": metadata(doc)}) if doc else op


@SERVICE.method(
    "cloudbuild.operations.cancel",
    "cloudbuild.projects.locations.operations.cancel",
    permission="cloudbuild.builds.update",
)
def cancel_operation(call: Call) -> Doc:
    """https://cloud.google.com/build/docs/api/reference/rest/v1/operations/cancel"""
    key = _operation(call)["args"]["key"]
    doc = call.cloud.store.get(KIND, key)
    if doc and doc["status"] not in ENDED:
        call.cloud.store.put(KIND, key, doc | {"status": "CANCELLED", "finishTime": now()})
    return {}


def running(cloud: Cloud, project: str, place: str) -> int:
    """How many builds of a project are at work in a place."""
    stem = f"projects/{project}/locations/{place}/builds/"
    return sum(doc["status"] == "WORKING" for _, doc in cloud.store.list(KIND, stem))


def number(cloud: Cloud, project: str) -> str:
    """The number of a project."""
    doc = projects.find(cloud, project)
    return str(doc["projectNumber"]) if doc else ""
