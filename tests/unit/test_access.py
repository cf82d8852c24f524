# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets in: plugins/module_utils/access.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import access
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task

from .conftest import AUTH, NUMBER

SERVER, LOGGER = (f"serviceAccount:mlflow-{name}@demo.iam.gserviceaccount.com" for name in ("server", "logger"))
AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-iap.iam.gserviceaccount.com"
JANE, TEAM, EVE = "user:jane@example.com", "group:team@example.com", "user:eve@example.com"
MANAGER = "https://cloudresourcemanager.googleapis.com"
WEB = f"https://iap.googleapis.com/v1/projects/{NUMBER}/iap_web"
PROJECT, FOLDER, ORGANIZATION = (
    f"{MANAGER}/v1/projects/demo",
    f"{MANAGER}/v3/folders/7",
    f"{MANAGER}/v3/organizations/8",
)
BACKEND = f"{WEB}/compute/services/mlflow-lb-backend"
RUN = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow"
SECRET = "https://secretmanager.googleapis.com/v1/projects/demo/secrets"
BUCKET = "https://storage.googleapis.com/storage/v1/b/artifacts/iam"
ACCOUNTS = "https://iam.googleapis.com/v1/projects/demo/serviceAccounts"
SERVER_URL, LOGGER_URL = (f"{ACCOUNTS}/{member.partition(':')[2]}" for member in (SERVER, LOGGER))
UNTIL = {"title": "until 2099", "expression": 'request.time < timestamp("2099-01-01T00:00:00Z")'}
PARAMS = {
    "region": "europe-west2",
    "run_service": "mlflow",
    "members": [JANE, "group:Team@example.com", LOGGER],
    "secret": "mlflow-db-password",
    "bucket": "gs://artifacts",
    "logger_service_account": LOGGER.partition(":")[2],
    "logger_token_creators": [TEAM],
}
SERVICE = {
    "template": {
        "serviceAccount": SERVER.partition(":")[2],
        "containers": [
            {
                "env": [
                    {"name": "MLFLOW_DB_HOST", "value": "10.0.0.3"},
                    {
                        "name": "A",
                        "valueSource": {"secretKeyRef": {"secret": f"projects/{NUMBER}/secrets/mlflow-db-password"}},
                    },
                    {"name": "B", "valueSource": {"secretKeyRef": {"secret": "mlflow-session-key"}}},
                ]
            }
        ],
    }
}


def bind(role, *members, condition=None):
    return {"role": f"roles/{role}", "members": list(members)} | ({"condition": condition} if condition else {})


def plain():
    """The policies of a deployment by a project's owner, as it is at Google: URL -> bindings."""
    return {
        BACKEND: [bind("iap.httpsResourceAccessor", JANE, TEAM, LOGGER)],
        f"{WEB}/compute": [],
        WEB: [],
        RUN: [bind("run.invoker", AGENT)],
        f"{SECRET}/mlflow-db-password": [bind("secretmanager.secretAccessor", SERVER)],
        f"{SECRET}/mlflow-session-key": [bind("secretmanager.secretAccessor", SERVER)],
        BUCKET: [
            bind("storage.objectUser", SERVER),
            bind("storage.legacyBucketOwner", "projectOwner:demo", "projectEditor:demo"),
            bind("storage.legacyBucketReader", "projectViewer:demo"),
            bind("storage.legacyObjectReader", "projectViewer:demo"),
        ],
        SERVER_URL: [bind("iam.serviceAccountTokenCreator", SERVER)],
        LOGGER_URL: [bind("iam.serviceAccountTokenCreator", TEAM)],
        PROJECT: [
            bind("owner", "serviceAccount:deployer@demo.iam.gserviceaccount.com"),
            bind(
                "editor",
                f"serviceAccount:{NUMBER}-compute@developer.gserviceaccount.com",
                f"serviceAccount:{NUMBER}@cloudservices.gserviceaccount.com",
            ),
            bind("cloudsql.client", SERVER),
            bind("run.serviceAgent", f"serviceAccount:service-{NUMBER}@serverless-robot-prod.iam.gserviceaccount.com"),
            bind("cloudbuild.builds.builder", f"serviceAccount:{NUMBER}@cloudbuild.gserviceaccount.com"),
            bind("viewer", "group:all@example.com"),
        ],
        FOLDER: [],
        ORGANIZATION: [bind("resourcemanager.organizationAdmin", "group:platform@example.com")],
    }


