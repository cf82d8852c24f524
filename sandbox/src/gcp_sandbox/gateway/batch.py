"""Multiple calls in one request: POST /batch/… with a part of type application/http for each.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def is_batch(request: web.BaseRequest) -> bool:
    """Whether a request is a batch."""
    return (
        request.method == "POST"
        and (request.path == "/batch" or request.path.startswith("/batch/"))
        and request.content_type == "multipart/mixed"
    )


async def serve(request: web.BaseRequest, handle: Handler) -> web.Response:
    """Handle the parts one after the other, and respond with a part for each."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    whole = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + await request.read())
    parts = [part for part in whole.iter_parts() if part.get_content_type() == "application/http"]
    if not parts:
        return web.json_response({"error": {"code": 400, "message": "Failed to parse batch request."}}, status=400)
    boundary = f"batch_{secrets.token_urlsafe(24)}"
    out = bytearray()
    for part in parts:
        answer = await handle(_inner(request, bytes(part.get_payload(decode=True))))
        ident = str(part.get("Content-ID", "")).strip().removeprefix("<")
        out += f"--{boundary}\r\nContent-Type: application/http\r\n".encode()
        out += f"Content-ID: <response-{ident or '>'}\r\n\r\n".encode()
        out += _text(answer) + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return web.Response(body=bytes(out), headers={"Content-Type": f"multipart/mixed; boundary={boundary}"})


def _inner(outer: web.BaseRequest, text: bytes) -> web.BaseRequest:
    """The request in a part; headers that it lacks (especially credentials) are inherited from the outer request."""
    head, body = (re.split(rb"\r?\n\r?\n", text.lstrip(), maxsplit=1) + [b""])[:2]
    first, *lines = head.decode("latin-1").splitlines()
    method, _, target = first.partition(" ")
    url = URL(target.rsplit(" HTTP/", 1)[0], encoded=True)
    own = CIMultiDict((name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    headers = CIMultiDict(
        (n, v) for n, v in outer.headers.items() if n not in own and not n.lower().startswith("content-")
    )
    headers.extend(own)
    headers["Host"], headers["Content-Length"] = outer.host, str(len(body))
    raw = tuple((name.encode(), value.encode()) for name, value in headers.items())
    target = url.raw_path_qs
    message = RawRequestMessage(
        method,
        target,
        HttpVersion11,
        CIMultiDictProxy(headers),
        raw,
        False,
        None,
        False,
        False,
        URL(target, encoded=True),
    )
    loop = asyncio.get_running_loop()
    content = StreamReader(outer.protocol, 1 << 16, loop=loop)
    content.feed_data(body)
    content.feed_eof()
    return web.BaseRequest(message, content, outer.protocol, outer.writer, outer.task, loop, client_max_size=1 << 30)


def _text(answer: web.StreamResponse) -> bytes:
    body = answer.body if isinstance(answer, web.Response) and isinstance(answer.body, bytes) else b""
    headers = answer.headers.copy()
    headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
