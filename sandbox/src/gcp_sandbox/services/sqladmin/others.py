"""Methods of sql.operations, flags, tiers, connect settings and server certificates."""

from __future__ import annotations

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import catalogue, common
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc


@SERVICE.method("sql.operations.get", permission="cloudsql.instances.get")
def get_operation(call: Call) -> Doc:
    operation = call.cloud.operations.get(call.params["operation"])
    if operation is None or operation["service"] != SERVICE.name or operation["project"] != call.project_id:
        raise ApiError(404, "The Cloud SQL operation does not exist.", reason="operationDoesNotExist")
    return common.answer(call, operation)


@SERVICE.method("sql.operations.list", permission="cloudsql.instances.get")
def list_operations(call: Call) -> Doc:
    match = {"service": SERVICE.name, "project": call.project_id}
    if "instance" in call.params:
        match["target"] = call.params["instance"]
    found = call.cloud.operations.all(**match)
    return common.items(call, "sql#operationsList", [common.answer(call, op) for op in found], default=100)


@SERVICE.method("sql.flags.list")
def list_flags(call: Call) -> Doc:
    found = catalogue.flags(call.params.get("databaseVersion", ""))
    return {"kind": "sql#flagsList"} | ({"items": found} if found else {})


@SERVICE.method("sql.tiers.list", permission="cloudsql.tiers.list")
def list_tiers(call: Call) -> Doc:
    return {"kind": "sql#tiersList", "items": catalogue.tiers()}


@SERVICE.method("sql.connect.get", permission="cloudsql.instances.get")
def connect_settings(call: Call) -> Doc:
    doc = common.instance(call)
    shown = {k: doc[k] for k in ("serverCaCert", "ipAddresses", "region", "databaseVersion", "backendType") if k in doc}
    return common.shown(call, {"kind": "sql#connectSettings"} | shown)


@SERVICE.method("sql.instances.listServerCas", permission="cloudsql.instances.listServerCas")
def server_cas(call: Call) -> Doc:
    cert = common.instance(call)["serverCaCert"]
    return {"kind": "sql#instancesListServerCas", "certs": [cert], "activeVersion": cert["sha1Fingerprint"]}
