"""IAM: service accounts, their keys and policies, and roles.

https://cloud.google.com/iam/docs/reference/rest
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from gcp_sandbox.core import policies, projects
from gcp_sandbox.core.auth import EMAILS
from gcp_sandbox.core.cloud import Cloud
from gcp_sandbox.core.errors import ApiError
from gcp_sandbox.core.iam import project_resource
from gcp_sandbox.core.operations import now
from gcp_sandbox.core.paging import page
from gcp_sandbox.core.service import Call, Service
from gcp_sandbox.core.settings import account_email
from gcp_sandbox.services.iam import accounts, federation, roles
from gcp_sandbox.services.iam.accounts import ACCOUNTS, DELETED, KEYS, Doc

KEYS_MAX = 10


def _project_of(call: Call) -> str | None:
    name = call.params.get("name") or call.params.get("resource") or call.params.get("parent") or ""
    found = re.match(r"projects/([^/]+)(?:/serviceAccounts/([^/]+))?", name)
    if not found:
        return None
    if found.group(1) == "-" and found.group(2):
        doc = accounts.find(call.cloud, name)
        return doc["projectId"] if doc else None
    return found.group(1)


SERVICE = Service(
    "iam",
    "v1",
    family="mixed",
    client_based=True,
    resource_type="iam.googleapis.com/ServiceAccount",
    denied=accounts.denied,
)
SERVICE.project_of = _project_of
roles.register(SERVICE)
federation.register(SERVICE)


# -- for others ----------------------------------------------------------------


def service_account(cloud: Cloud, email: str) -> Doc | None:
    """The document (read-only) of a service account that exists and is enabled."""
    doc = accounts.by_email(cloud, email)
    return None if doc is None or doc.get("disabled") else doc


def key_file(cloud: Cloud, email: str) -> Doc:
    """Create a key of a service account; returns the content of its key file."""
    doc = accounts.by_email(cloud, email)
    if doc is None:
        raise LookupError(f"no service account {email}")
    return accounts.credentials_file(doc, accounts.create_key(cloud, doc))


def sign_jwt(cloud: Cloud, email: str, claims: dict[str, Any]) -> str:
    """A JWT signed with the Google-managed key of a service account.  Raises LookupError."""
    doc = service_account(cloud, email)
    if doc is None:
        raise LookupError(f"no service account {email}")
    return accounts.sign_jwt(cloud, doc, json.dumps(claims))[1]


def setup(cloud: Cloud) -> None:
    """Create the initial service accounts of a project."""

    def compute_account(cloud: Cloud, project_id: str) -> None:
        project = projects.find(cloud, project_id)
        assert project is not None
        email = f"{project['projectNumber']}-compute@developer.gserviceaccount.com"
        if accounts.by_email(cloud, email) is None:
            accounts.create(cloud, project, email, displayName="Compute Engine default service account")
        # The Google APIs Service Agent: https://cloud.google.com/iam/docs/service-agents#google-apis-service-agent
        agent = f"{project['projectNumber']}@cloudservices.gserviceaccount.com"
        if not cloud.iam.known(agent):
            accounts.agent(cloud, agent)
            cloud.iam.grant(project_resource(project_id), "roles/editor", f"serviceAccount:{agent}")

    def app_engine_account(cloud: Cloud, project_id: str) -> None:
        # Without App Engine itself: https://cloud.google.com/iam/docs/service-account-types#default
        project, email = projects.find(cloud, project_id), f"{project_id}@appspot.gserviceaccount.com"
        assert project is not None
        if accounts.by_email(cloud, email) is None:
            accounts.create(cloud, project, email, displayName="App Engine default service account")

    def active(email: str) -> bool:
        if not email.endswith(".gserviceaccount.com"):
            return True
        doc = accounts.by_email(cloud, email)
        return cloud.iam.known(email) if doc is None else not doc.get("disabled")

    cloud.account_active = active
    cloud.self_signed = lambda token, host: accounts.self_signed(cloud, token, host)
    cloud.when_enabled("compute.googleapis.com", compute_account)
    cloud.when_enabled("appengine.googleapis.com", app_engine_account)


@SERVICE.starts
async def _deployer(cloud: Cloud) -> None:
    """The account that owns the first project."""
    email = cloud.settings.deployer
    project = projects.find(cloud, cloud.settings.project)
    if project is not None and accounts.by_email(cloud, email) is None:
        accounts.create(cloud, project, email, displayName="Deployer")


# -- service accounts -----------------------------------------------------------


def full_name(call: Call) -> str:
    """Full resource name, for policies, of a call's service account."""
    name = call.params.get("name") or call.params["resource"]
    doc = accounts.find(call.cloud, name)
    return "//iam.googleapis.com/" + (doc["name"] if doc else "/".join(name.split("/")[:4]))


