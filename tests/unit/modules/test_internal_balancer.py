# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of a regional internal load balancer."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

PLACE = "projects/demo/regions/europe-west2"
REGION = f"https://compute.googleapis.com/compute/v1/{PLACE}"
LINKS = f"https://www.googleapis.com/compute/v1/{PLACE}"
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/operations/op"}
HERE = {"name": "lb", "region": "europe-west2"}
NETWORK, SUBNETWORK = "projects/demo/global/networks/corp", f"{PLACE}/subnetworks/corp"


def absent(google: Any) -> Any:
    return google.old_error(404, "notFound", "The resource was not found")


@pytest.mark.parametrize(
    ("module", "collection", "options", "sent"),
    [
        (
            "compute_url_map",
            "urlMaps",
            {"default_service": "backend"},
            {"defaultService": f"{LINKS}/backendServices/backend"},
        ),
        ("compute_target_http_proxy", "targetHttpProxies", {"url_map": "map"}, {"urlMap": f"{LINKS}/urlMaps/map"}),
        (
            "compute_target_https_proxy",
            "targetHttpsProxies",
            {"url_map": "map", "ssl_certificates": ["own"], "ssl_policy": "strict"},
            {
                "urlMap": f"{LINKS}/urlMaps/map",
                "sslCertificates": [f"{LINKS}/sslCertificates/own"],
                "sslPolicy": f"{LINKS}/sslPolicies/strict",
            },
        ),
        (
            "compute_backend_service",
            "backendServices",
            {"load_balancing_scheme": "INTERNAL_MANAGED", "security_policy": ""},
            {"loadBalancingScheme": "INTERNAL_MANAGED", "protocol": "HTTPS"},
        ),
    ],
)
def test_a_resource_of_the_region(google, run_module, module, collection, options, sent):
    url = f"{REGION}/{collection}/lb"
    live = {"name": "lb", **sent, "selfLink": f"{LINKS}/{collection}/lb"}
    google.expect("GET", url, absent(google))
    google.expect("POST", f"{REGION}/{collection}", DONE, body={"name": "lb", **sent}).expect("GET", url, live)
    result = run_module(module, **HERE, **options)
    assert (result["changed"], result["self_link"]) == (True, live["selfLink"])
    google.expect("GET", url, live)
    assert not run_module(module, **HERE, **options)["changed"]


MANAGED = "projects/demo/locations/europe-west2/certificates/lb-00000000"
PROXY = f"{REGION}/targetHttpsProxies/lb"
LIVE_PROXY = {
    "name": "lb",
    "urlMap": f"{LINKS}/urlMaps/map",
    "sslCertificates": [f"{LINKS}/sslCertificates/{name}" for name in ("theirs", "lb-11111111", "lb-22222222")],
    "fingerprint": "abc=",
}


def test_a_family_of_certificates_is_replaced_in_one_step(google, run_module):
    google.expect("GET", PROXY, LIVE_PROXY)
    links = [f"{LINKS}/sslCertificates/{name}" for name in ("theirs", "lb-22222222")]
    google.expect("POST", f"{PROXY}/setSslCertificates", DONE, body={"sslCertificates": links})
    google.expect("GET", PROXY, LIVE_PROXY | {"sslCertificates": links})
    options = {"url_map": "map", "ssl_certificates": ["lb-22222222"], "detach_family": "lb"}
    result = run_module("compute_target_https_proxy", **HERE, **options)
    assert (result["ssl_certificates"], result["detached"]) == (["theirs", "lb-22222222"], ["lb-11111111"])
    google.expect("GET", PROXY, LIVE_PROXY | {"sslCertificates": links})
    result = run_module("compute_target_https_proxy", **HERE, **options)
    assert (result["changed"], result["detached"]) == (False, [])


def test_a_certificate_of_certificate_manager_is_attached_by_its_path(google, run_module):
    live = LIVE_PROXY | {"sslCertificates": [f"{LINKS}/sslCertificates/lb-11111111"]}
    link = f"//certificatemanager.googleapis.com/{MANAGED}"
    google.expect("GET", PROXY, live)
    google.expect("POST", f"{PROXY}/setSslCertificates", DONE, body={"sslCertificates": [link]})
    # Google may answer with the project's number.
    live = live | {"sslCertificates": [link.replace("/demo/", "/123456789012/")]}
    google.expect("GET", PROXY, live)
    options = {"url_map": "map", "ssl_certificates": [MANAGED], "detach_family": "lb"}
    assert run_module("compute_target_https_proxy", **HERE, **options)["detached"] == ["lb-11111111"]
    google.expect("GET", PROXY, live)
    assert not run_module("compute_target_https_proxy", **HERE, **options)["changed"]


