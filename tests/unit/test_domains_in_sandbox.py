# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for domains and certificates against a sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gcp_sandbox.testing import Sandbox

Doc = dict[str, Any]
DNS = "dns.googleapis.com/dns/v1/projects/sandbox-project/managedZones"
MANAGER = "certificatemanager.googleapis.com/v1/projects/sandbox-project/locations/global"
COMPUTE = "compute.googleapis.com/compute/v1/projects/sandbox-project/global"


@pytest.fixture(scope="module")
def zone(gcp_sandbox: Sandbox) -> str:
    """A zone for example.test."""
    apis = ("certificatemanager", "cloudresourcemanager", "compute", "dns")
    body = {"serviceIds": [f"{api}.googleapis.com" for api in apis]}
    gcp_sandbox.call("POST", "serviceusage.googleapis.com/v1/projects/sandbox-project/services:batchEnable", body)
    gcp_sandbox.call("POST", DNS, {"name": "example", "dnsName": "example.test.", "description": "zone"})
    return "example"


def records(sandbox: Sandbox, name: str) -> dict[str, list[str]]:
    found = sandbox.call("GET", f"{DNS}/example/rrsets?name={name}.")["rrsets"]
    return {entry["type"]: entry["rrdatas"] for entry in found}


def test_a_record_is_made_once_and_only_ours_is_changed(
    gcp_sandbox: Sandbox, zone: str, sandbox_module: Callable[..., Doc]
) -> None:
    name = "a.example.test"
    options = {"zone": zone, "name": name, "values": ["203.0.113.7"]}
    assert sandbox_module("dns_record_set", check=True, **options)["changed"]
    assert records(gcp_sandbox, name) == {}
    made = sandbox_module("dns_record_set", **options)
    assert made["changed"] and made["resource"]["ttl"] == 300 and records(gcp_sandbox, name) == {"A": ["203.0.113.7"]}
    by_path = f"projects/sandbox-project/managedZones/{zone}"
    assert not sandbox_module("dns_record_set", **options | {"zone": by_path})["changed"]
    other = options | {"values": ["203.0.113.8"]}
    with pytest.raises(Exception, match=r"leads to 203\.0\.113\.7, and was not made for 203\.0\.113\.8"):
        sandbox_module("dns_record_set", **other)
    assert not sandbox_module("dns_record_set", state="absent", **other)["changed"]
    assert records(gcp_sandbox, name) == {"A": ["203.0.113.7"]}
    assert sandbox_module("dns_record_set", replaces=["203.0.113.7"], **other)["changed"]
    assert sandbox_module("dns_record_set", ttl=60, **other)["resource"]["ttl"] == 60
    assert not sandbox_module("dns_record_set", **other)["changed"]
    assert sandbox_module("dns_record_set", state="absent", **other)["changed"]
    assert records(gcp_sandbox, name) == {}


def test_an_alias_is_refused_or_replaced_in_one_step(
    gcp_sandbox: Sandbox, zone: str, sandbox_module: Callable[..., Doc]
) -> None:
    name = "b.example.test"
    alias = {"name": f"{name}.", "type": "CNAME", "ttl": 60, "rrdatas": ["elsewhere.test."]}
    gcp_sandbox.call("POST", f"{DNS}/example/rrsets", alias)
    options = {"zone": zone, "name": name, "values": ["203.0.113.7"]}
    with pytest.raises(Exception, match=r"the CNAME record of that name leads to elsewhere\.test\."):
        sandbox_module("dns_record_set", check=True, **options)
    assert sandbox_module("dns_record_set", replaces=["elsewhere.test"], **options)["changed"]
    assert records(gcp_sandbox, name) == {"A": ["203.0.113.7"]}


def certify(module: Callable[..., Doc], *domains: str) -> tuple[Doc, list[Doc]]:
    """The certificate for these domains and its authorizations."""
    found = [module("certificate_manager_dns_authorization", name="lb", domain=domain) for domain in domains]
    paths = [entry["path"] for entry in found]
    made = module("certificate_manager_certificate", name="lb", domains=list(domains), dns_authorizations=paths)
    return made, found