def _account(call: Call) -> Doc:
    name = call.params.get("name") or call.params["resource"]
    doc = accounts.find(call.cloud, name)
    if doc is None:
        raise ApiError(404, "Unknown service account")
    return doc


_MOST = 100  # default quota of service accounts per project


def _checked(fields: Doc) -> Doc:
    for field, most in (("displayName", 100), ("description", 256)):
        if len(fields.get(field, "").encode()) > most:
            raise ApiError(400, f"The {field} of a service account has a maximum of {most} UTF-8 bytes.")
    return fields


@SERVICE.method("iam.projects.serviceAccounts.create", permission="iam.serviceAccounts.create")
def create(call: Call) -> Doc:
    ident, project = call.body.get("accountId", ""), call.project
    assert project is not None
    if not 6 <= len(ident) <= 30:
        raise ApiError(400, f'The account ID "{ident}" does not have a length between 6 and 30.', reason="badRequest")
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])", ident):
        raise ApiError(400, f'The account ID "{ident}" does not match [a-z]([-a-z0-9]*[a-z0-9]).', reason="badRequest")
    fields = _checked(call.body.get("serviceAccount", {}))
    email = account_email(ident, call.project_id)
    name = f"projects/{call.project_id}/serviceAccounts/{email}"
    quota = call.cloud.restrictions.quota("iam.serviceAccounts", call.project_id)
    most = quota[0] if quota else _MOST
    if len(call.cloud.store.list(accounts.ACCOUNTS, f"projects/{call.project_id}/")) >= most:
        details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "86401s"}]
        text = "Maximum number of service accounts on project reached."
        raise ApiError(429, text, status="RESOURCE_EXHAUSTED", details=details)
    if accounts.by_email(call.cloud, email) is not None:
        text = f"Service account {ident} already exists within project projects/{call.project_id}."
        raise ApiError(
            409, text, details=[{"@type": "type.googleapis.com/google.rpc.ResourceInfo", "resourceName": name}]
        )
    return accounts.create(
        call.cloud, project, email, displayName=fields.get("displayName"), description=fields.get("description")
    )


@SERVICE.method("iam.projects.serviceAccounts.get", permission="iam.serviceAccounts.get", resource=full_name)
def get(call: Call) -> Doc:
    return _account(call)


@SERVICE.method("iam.projects.serviceAccounts.list", permission="iam.serviceAccounts.list")
def list_(call: Call) -> Doc:
    found = [doc for _, doc in call.cloud.store.list(ACCOUNTS, f"projects/{call.project_id}/")]
    return page(call, "accounts", found, default=20, most=100)


def _change(call: Call, fields: Doc, mask: list[str]) -> Doc:
    doc = dict(_account(call))
    for name in mask:
        field = {"display_name": "displayName"}.get(name, name)
        if field not in ("displayName", "description"):
            raise ApiError(400, f"Invalid update mask: {name}.", reason="badRequest")
        doc.pop(field, None)
        if fields.get(field):
            doc[field] = fields[field]
    call.cloud.store.put(ACCOUNTS, doc["name"], _checked(doc))
    return doc


@SERVICE.method("iam.projects.serviceAccounts.patch", permission="iam.serviceAccounts.update", resource=full_name)
def patch(call: Call) -> Doc:
    mask = [f.strip() for f in call.body.get("updateMask", "").split(",") if f.strip()]
    if not mask:
        raise ApiError(400, "The update mask is required.", reason="badRequest")
    doc = _change(call, call.body.get("serviceAccount", {}), mask)
    wanted = {"display_name": "displayName"}
    # Google returns the name and the fields in the mask, not the whole account.
    return {"name": doc["name"]} | {wanted.get(f, f): doc[wanted.get(f, f)] for f in mask if wanted.get(f, f) in doc}


@SERVICE.method("iam.projects.serviceAccounts.update", permission="iam.serviceAccounts.update", resource=full_name)
def update(call: Call) -> Doc:
    return _change(call, call.body, [f for f in ("displayName", "description") if f in call.body])