def test_a_regional_proxy_has_no_method_for_its_policy_and_no_map(google, run_module):
    policy = f"{LINKS}/sslPolicies/strict"
    google.expect("GET", PROXY, LIVE_PROXY).expect("GET", PROXY, LIVE_PROXY)
    google.expect("PATCH", PROXY, DONE, body={"sslPolicy": policy, "fingerprint": "abc="})
    google.expect("GET", PROXY, LIVE_PROXY | {"sslPolicy": policy})
    options = {"url_map": "map", "ssl_certificates": ["theirs"]}
    assert run_module("compute_target_https_proxy", **HERE, **options, ssl_policy="strict")["changed"]
    with pytest.raises(Exception, match="a regional load balancer has certificates, not a map"):
        run_module("compute_target_https_proxy", **HERE, **options, certificate_map="map")


# -- forwarding rules --------------------------------------------------------

RULE = f"{REGION}/forwardingRules/lb"
RULE_OPTIONS = {
    **HERE,
    "load_balancing_scheme": "INTERNAL_MANAGED",
    "network": "corp",
    "subnetwork": "corp",
    "address": f"{PLACE}/addresses/lb",
    "port": 443,
    "target": f"{LINKS}/targetHttpsProxies/lb",
    "allow_global_access": False,
}
SENT_RULE = {
    "name": "lb",
    "loadBalancingScheme": "INTERNAL_MANAGED",
    "network": NETWORK,
    "subnetwork": SUBNETWORK,
    "IPAddress": f"{PLACE}/addresses/lb",
    "IPProtocol": "TCP",
    "portRange": "443-443",
    "target": f"{PLACE}/targetHttpsProxies/lb",
    "allowGlobalAccess": False,
}
LIVE_RULE = {
    **{name: value for name, value in SENT_RULE.items() if name != "allowGlobalAccess"},
    "IPAddress": "10.0.0.5",
    "network": f"https://www.googleapis.com/compute/v1/{NETWORK}",
    "target": RULE_OPTIONS["target"],
    "selfLink": f"{LINKS}/forwardingRules/lb",
    "networkTier": "PREMIUM",
}


def test_a_rule_is_created_and_its_target_changed(google, run_module):
    google.expect("GET", RULE, absent(google))
    google.expect("POST", f"{REGION}/forwardingRules", DONE, body=SENT_RULE).expect("GET", RULE, LIVE_RULE)
    result = run_module("compute_forwarding_rule", **RULE_OPTIONS)
    assert (result["changed"], result["address"], result["self_link"]) == (True, "10.0.0.5", LIVE_RULE["selfLink"])
    google.expect("GET", RULE, LIVE_RULE)
    assert not run_module("compute_forwarding_rule", **RULE_OPTIONS)["changed"]
    google.expect("GET", RULE, LIVE_RULE | {"target": f"{LINKS}/targetHttpsProxies/old"})
    google.expect("POST", f"{RULE}/setTarget", DONE, body={"target": SENT_RULE["target"]}).expect(
        "GET", RULE, LIVE_RULE
    )
    assert run_module("compute_forwarding_rule", **RULE_OPTIONS)["changed"]
    google.expect("GET", RULE, LIVE_RULE).expect("DELETE", RULE, DONE)
    deleted = {**HERE, "load_balancing_scheme": "INTERNAL_MANAGED", "state": "absent"}
    assert run_module("compute_forwarding_rule", **deleted)["changed"]


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ({"allow_global_access": True}, "allowGlobalAccess"),
        ({"port": 8443}, "portRange"),
        ({"network": "other"}, "network"),
        ({"subnetwork": "other"}, "subnetwork"),
    ],
)
def test_a_rule_refuses_what_google_cannot_change(google, run_module, option, path):
    google.expect("GET", RULE, LIVE_RULE)
    with pytest.raises(Exception, match=f"{path} is .* and cannot be changed to .*; Google cannot change it"):
        run_module("compute_forwarding_rule", **RULE_OPTIONS | option)


