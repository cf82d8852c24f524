# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mlflow_front_door_check."""

from __future__ import annotations

import pytest

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo/global"
EAST = "https://www.googleapis.com/compute/v1/projects/demo/regions/us-east1"
SERVICE = "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow"
OPTIONS = {
    "name": "mlflow-lb",
    "domains": ["mlflow.example.com", "models.example.com"],
    "address_name": "mlflow-lb-ip",
    "cloud_run_service": "mlflow",
    "region": "europe-west2",
}
RESERVED = {"name": "mlflow-lb-ip", "address": "34.1.2.3", "addressType": "EXTERNAL"}


class World:
    """Scripts the answers of a project; the requests come in the order of the module."""

    def __init__(self, google):
        self.google = google
        self.service, self.address, self.rules = {"name": "mlflow"}, None, {}
        self.rivals, self.proxies, self.certificates, self.maps = [], [], [], []

    def find(self, url, body):
        absent = self.google.old_error(404, "notFound", "not found")
        self.google.expect("GET", url, absent if body is None else body)

    def list(self, collection, entries):
        items = {"global": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}, "regions/us-east1": {collection: entries}}
        self.google.expect("GET", f"{COMPUTE}/aggregated/{collection}", {"items": items})

    def script(self):
        self.find("https://cloudresourcemanager.googleapis.com/v1/projects/demo", {"projectNumber": "123"})
        self.find(SERVICE, self.service)
        self.find(f"{COMPUTE}/global/addresses/mlflow-lb-ip", self.address)
        for port in ("https", "http"):
            self.find(f"{COMPUTE}/global/forwardingRules/mlflow-lb-{port}", self.rules.get(port))
        self.list("forwardingRules", self.rivals)
        if self.rivals:
            self.list("targetHttpsProxies", self.proxies)
            self.list("sslCertificates", self.certificates)
        for url_map in self.maps:
            self.find(f"{COMPUTE}/global/urlMaps/{url_map['name']}", url_map)

    def balancer(self, name, scope=LINKS, domains=(), **proxy):
        """Another load balancer, with a managed certificate for these domains."""
        certificates = [f"{scope}/sslCertificates/{name}"] if domains else []
        target = f"{scope}/targetHttpsProxies/{name}"
        self.rivals.append({"name": name, "target": target, "IPAddress": "34.9.9.9"})
        self.proxies.append(
            {"selfLink": target, "sslCertificates": certificates, "urlMap": f"{LINKS}/urlMaps/{name}", **proxy}
        )
        if domains:
            self.certificates.append({"selfLink": certificates[0], "managed": {"domains": list(domains)}})


@pytest.fixture
def world(google):
    return World(google)


def test_everything_is_possible(world, run_module):
    world.balancer("grafana", domains=["grafana.example.com"])
    world.rivals.append({"name": "plain", "target": f"{LINKS}/targetHttpProxies/plain"})
    world.balancer("inside", scope=EAST, domains=["mlflow.example.com"])
    world.rivals[-1]["loadBalancingScheme"] = "INTERNAL_MANAGED"
    world.script()
    result = run_module("mlflow_front_door_check", **OPTIONS)
    assert (result["changed"], result["problems"], world.google.writes) == (False, [], [])


def test_a_load_balancer_that_exists_already(world, run_module):
    world.address, world.rules = RESERVED, {port: {"IPAddress": "34.1.2.3"} for port in ("https", "http")}
    world.rivals.append({"name": "mlflow-lb-https", "target": f"{LINKS}/targetHttpsProxies/mlflow-lb-https"})
    world.script()
    # Without others, their proxies and certificates are not read.
    del world.google.script[-2:]
    assert not run_module("mlflow_front_door_check", **OPTIONS)["problems"]


def test_a_service_that_does_not_exist(world, run_module):
    world.service = None
    world.script()
    with pytest.raises(
        Exception,
        match="^Nothing was changed: Cloud Run service mlflow does not exist in region europe-west2 of project demo: deploy",
    ):
        run_module("mlflow_front_door_check", **OPTIONS)


def test_check_mode_only_warns_about_the_service(world, run_module):
    world.service = None
    world.script()
    result = run_module("mlflow_front_door_check", check=True, **OPTIONS)
    assert "Cloud Run service mlflow does not exist in region europe-west2 of project demo yet" in str(
        result["warnings"]
    )


def test_the_service_is_optional(world, run_module):
    world.script()
    del world.google.script[1]
    options = {key: value for key, value in OPTIONS.items() if key not in ("cloud_run_service", "region")}
    assert not run_module("mlflow_front_door_check", **options)["problems"]


@pytest.mark.parametrize(
    ("address", "rule", "words"),
    [
        (None, None, "global address mlflow-lb-ip does not exist in project demo: reserve it"),
        (
            {**RESERVED, "addressType": "INTERNAL"},
            None,
            "global address mlflow-lb-ip is INTERNAL: give the name of an external",
        ),
        (
            RESERVED,
            "34.7.7.7",
            "mlflow-lb-https has the address 34.7.7.7, which Google cannot change to that of mlflow-lb-ip, 34.1.2.3",
        ),
    ],
)
def test_an_address_that_the_load_balancer_cannot_have(world, run_module, address, rule, words):
    world.address, world.rules = address, {"https": {"IPAddress": rule}} if rule else {}
    world.script()
    # The rest is not read any more.
    read = 3 + (1 if rule else 0)
    world.google.script[read:5] = []
    with pytest.raises(Exception, match=words):
        run_module("mlflow_front_door_check", address_exists=True, **OPTIONS)


