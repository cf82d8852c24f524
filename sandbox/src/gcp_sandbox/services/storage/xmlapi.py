"""The XML API: objects and buckets over plain HTTP requests, for signed URLs and multipart uploads.

https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import base64
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from aiohttp import web

from gcp_sandbox.core import projects
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.services.storage import access, common, content, keys, objects, parts, upload
from gcp_sandbox.services.storage.common import SERVICE, Doc
from gcp_sandbox.services.storage.messages import Request, XmlError, element, parsed, xml
from gcp_sandbox.services.storage.permissions import require

_HOST = "storage.googleapis.com"
_LISTS = "http://doc.s3.amazonaws.com/2006-03-01"
# Other subresources of a bucket.
_SUBRESOURCES = {
    "acl",
    "billing",
    "cors",
    "encryption",
    "lifecycle",
    "logging",
    "policy",
    "storageClass",
    "tagging",
    "versions",
    "website",
}
_CODES = {
    400: ("InvalidArgument", "Invalid argument."),
    401: ("AuthenticationRequired", "Authentication required."),
    403: ("AccessDenied", "Access denied."),
    404: ("NoSuchKey", "The specified key does not exist."),
    412: ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold."),
    416: ("InvalidRange", "The requested range cannot be satisfied."),
    501: ("NotImplemented", "Not implemented."),
    429: ("SlowDown", "Please reduce your request rate."),
    503: ("ServiceUnavailable", "Service unavailable."),
}
# -- responses -------------------------------------------------------------


def _error(error: XmlError) -> web.Response:
    inner = element("Code", error.code) + element("Message", error.message)
    inner += "".join(element(k, v) for k, v in error.details.items())
    return xml("Error", inner, error.status, namespace="")


def _from_api(error: ApiError) -> XmlError:
    status = error.code
    if status == 401 and "does not have" in error.message:
        status = 403  # this API has no 401 for callers without credentials
    code, message = _CODES.get(status, ("InternalError", "We encountered an internal error."))
    special = {
        "The bucket you tried to delete is not empty.": "BucketNotEmpty",
        "Your previous request to create the named bucket succeeded and you already own it.": "BucketAlreadyOwnedByYou",
    }.get(error.message)
    if status == 409:
        code, message = special or "BucketAlreadyExists", error.message
        return XmlError(status, code, message)
    if status == 400 and "doesn't match calculated" in error.message:
        code, message = "BadDigest", "The Content-MD5 you specified did not match what we received."
    return XmlError(status, code, message, Details=error.message)


def _etag(doc: Doc) -> str:
    return f'"{base64.b64decode(doc["md5Hash"]).hex()}"' if "md5Hash" in doc else f'"{doc["etag"]}"'


def _unknown(what: str) -> XmlError:
    text = "A header or query you provided requested a function that is not implemented."
    return XmlError(501, "NotImplemented", text, Details=f"{what}: not in gcp-sandbox.")


def _headers(call: Request, doc: Doc) -> dict[str, str]:
    out = objects.headers(doc) | {"ETag": _etag(doc)}
    return out | {f"x-goog-meta-{k}": v for k, v in doc.get("metadata", {}).items()}


def _written(doc: Doc, status: int = 200) -> web.Response:
    hashes = objects.headers(doc)["X-Goog-Hash"]
    return web.Response(
        status=status,
        headers={
            "ETag": _etag(doc),
            "X-Goog-Generation": doc["generation"],
            "X-Goog-Metageneration": doc["metageneration"],
            "X-Goog-Hash": hashes,
            "X-Goog-Stored-Content-Length": doc["size"],
            "Server": "UploadServer",
            "X-Goog-Stored-Content-Encoding": doc.get("contentEncoding", "identity"),
            "Content-Length": "0",
        },
    )


# -- routes ----------------------------------------------------------------


@SERVICE.raw(_HOST, "/")
async def by_path(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """https://storage.googleapis.com/BUCKET/OBJECT"""
    path = request.raw_path.partition("?")[0].removeprefix("/")
    bucket, _, name = path.partition("/")
    return await _serve(cloud, request, unquote(bucket), unquote(name))


