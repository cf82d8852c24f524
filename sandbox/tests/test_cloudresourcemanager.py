"""Projects and their policies."""

from __future__ import annotations

import secrets
from collections.abc import Callable
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


def test_parents_of_a_project(api: Api, done: Callable[..., dict[str, Any]], enable: Callable[..., None]) -> None:
    name = f"moved-{secrets.token_hex(4)}"
    organization = api("GET", f"{V3}/organizations:search").json()["organizations"][0]["name"]
    done(api("POST", f"{V3}/projects", json={"projectId": name, "parent": organization}))
    enable(name, "cloudresourcemanager.googleapis.com")
    found = api("GET", f"{V3}/projects", params={"parent": organization}).json()["projects"]
    assert name in [project["projectId"] for project in found]
    ancestors = [a["resourceId"]["type"] for a in api("POST", f"{V1}/projects/{name}:getAncestry").json()["ancestor"]]
    assert ancestors == ["project", "organization"]
    # Folders that are not managed are assumed to exist.
    assert api("POST", f"{V3}/projects", json={"projectId": f"{name}-x", "parent": "folders/x"}).status_code == 400
    body = {"projectId": f"{name}-2", "parent": "folders/123"}
    assert done(api("POST", f"{V3}/projects", json=body))["response"]["parent"] == "folders/123"


def granted(api: Api, resource: str, *bindings: dict[str, Any]) -> None:
    """Add bindings to the policy of a folder or the organization."""
    policy = api("POST", f"{V3}/{resource}:getIamPolicy", json={}).json()
    policy["bindings"] = policy.get("bindings", []) + list(bindings)
    answer = api("POST", f"{V3}/{resource}:setIamPolicy", json={"policy": policy | {"version": 3}})
    assert answer.status_code == 200, answer.text


def test_folders_are_between_projects_and_the_organization(
    api: Api, done: Callable[..., dict[str, Any]], enable: Callable[..., None]
) -> None:
    organization = api("GET", f"{V3}/organizations:search").json()["organizations"][0]["name"]
    body = {"displayName": f"Teams {secrets.token_hex(4)}", "parent": organization}
    assert api("POST", f"{V3}/folders", json=body).status_code == 403
    deployer = f"serviceAccount:{DEPLOYER}"
    granted(api, organization, {"role": "roles/resourcemanager.folderCreator", "members": [deployer]})
    outer = done(api("POST", f"{V3}/folders", json=body))["response"]["name"]
    assert api("POST", f"{V3}/folders", json=body).status_code == 400
    inner = done(api("POST", f"{V3}/folders", json={"displayName": "Machine learning", "parent": outer}))["response"]
    assert api("GET", f"{V3}/{inner['name']}").json() == {k: v for k, v in inner.items() if k != "@type"}
    found = api("GET", f"{V3}/folders", params={"parent": outer}).json()["folders"]
    assert [folder["name"] for folder in found] == [inner["name"]]

    project = f"in-folder-{secrets.token_hex(4)}"
    done(api("POST", f"{V3}/projects", json={"projectId": project, "parent": inner["name"]}))
    enable(project, "cloudresourcemanager.googleapis.com")
    ancestors = api("POST", f"{V1}/projects/{project}:getAncestry").json()["ancestor"]
    names = ["{type}s/{id}".format(**ancestor["resourceId"]) for ancestor in ancestors]
    assert names == [f"projects/{project}", inner["name"], outer, organization]

    url = f"{V1}/projects/{project}"
    assert api("GET", url, as_="jane@example.com").status_code == 403
    granted(api, outer, {"role": "roles/viewer", "members": ["user:Jane@Example.com"]})
    assert api("GET", url, as_="jane@example.com").status_code == 200
    body = {"policy": {"bindings": []}}
    assert api("POST", f"{V3}/{outer}:setIamPolicy", json=body, as_="jane@example.com").status_code == 403
    assert api("POST", f"{V3}/folders/123:getIamPolicy", json={}).status_code == 403


def test_addresses_are_stored_in_lower_case(api: Api, project: str) -> None:
    subject = "principal://iam.googleapis.com/locations/global/workforcePools/staff/subject/Jane"
    pods = "serviceAccount:example.com:my-project.svc.id.goog[mlflow/trainer]"
    given = ["user:Jane@Example.com", "group:ML@example.com", "domain:Example.com", subject, pods]
    assert with_binding(api, project, role="roles/browser", members=given).status_code == 200
    (members,) = [b["members"] for b in policy_of(api, project)["bindings"] if subject in b["members"]]
    assert set(given[3:]) | {"user:jane@example.com", "group:ml@example.com", "domain:example.com"} <= set(members)


def test_members_of_deny_policies_are_refused(api: Api, project: str) -> None:
    answer = with_binding(api, project, role="roles/viewer", members=["principalSet://goog/public:all"])
    assert answer.status_code == 400