@pytest.fixture
def policies(google, monkeypatch):
    """The bindings by URL, changed by tests; roles by URL as well. An Answer is an error."""
    found, play = plain(), google.send
    ancestors = [("project", "demo"), ("folder", "7"), ("organization", "8")]
    others = {
        PROJECT: {"projectId": "demo", "projectNumber": NUMBER},
        f"{PROJECT}:getAncestry": {"ancestor": [{"resourceId": {"type": t, "id": i}} for t, i in ancestors]},
    }

    def send(adapter, prepared, **more):
        url = prepared.url.partition("?")[0]
        key = url.removesuffix(":getIamPolicy")
        answer = others.get(url) or found.get(key, google.error(404, "NOT_FOUND", "Nothing here."))
        google.expect(prepared.method, url, {"bindings": answer, "version": 3} if isinstance(answer, list) else answer)
        return play(adapter, prepared, **more)

    monkeypatch.setattr(google, "send", send)
    return found


def examine(accepted=(), known=(), **params):
    task = Task(SimpleNamespace(params=AUTH, check_mode=False, _diff=False))
    found = access.Access(task, accepted)
    found.examine(access.guards("demo", NUMBER, "mlflow-lb-backend", SERVICE, PARAMS | params), known)
    assert all(set(entry) == {"where", "problem", "fix"} for entry in found.findings)
    return found


def notes(found):
    return [f"{entry['where']}: {entry['note']}" for entry in found.notes]


def test_a_plain_deployment_has_no_findings_and_names_its_administrators(google, policies):
    found = examine()
    assert found.findings == []
    everywhere = (
        "could let themselves in through Identity-Aware Proxy or turn it off, call the server without Identity-Aware Proxy "
        "or replace it, read the secrets, read the artifacts, sign in as the service accounts"
    )
    assert sorted(notes(found)) == [
        "bucket artifacts: projectEditor:demo, projectOwner:demo could read the artifacts (roles/storage.legacyBucketOwner)",
        "bucket artifacts: projectViewer:demo could read the artifacts (roles/storage.legacyObjectReader)",
        f"organization 8: group:platform@example.com {everywhere} (roles/resourcemanager.organizationAdmin)",
        f"project demo: serviceAccount:{NUMBER}-compute@developer.gserviceaccount.com {everywhere} (roles/editor)",
        f"project demo: serviceAccount:{NUMBER}@cloudbuild.gserviceaccount.com could read the artifacts "
        "(roles/cloudbuild.builds.builder)",
        f"project demo: serviceAccount:deployer@demo.iam.gserviceaccount.com {everywhere} (roles/owner)",
    ]
    assert len(google.sent) == len(plain()) + 2, "each policy once, the project's number and its ancestors"