def test_a_rule_of_a_load_balancer_needs_more(run_module):
    for name in ("subnetwork", "port"):
        options = {key: value for key, value in RULE_OPTIONS.items() if key != name}
        with pytest.raises(Exception, match=f"option {name}: None is not allowed; it is required with"):
            run_module("compute_forwarding_rule", **options)


# -- the proxy-only subnetwork -----------------------------------------------

SUBNETWORKS = f"{REGION}/subnetworks"
PROXIES = {**HERE, "network": "corp", "ip_cidr_range": "10.11.0.0/23"}
ONE = {
    "name": "lb",
    "network": f"https://www.googleapis.com/compute/v1/{NETWORK}",
    "ipCidrRange": "10.11.0.0/23",
    "purpose": "REGIONAL_MANAGED_PROXY",
    "role": "ACTIVE",
    "selfLink": f"{LINKS}/subnetworks/lb",
}


def test_the_active_subnetwork_of_others_is_used(google, run_module):
    theirs = ONE | {"name": "theirs", "ipCidrRange": "10.77.0.0/26", "selfLink": f"{LINKS}/subnetworks/theirs"}
    more = [
        theirs | {"name": "backup", "role": "BACKUP"},
        theirs | {"name": "elsewhere", "network": f"{NETWORK}-other"},
        theirs | {"name": "cross-region", "purpose": "GLOBAL_MANAGED_PROXY"},
    ]
    google.expect("GET", SUBNETWORKS, {"items": [*more, theirs]}, params={"filter": "purpose=REGIONAL_MANAGED_PROXY"})
    result = run_module("compute_proxy_only_subnetwork", **PROXIES)
    assert (result["changed"], result["path"]) == (False, f"{PLACE}/subnetworks/theirs")
    assert result["ip_cidr_range"] == "10.77.0.0/26"


def test_a_subnetwork_is_created_where_there_is_none(google, run_module):
    google.expect("GET", SUBNETWORKS, {}).expect("GET", f"{SUBNETWORKS}/lb", absent(google))
    sent = {key: ONE[key] for key in ("name", "ipCidrRange", "purpose", "role")} | {"network": NETWORK}
    google.expect("POST", SUBNETWORKS, DONE, body=sent).expect("GET", SUBNETWORKS, {"items": [ONE]})
    assert run_module("compute_proxy_only_subnetwork", **PROXIES)["path"] == f"{PLACE}/subnetworks/lb"


def test_only_a_proxy_only_subnetwork_of_the_name_is_deleted(google, run_module):
    url = f"{SUBNETWORKS}/lb"
    google.expect("GET", url, ONE).expect("DELETE", url, DONE)
    assert run_module("compute_proxy_only_subnetwork", **HERE, state="absent")["changed"]
    google.expect("GET", url, ONE | {"purpose": "PRIVATE"})
    with pytest.raises(Exception, match="its purpose is PRIVATE"):
        run_module("compute_proxy_only_subnetwork", **HERE, state="absent")
    google.expect("GET", url, ONE)
    used = "The subnetwork resource is already being used by 'projects/demo/regions/europe-west2/forwardingRules/x'"
    google.expect("DELETE", url, google.old_error(400, "resourceInUseByAnotherResource", used))
    left = run_module("compute_proxy_only_subnetwork", **HERE, state="absent", in_use="leave")
    assert not left["changed"] and "is left, because it is in use" in str(left["warnings"])


# -- certificates ------------------------------------------------------------

CHAIN = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
KEY = "-----BEGIN PRIVATE KEY-----\nnot0to0be0seen\n-----END PRIVATE KEY-----"
CERTIFICATES = f"{REGION}/sslCertificates"
FIRST = f"lb-{hashlib.sha256(CHAIN.encode()).hexdigest()[:8]}"
UPLOAD = {**HERE, "certificate": f"\n{CHAIN}\r\n", "private_key": KEY, "domains": ["mlflow.corp.example"]}


def live_certificate(name: str, *names: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "SELF_MANAGED",
        "selfManaged": {"certificate": f"{CHAIN}\n"},
        "subjectAlternativeNames": names or ["*.corp.example"],
        "expireTime": "2027-01-01T00:00:00.000-08:00",
        "selfLink": f"{LINKS}/sslCertificates/{name}",
    }


