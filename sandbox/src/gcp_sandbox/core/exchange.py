"""A request to Google, and the headers that Google's front end adds to every response."""

from __future__ import annotations

from aiohttp import hdrs, web

# Key of a request: the headers that a load balancer adds to every response.
ANSWER = "gcp_sandbox.answer"


class Exchange(web.BaseRequest):
    """A request whose response does not reveal the sandbox's HTTP server."""

    async def _prepare_hook(self, resp: web.StreamResponse) -> None:
        if resp.headers.get(hdrs.SERVER, "").startswith("Python/"):  # not set by a handler: aiohttp's own value
            host = (self.host or "").split(":")[0].lower()
            if ANSWER in self:
                del resp.headers[hdrs.SERVER]
            else:
                resp.headers[hdrs.SERVER] = "UploadServer" if host.endswith("storage.googleapis.com") else "ESF"
        for name, value in self.get(ANSWER, {}).items():
            resp.headers[name] = value


def is_secure(request: web.BaseRequest) -> bool:
    """Whether a request was sent over TLS."""
    return request.transport is not None and request.transport.get_extra_info("sslcontext") is not None
