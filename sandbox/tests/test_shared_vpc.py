"""Shared VPC and Private Service Connect, as a client meets them."""

from __future__ import annotations

from typing import Any

import pytest

Doc = dict[str, Any]
COMPUTE = "https://compute.googleapis.com/compute/v1/projects"
PROJECTS = "https://cloudresourcemanager.googleapis.com/v1/projects"
SUBNET = "regions/europe-west2/subnetworks"
JANE = "jane@example.com"


@pytest.fixture(scope="module")
def host(api: Any, done: Any, enable: Any, project: str) -> str:
    """A host project with the network shared and its subnetwork runs, to which the module's project is attached."""
    name = f"{project}-host"
    done(api("POST", PROJECTS, json={"projectId": name}))
    manager = "cloudresourcemanager.googleapis.com"
    enable(name, "compute.googleapis.com", manager)
    enable(project, "compute.googleapis.com", "run.googleapis.com", "vpcaccess.googleapis.com", manager)
    base = f"{COMPUTE}/{name}"
    done(api("POST", f"{base}/global/networks", json={"name": "shared", "autoCreateSubnetworks": False}))
    body = {"name": "runs", "network": f"projects/{name}/global/networks/shared", "ipCidrRange": "10.9.0.0/24"}
    done(api("POST", f"{base}/{SUBNET.removesuffix('/subnetworks')}/subnetworks", json=body))
    return name


def grant(api: Any, name: str, member: str, role: str = "roles/compute.networkUser") -> None:
    """Add a member to the policy of a subnetwork."""
    url = f"{COMPUTE}/{name}/{SUBNET}/runs"
    policy = api("GET", f"{url}/getIamPolicy").json()
    policy["bindings"] = [*policy.get("bindings", []), {"role": role, "members": [member]}]
    answer = api("POST", f"{url}/setIamPolicy", json={"policy": policy})
    assert answer.status_code == 200, answer.text


def grant_project(api: Any, name: str, member: str, role: str) -> None:
    """Add a member to the policy of a project."""
    policy = api("POST", f"{PROJECTS}/{name}:getIamPolicy", json={}).json()
    policy["bindings"].append({"role": role, "members": [member]})
    answer = api("POST", f"{PROJECTS}/{name}:setIamPolicy", json={"policy": policy})
    assert answer.status_code == 200, answer.text


def attach(api: Any, done: Any, host: str, project: str) -> None:
    done(api("POST", f"{COMPUTE}/{host}/enableXpnHost"))
    body = {"xpnResource": {"id": project, "type": "PROJECT"}}
    assert "error" not in done(api("POST", f"{COMPUTE}/{host}/enableXpnResource", json=body))


def test_host_and_service_projects(api: Any, done: Any, host: str, project: str) -> None:
    body = {"xpnResource": {"id": project, "type": "PROJECT"}}
    answer = api("POST", f"{COMPUTE}/{host}/enableXpnResource", json=body)
    assert answer.status_code == 400 and "is not a shared VPC host project" in answer.text
    assert api("GET", f"{COMPUTE}/{project}/getXpnHost").json() == {}
    attach(api, done, host, project)
    assert api("GET", f"{COMPUTE}/{host}").json()["xpnProjectStatus"] == "HOST"
    assert api("GET", f"{COMPUTE}/{project}/getXpnHost").json()["name"] == host
    resources = api("GET", f"{COMPUTE}/{host}/getXpnResources").json()["resources"]
    assert resources == [{"id": project, "type": "PROJECT"}]
    hosts = api("POST", f"{COMPUTE}/{host}/listXpnHosts", json={}).json()["items"]
    assert host in [entry["name"] for entry in hosts]
    answer = api("POST", f"{COMPUTE}/{host}/disableXpnHost")
    assert answer.status_code == 400 and "active service projects" in answer.text
    answer = api("POST", f"{COMPUTE}/{host}/enableXpnHost", as_=JANE)
    assert answer.status_code == 403 and "compute.organizations.enableXpnHost" in answer.text
    done(api("POST", f"{COMPUTE}/{host}/disableXpnResource", json=body))
    assert "resources" not in api("GET", f"{COMPUTE}/{host}/getXpnResources").json()
    done(api("POST", f"{COMPUTE}/{host}/disableXpnHost"))
    assert api("GET", f"{COMPUTE}/{host}").json()["xpnProjectStatus"] == "UNSPECIFIED_XPN_PROJECT_STATUS"