ACCESSOR = "iap.httpsResourceAccessor"
WAYS = {
    # On the resource itself: the run mends its own role, whatever the condition, and what everybody has.
    "IAP, conditional": (
        BACKEND,
        bind(ACCESSOR, EVE, condition=UNTIL),
        "IAP of backend service mlflow-lb-backend",
        "iap_lb",
    ),
    "invoker": (RUN, bind("run.invoker", EVE), "Cloud Run service mlflow", "iap_lb"),
    "invoker, conditional": (RUN, bind("run.invoker", EVE, condition=UNTIL), "Cloud Run service mlflow", "iap_lb"),
    "another invoker": (RUN, bind("run.servicesInvoker", EVE), "Cloud Run service mlflow", None),
    "everybody": (RUN, bind("run.viewer", "allUsers"), "Cloud Run service mlflow", "iap_lb"),
    "password": (
        f"{SECRET}/mlflow-db-password",
        bind("secretmanager.secretAccessor", EVE),
        "secret mlflow-db-password",
        "cloudrun",
    ),
    "key": (
        f"{SECRET}/mlflow-session-key",
        bind("secretmanager.secretAccessor", EVE),
        "secret mlflow-session-key",
        "cloudrun",
    ),
    "objects": (BUCKET, bind("storage.objectUser", EVE, condition=UNTIL), "bucket artifacts", "cloudrun"),
    "objects, reading": (BUCKET, bind("storage.objectViewer", EVE), "bucket artifacts", None),
    "objects, public": (BUCKET, bind("storage.objectViewer", "allUsers"), "bucket artifacts", "cloudrun"),
    "server": (SERVER_URL, bind("iam.serviceAccountTokenCreator", EVE), f"service account {SERVER[15:]}", "cloudrun"),
    "logger": (LOGGER_URL, bind("iam.workloadIdentityUser", EVE), f"service account {LOGGER[15:]}", None),
    # Above it.
    "IAP, all backends": (f"{WEB}/compute", bind(ACCESSOR, EVE), "IAP of all backend services", None),
    "IAP, all": (WEB, bind(ACCESSOR, EVE), "IAP of all web services", None),
    "IAP, project": (PROJECT, bind(ACCESSOR, EVE), "project demo", None),
    "IAP, project, conditional": (PROJECT, bind(ACCESSOR, EVE, condition=UNTIL), "project demo", None),
    "IAP, folder": (FOLDER, bind(ACCESSOR, EVE), "folder 7", None),
    "IAP, organization": (ORGANIZATION, bind(ACCESSOR, EVE), "organization 8", None),
    "secrets, folder": (FOLDER, bind("secretmanager.secretAccessor", EVE), "folder 7", None),
    "objects, organization": (ORGANIZATION, bind("storage.objectAdmin", EVE), "organization 8", None),
    "tokens, project": (PROJECT, bind("iam.serviceAccountTokenCreator", EVE), "project demo", None),
    "agent of another project": (
        PROJECT,
        bind("run.invoker", "serviceAccount:service-99@gcp-sa-iap.iam.gserviceaccount.com"),
        "project demo",
        None,
    ),
    "account that is called like an agent": (
        PROJECT,
        bind("run.invoker", f"serviceAccount:service-{NUMBER}@evil.iam.gserviceaccount.com"),
        "project demo",
        None,
    ),
}


@pytest.mark.parametrize(("url", "binding", "where", "fixer"), WAYS.values(), ids=WAYS)
def test_a_way_in_is_a_finding(policies, url, binding, where, fixer):
    policies[url].append(binding)
    (found,) = examine().findings
    assert found["where"] == where
    condition = " under the condition 'until 2099'" if "condition" in binding else ""
    assert f"{binding['members'][0]} has {binding['role']}{condition}" in found["problem"]
    assert found["fix"] == (
        f"run mlops.mlflow_gcp.site again (role {fixer})"
        if fixer
        else "revoke the role, or accept the members with mlflow_accepted_members"
    )
    assert examine(accepted=binding["members"]).findings == []


def test_accepted_members_are_compared_in_lower_case(policies):
    policies[PROJECT].append(bind(ACCESSOR, EVE))
    assert examine(accepted=["user:Eve@Example.com"]).findings == []
    assert examine(accepted=["domain:example.com"]).findings == []
    assert len(examine(accepted=["user:adam@example.com"]).findings) == 1


