"""A request to Google, and the headers that every answer gets on its way back through Google's front end."""

from __future__ import annotations

from aiohttp import hdrs, web

# Key of a request: the headers that a load balancer adds to the answer, whoever gives it.
ANSWER = "gcp_sandbox.answer"


class Exchange(web.BaseRequest):
    """A request whose answer does not say what serves it here."""

    async def _prepare_hook(self, resp: web.StreamResponse) -> None:
        if resp.headers.get(hdrs.SERVER, "").startswith("Python/"):  # nobody said it: it is what aiohttp says
            host = (self.host or "").split(":")[0].lower()
            if ANSWER in self:
                del resp.headers[hdrs.SERVER]
            else:
                resp.headers[hdrs.SERVER] = "UploadServer" if host.endswith("storage.googleapis.com") else "ESF"
        for name, value in self.get(ANSWER, {}).items():
            resp.headers[name] = value


def is_secure(request: web.BaseRequest) -> bool:
    """Whether a request came by TLS."""
    return request.transport is not None and request.transport.get_extra_info("sslcontext") is not None
