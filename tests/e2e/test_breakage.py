"""Each misconfiguration of a deployment makes verify.yml fail and name the resource; site.yml then repairs them all."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from .conftest import LOGGER, PROJECT, Cloud
from .test_access import EVE, SERVER, account, guarded, let_eve_in_under_a_condition, read, sign_in

COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
RUN = f"run.googleapis.com/v2/projects/{PROJECT}"
Undo = Callable[[], object]


@pytest.fixture(scope="module")
def cloud(own_cloud: Cloud) -> Cloud:
    """A deployment that only the tests of this file change."""
    return own_cloud


def only(cloud: Cloud, url: str, kind: str) -> dict:
    """The only resource of its kind in the deployment."""
    (resource,) = cloud.call("GET", url)[kind]
    return resource


def drop_role(cloud: Cloud, get: tuple[str, str], set_: tuple[str, str], role: str, bare: bool = False) -> Undo:
    """Remove a role from a resource's policy; the undo restores the old bindings."""
    policy = cloud.call(*get)
    kept = [binding for binding in policy["bindings"] if binding["role"] != role]
    assert len(kept) < len(policy["bindings"]), f"nobody holds {role}: {policy}"

    def write(bindings: list[dict]) -> None:
        body = {"bindings": bindings, "version": 3}
        cloud.call(*set_, body if bare else {"policy": body})

    write(kept)
    return lambda: write(policy["bindings"])


def backend(cloud: Cloud) -> dict:
    return only(cloud, f"{COMPUTE}/global/backendServices", "items")


def patch_backend(cloud: Cloud, change: dict) -> None:
    service = backend(cloud)
    body = change | {"fingerprint": service["fingerprint"]}
    cloud.call("PATCH", f"{COMPUTE}/global/backendServices/{service['name']}", body)


def service(cloud: Cloud) -> dict:
    return only(cloud, f"{RUN}/locations/europe-west2/services", "services")


