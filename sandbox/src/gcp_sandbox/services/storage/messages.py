"""Requests and responses of the XML API, and their XML."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from aiohttp import web

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.services.storage import access, common, objects, permissions, signed, upload
from gcp_sandbox.services.storage.common import Doc, bucket_of
from gcp_sandbox.services.storage.permissions import require

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# Headers that set an object's metadata.
_FIELDS = {
    "Cache-Control": "cacheControl",
    "Content-Disposition": "contentDisposition",
    "Content-Encoding": "contentEncoding",
    "Content-Language": "contentLanguage",
    "Content-Type": "contentType",
    "x-goog-custom-time": "customTime",
}
_PRESETS = {
    "private": "private",
    "public-read": "publicRead",
    "public-read-write": "publicReadWrite",
    "authenticated-read": "authenticatedRead",
    "bucket-owner-read": "bucketOwnerRead",
    "project-private": "projectPrivate",
    "bucket-owner-full-control": "bucketOwnerFullControl",
}


class XmlError(Exception):
    """An error in the XML API's wording; details become further elements."""

    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details


class Request:
    """One request: its caller, bucket and object."""

    def __init__(self, cloud: Cloud, request: web.BaseRequest, bucket: str, name: str) -> None:
        self.cloud, self.http, self.bucket_name, self.name = cloud, request, bucket, name
        self.query = request.rel_url.query
        resource = f"/{bucket}" + (f"/{quote(name, safe='/-_.~')}" if name else "")
        try:
            self.principal = signed.signer(cloud, request, resource) or self._bearer()
        except signed.BadSignature as error:
            raise XmlError(error.status, error.code, error.message, **error.details) from None
        common.refuse_keys(request)

    def _bearer(self) -> Principal:
        try:
            return self.cloud.authenticate(self.http, anonymous=True)
        except ApiError as error:
            raise XmlError(401, "AuthenticationRequired", "Authentication required.", Details=error.message) from None

    @property
    def bucket(self) -> Doc:
        """The bucket's record.  Raises XmlError 404."""
        try:
            return bucket_of(self.cloud, self.bucket_name)
        except ApiError:
            raise XmlError(404, "NoSuchBucket", "The specified bucket does not exist.") from None

    @property
    def params(self) -> Doc:
        """Preconditions and presets, with the JSON API's names."""
        out: Doc = {}
        for word in ("generation-match", "metageneration-match"):
            value = self.http.headers.get(f"x-goog-if-{word}")
            if value is not None:
                out["ifGenerationMatch" if word.startswith("gen") else "ifMetagenerationMatch"] = value
        preset = self.http.headers.get("x-goog-acl", "")
        if preset:
            if preset not in _PRESETS:
                raise XmlError(400, "InvalidArgument", "Invalid argument.", Details=f"Invalid canned ACL {preset}")
            out["predefinedAcl"] = _PRESETS[preset]
        return out

    @property
    def given(self) -> Doc:
        """The object metadata that the headers set."""
        headers = self.http.headers
        out: Doc = {field: headers[name] for name, field in _FIELDS.items() if name in headers}
        out.setdefault("contentType", "application/octet-stream")
        if "x-goog-storage-class" in headers:
            out["storageClass"] = headers["x-goog-storage-class"]
        begin = "x-goog-meta-"
        custom = {k[len(begin) :].lower(): v for k, v in headers.items() if k.lower().startswith(begin)}
        return out | ({"metadata": custom} if custom else {})

    def target(self) -> upload.Target:
        """The validated target of an upload."""
        _ = self.bucket
        return upload.Target(self.cloud, self.principal, self.bucket_name, self.name, self.given, self.params)

    def find(self, permission: str, name: str = "") -> Doc:
        """The object's record.  Raises ApiError, XmlError."""
        bucket, name = self.bucket, name or self.name
        doc = objects.Objects(self.cloud, bucket).get(name, self.query.get("generation"))
        if doc or permissions.uniform(bucket):  # otherwise no list could allow it
            require(self.cloud, self.principal, permission, bucket, access.list_of(bucket, doc), name)
        if doc is None:
            require(self.cloud, self.principal, "storage.objects.list", bucket)
            text = f"No such object: {bucket['name']}/{name}"
            raise XmlError(404, "NoSuchKey", "The specified key does not exist.", Details=text)
        return doc


def xml(root: str, content_: str, status: int = 200, namespace: str = NAMESPACE) -> web.Response:
    """An XML response; content_: its inner elements."""
    attribute = f" xmlns='{namespace}'" if namespace else ""
    text = f"<?xml version='1.0' encoding='UTF-8'?><{root}{attribute}>{content_}</{root}>"
    return web.Response(
        status=status,
        body=text.encode(),
        content_type="application/xml",
        charset="UTF-8",
        headers={"Server": "UploadServer"},
    )


def element(name: str, value: Any) -> str:
    """One element."""
    return f"<{name}>{escape(str(value))}</{name}>"


def parsed(data: bytes) -> ElementTree.Element:
    """A request's XML, without namespaces.  Raises XmlError 400."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise XmlError(400, "MalformedXML", "The XML you provided was not well-formed.", Details=str(error)) from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    return root
