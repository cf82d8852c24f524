"""Projects and their policies."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

Api = Callable[..., requests.Response]
BILLING = "https://cloudbilling.googleapis.com/v1"
DEPLOYER = "deployer@sandbox-project.iam.gserviceaccount.com"
V1, V3 = "https://cloudresourcemanager.googleapis.com/v1", "https://cloudresourcemanager.googleapis.com/v3"


@pytest.fixture(scope="module", autouse=True)
def enabled(enable: Callable[..., None], project: str) -> None:
    enable(project, "cloudresourcemanager.googleapis.com", "iam.googleapis.com", "secretmanager.googleapis.com")
    enable("sandbox-project", "cloudresourcemanager.googleapis.com")  # the caller's own counts for all projects


def policy_of(api: Api, project: str, version: int = 3) -> dict[str, Any]:
    return api(
        "POST", f"{V1}/projects/{project}:getIamPolicy", json={"options": {"requestedPolicyVersion": version}}
    ).json()


def with_binding(api: Api, project: str, **binding: Any) -> Any:
    policy = policy_of(api, project)
    policy["bindings"].append(binding)
    return api("POST", f"{V1}/projects/{project}:setIamPolicy", json={"policy": policy | {"version": 3}})


def test_project_comes_and_goes(api: Api, done: Callable[..., dict[str, Any]]) -> None:
    name = f"come-{secrets.token_hex(4)}"
    made = done(api("POST", f"{V3}/projects", json={"projectId": name, "displayName": "Come and go"}))
    assert made["response"]["state"] == "ACTIVE"
    assert api("GET", f"{V1}/projects/{name}").json()["lifecycleState"] == "ACTIVE"
    assert api("POST", f"{V1}/projects", json={"projectId": name}).status_code == 409
    assert api("DELETE", f"{V1}/projects/{name}").json() == {}
    assert api("GET", f"{V3}/projects/{name}").json()["state"] == "DELETE_REQUESTED"
    gone = api("GET", f"https://secretmanager.googleapis.com/v1/projects/{name}/secrets")
    assert gone.status_code == 403 and "has been deleted" in gone.json()["error"]["message"]
    assert api("POST", f"{V1}/projects/{name}:undelete").json() == {}
    found = api("GET", f"{V1}/projects", params={"filter": f"id:{name}"}).json()["projects"]
    assert [p["projectId"] for p in found] == [name]


def test_bad_ids_and_projects_of_others(api: Api) -> None:
    assert api("POST", f"{V1}/projects", json={"projectId": "abc"}).status_code == 400
    assert api("POST", f"{V1}/projects", json={"projectId": "Upper-Case"}).status_code == 400
    assert (
        api("GET", f"{V1}/projects/somebody-elses").json()["error"]["message"] == "The caller does not have permission"
    )


def test_stale_etag_is_refused(api: Api, project: str) -> None:
    old = policy_of(api, project)
    assert with_binding(api, project, role="roles/viewer", members=["user:jane@example.com"]).status_code == 200
    answer = api("POST", f"{V1}/projects/{project}:setIamPolicy", json={"policy": old})
    assert (answer.status_code, answer.json()["error"]["status"]) == (409, "ABORTED")


@pytest.mark.parametrize(
    ("role", "member", "said"),
    [
        ("roles/viewer", "jane@example.com", "is of an unknown type"),
        ("roles/viewer", "user:jane", "does not exist"),
        ("roles/viewer", "allUsers", "cannot be added to this resource"),
        ("roles/run.invokr", "user:jane@example.com", "is not supported for this resource"),
        ("run.invoker", "user:jane@example.com", "is not supported for this resource"),
        ("roles/storage.legacyBucketReader", "user:jane@example.com", "is not supported for this resource"),
    ],
)
def test_wrong_bindings_are_refused(api: Api, project: str, role: str, member: str, said: str) -> None:
    answer = with_binding(api, project, role=role, members=[member])
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]


def test_unknown_account_of_the_project_is_refused(api: Api, project: str) -> None:
    member = f"serviceAccount:nobody@{project}.iam.gserviceaccount.com"
    answer = with_binding(api, project, role="roles/viewer", members=[member])
    assert answer.json()["error"]["message"] == f"Service account {member.partition(':')[2]} does not exist."


def test_google_s_own_agent_edits_a_project_with_compute(api: Api, project: str, enable: Callable[..., None]) -> None:
    enable(project, "compute.googleapis.com")
    policy = policy_of(api, project)
    editors = next(b["members"] for b in policy["bindings"] if b["role"] == "roles/editor")
    number = api("GET", f"{V1}/projects/{project}").json()["projectNumber"]
    assert editors == [f"serviceAccount:{number}@cloudservices.gserviceaccount.com"]
    assert api("POST", f"{V1}/projects/{project}:setIamPolicy", json={"policy": policy}).status_code == 200


def test_conditions_decide_and_older_clients_do_not_see_them(api: Api, project: str) -> None:
    condition = {"title": "one", "expression": f'resource.name.endsWith("projects/{project}/secrets/open")'}
    role = "roles/secretmanager.viewer"
    member = "user:conditional@example.com"
    assert with_binding(api, project, role=role, members=[member], condition=condition).status_code == 200
    assert policy_of(api, project)["version"] == 3
    seen = [b for b in policy_of(api, project, 1)["bindings"] if member in b["members"]]
    assert seen[0]["role"].startswith(f"{role}_withcond_") and "condition" not in seen[0]
    secret = f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets"
    who = "conditional@example.com"
    assert api("GET", f"{secret}/open", as_=who).status_code == 404
    assert api("GET", f"{secret}/closed", as_=who).status_code == 403
    bad = with_binding(api, project, role=role, members=[member], condition={"title": "x", "expression": "a ="})
    assert bad.status_code == 400
    policy = policy_of(api, project) | {"version": 1}
    assert api("POST", f"{V1}/projects/{project}:setIamPolicy", json={"policy": policy}).status_code == 400


def test_roles_are_real(api: Api, project: str) -> None:
    asked = {"permissions": ["resourcemanager.projects.get", "resourcemanager.projects.delete"]}
    url = f"{V1}/projects/{project}:testIamPermissions"
    assert api("POST", url, json=asked).json() == asked
    assert with_binding(api, project, role="roles/browser", members=["user:reader@example.com"]).status_code == 200
    assert api("POST", url, json=asked, as_="reader@example.com").json() == {"permissions": asked["permissions"][:1]}
    assert api("POST", url, json=asked, as_="stranger@example.com").json() == {}


def test_billing_of_a_new_project(api: Api, project: str) -> None:
    url = f"{BILLING}/projects/{project}/billingInfo"
    assert api("GET", url).json()["billingEnabled"] is False
    found = api("GET", f"{BILLING}/billingAccounts").json()
    account = found["billingAccounts"][0]["name"]
    assert found["billingAccounts"][0]["parent"].startswith("organizations/") and found["nextPageToken"] == ""
    asked = {"permissions": ["billing.resourceAssociations.create"]}
    assert api("POST", f"{BILLING}/{account}:testIamPermissions", json=asked).json() == asked
    assert api("PUT", url, json={"billingAccountName": account}).json()["billingEnabled"] is True
    assert api("PUT", url, json={"billingAccountName": "billingAccounts/mine"}).status_code == 403
    assert api("PUT", url, json={"billingAccountName": ""}).json()["billingEnabled"] is False


def test_policy_of_a_billing_account(api: Api) -> None:
    url, viewer = f"{BILLING}/billingAccounts/000000-111111-AAAAAA", "payer@example.com"
    assert api("GET", url, as_=viewer).status_code == 403
    binding = {"role": "roles/billing.viewer", "members": [f"user:{viewer}"]}
    assert api("POST", f"{url}:setIamPolicy", json={"policy": {"bindings": [binding]}}).json()["bindings"] == [binding]
    assert api("GET", url, as_=viewer).json()["open"] is True
    assert api("POST", f"{url}:setIamPolicy", json={"policy": {}}, as_=viewer).status_code == 403
    assert api("GET", f"{url}:getIamPolicy", as_=viewer).json()["bindings"] == [binding]


@pytest.fixture
def organization(sandbox: Any, api: Api) -> Iterator[str]:
    """Name of the organization, of whose folders the deployer is the administrator."""
    name = api("GET", f"{V3}/organizations:search").json()["organizations"][0]["name"]
    policy = api("POST", f"{V3}/{name}:getIamPolicy").json()
    more = {"role": "roles/resourcemanager.folderAdmin", "members": [f"serviceAccount:{DEPLOYER}"]}
    api("POST", f"{V3}/{name}:setIamPolicy", json={"policy": {"bindings": [*policy["bindings"], more]}})
    yield name
    api("POST", f"{V3}/{name}:setIamPolicy", json={"policy": {"bindings": policy["bindings"]}})


def folder(api: Api, done: Callable[..., dict[str, Any]], name: str, parent: str) -> dict[str, Any]:
    return done(api("POST", f"{V3}/folders", json={"displayName": name, "parent": parent}))


def test_folders(api: Api, done: Callable[..., dict[str, Any]], organization: str) -> None:
    suffix = secrets.token_hex(4)
    made = folder(api, done, f"One {suffix}", organization)
    assert made["metadata"]["@type"].endswith("v3.CreateFolderMetadata")
    one = made["response"]["name"]
    assert api("GET", f"{V3}/{one}").json()["parent"] == organization
    assert api("GET", f"{V3}/{one}", params={"$alt": "json;enum-encoding=int"}).json()["state"] == 1
    again = folder(api, done, f"One {suffix}", organization)
    assert again["error"]["code"] == 9 and "display name uniqueness" in again["error"]["message"]
    two = folder(api, done, "Two", one)["response"]["name"]
    query = {"query": f'state=ACTIVE AND parent={one} AND displayName="Two"'}
    assert [f["name"] for f in api("GET", f"{V3}/folders:search", params=query).json()["folders"]] == [two]
    assert "cycle" in done(api("POST", f"{V3}/{one}:move", json={"destinationParent": two}))["error"]["message"]
    renamed = done(api("PATCH", f"{V3}/{two}", params={"updateMask": "displayName"}, json={"displayName": "Three"}))
    assert renamed["response"]["displayName"] == "Three"
    assert api("DELETE", f"{V3}/{one}").json()["error"]["status"] == "FAILED_PRECONDITION"
    assert api("DELETE", f"{V3}/{two}").json()["response"]["state"] == "DELETE_REQUESTED"
    assert "folders" not in api("GET", f"{V3}/folders", params={"parent": one}).json()
    assert done(api("POST", f"{V3}/{two}:undelete"))["response"]["state"] == "ACTIVE"
    assert api("GET", f"{V3}/{one}", as_="stranger@example.com").status_code == 403
    assert api("GET", f"{V3}/folders/1").status_code == 403
    bad = {"displayName": " x", "parent": organization}
    assert (
        api("POST", f"{V3}/folders", json=bad).json()["error"]["details"][0]["fieldViolations"][0]["field"]
        == "display_name"
    )


def test_folders_of_version_2(api: Api, organization: str) -> None:
    old = V1.replace("/v1", "/v2")
    body = {"displayName": f"Old {secrets.token_hex(4)}"}
    made = api("POST", f"{old}/folders", params={"parent": organization}, json=body).json()
    while not made.get("done"):
        made = api("GET", f"{V1}/{made['name']}").json()
    assert made["metadata"]["operationType"] == "CREATE" and made["response"]["lifecycleState"] == "ACTIVE"
    name = made["response"]["name"]
    query = {"query": f'lifecycleState=ACTIVE AND displayName="{body["displayName"]}"'}
    assert [f["name"] for f in api("POST", f"{old}/folders:search", json=query).json()["folders"]] == [name]
    assert api("PATCH", f"{old}/{name}", json={"displayName": "New"}).json()["displayName"] == "New"
    assert api("DELETE", f"{old}/{name}").json()["lifecycleState"] == "DELETE_REQUESTED"


def test_policy_of_a_folder_holds_below(
    api: Api, done: Callable[..., dict[str, Any]], enable: Callable[..., None], organization: str
) -> None:
    top = folder(api, done, f"Top {secrets.token_hex(4)}", organization)["response"]["name"]
    inner = folder(api, done, "Inner", top)["response"]["name"]
    name = f"below-{secrets.token_hex(4)}"
    done(api("POST", f"{V3}/projects", json={"projectId": name, "parent": inner}))
    enable(name, "cloudresourcemanager.googleapis.com")
    ancestors = [a["resourceId"]["type"] for a in api("POST", f"{V1}/projects/{name}:getAncestry").json()["ancestor"]]
    assert ancestors == ["project", "folder", "folder", "organization"]
    who = "manager@example.com"
    assert api("GET", f"{V1}/projects/{name}", as_=who).status_code == 403
    roles = ("roles/iap.settingsAdmin", "roles/resourcemanager.folderViewer")
    policy = {"bindings": [{"role": role, "members": [f"user:{who}"]} for role in roles]}
    assert api("POST", f"{V3}/{top}:setIamPolicy", json={"policy": policy}).status_code == 200
    assert api("GET", f"{V1}/projects/{name}", as_=who).status_code == 200
    assert api("GET", f"{V3}/{inner}", as_=who).status_code == 200
    assert api("DELETE", f"{V3}/{inner}").json()["error"]["status"] == "FAILED_PRECONDITION"
    settings = f"https://iap.googleapis.com/v1/{top}:iapSettings"
    assert api("GET", settings, as_="stranger@example.com").status_code == 403
    assert api("GET", settings, as_=who).json() == {"name": top}
