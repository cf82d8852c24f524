"""The metadata server that a container asks for its project and for tokens of its service account.

https://cloud.google.com/run/docs/container-contract#metadata-server
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from typing import Any

from aiohttp import web

from gcp_sandbox.core.auth import CLOUD_PLATFORM
from gcp_sandbox.core.cloud import Cloud

_ROOT = "/computeMetadata/v1/"
_HEADERS = {"Metadata-Flavor": "Google", "Server": "Metadata Server for Serverless"}


class MetadataServer:
    """A metadata server: of an instance, on its own address and any free port; or of the machine of the clients."""

    def __init__(self, cloud: Cloud, account: str, project: dict[str, Any], region: str) -> None:
        self._cloud, self._account, self._project, self._region = cloud, account, project, region
        self.instance_id = secrets.token_hex(64)
        self._server: asyncio.Server | None = None
        self._http = web.Server(self._handle, access_log=None)

    async def start(self, address: str) -> str:
        """Listen; returns host:port."""
        self._server = await asyncio.get_running_loop().create_server(self._http, address, 0)
        return "{}:{}".format(*self._server.sockets[0].getsockname()[:2])

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one connection, accepted by somebody else."""
        return self._http()

    async def stop(self) -> None:
        """Close every connection."""
        if self._server:
            self._server.close()
            await self._http.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        path = request.rel_url.path
        if path == "/":
            return self._text("computeMetadata/\n")
        if request.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in request.headers:
            return self._text("Missing Metadata-Flavor:Google header.\n", 403)
        if request.method != "GET":
            return self._text("Method not allowed\n", 405)
        if not path.startswith(_ROOT):
            return self._text("Not Found\n", 404)
        node: Any = self._tree()
        parts = [part for part in path.removeprefix(_ROOT).split("/") if part]
        for at, part in enumerate(parts):
            if at == 2 and parts[:2] == ["instance", "service-accounts"] and part == self._account:
                part = "default"
            node = node.get(part) if isinstance(node, dict) else None
            if node is None:
                return self._text(f"The requested URL {path} was not found on this server.\n", 404)
        query = request.rel_url.query
        if callable(node):
            return node(query)
        if isinstance(node, dict):
            if query.get("recursive", "").lower() == "true":
                return self._json(_recursive(node))
            if not path.endswith("/"):
                return web.Response(status=301, headers=_HEADERS | {"Location": f"http://{request.host}{path}/"})
            return self._text("".join(f"{name}/\n" if isinstance(v, dict) else f"{name}\n" for name, v in node.items()))
        if query.get("alt") == "json":
            return self._json(node)
        return self._text("\n".join(node) + "\n" if isinstance(node, list) else str(node))

    def _tree(self) -> dict[str, Any]:
        number = self._project["projectNumber"]
        account = {
            "aliases": ["default"],
            "email": self._account,
            "identity": self._identity,
            "scopes": [CLOUD_PLATFORM],
            "token": self._token,
        }
        return {
            "instance": {
                "id": self.instance_id,
                "region": f"projects/{number}/regions/{self._region}",
                "service-accounts": {"default": account, self._account: account},
                "zone": f"projects/{number}/zones/{self._region}-1",
            },
            "project": {"numeric-project-id": int(number), "project-id": self._project["projectId"]},
            "universe": {"universe-domain": "googleapis.com"},
        }

    def _alive(self) -> bool:
        from gcp_sandbox.services.iam import service_account

        return service_account(self._cloud, self._account) is not None

    def _token(self, query: Any) -> web.Response:
        if not self._alive():
            return self._text("The service account was not found.\n", 404)
        scopes = " ".join(query.get("scopes", CLOUD_PLATFORM).replace(",", " ").split())
        token = self._cloud.tokens.access_token(self._account, scopes)
        return self._json({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _identity(self, query: Any) -> web.Response:
        audience = query.get("audience", "")
        if not audience:
            return self._text("non-empty audience parameter required\n", 400)
        if not self._alive():
            return self._text("The service account was not found.\n", 404)
        return self._text(self._cloud.tokens.id_token(self._account, audience))

    @staticmethod
    def _text(text: str, status: int = 200) -> web.Response:
        return web.Response(status=status, text=text, content_type="application/text", headers=_HEADERS)

    @staticmethod
    def _json(value: Any) -> web.Response:
        return web.Response(text=json.dumps(value), content_type="application/json", headers=_HEADERS)


def _recursive(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    # Tokens are left out of a recursive answer; names become camelCase.
    return {
        name if "@" in name else re.sub(r"-([a-z])", lambda m: m.group(1).upper(), name): _recursive(value)
        for name, value in node.items()
        if not callable(value)
    }