@SERVICE.method("iam.projects.serviceAccounts.delete", permission="iam.serviceAccounts.delete", resource=full_name)
def delete(call: Call) -> None:
    doc = _account(call)
    cloud, email = call.cloud, doc["email"]
    full, keys = f"//iam.googleapis.com/{doc['name']}", accounts.keys(cloud, doc)
    with cloud.store.atomic():
        cloud.store.delete(ACCOUNTS, doc["name"])
        cloud.store.delete(EMAILS, email)
        # Its policy and keys are not those of an account that is created under the same address later.
        kept = {"account": doc, "time": now(), "policy": cloud.iam.policy(full), "keys": keys}
        cloud.store.put(DELETED, doc["uniqueId"], kept)
        cloud.iam.drop(full)
        for key in keys:
            cloud.store.delete(KEYS, key["name"])
        cloud.iam.rename_member(f"serviceAccount:{email}", f"deleted:serviceAccount:{email}?uid={doc['uniqueId']}")


@SERVICE.method("iam.projects.serviceAccounts.undelete")
def undelete(call: Call) -> Doc:
    cloud = call.cloud
    unique = call.params["name"].rpartition("/")[2]
    gone = cloud.store.peek(DELETED, unique)
    if gone is None or call.project and gone["account"]["projectId"] != call.project_id:
        raise call.denied("iam.serviceAccounts.undelete")
    doc = gone["account"]
    call.project = projects.find(cloud, doc["projectId"])
    call.require("iam.serviceAccounts.undelete")
    if accounts.by_email(cloud, doc["email"]) is not None:
        raise ApiError(409, f"A service account with the e-mail {doc['email']} already exists.")
    with cloud.store.atomic():
        cloud.store.delete(DELETED, unique)
        cloud.store.put(EMAILS, doc["email"], {"key": doc["name"], "uniqueId": unique})
        cloud.store.put(ACCOUNTS, doc["name"], doc)
        for key in gone.get("keys", ()):
            cloud.store.put(KEYS, key["name"], key)
        if gone.get("policy", {}).get("bindings"):
            cloud.iam.set_policy(
                f"//iam.googleapis.com/{doc['name']}", {k: v for k, v in gone["policy"].items() if k != "etag"}
            )
        cloud.iam.rename_member(f"deleted:serviceAccount:{doc['email']}?uid={unique}", f"serviceAccount:{doc['email']}")
    return {"restoredAccount": doc}


@SERVICE.method("iam.projects.serviceAccounts.disable", permission="iam.serviceAccounts.disable", resource=full_name)
def disable(call: Call) -> None:
    doc = _account(call)
    call.cloud.store.put(ACCOUNTS, doc["name"], doc | {"disabled": True})


@SERVICE.method("iam.projects.serviceAccounts.enable", permission="iam.serviceAccounts.enable", resource=full_name)
def enable(call: Call) -> None:
    doc = _account(call)
    call.cloud.store.put(ACCOUNTS, doc["name"], {k: v for k, v in doc.items() if k != "disabled"})


policies.serve(SERVICE, "iam.projects.serviceAccounts", full_name, "iam.serviceAccounts", exists=_account)


@SERVICE.method("iam.projects.serviceAccounts.signBlob", permission="iam.serviceAccounts.signBlob", resource=full_name)
def sign_blob(call: Call) -> Doc:
    key, signature = accounts.sign_blob(call.cloud, _account(call), base64.b64decode(call.body.get("bytesToSign", "")))
    return {"keyId": key, "signature": signature}


@SERVICE.method("iam.projects.serviceAccounts.signJwt", permission="iam.serviceAccounts.signJwt", resource=full_name)
def sign_jwt_method(call: Call) -> Doc:
    key, signed = accounts.sign_jwt(call.cloud, _account(call), call.body.get("payload", ""))
    return {"keyId": key, "signedJwt": signed}


# -- keys -----------------------------------------------------------------------


def _shown(key: Doc, *, public: str = "", private: str = "") -> Doc:
    out = {k: v for k, v in key.items() if not k.startswith("_")}
    if public == "TYPE_X509_PEM_FILE":
        out["publicKeyData"] = base64.b64encode(key["_cert"].encode()).decode()
    elif public == "TYPE_RAW_PUBLIC_KEY":
        out["publicKeyData"] = base64.b64encode(accounts.public_key(key).encode()).decode()
    if private:
        out["privateKeyType"] = "TYPE_GOOGLE_CREDENTIALS_FILE"
        out["privateKeyData"] = base64.b64encode(private.encode()).decode()
    return out