def neg_names_another_service(cloud: Cloud) -> Undo:
    groups = f"{COMPUTE}/regions/europe-west2/networkEndpointGroups"
    body = {"name": "wrong", "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "no-such-service"}}
    cloud.call("POST", groups, body)
    old = backend(cloud)["backends"]
    patch_backend(
        cloud, {"backends": [{"group": f"https://www.googleapis.com/compute/v1/{groups.split('/v1/')[1]}/wrong"}]}
    )

    def undo() -> None:
        patch_backend(cloud, {"backends": [{"group": entry["group"]} for entry in old]})
        cloud.call("DELETE", f"{groups}/wrong")

    return undo


def iap_is_off(cloud: Cloud) -> Undo:
    patch_backend(cloud, {"iap": {"enabled": False}})
    return lambda: patch_backend(cloud, {"iap": {"enabled": True}})


def iap_agent_may_not_invoke(cloud: Cloud) -> Undo:
    url = "run.googleapis.com/v2/" + service(cloud)["name"]
    return drop_role(cloud, ("GET", f"{url}:getIamPolicy"), ("POST", f"{url}:setIamPolicy"), "roles/run.invoker")


def secret_is_not_readable(cloud: Cloud) -> Undo:
    url = f"secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/mlflow-db-password"
    role = "roles/secretmanager.secretAccessor"
    return drop_role(cloud, ("GET", f"{url}:getIamPolicy"), ("POST", f"{url}:setIamPolicy"), role)


def bucket_is_not_writable(cloud: Cloud) -> Undo:
    bucket = only(cloud, f"storage.googleapis.com/storage/v1/b?project={PROJECT}", "items")["name"]
    url = f"storage.googleapis.com/storage/v1/b/{bucket}/iam"
    return drop_role(cloud, ("GET", url), ("PUT", url), "roles/storage.objectUser", bare=True)


def server_may_not_sign(cloud: Cloud) -> Undo:
    url = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts/mlflow-server@{PROJECT}.iam.gserviceaccount.com"
    role = "roles/iam.serviceAccountTokenCreator"
    return drop_role(cloud, ("POST", f"{url}:getIamPolicy"), ("POST", f"{url}:setIamPolicy"), role)


def private_services_peering_is_gone(cloud: Cloud) -> Undo:
    peering = "servicenetworking-googleapis-com"
    networks = cloud.call("GET", f"{COMPUTE}/global/networks")["items"]
    (network,) = [network for network in networks if network.get("peerings")]
    ranges = cloud.call("GET", f"{COMPUTE}/global/addresses")["items"]
    reserved = [address["name"] for address in ranges if address.get("purpose") == "VPC_PEERING"]
    cloud.call("POST", f"{COMPUTE}/global/networks/{network['name']}/removePeering", {"name": peering})
    number = cloud.call("GET", f"cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}")["projectNumber"]
    body = {"network": f"projects/{number}/global/networks/{network['name']}", "reservedPeeringRanges": reserved}
    url = "servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections"
    return lambda: cloud.call("POST", url, body)


def account_is_disabled(name: str) -> Callable[[Cloud], Undo]:
    def break_it(cloud: Cloud) -> Undo:
        url = f"iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts/{name}@{PROJECT}.iam.gserviceaccount.com"
        cloud.call("POST", f"{url}:disable", {})
        return lambda: cloud.call("POST", f"{url}:enable", {})

    return break_it


def bucket_keeps_nothing(cloud: Cloud) -> Undo:
    """Versioning off, public access not prevented, and objects deleted by age and kept by a retention policy."""
    bucket = only(cloud, f"storage.googleapis.com/storage/v1/b?project={PROJECT}", "items")
    url = f"storage.googleapis.com/storage/v1/b/{bucket['name']}"
    rules = bucket["lifecycle"]["rule"]
    cloud.call(
        "PATCH",
        url,
        {
            "versioning": {"enabled": False},
            "iamConfiguration": {"publicAccessPrevention": "inherited"},
            "lifecycle": {"rule": [*rules, {"action": {"type": "Delete"}, "condition": {"age": 1}}]},
        },
    )
    before = {
        "versioning": bucket["versioning"],
        "iamConfiguration": bucket["iamConfiguration"],
        "lifecycle": {"rule": rules},
    }
    return lambda: cloud.call("PATCH", url, before)


def bucket_has_a_retention_policy(cloud: Cloud) -> Undo:
    bucket = only(cloud, f"storage.googleapis.com/storage/v1/b?project={PROJECT}", "items")["name"]
    url = f"storage.googleapis.com/storage/v1/b/{bucket}"
    cloud.call("PATCH", url, {"retentionPolicy": {"retentionPeriod": "3600"}})
    return lambda: cloud.call("PATCH", url, {"retentionPolicy": None})


def everybody_may_invoke(cloud: Cloud) -> Undo:
    url = "run.googleapis.com/v2/" + service(cloud)["name"]
    policy = cloud.call("GET", f"{url}:getIamPolicy")
    public = {"role": "roles/run.invoker", "members": ["allUsers"]}
    cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": [*policy["bindings"], public]}})
    return lambda: cloud.call("POST", f"{url}:setIamPolicy", {"policy": {"bindings": policy["bindings"]}})


def ingress_is_open(cloud: Cloud) -> Undo:
    url = "run.googleapis.com/v2/" + service(cloud)["name"]
    before = service(cloud)["ingress"]
    cloud.call("PATCH", f"{url}?updateMask=ingress", {"ingress": "INGRESS_TRAFFIC_ALL"})
    return lambda: cloud.call("PATCH", f"{url}?updateMask=ingress", {"ingress": before})


def database_is_public(cloud: Cloud) -> Undo:
    url = f"sqladmin.googleapis.com/v1/projects/{PROJECT}/instances/mlflow"

    def patch(**settings: object) -> None:
        version = cloud.call("GET", url)["settings"]["settingsVersion"]
        cloud.call("PATCH", url, {"settings": {"settingsVersion": version, **settings}})

    whole = [{"name": "all", "value": "0.0.0.0/0"}]
    patch(
        ipConfiguration={
            "ipv4Enabled": True,
            "authorizedNetworks": whole,
            "sslMode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED",
        },
        databaseFlags=[{"name": "max_connections", "value": "25"}],
    )
    return lambda: patch(
        ipConfiguration={"ipv4Enabled": False, "authorizedNetworks": [], "sslMode": "ENCRYPTED_ONLY"}, databaseFlags=[]
    )


def egress_is_denied(cloud: Cloud) -> Undo:
    networks = cloud.call("GET", f"{COMPUTE}/global/networks")["items"]
    network = next(network for network in networks if network.get("peerings"))
    rule = {
        "name": "deny-egress",
        "network": network["selfLink"],
        "direction": "EGRESS",
        "denied": [{"IPProtocol": "all"}],
        "destinationRanges": ["0.0.0.0/0"],
    }
    cloud.call("POST", f"{COMPUTE}/global/firewalls", rule)
    return lambda: cloud.call("DELETE", f"{COMPUTE}/global/firewalls/deny-egress")


BREAKAGES = {
    neg_names_another_service: "no-such-service",
    iap_is_off: "Identity-Aware Proxy|IAP",
    iap_agent_may_not_invoke: "roles/run.invoker",
    secret_is_not_readable: "roles/secretmanager.secretAccessor",
    bucket_is_not_writable: "roles/storage.objectUser",
    server_may_not_sign: "roles/iam.serviceAccountTokenCreator",
    private_services_peering_is_gone: "peering",
    let_eve_in_under_a_condition: rf"{EVE} has roles/iap.httpsResourceAccessor\s+under\s+the\s+condition",
}


# What the doctor says about each, all in one run.
TOGETHER = {
    bucket_keeps_nothing: (
        "versioning is off.*|public access prevention is inherited.*|a lifecycle rule deletes artifacts that are in use"
    ),
    bucket_has_a_retention_policy: "has a retention policy of 3600 seconds",
    everybody_may_invoke: "Cloud Run service mlflow: is open to everybody on the internet: allUsers has roles/run.invoker",
    ingress_is_open: "can be reached without the load balancer and IAP",
    database_is_public: (
        "has a public IP address|from authorized networks: 0.0.0.0/0|sslMode ALLOW_UNENCRYPTED_AND_ENCRYPTED"
        "|accepts only 25 connections"
    ),
    egress_is_denied: "firewall rule deny-egress denies the server's connections",
    account_is_disabled("mlflow-server"): r"the server's account\) is disabled",
    account_is_disabled("mlflow-logger"): r"the logger's account\) is disabled",
}


@pytest.mark.parametrize("break_it", BREAKAGES, ids=lambda function: function.__name__)
def test_verify_reports_what_is_broken(cloud, deployed, break_it):
    undo = break_it(cloud)
    try:
        play = cloud.playbook("verify.yml")
    finally:
        undo()
    assert play.status != 0, play.output
    assert play.recap("failed") == 1
    assert re.search(BREAKAGES[break_it], play.error), play.output


def test_verify_reports_everything_that_is_open_or_broken(cloud, deployed):
    undo = [break_it(cloud) for break_it in TOGETHER]
    try:
        play = cloud.playbook("verify.yml")
    finally:
        for step in reversed(undo):
            step()
    assert play.status != 0 and play.recap("failed") == 1, play.output
    # Before the probe, which would wait for changes to propagate.
    assert "mlflow_probe" not in play.output and play.seconds < 60
    said = " ".join(play.error.split())
    for pattern in TOGETHER.values():
        for part in pattern.split("|"):
            assert re.search(part, said), f"{part} is missing: {said}"


def test_site_repairs_them_all(cloud, deployed):
    for break_it in BREAKAGES:
        break_it(cloud)
    for email in (SERVER, LOGGER):
        cloud.call("POST", f"{account(email)}:disable", {})
    plan = cloud.playbook("plan.yml", "-e", "mlflow_plan_fail_on_changes=true")
    assert plan.status == 2 and "The deployment is not as declared; a run of site would" in plan.error, plan.output
    play = cloud.playbook("site.yml", "--diff")
    assert play.status == 0 and play.recap("changed") > 0, play.output
    assert play.changed == plan.changed, "a run does what its plan says, and nothing else"
    assert "until 2030" in play.output, "the diff shows whose conditional access was removed"
    assert [url for url in guarded(cloud) if EVE in str(read(cloud, url))] == []
    assert [sign_in(cloud, member) for member in (EVE, "user:jane@example.com")] == [403, 200]
    play = cloud.playbook("verify.yml")
    assert play.status == 0, play.output
