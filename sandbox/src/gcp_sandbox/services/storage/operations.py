"""Long-running operations of a bucket, which have already finished in the response.

https://cloud.google.com/storage/docs/json_api/v1/operations
"""

from __future__ import annotations

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.operations import LONGRUNNING, Operation
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.storage.common import SERVICE, Doc, bucket_of
from gcp_sandbox.services.storage.permissions import require

_O = "storage.buckets.operations"


def started(call: Call, bucket: Doc, what: str) -> Doc:
    """Respond with a finished operation."""
    name = f"projects/_/buckets/{bucket['name']}"
    op = call.operation(
        what,
        name,
        scope=name,
        latency="",
        metadata={"@type": f"type.googleapis.com/google.storage.control.v2.{what}Metadata"},
        response={"@type": "type.googleapis.com/google.protobuf.Empty"},
    )
    return _shown(op)


def _shown(op: Operation) -> Doc:
    out = LONGRUNNING.render(op, SERVICE.host)
    _, _, _, bucket, _, ident = out["name"].split("/")
    link = f"https://www.googleapis.com/storage/v1/b/{bucket}/operations/{ident}"
    return {"kind": "storage#operation", "selfLink": link, "done": False} | out


def _operations(call: Call) -> list[Operation]:
    bucket = bucket_of(call.cloud, call.params["bucket"])
    require(call.cloud, call.principal, "storage.buckets.get", bucket)
    return call.cloud.operations.all(service="storage", scope=f"projects/_/buckets/{bucket['name']}")


@SERVICE.method(f"{_O}.get")
def get(call: Call) -> Doc:
    for op in _operations(call):
        if op["id"] == call.params["operationId"]:
            return _shown(op)
    raise ApiError(404, "The specified operation does not exist.", reason="notFound")


@SERVICE.method(f"{_O}.list")
def list_(call: Call) -> Doc:
    return {"kind": "storage#operations", "operations": [_shown(op) for op in _operations(call)]}