def test_one_finding_names_all_members_and_resources(policies):
    policies[PROJECT].append(bind("secretmanager.secretAccessor", EVE, "group:ops@example.com"))
    (found,) = examine().findings
    assert found["problem"] == (
        f"group:ops@example.com, {EVE} have roles/secretmanager.secretAccessor, and so can read the value (secret "
        "mlflow-db-password, secret mlflow-session-key), but are not among the members who are named"
    )


ADMINISTRATORS = {
    "iap.admin": "let themselves in",
    "compute.loadBalancerAdmin": "turn it off",
    "run.admin": "call the server",
    "secretmanager.admin": "read the secrets",
    "storage.admin": "read the artifacts",
    "iam.serviceAccountAdmin": "sign in as the service accounts",
    "iam.serviceAccountUser": "sign in as the service accounts",
    "iam.securityAdmin": "let themselves in",
}


@pytest.mark.parametrize("role", ADMINISTRATORS)
@pytest.mark.parametrize("url", [PROJECT, FOLDER, ORGANIZATION])
def test_administrators_are_notes_that_can_be_accepted(policies, role, url):
    policies[url].append(bind(role, EVE))
    found = examine()
    assert found.findings == []
    (note,) = [entry["note"] for entry in found.notes if EVE in entry["note"]]
    assert ADMINISTRATORS[role] in note and f"roles/{role}" in note
    assert not any(EVE in entry["note"] for entry in examine(accepted=[EVE]).notes)


@pytest.mark.parametrize(
    ("url", "member"),
    [
        (WEB, JANE),
        (PROJECT, "user:Jane@Example.com"),
        (WEB, "deleted:user:eve@example.com?uid=1"),
        (PROJECT, AGENT),
    ],
)
def test_who_is_named_or_cannot_sign_in_is_not_reported(policies, url, member):
    policies[url].append(bind(ACCESSOR, member))
    assert examine().findings == []


def test_a_domain_stands_for_its_users_and_groups(policies):
    policies[WEB].append(bind(ACCESSOR, EVE, "group:ops@example.com"))
    assert examine(members=["domain:example.com", LOGGER]).findings == []
    policies[WEB].append(bind(ACCESSOR, "user:eve@evil.example.com"))
    assert len(examine(members=["domain:example.com", LOGGER]).findings) == 1


def test_a_member_that_is_reported_already_is_not_reported_again(policies):
    policies[BACKEND].append(bind(ACCESSOR, EVE))
    known = [{"where": "IAP of backend service mlflow-lb-backend", "problem": f"{EVE} has roles/{ACCESSOR}", "fix": ""}]
    assert examine(known=known).findings == []
    assert len(examine().findings) == 1


@pytest.mark.parametrize(
    ("permissions", "way"),
    [
        (["storage.objects.get", "storage.objects.list"], "direct"),
        (["storage.objects.get", "storage.buckets.setIamPolicy"], "admin"),
        (["resourcemanager.projects.setIamPolicy"], "admin"),
        (["storage.buckets.get"], ""),
    ],
)
@pytest.mark.parametrize(
    "role", ["projects/demo/roles/reading", "organizations/8/roles/reading", "roles/dataflow.worker"]
)
def test_other_roles_are_looked_up(policies, role, permissions, way):
    policies[PROJECT].append({"role": role, "members": [EVE]})
    policies[f"https://iam.googleapis.com/v1/{role}"] = {"name": role, "includedPermissions": permissions}
    found = examine()
    assert [EVE in entry["problem"] for entry in found.findings] == ([True] if way == "direct" else [])
    assert any(EVE in entry["note"] for entry in found.notes) is (way == "admin")
    policies[f"https://iam.googleapis.com/v1/{role}"]["deleted"] = True
    assert examine().findings == []