def test_a_network_user_of_a_subnetwork_sees_that_alone(api: Any, done: Any, host: str, project: str) -> None:
    attach(api, done, host, project)
    url = f"{COMPUTE}/{host}/{SUBNET}/runs"
    refused = api("GET", url, as_=JANE)
    assert refused.status_code == 403 and "Required 'compute.subnetworks.get' permission" in refused.text
    policy = {"bindings": [{"role": "roles/compute.networkUser", "members": [f"user:{JANE}"]}]}
    grant(api, host, f"user:{JANE}")
    assert api("GET", f"{url}/getIamPolicy").json()["bindings"] == policy["bindings"]
    assert api("GET", url, as_=JANE).status_code == 200
    assert api("GET", f"{COMPUTE}/{host}/global/networks/shared", as_=JANE).status_code == 403
    # An address of the subnetwork needs both: to make addresses in the own project, and to use the subnetwork.
    grant_project(api, project, f"user:{JANE}", "roles/compute.loadBalancerAdmin")
    addresses = f"{COMPUTE}/{project}/regions/europe-west2/addresses"
    body = {"name": "a", "addressType": "INTERNAL", "subnetwork": f"projects/{host}/{SUBNET}/runs"}
    done(api("POST", addresses, as_=JANE, json=body))
    assert api("GET", f"{addresses}/a").json()["address"].startswith("10.9.0.")
    api("POST", f"{url}/setIamPolicy", json={"policy": {"bindings": []}})
    answer = api("POST", addresses, as_=JANE, json={**body, "name": "b"})
    assert answer.status_code == 403 and "Required 'compute.subnetworks.use' permission" in answer.text


def run_service(api: Any, done: Any, project: str, name: str, access: Doc) -> str:
    """What Cloud Run says of a new service with this vpcAccess, "" if it is ready."""
    url = f"https://run.googleapis.com/v2/projects/{project}/locations/europe-west2/services"
    body = {"template": {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}], "vpcAccess": access}}
    operation = done(api("POST", url, params={"serviceId": name}, json=body))
    assert "done" in operation
    condition = api("GET", f"{url}/{name}").json()["terminalCondition"]
    return "" if condition["state"] == "CONDITION_SUCCEEDED" else condition["message"]


def test_cloud_run_uses_a_shared_subnetwork_if_its_agent_may(api: Any, done: Any, host: str, project: str) -> None:
    number = api("GET", f"{PROJECTS}/{project}").json()["projectNumber"]
    agent = f"service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
    interface = {"network": f"projects/{host}/global/networks/shared", "subnetwork": f"projects/{host}/{SUBNET}/runs"}
    access = {"networkInterfaces": [interface]}
    body = {"xpnResource": {"id": project, "type": "PROJECT"}}
    api("POST", f"{COMPUTE}/{host}/disableXpnResource", json=body)
    assert "is not attached to the Shared VPC host project" in run_service(api, done, project, "one", access)
    attach(api, done, host, project)
    message = run_service(api, done, project, "two", access)
    assert "Required 'compute.subnetworks.use' permission" in message and agent in message
    grant(api, host, f"serviceAccount:{agent}")
    assert run_service(api, done, project, "three", access) == ""


def test_cloud_run_uses_a_connector_of_the_host_project_if_its_agent_may(
    api: Any, done: Any, enable: Any, host: str, project: str
) -> None:
    enable(host, "vpcaccess.googleapis.com")
    connectors = f"https://vpcaccess.googleapis.com/v1/projects/{host}/locations/europe-west2/connectors"
    body = {"network": "shared", "ipCidrRange": "10.8.0.0/28"}
    done(api("POST", connectors, params={"connectorId": "mine"}, json=body))
    access = {"connector": f"projects/{host}/locations/europe-west2/connectors/mine"}
    assert "does not have permission to use it" in run_service(api, done, project, "four", access)
    number = api("GET", f"{PROJECTS}/{project}").json()["projectNumber"]
    agent = f"serviceAccount:service-{number}@serverless-robot-prod.iam.gserviceaccount.com"
    grant_project(api, host, agent, "roles/vpcaccess.user")
    assert run_service(api, done, project, "five", access) == ""