def test_a_certificate_is_uploaded_beside_the_others(google, run_module):
    google.expect("GET", f"{CERTIFICATES}/{FIRST}", absent(google))
    sent = {"certificate": f"{CHAIN}\n", "privateKey": f"{KEY}\n"}
    body = {"name": FIRST, "type": "SELF_MANAGED", "selfManaged": sent}
    google.expect("POST", CERTIFICATES, DONE, body=body)
    google.expect("GET", f"{CERTIFICATES}/{FIRST}", live_certificate(FIRST))
    others = [live_certificate("lb-00000000"), live_certificate("lb-other"), {"name": "lb-11111111", "type": "MANAGED"}]
    google.expect("GET", CERTIFICATES, {"items": [live_certificate(FIRST), *others]})
    result = run_module("compute_ssl_certificate", **UPLOAD)
    assert (result["changed"], result["name"], result["obsolete"]) == (True, FIRST, ["lb-00000000"])
    assert "not0to0be0seen" not in str(result)
    google.expect("GET", f"{CERTIFICATES}/{FIRST}", live_certificate(FIRST)).expect("GET", CERTIFICATES, {})
    assert not run_module("compute_ssl_certificate", **UPLOAD)["changed"]


def test_a_certificate_for_another_domain_is_refused(google, run_module):
    google.expect("GET", f"{CERTIFICATES}/{FIRST}", live_certificate(FIRST, "other.example"))
    with pytest.raises(Exception, match=r"it is for other\.example, not for mlflow\.corp\.example"):
        run_module("compute_ssl_certificate", **UPLOAD)


def test_a_key_that_is_none_is_refused_without_showing_it(run_module):
    encrypted = KEY.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
    for key in ("not0to0be0seen", encrypted):
        with pytest.raises(Exception, match="option private_key: .* give a private key in PEM") as failure:
            run_module("compute_ssl_certificate", **UPLOAD | {"private_key": key})
        assert "not0to0be0seen" not in str(failure.value)


def test_previous_certificates_are_deleted(google, run_module):
    google.expect("GET", CERTIFICATES, {"items": [live_certificate(FIRST), live_certificate("lb-00000000")]})
    google.expect("DELETE", f"{CERTIFICATES}/lb-00000000", DONE)
    result = run_module("compute_ssl_certificate", **HERE, keep=[FIRST], state="absent")
    assert result["changed"] and result["diff"]["after"] == {"certificates": [FIRST]}


MANAGER = "https://certificatemanager.googleapis.com/v1/projects/demo/locations/europe-west2"
POOL = "projects/pki/locations/europe-west2/caPools/corp"


def digest(*content: str) -> str:
    return f"lb-{hashlib.sha256(chr(10).join(content).encode()).hexdigest()[:8]}"


@pytest.mark.parametrize("pool", [POOL, f"{POOL}-2"])
def test_each_ca_pool_has_a_config_and_a_certificate_of_its_own(google, run_module, pool):
    config = digest(pool, "30", "66", "ECDSA_P256")
    path = f"projects/demo/locations/europe-west2/certificateIssuanceConfigs/{config}"
    url, missing = f"{MANAGER}/certificateIssuanceConfigs", google.error(404, "NOT_FOUND", "Not found.")
    sent = {
        "certificateAuthorityConfig": {"certificateAuthorityServiceConfig": {"caPool": pool}},
        "lifetime": "2592000s",
        "rotationWindowPercentage": 66,
        "keyAlgorithm": "ECDSA_P256",
    }
    google.expect("GET", f"{url}/{config}", missing)
    google.expect("POST", url, {"name": path, **sent}, body=sent, params={"certificateIssuanceConfigId": config})
    google.expect("GET", url, {"certificateIssuanceConfigs": [{"name": f"{path[:-8]}00000000"}, {"name": path}]})
    result = run_module("certificate_manager_issuance_config", **HERE, ca_pool=pool)
    assert (result["path"], result["obsolete"]) == (path, ["lb-00000000"])

    domain, url = "mlflow.corp.example", f"{MANAGER}/certificates"
    certificate = digest(domain, config)
    managed = {"domains": [domain], "issuanceConfig": path}
    live = {"name": f"{url}/{certificate}", "managed": managed | {"state": "ACTIVE"}}
    google.expect("GET", f"{url}/{certificate}", missing)
    google.expect("POST", url, live, body={"managed": managed}, params={"certificateId": certificate})
    google.expect("GET", url, {})
    made = run_module("certificate_manager_certificate", **HERE, domains=[domain], issuance_config=path)
    assert (made["name"], made["status"]) == (certificate, "ACTIVE")


