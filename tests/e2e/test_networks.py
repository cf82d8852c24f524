"""Networks of others, and several deployments on one network: the role network alone, in projects of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Cloud, Play

COMPUTE = "compute.googleapis.com/compute/v1/projects"
CONNECTIONS = "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
MANAGER = "cloudresourcemanager.googleapis.com/v1/projects"
APIS = ["compute.googleapis.com", "servicenetworking.googleapis.com", "cloudresourcemanager.googleapis.com"]
DEFAULT = {"network": "default", "subnetwork": "default"}
USER = "deployer-of-a-team@example.com"


def new_project(cloud: Cloud, name: str) -> str:
    cloud.call("POST", MANAGER, {"projectId": name})
    cloud.call("POST", f"serviceusage.googleapis.com/v1/projects/{name}/services:batchEnable", {"serviceIds": APIS})
    return f"{COMPUTE}/{name}"


def networks(cloud: Cloud, *deployments: dict[str, object], hosts: str = "one,", **env: str | None) -> Play:
    """Run the role for each of the deployments, or in parallel on several hosts for that of the host's name."""
    values: dict[str, object] = {"deployments": deployments}
    if len(hosts.split(",")) > 2:
        values = {
            "deployments": ["{{ by_host[inventory_hostname] }}"],
            "by_host": {d["prefix"]: d for d in deployments},
        }
    values["ansible_python_interpreter"] = "{{ ansible_playbook_python }}"
    extra = ["--connection", "local", "--extra-vars", json.dumps(values)]
    return cloud.playbook("../tests/e2e/network.yml", *extra, inventory=Path(hosts), **env)


def connected(cloud: Cloud, project: str, network: str) -> list[str]:
    number = cloud.call("GET", f"{MANAGER}/{project}")["projectNumber"]
    query = {"network": f"projects/{number}/global/networks/{network}"}
    (connection,) = cloud.call("GET", CONNECTIONS, params=query)["connections"]
    return sorted(connection["reservedPeeringRanges"])


def state(cloud: Cloud, base: str) -> dict[str, object]:
    """Everything that the role could have changed."""
    paths = ("global/networks", "global/addresses", "global/firewalls", "regions/europe-west2/subnetworks")
    return {path: cloud.call("GET", f"{base}/{path}").get("items") for path in paths}


@pytest.fixture(scope="module")
def base(cloud) -> str:
    """
    A project with three deployments, made in one loop: the first on its default network, the second on its own one, the third
    on the default network with the range of the first.
    """
    base = new_project(cloud, "net-demo")
    play = networks(
        cloud,
        {"project": "net-demo", "prefix": "first", **DEFAULT},
        {"project": "net-demo", "prefix": "second", "internal": True},
        {"project": "net-demo", "prefix": "third", **DEFAULT, "reserved_range": "first-services"},
    )
    assert play.status == 0, play.output
    return base


def test_nothing_of_the_first_deployment_reaches_the_second(cloud, base):
    assert cloud.call("GET", f"{base}/global/firewalls/second-allow-internal")["sourceRanges"] == ["10.10.0.0/24"]
    assert connected(cloud, "net-demo", "default") == ["first-services"]
    assert connected(cloud, "net-demo", "second") == ["second-services"]
    addresses = cloud.call("GET", f"{base}/global/addresses")["items"]
    assert sorted(address["name"] for address in addresses) == ["first-services", "second-services"]


def test_another_network_for_a_deployment_is_refused_before_anything_is_changed(cloud, base):
    before = state(cloud, base)
    play = networks(cloud, {"project": "net-demo", "prefix": "second", **DEFAULT})
    assert "Cannot update global address second-services of project net-demo: network is" in play.error
    assert "cannot be changed" in play.error and play.recap("changed") == 0
    assert state(cloud, base) == before


def test_an_emptied_network_name_is_refused_before_a_network_is_made(cloud, base):
    """Its subnetwork, or else its range, is in the network of before."""
    body = {"name": "fifth-europe-west2", "network": f"{base.partition('/v1/')[2]}/global/networks/second"}
    cloud.call("POST", f"{base}/regions/europe-west2/subnetworks", body | {"ipCidrRange": "10.50.0.0/24"})
    before = state(cloud, base)
    for prefix, refused in (("fifth", "subnetwork fifth-europe-west2"), ("first", "global address first-services")):
        play = networks(cloud, {"project": "net-demo", "prefix": prefix, "subnetwork_range": "10.50.0.0/24"})
        assert f"Cannot update {refused} of project net-demo: network is" in play.error, play.output
        assert play.recap("changed") == 0
    assert state(cloud, base) == before


@pytest.mark.long
def test_any_range_of_the_peering_is_only_read(cloud, base):
    play = networks(cloud, {"project": "net-demo", "prefix": "fourth", **DEFAULT, "reserved_range": ""})
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert connected(cloud, "net-demo", "default") == ["first-services"]


# The unit tests of service_networking_connection play every order of the two.
@pytest.mark.long
def test_deployments_that_run_at_the_same_time_keep_their_ranges(cloud, base):
    # The range is gone, its name is still part of the connection.
    cloud.call("DELETE", f"{base}/global/addresses/second-services")
    cloud.command("fault", "add", "servicenetworking.services.connections.patch", "slow", "seconds=3")
    common = {"project": "net-demo", "network": "second", "subnetwork": "second-europe-west2"}
    play = networks(cloud, {"prefix": "team-a", **common}, {"prefix": "team-b", **common}, hosts="team-a,team-b")
    cloud.command("fault", "clear")
    assert play.status == 0, play.output
    assert connected(cloud, "net-demo", "second") == ["team-a-services", "team-b-services"]


def test_a_shared_vpc_needs_no_more_than_network_user_on_the_subnetwork(cloud):
    base = new_project(cloud, "net-host")
    cloud.call("POST", f"{base}/global/networks", {"name": "shared", "autoCreateSubnetworks": False})
    subnetworks, network = f"{base}/regions/europe-west2/subnetworks", "projects/net-host/global/networks/shared"
    cloud.call("POST", subnetworks, {"name": "runs", "network": network, "ipCidrRange": "10.20.0.0/24"})
    policy = {"bindings": [{"role": "roles/compute.networkUser", "members": [f"user:{USER}"]}]}
    cloud.call("POST", f"{subnetworks}/runs/setIamPolicy", {"policy": policy})
    before = state(cloud, base)
    play = networks(
        cloud,
        {
            "project": "net-host",
            "prefix": "mlflow",
            "network": "shared",
            "subnetwork": "runs",
            "reserved_range": "theirs",
        },
        GCP_AUTH_KIND="accesstoken",
        GCP_ACCESS_TOKEN=cloud.command("token", "--as", USER).strip(),
        GCP_SERVICE_ACCOUNT_FILE=None,
    )
    assert (play.status, play.recap("changed")) == (0, 0), play.output
    assert "subnetwork_path: projects/net-host/regions/europe-west2/subnetworks/runs" in play.output
    assert "theirs of project net-host is assumed to exist as given" in play.output.replace("\n", " ")
    assert state(cloud, base) == before