def test_what_cannot_be_read_is_a_note_with_the_permission(google, policies):
    denied = google.error(403, "PERMISSION_DENIED", "The caller does not have permission")
    policies[FOLDER] = policies[WEB] = policies["https://iam.googleapis.com/v1/projects/demo/roles/own"] = denied
    policies[PROJECT].append({"role": "projects/demo/roles/own", "members": [EVE]})
    found = examine()
    assert found.findings == []
    told = "\n".join(notes(found))
    assert "folder 7: who gets in through this policy is unknown" in told
    assert "grant the caller resourcemanager.folders.getIamPolicy, for example with roles/iam.securityReviewer" in told
    assert "IAP of all web services: who gets in" in told and "grant the caller iap.web.getIamPolicy" in told
    assert "projects/demo/roles/own: whether this role lets its members in is unknown" in told
    assert "grant the caller iam.roles.get" in told


def test_ancestors_that_cannot_be_read(google, policies, monkeypatch):
    policies[f"{PROJECT}:getAncestry"] = None
    send = google.send

    def no_ancestors(adapter, prepared, **more):
        if not prepared.url.endswith(":getAncestry"):
            return send(adapter, prepared, **more)
        google.expect(prepared.method, prepared.url, google.error(403, "PERMISSION_DENIED", "No."))
        return type(google).send(google, adapter, prepared, **more)

    monkeypatch.setattr(google, "send", no_ancestors)
    assert any("the folders and the organization of project demo" in note for note in notes(examine()))


@pytest.mark.parametrize(
    ("expression", "path", "excluded"),
    [
        ("", "projects/_/buckets/b", False),
        ('resource.name.startsWith("projects/_/buckets/other/")', "projects/_/buckets/b", True),
        ('resource.name.startsWith("projects/_/buckets/b/objects/public/")', "projects/_/buckets/b", False),
        ("resource.name.startsWith('projects/_/buckets/')", "projects/_/buckets/b", False),
        ('resource.name == "projects/1/secrets/s/versions/1"', "projects/1/secrets/s", False),
        ('(resource.name == "projects/1/secrets/other")', "projects/1/secrets/s", True),
        ('resource.name == "projects/1/secrets/other" || true', "projects/1/secrets/s", False),
        ('!(resource.name == "projects/1/secrets/other")', "projects/1/secrets/s", False),
        ('resource.name.startsWith("projects/1/secrets/other") == false', "projects/1/secrets/s", False),
        ('resource.type == "x" && resource.name.startsWith("projects/2/")', "projects/1/secrets/s", True),
        ('resource.name.startsWith("projects/2/")', "", False),
        ('request.time < timestamp("2020-01-01T00:00:00Z")', "", True),
        ('request.time < timestamp("2099-01-01T00:00:00Z")', "", False),
        ('request.time < timestamp("soon")', "", False),
        ('request.time > timestamp("2020-01-01T00:00:00Z")', "", False),
        ('request.host == "mlflow.example.com"', "", False),
    ],
)
def test_conditions_that_can_never_be_true_for_a_resource(expression, path, excluded):
    assert access.excludes(expression, path) is excluded


def test_bindings_for_other_resources_are_not_reported(policies):
    other = {"title": "other", "expression": 'resource.name.startsWith("projects/_/buckets/other")'}
    policies[PROJECT].append(bind("storage.objectViewer", EVE, condition=other))
    expired = {"title": "2020", "expression": 'request.time < timestamp("2020-01-01T00:00:00Z")'}
    policies[BACKEND].append(bind(ACCESSOR, EVE, condition=expired))
    assert examine().findings == []


def test_only_what_is_given_is_examined(google, policies):
    nothing = dict.fromkeys(("members", "secret", "bucket", "logger_service_account", "logger_token_creators"))
    policies[BUCKET].append(bind("storage.objectViewer", "allUsers"))
    policies[f"{SECRET}/mlflow-db-password"].append(bind("secretmanager.secretAccessor", EVE))
    assert examine(**nothing).findings == []
    assert access.guards("demo", NUMBER, None, None, PARAMS | nothing) == []
