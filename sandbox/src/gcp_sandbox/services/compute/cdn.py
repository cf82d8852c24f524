"""Keys for signed URLs of Cloud CDN, on backend services and backend buckets.

https://cloud.google.com/cdn/docs/using-signed-urls
"""

from __future__ import annotations

import copy

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import Operation
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.compute.base import SERVICE, Doc, missing
from gcp_sandbox.services.compute.engine import change, changing, operate
from gcp_sandbox.services.compute.kinds import KINDS, Kind

_KINDS = (KINDS["compute.backendServices"], KINDS["compute.backendBuckets"])
_MOST = 3  # keys of one backend


def _kind(call: Call) -> Kind:
    return next(kind for kind in _KINDS if call.method.id.split(".")[1] in kind.resources)


def _change(call: Call, key: str, old: Doc, names: list[str]) -> Operation:
    doc = copy.deepcopy(old)
    doc.setdefault("cdnPolicy", {})["signedUrlKeyNames"] = names
    return operate(
        call, _kind(call), key, call.method.id.rsplit(".", 1)[1], change(call, _kind(call), key, old, doc, {})
    )


for _resource in ("backendServices", "backendBuckets"):

    @SERVICE.method(f"compute.{_resource}.addSignedUrlKey", permission=f"compute.{_resource}.addSignedUrlKey")
    def _add(call: Call) -> Operation:
        key, old = changing(_kind(call), call)
        for field in ("keyName", "keyValue"):
            if not call.body.get(field):
                raise missing(field)
        name, names = call.body["keyName"], old.get("cdnPolicy", {}).get("signedUrlKeyNames", [])
        if name in names:
            raise ApiError(409, f"The signed URL key '{name}' already exists.", reason="alreadyExists")
        if len(names) >= _MOST:
            raise ApiError(400, f"At most {_MOST} signed URL keys can be added to a backend.", reason="invalid")
        return _change(call, key, old, [*names, name])

    @SERVICE.method(f"compute.{_resource}.deleteSignedUrlKey", permission=f"compute.{_resource}.deleteSignedUrlKey")
    def _delete(call: Call) -> Operation:
        key, old = changing(_kind(call), call)
        name, names = call.params["keyName"], old.get("cdnPolicy", {}).get("signedUrlKeyNames", [])
        if name not in names:
            raise ApiError(404, f"The signed URL key '{name}' was not found.", reason="notFound")
        return _change(call, key, old, [n for n in names if n != name])