def test_a_ca_pool_is_named_by_its_path(run_module):
    with pytest.raises(Exception, match="option ca_pool: 'corp' is not allowed; give a CA pool such as"):
        run_module("certificate_manager_issuance_config", **HERE, ca_pool="corp")


def test_a_ca_pool_that_refuses_is_explained(google, run_module):
    path = "projects/demo/locations/europe-west2/certificates/lb-1"
    managed = {"domains": ["a.example"], "issuanceConfig": "c", "state": "PROVISIONING"}
    options = {"name": "lb", "domains": ["a.example"], "certificate": path, "timeout": 0}
    google.expect("GET", f"{MANAGER}/certificates/lb-1", {"managed": managed})
    found = run_module("certificate_wait", **options)
    assert found["states"] == {"a.example": "PROVISIONING"} and "is issuing" in found["problems"][0]
    issue = {"reason": "AUTHORIZATION_ISSUE", "details": "Permission denied."}
    google.expect("GET", f"{MANAGER}/certificates/lb-1", {"managed": managed | {"provisioningIssue": issue}})
    found = run_module("certificate_wait", **options)
    assert not found["lasting"] and "AUTHORIZATION_ISSUE" in found["problems"][0]
    assert "Permission denied. The pool needs" in found["problems"][0]


def test_a_certificate_is_authorized_in_one_way(run_module):
    for given in ({}, {"dns_authorizations": ["a"], "issuance_config": "b"}):
        with pytest.raises(Exception, match="give either this or issuance_config"):
            run_module("certificate_manager_certificate", **HERE, domains=["mlflow.corp.example"], **given)


def test_policies_of_a_ca_pool_and_of_a_regional_backend_service(google, run_module):
    member = "serviceAccount:service-123456789012@gcp-sa-certificatemanager.iam.gserviceaccount.com"
    role = "roles/privateca.certificateRequester"
    url = f"https://privateca.googleapis.com/v1/{POOL}"
    google.expect("GET", f"{url}:getIamPolicy", {"etag": "e", "bindings": [{"role": role, "members": [member]}]})
    result = run_module("iam_role_members", resource_type="ca_pool", resource=POOL, role=role, members=[member])
    assert not result["changed"]
    number = {"projectNumber": "123456789012"}
    google.expect("GET", "https://cloudresourcemanager.googleapis.com/v1/projects/demo", number)
    role = "roles/iap.httpsResourceAccessor"
    url = "https://iap.googleapis.com/v1/projects/123456789012/iap_web/compute-europe-west2/services/backend"
    google.expect(
        "POST", f"{url}:getIamPolicy", {"etag": "e", "bindings": [{"role": role, "members": ["user:a@b.com"]}]}
    )
    options = {"resource_type": "iap_backend_service", "resource": "backend", "region": "europe-west2"}
    assert not run_module("iam_role_members", **options, role=role, members=["user:a@b.com"])["changed"]


def test_an_address_that_rules_share(google, run_module):
    sent = {"name": "lb", "addressType": "INTERNAL", "purpose": "SHARED_LOADBALANCER_VIP", "subnetwork": SUBNETWORK}
    url = f"{REGION}/addresses/lb"
    google.expect("GET", url, absent(google)).expect("POST", f"{REGION}/addresses", DONE, body=sent)
    google.expect("GET", url, sent | {"address": "10.0.0.5", "status": "RESERVED"})
    options = {**HERE, "subnetwork": "corp", "purpose": "SHARED_LOADBALANCER_VIP"}
    assert run_module("compute_address", **options)["address"] == "10.0.0.5"
    google.expect("GET", url, sent | {"purpose": "GCE_ENDPOINT", "address": "10.0.0.5", "status": "RESERVED"})
    with pytest.raises(Exception, match="purpose is 'GCE_ENDPOINT' and cannot be changed"):
        run_module("compute_address", **options)