def _key(call: Call) -> Doc:
    parts = call.params["name"].split("/")
    account = accounts.find(call.cloud, "/".join(parts[:4]))
    if account is None:
        raise ApiError(404, f"Service account {'/'.join(parts[:4])} does not exist.")
    accounts.system_key(call.cloud, account)
    key = call.cloud.store.peek(KEYS, f"{account['name']}/keys/{parts[5]}")
    if key is None:
        raise ApiError(404, f"Service account key {parts[5]} does not exist.")
    return key


def _owner(call: Call) -> Doc:
    doc = accounts.find(call.cloud, call.params["name"])
    if doc is None:
        raise ApiError(404, f"Service account {call.params['name']} does not exist.")
    return doc


_KEYS = "iam.projects.serviceAccounts.keys."


def _may_have_more(call: Call) -> Doc:
    """The account for which a key is to be created.  Raises ApiError 404, and 400 if it has the maximum number of keys."""
    account = _owner(call)
    if sum(k["keyType"] == "USER_MANAGED" for k in accounts.keys(call.cloud, account)) >= KEYS_MAX:
        raise ApiError(400, "Precondition check failed.", reason="failedPrecondition", status="FAILED_PRECONDITION")
    return account


@SERVICE.method(_KEYS + "create", permission="iam.serviceAccountKeys.create", resource=full_name)
def create_key(call: Call) -> Doc:
    account = _may_have_more(call)
    if call.body.get("privateKeyType") == "TYPE_PKCS12_FILE":
        raise ApiError(501, "gcp-sandbox makes no PKCS 12 key files; ask for TYPE_GOOGLE_CREDENTIALS_FILE.")
    bits = 1024 if call.body.get("keyAlgorithm") == "KEY_ALG_RSA_1024" else 2048
    key = accounts.create_key(call.cloud, account, bits=bits)
    return _shown(key, private=json.dumps(accounts.credentials_file(account, key), indent=2) + "\n")


@SERVICE.method(_KEYS + "upload", permission="iam.serviceAccountKeys.create", resource=full_name)
def upload_key(call: Call) -> Doc:
    account = _may_have_more(call)
    try:
        return _shown(accounts.upload_key(call.cloud, account, base64.b64decode(call.body.get("publicKeyData", ""))))
    except ValueError:
        raise ApiError(
            400, "The public key must be an RSA public key wrapped in an X.509 v3 certificate.", reason="badRequest"
        ) from None


@SERVICE.method(_KEYS + "get", permission="iam.serviceAccountKeys.get", resource=full_name)
def get_key(call: Call) -> Doc:
    return _shown(_key(call), public=call.params.get("publicKeyType", ""))


@SERVICE.method(_KEYS + "list", permission="iam.serviceAccountKeys.list", resource=full_name)
def list_keys(call: Call) -> Doc:
    account = _owner(call)
    accounts.system_key(call.cloud, account)
    kinds = call.params.get("keyTypes")
    found = [_shown(k) for k in accounts.keys(call.cloud, account) if not kinds or k["keyType"] in kinds]
    return {"keys": found} if found else {}


@SERVICE.method(_KEYS + "delete", permission="iam.serviceAccountKeys.delete", resource=full_name)
def delete_key(call: Call) -> None:
    key = _key(call)
    if key["keyType"] == "SYSTEM_MANAGED":
        raise ApiError(400, "Precondition check failed.", reason="failedPrecondition", status="FAILED_PRECONDITION")
    call.cloud.store.delete(KEYS, key["name"])


@SERVICE.method(_KEYS + "disable", permission="iam.serviceAccountKeys.disable", resource=full_name)
def disable_key(call: Call) -> None:
    reason = call.body.get("serviceAccountKeyDisableReason", "SERVICE_ACCOUNT_KEY_DISABLE_REASON_USER_INITIATED")
    key = _key(call)
    call.cloud.store.put(KEYS, key["name"], key | {"disabled": True, "disableReason": reason})


@SERVICE.method(_KEYS + "enable", permission="iam.serviceAccountKeys.enable", resource=full_name)
def enable_key(call: Call) -> None:
    key = _key(call)
    call.cloud.store.put(KEYS, key["name"], {k: v for k, v in key.items() if k not in ("disabled", "disableReason")})
