"""Methods of sql.operations, flags, tiers, connect settings and certificates."""

from __future__ import annotations

from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.service import Call
from gcp_sandbox.services.sqladmin import catalogue, certificates, common
from gcp_sandbox.services.sqladmin.common import SERVICE, Doc

_CERTS = "sqladmin.sslCerts"


@SERVICE.method("sql.operations.get", permission="cloudsql.instances.get")
def get_operation(call: Call) -> Doc:
    operation = call.app.operations.get(call.params["operation"])
    if operation is None or operation["service"] != SERVICE.name or operation["project"] != call.project_id:
        raise ApiError(404, "The Cloud SQL operation does not exist.", reason="operationDoesNotExist")
    return common.answer(call, operation)


@SERVICE.method("sql.operations.list", permission="cloudsql.instances.get")
def list_operations(call: Call) -> Doc:
    match = {"service": SERVICE.name, "project": call.project_id}
    if "instance" in call.params:
        match["target"] = call.params["instance"]
    found = call.app.operations.all(**match)
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


# -- client certificates ---------------------------------------------------


@SERVICE.method("sql.sslCerts.insert", permission="cloudsql.sslCerts.create")
def insert_cert(call: Call) -> Doc:
    doc = common.idle(call)
    name = call.body.get("commonName", "")
    key = common.instance_key(call)
    if not name or any(c["commonName"] == name for _, c in call.app.store.list(_CERTS, f"{key}/")):
        raise ApiError(400, f"The common name of the certificate is missing or in use: {name}.", reason="invalid")
    cert, private = certificates.issue(doc["_clientCa"], doc["_clientCaKey"], name, [])
    info = certificates.described(cert, doc["name"]) | {"commonName": name}
    info["selfLink"] = f"{doc['selfLink']}/sslCerts/{info['sha1Fingerprint']}"
    call.app.store.put(_CERTS, f"{key}/sslCerts/{info['sha1Fingerprint']}", info)
    return common.shown(
        call,
        {
            "kind": "sql#sslCertsInsert",
            "serverCaCert": doc["serverCaCert"],
            "clientCert": {"certInfo": info, "certPrivateKey": private},
            "operation": common.finished(call, "UPDATE", doc["name"]),
        },
    )


@SERVICE.method("sql.sslCerts.list", permission="cloudsql.sslCerts.list")
def list_certs(call: Call) -> Doc:
    common.instance(call)
    return common.items(
        call, "sql#sslCertsList", [c for _, c in call.app.store.list(_CERTS, common.instance_key(call) + "/")]
    )


def _cert_key(call: Call) -> str:
    common.instance(call)
    key = f"{common.instance_key(call)}/sslCerts/{call.params['sha1Fingerprint']}"
    if call.app.store.peek(_CERTS, key) is None:
        raise ApiError(404, "The SSL certificate does not exist.", reason="sslCertDoesNotExist")
    return key


@SERVICE.method("sql.sslCerts.get", permission="cloudsql.sslCerts.get")
def get_cert(call: Call) -> Doc:
    key = _cert_key(call)
    return common.shown(call, call.app.store.get(_CERTS, key))


@SERVICE.method("sql.sslCerts.delete", permission="cloudsql.sslCerts.delete")
def delete_cert(call: Call) -> Doc:
    doc = common.idle(call)
    call.app.store.delete(_CERTS, _cert_key(call))
    return common.finished(call, "UPDATE", doc["name"])