@SERVICE.raw(f"*.{_HOST}", "/")
async def by_host(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    """https://BUCKET.storage.googleapis.com/OBJECT"""
    bucket = (request.host or "").partition(":")[0].lower().removesuffix(f".{_HOST}")
    name = request.raw_path.partition("?")[0].removeprefix("/")
    return await _serve(cloud, request, bucket, unquote(name))


async def _serve(cloud: Cloud, request: web.BaseRequest, bucket: str, name: str) -> web.StreamResponse:
    try:
        if "upload_id" in request.rel_url.query and name:
            return await _resume(cloud, request)
        if project := projects.find(cloud, (cloud.store.peek(common.BUCKETS, bucket) or {}).get("_project", "")):
            cloud.restrictions.check_perimeter(project["projectId"], project["projectNumber"], SERVICE.host)
        call = Request(cloud, request, bucket, name)
        handler = (_OBJECT if name else _BUCKET if bucket else _SERVICE).get(request.method)
        if handler is None:
            raise XmlError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        return await handler(call)
    except XmlError as error:
        return _error(error)
    except common.NotModified:
        return web.Response(status=304)
    except ApiError as error:
        answer = _error(_from_api(error))
        answer.headers.update(error.headers)
        return answer


def fault_page(request: web.BaseRequest, error: ApiError) -> web.Response:
    """An internal error of Cloud Storage."""
    return _error(_from_api(error))


async def _resume(cloud: Cloud, request: web.BaseRequest) -> web.StreamResponse:
    answer = await upload.proceed(cloud, request, request.rel_url.query["upload_id"])
    return _written(answer) if isinstance(answer, dict) else answer


# -- objects ---------------------------------------------------------------


async def _get(call: Request) -> web.StreamResponse:
    if "uploadId" in call.query:
        return await parts.listed(call)
    doc = call.find("storage.objects.get")
    common.check_generation(call.params, doc["generation"], doc["metageneration"])
    if call.http.headers.get("If-None-Match") == _etag(doc):
        return web.Response(status=304, headers={"ETag": _etag(doc)})
    headers = _headers(call, doc)
    for name, header in (
        ("response-content-type", "Content-Type"),
        ("response-content-disposition", "Content-Disposition"),
    ):
        if name in call.query:
            headers[header] = call.query[name]
    keys.read(call.cloud, doc)
    file = content.path_of(call.cloud, doc["_blob"])
    head = call.http.method == "HEAD"
    return await content.send(call.http, file, headers, encoding=doc.get("contentEncoding", ""), head=head)


async def _put(call: Request) -> web.StreamResponse:
    if "partNumber" in call.query or "uploadId" in call.query:
        return await parts.put(call)
    if "x-goog-copy-source" in call.http.headers:
        return _copy(call)
    target = call.target()
    blob = content.Blob(call.cloud)
    try:
        await blob.fill(upload.received(call.http))
    except BaseException:
        blob.discard()
        raise
    return _written(target.finish(blob, upload.header_hashes(call.http)))


def _copy(call: Request) -> web.StreamResponse:
    bucket, _, name = unquote(call.http.headers["x-goog-copy-source"]).removeprefix("/").partition("/")
    here = call.bucket_name
    call.bucket_name = bucket
    source = call.find("storage.objects.get", name)
    call.bucket_name = here
    given = call.given
    if call.http.headers.get("x-goog-metadata-directive", "COPY").upper() == "COPY":
        given = {k: v for k, v in source.items() if k in (*objects.EDITABLE, "storageClass") and k != "acl"}
    target = upload.Target(call.cloud, call.principal, here, call.name, given, call.params)
    doc = objects.record(
        target.bucket,
        call.name,
        given,
        blob=content.link(call.cloud, source["_blob"]),
        size=int(source["size"]),
        md5=source.get("md5Hash", ""),
        crc32c=source["crc32c"],
    )
    doc |= access.object_list(target.bucket, call.name, None, call.params.get("predefinedAcl", ""), call.principal)
    doc = target.objects.add(doc)
    return xml("CopyObjectResult", element("LastModified", doc["updated"]) + element("ETag", _etag(doc)))


async def _post(call: Request) -> web.StreamResponse:
    if "uploads" in call.query:
        return parts.initiate(call)
    if "uploadId" in call.query:
        return await parts.complete(call)
    if call.http.headers.get("x-goog-resumable") == "start":
        target = call.target()
        ident = upload.begin(call.cloud, target, call.params)
        link = f"https://{call.http.host}{quote(call.http.path, safe='/-_.~')}?upload_id={ident}"
        return web.Response(
            status=201, headers={"Location": link, "X-GUploader-UploadID": ident, "Content-Length": "0"}
        )
    raise XmlError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")


async def _delete(call: Request) -> web.StreamResponse:
    if "uploadId" in call.query:
        return parts.abort(call)
    doc = call.find("storage.objects.delete")
    common.guard(call.params, doc["generation"], doc["metageneration"])
    upload.held(call.bucket, doc)
    objects.Objects(call.cloud, call.bucket).delete(doc, by_generation="generation" in call.query)
    return web.Response(status=204)


# -- buckets ---------------------------------------------------------------


async def _buckets(call: Request) -> web.StreamResponse:
    """GET / : the buckets of the given project, or of the account's own."""
    named = call.http.headers.get("x-goog-project-id", "")
    project = projects.find(call.cloud, named) if named else projects.of_account(call.cloud, call.principal.email)
    if project is None:
        raise XmlError(
            400, "MissingSecurityHeader", "Your request was missing a required header.", Details="x-goog-project-id"
        )
    if not call.cloud.iam.allows(call.principal, "storage.buckets.list", project_resource(project["projectId"])):
        raise common.denied(call.principal, "storage.buckets.list")
    inner = "".join(
        "<Bucket>" + element("Name", doc["name"]) + element("CreationDate", doc["timeCreated"]) + "</Bucket>"
        for _, doc in call.cloud.store.list(common.BUCKETS)
        if doc["_project"] == project["projectId"]
    )
    owner = "<Owner>" + element("ID", project["projectNumber"]) + "</Owner>"
    return xml("ListAllMyBucketsResult", f"{owner}<Buckets>{inner}</Buckets>", namespace=_LISTS)


async def _post_bucket(call: Request) -> web.StreamResponse:
    """POST ?delete : delete the objects named in the body."""
    if call.http.headers.get("Content-Type", "").startswith("multipart/form-data"):
        raise _unknown("A form's upload")
    if "delete" not in call.query:
        raise XmlError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    root = parsed(await call.http.read())
    inner = ""
    for node in root.iter("Object"):
        name, version = node.findtext("Key", ""), node.findtext("VersionId")
        try:
            found = objects.Objects(call.cloud, call.bucket)
            doc = found.get(name, version)
            require(
                call.cloud,
                call.principal,
                "storage.objects.delete",
                call.bucket,
                access.list_of(call.bucket, doc),
                name,
            )
            if doc is not None:  # a nonexistent object counts as deleted
                upload.held(call.bucket, doc)
                found.delete(doc, by_generation=version is not None)
        except ApiError as error:
            why = _from_api(error)
            inner += (
                f"<Error>{element('Key', name)}{element('Code', why.code)}{element('Message', why.message)}</Error>"
            )
            continue
        if root.findtext("Quiet") != "true":
            inner += f"<Deleted>{element('Key', name)}</Deleted>"
    return xml("DeleteResult", inner)


async def _list(call: Request) -> web.StreamResponse:
    bucket = call.bucket
    if "uploads" in call.query:
        return parts.uploads(call)
    if call.http.method == "HEAD" or "location" in call.query:
        require(call.cloud, call.principal, "storage.buckets.get", bucket)
        if "location" in call.query:
            return xml("LocationConstraint", escape(bucket["location"]), namespace="")
        return web.Response(headers={"Content-Type": "application/xml; charset=UTF-8"})
    if "versioning" in call.query:
        require(call.cloud, call.principal, "storage.buckets.get", bucket)
        enabled = bucket.get("versioning", {}).get("enabled")
        return xml("VersioningConfiguration", element("Status", "Enabled") if enabled else "")
    for name in _SUBRESOURCES & call.query.keys():
        raise _unknown(f"?{name}")
    require(call.cloud, call.principal, "storage.objects.list", bucket)
    query = call.query
    second = query.get("list-type") == "2"
    token = query.get("continuation-token", "")
    after = query.get("start-after", "") if second else query.get("marker", "")
    params: Doc = {"prefix": query.get("prefix", ""), "delimiter": query.get("delimiter", ""), "pageToken": token}
    if query.get("max-keys", "1000").isdigit():
        params["maxResults"] = int(query.get("max-keys", "1000"))
    if after and not token:
        params["pageToken"] = base64.urlsafe_b64encode(f"{after}\0{10**20}".encode()).decode()
    chosen, prefixes, following = objects.pages(objects.Objects(call.cloud, bucket).all(), params)
    inner = element("Name", bucket["name"]) + element("Prefix", params["prefix"])
    if params["delimiter"]:
        inner += element("Delimiter", params["delimiter"])
    inner += element("KeyCount", len(chosen) + len(prefixes)) if second else element("Marker", after)
    inner += element("IsTruncated", "true" if following else "false")
    if following:
        last = max([d["name"] for d in chosen] + prefixes)
        inner += element("NextContinuationToken", following) if second else element("NextMarker", last)
    for doc in chosen:
        values = (
            ("Key", doc["name"]),
            ("Generation", doc["generation"]),
            ("MetaGeneration", doc["metageneration"]),
            ("LastModified", doc["updated"]),
            ("ETag", _etag(doc)),
            ("Size", doc["size"]),
        )
        inner += "<Contents>" + "".join(element(k, v) for k, v in values) + "</Contents>"
    inner += "".join("<CommonPrefixes>" + element("Prefix", p) + "</CommonPrefixes>" for p in prefixes)
    return xml("ListBucketResult", inner, namespace=_LISTS)


_OBJECT = {"GET": _get, "HEAD": _get, "PUT": _put, "POST": _post, "DELETE": _delete}
_BUCKET = {"GET": _list, "HEAD": _list, "POST": _post_bucket}
_SERVICE = {"GET": _buckets}
