"""Uploads by HTML forms: a signed policy says what may be sent.

https://cloud.google.com/storage/docs/xml-api/post-object-forms, https://cloud.google.com/storage/docs/authentication/signatures
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime

from aiohttp import BodyPartReader, web

from gcp_sandbox.core.auth import Principal
from gcp_sandbox.services.storage import content, signed, upload, xmlapi
from gcp_sandbox.services.storage.common import Doc
from gcp_sandbox.services.storage.xmlapi import Request

# Fields that a policy need not speak of.
_FREE = {"policy", "x-goog-signature", "x-amz-signature", "file"}
_SET = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-type": "contentType",
    "x-goog-custom-time": "customTime",
}


async def post(call: Request) -> web.StreamResponse:
    """POST of a form to a bucket: fields first, the file last."""
    try:
        reader = await call.http.multipart()
    except ValueError as error:  # no boundary
        raise _invalid(str(error)) from None
    fields: dict[str, str] = {}
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader):
            raise _invalid("A part of the form has parts itself.")
        if (part.name or "").lower() == "file":
            return await _file(call, fields, part)
        fields[(part.name or "").lower()] = await part.text()
    raise _invalid("POST requires exactly one file upload per request.")


async def _file(call: Request, fields: dict[str, str], part: BodyPartReader) -> web.StreamResponse:
    name = fields.get("key", "").replace("${filename}", part.filename or "")
    if not name:
        raise _invalid("Bucket POST must contain a field named 'key'.")
    policy: Doc = {}
    principal = call.principal
    if "policy" in fields:
        principal, policy = _checked(call, fields)
    given: Doc = {field: fields[key] for key, field in _SET.items() if key in fields}
    given.setdefault("contentType", "application/octet-stream")
    custom = {k.removeprefix("x-goog-meta-"): v for k, v in fields.items() if k.startswith("x-goog-meta-")}
    target = upload.Target(
        call.app, principal, call.bucket["name"], name, given | ({"metadata": custom} if custom else {}), {}
    )
    blob = content.Blob(call.app)
    try:
        while chunk := await part.read_chunk(content.CHUNK):
            blob.write(chunk)
        blob.close()
        _measured(policy, blob.size)
    except BaseException:
        blob.discard()
        raise
    doc = target.finish(blob, {})
    if "success_action_redirect" in fields:
        return web.Response(status=303, headers={"Location": fields["success_action_redirect"]})
    status = fields.get("success_action_status", "204")
    if status == "201":
        inner = "".join(
            xmlapi.element(k, v) for k, v in (("Bucket", doc["bucket"]), ("Key", name), ("ETag", doc["etag"]))
        )
        return xmlapi.xml("PostResponse", inner, 201)
    return web.Response(status=200 if status == "200" else 204)


def _checked(call: Request, fields: dict[str, str]) -> tuple[Principal, Doc]:
    """Who signed a form's policy, and the policy, when the fields keep to it.  Raises XmlError."""
    try:
        principal = signed.form(call.app, fields)
        policy: Doc = json.loads(base64.b64decode(fields["policy"]))
        until = datetime.fromisoformat(policy["expiration"])
        conditions = policy["conditions"]
    except signed.BadSignature as error:
        raise xmlapi.XmlError(error.status, error.code, error.message, **error.details) from None
    except (ValueError, KeyError, TypeError, binascii.Error):
        text = "The content of the form does not meet the conditions specified in the policy document."
        raise xmlapi.XmlError(400, "InvalidPolicyDocument", text) from None
    if until < datetime.now(UTC):
        raise _denied("Policy expired.")
    sent = fields | {"bucket": call.bucket["name"]}
    spoken = set()
    for condition in conditions:
        pairs = [("eq", f"${k}", v) for k, v in condition.items()] if isinstance(condition, dict) else [condition]
        for how, what, value in pairs:
            key = str(what).removeprefix("$").lower()
            if how in ("eq", "starts-with"):
                spoken.add(key)
                text = sent.get(key, "")
                if not (text == value if how == "eq" else text.startswith(value)):
                    raise _denied(f"Policy did not reference these fields: {key}, or its condition failed.")
    extra = sorted(key for key in fields if key not in spoken | _FREE and not key.startswith("x-ignore-"))
    if extra:
        raise _denied(f"Policy did not reference these fields: {', '.join(extra)}")
    return principal, policy


def _measured(policy: Doc, size: int) -> None:
    for condition in policy.get("conditions", []):
        if isinstance(condition, list) and condition[0] == "content-length-range":
            least, most = int(condition[1]), int(condition[2])
            if size < least:
                raise xmlapi.XmlError(
                    400, "EntityTooSmall", "Your proposed upload is smaller than the minimum object size."
                )
            if size > most:
                raise xmlapi.XmlError(
                    400, "EntityTooLarge", "Your proposed upload is larger than the maximum object size."
                )


def _invalid(text: str) -> xmlapi.XmlError:
    return xmlapi.XmlError(400, "InvalidArgument", "Invalid argument.", Details=text)


def _denied(text: str) -> xmlapi.XmlError:
    return xmlapi.XmlError(403, "AccessDenied", "Access denied.", Details=text)