def test_a_new_address_for_rules_that_have_another(world, run_module):
    world.rules = {"http": {"IPAddress": "34.7.7.7"}}
    world.script()
    with pytest.raises(
        Exception, match="mlflow-lb-http has the address 34.7.7.7, .* a new one: give the name of the address 34.7.7.7"
    ):
        run_module("mlflow_front_door_check", **OPTIONS)


@pytest.mark.parametrize(
    "balancer",
    [
        {"domains": ["Models.example.com."]},
        {"domains": ["a.example.com", "models.example.com"], "scope": EAST},
        {"domains": ["*.example.com"], "map": {"hostRules": [{"hosts": ["a.example.com", "models.example.com"]}]}},
        {"certificateMap": "//certificatemanager/x", "map": {"hostRules": [{"hosts": ["models.example.com"]}]}},
    ],
    ids=["certificate", "regional", "wildcard and host rule", "certificate map and host rule"],
)
def test_another_load_balancer_with_the_domain(world, run_module, balancer):
    url_map = balancer.pop("map", None)
    world.balancer("corporate", **balancer)
    world.maps = [{"name": "corporate", **url_map}] if url_map else []
    world.script()
    with pytest.raises(
        Exception,
        match=r"forwarding rule corporate \(34.9.9.9\) already serves models.example.com, .* list corporate in",
    ):
        run_module("mlflow_front_door_check", **OPTIONS)
    world.script()
    world.find(f"{COMPUTE}/global/forwardingRules/corporate", None)
    result = run_module("mlflow_front_door_check", replaces=["corporate"], **OPTIONS)
    assert (result["problems"], result["replaced_addresses"], result["replaced_certificates"]) == ([], [], [])


def test_a_wildcard_alone_is_no_rival(world, run_module):
    world.balancer("corporate", domains=["*.example.com"])
    world.maps = [{"name": "corporate", "hostRules": [{"hosts": ["grafana.example.com"]}]}]
    world.script()
    assert not run_module("mlflow_front_door_check", **OPTIONS)["problems"]


def test_all_problems_in_one_message(world, run_module):
    world.service = None
    world.balancer("corporate", domains=["mlflow.example.com"])
    world.script()
    with pytest.raises(Exception, match=r"1\) Cloud Run service mlflow .*; 2\) forwarding rule corporate") as failed:
        run_module("mlflow_front_door_check", **OPTIONS)
    assert len(failed.value.result["problems"]) == 2


def test_a_policy_of_others(world, run_module):
    backend = f"{COMPUTE}/global/backendServices/mlflow-lb-backend"
    live = {"name": "mlflow-lb-backend", "securityPolicy": f"{LINKS}/securityPolicies/corporate"}
    world.script()
    world.find(backend, live)
    with pytest.raises(Exception, match="mlflow-lb-backend has the Cloud Armor policy corporate of others: add the"):
        run_module("mlflow_front_door_check", security_policy="mlflow-lb-allowed", **OPTIONS)
    world.script()
    world.find(backend, live | {"securityPolicy": f"{LINKS}/securityPolicies/mlflow-lb-allowed"})
    assert not run_module("mlflow_front_door_check", security_policy="mlflow-lb-allowed", **OPTIONS)["problems"]


def test_the_previous_name_of_the_load_balancer(world, run_module):
    world.balancer("old-https", domains=["mlflow.example.com"])
    world.script()
    world.find(f"{COMPUTE}/global/forwardingRules/old-https", {"IPAddress": "34.9.9.9"})
    proxy = {"sslCertificates": [f"{LINKS}/sslCertificates/old-5d41402a"]}
    world.find(f"{COMPUTE}/global/targetHttpsProxies/old-https", proxy)
    result = run_module("mlflow_front_door_check", previous="old", **OPTIONS)
    assert (result["previous_addresses"], result["previous_certificates"]) == (["34.9.9.9"], ["old-5d41402a"])


def test_a_load_balancer_whose_domain_is_taken_over_lends_its_certificates(world, run_module):
    world.balancer("corporate", domains=["mlflow.example.com"])
    world.script()
    world.find(f"{COMPUTE}/global/forwardingRules/corporate", world.rivals[0])
    world.find(f"{COMPUTE}/global/targetHttpsProxies/corporate", world.proxies[0])
    result = run_module("mlflow_front_door_check", replaces=["corporate"], **OPTIONS)
    assert (result["replaced_addresses"], result["replaced_certificates"]) == (["34.9.9.9"], ["corporate"])


def test_a_service_with_identity_aware_proxy_itself(world, run_module):
    world.service = {"name": "mlflow", "iapEnabled": True}
    world.script()
    with pytest.raises(
        Exception, match=r"Cloud Run service mlflow has Identity-Aware Proxy itself .*: turn it off first"
    ):
        run_module("mlflow_front_door_check", **OPTIONS)


def test_check_mode_only_warns_about_its_identity_aware_proxy(world, run_module):
    world.service = {"name": "mlflow", "iapEnabled": True}
    world.script()
    result = run_module("mlflow_front_door_check", check=True, **OPTIONS)
    assert result["problems"] == [] and "has Identity-Aware Proxy itself" in str(result["warnings"])