def test_an_entry_keeps_its_certificate_until_the_new_one_is_active(
    gcp_sandbox: Sandbox, zone: str, sandbox_module: Callable[..., Doc]
) -> None:
    first, (one,) = certify(sandbox_module, "one.example.test")
    assert (first["status"], first["obsolete"], first["changed"]) == ("PROVISIONING", [], True)
    assert one["zone_line"].startswith("_acme-challenge_") and " CNAME " in one["zone_line"]
    waiting = sandbox_module(
        "certificate_wait", name="lb", domains=["one.example.test"], certificate=first["path"], timeout=0
    )
    assert not waiting["active"] and not waiting["lasting"]
    assert (
        f"{one['record']['name']} must lead to {one['record']['data']}, and leads to nothing" in waiting["problems"][0]
    )
    record = {"zone": zone, "name": one["record"]["name"], "type": "CNAME", "values": [one["record"]["data"]]}
    sandbox_module("dns_record_set", **record)
    first, _ = certify(sandbox_module, "one.example.test")
    assert (first["status"], first["changed"]) == ("ACTIVE", False)
    assert sandbox_module("certificate_manager_certificate_map", name="lb")["hostnames"] == []
    entry = {"map": "lb", "hostname": "one.example.test"}
    sandbox_module("certificate_manager_certificate_map_entry", certificate=first["path"], **entry)
    second, (_, two) = certify(sandbox_module, "one.example.test", "two.example.test")
    assert (second["status"], second["obsolete"]) == ("PROVISIONING", [first["name"]])
    kept = sandbox_module("certificate_manager_certificate_map_entry", certificate=second["path"], **entry)
    assert (kept["changed"], kept["certificate"]) == (False, first["name"])
    sandbox_module(
        "dns_record_set", zone=zone, name=two["record"]["name"], type="CNAME", values=[two["record"]["data"]]
    )
    moved = sandbox_module("certificate_manager_certificate_map_entry", certificate=second["path"], **entry)
    assert (moved["changed"], moved["certificate"]) == (True, second["name"])
    assert sandbox_module("certificate_manager_certificate_map", name="lb")["hostnames"] == ["one.example.test"]
    gone = sandbox_module("certificate_manager_certificate", name="lb", state="absent", keep=[second["path"]])
    assert (gone["changed"], gone["obsolete"]) == (True, [])
    # All of it, in the order of a load balancer that goes.
    sandbox_module("certificate_manager_certificate_map", name="lb", state="absent")
    sandbox_module("certificate_manager_certificate", name="lb", state="absent")
    withdrawn = sandbox_module(
        "certificate_manager_dns_authorization", name="lb", state="absent", keep=["two.example.test"]
    )
    assert [entry["name"] for entry in withdrawn["records"]] == [one["record"]["name"]]
    for module in ("certificate_manager_certificate_map", "certificate_manager_certificate"):
        assert not sandbox_module(module, name="lb", state="absent")["changed"]


def test_the_proxy_keeps_serving_by_what_it_has_until_a_map_is_ready(
    gcp_sandbox: Sandbox, zone: str, sandbox_module: Callable[..., Doc]
) -> None:
    gcp_sandbox.call("POST", f"{COMPUTE}/urlMaps", {"name": "lb", "defaultUrlRedirect": {"httpsRedirect": True}})
    certificate = sandbox_module("compute_managed_ssl_certificate", name="lb", domains=["c.example.test"])["name"]
    path = sandbox_module("certificate_manager_certificate_map", name="served")["path"]
    proxy = {"name": "lb-https", "url_map": "lb"}
    sandbox_module("compute_target_https_proxy", ssl_certificates=[certificate], **proxy)
    kept = sandbox_module("compute_target_https_proxy", certificate_map=path, ready=False, **proxy)
    assert (kept["changed"], kept["certificate_map"], kept["ssl_certificates"]) == (False, "", [certificate])
    moved = sandbox_module("compute_target_https_proxy", certificate_map=path, **proxy)
    assert (moved["changed"], moved["certificate_map"]) == (True, path)
    assert not sandbox_module("compute_target_https_proxy", certificate_map=path, **proxy)["changed"]
    bare = sandbox_module("compute_target_https_proxy", certificate_map=path, detach=[certificate], **proxy)
    assert bare["ssl_certificates"] == []
    back = sandbox_module("compute_target_https_proxy", certificate_map="", ssl_certificates=[certificate], **proxy)
    assert (back["certificate_map"], back["ssl_certificates"]) == ("", [certificate])


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        ("dns_record_set", {"zone": "example.com", "name": "a", "values": ["1.2.3.4"]}, "the name of a managed zone"),
        ("dns_record_set", {"zone": "z", "name": "a b", "values": ["1.2.3.4"]}, "a domain name such as"),
        ("certificate_manager_dns_authorization", {"name": "lb", "domain": "*.b.c"}, "every domain name in full"),
        ("certificate_manager_certificate", {"name": "lb", "domains": [], "dns_authorizations": ["a"]}, "domains"),
        ("certificate_manager_certificate_map", {"name": "L"}, "1 to 54 lower-case"),
        (
            "certificate_manager_certificate_map_entry",
            {"map": "lb", "hostname": "https://a", "certificate": "c"},
            "without https",
        ),
        ("certificate_wait", {"name": "lb", "domains": ["A"]}, "a domain name"),
        ("compute_target_https_proxy", {"name": "lb", "url_map": "lb"}, "give at least one, or option certificate_map"),
    ],
)
def test_invalid_options_make_no_request(
    google: Any, run_module: Callable[..., Doc], module: str, options: Doc, message: str
) -> None:
    with pytest.raises(Exception, match=message):
        run_module(module, **options)
    assert not google.sent
