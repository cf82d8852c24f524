# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules compute_url_map, compute_target_https_proxy, compute_target_http_proxy and compute_global_forwarding_rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo/global"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo/global"
DONE = {"kind": "compute#operation", "name": "op", "status": "DONE", "selfLink": f"{LINKS}/operations/op"}


@dataclass
class Case:
    """A module, and what it does."""

    module: str
    collection: str
    options: dict[str, Any]
    sent: dict[str, Any]
    """The body that creates the resource."""
    updates: list[tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]]]]
    """What the live resource has instead, and the requests that change it."""
    required: tuple[str, ...] = ()
    fixed: dict[str, Any] = field(default_factory=dict)
    """What the live resource has instead, and cannot be changed."""

    @property
    def url(self) -> str:
        return f"{COMPUTE}/{self.collection}/lb"

    def request(self, suffix: str) -> str:
        """URL of a method of the resource; the older ones of proxies are without /global/."""
        old = suffix and suffix not in ("/setCertificateMap", "/setSslPolicy")
        return self.url.replace("/global/target", "/target" if old else "/global/target") + suffix

    @property
    def live(self) -> dict[str, Any]:
        return {
            **self.sent,
            "fingerprint": "abc=",
            "selfLink": f"{LINKS}/{self.collection}/lb",
            "description": "of others",
        }


def link(collection: str, name: str) -> str:
    return f"{LINKS}/{collection}/{name}"


REDIRECT = {"httpsRedirect": True, "redirectResponseCode": "MOVED_PERMANENTLY_DEFAULT", "stripQuery": False}
BACKEND, MAP, CERT = link("backendServices", "backend"), link("urlMaps", "map"), link("sslCertificates", "new")
WEIGHTED = {"weightedBackendServices": [{"backendService": BACKEND, "weight": 100}], "timeout": {"seconds": "5"}}
PATCHED = {"fingerprint": "abc="}
CASES = {
    "URL map": Case(
        "compute_url_map",
        "urlMaps",
        {"default_service": "backend"},
        {"name": "lb", "defaultService": BACKEND},
        [
            (
                {"defaultService": link("backendServices", "old")},
                [("PATCH", "", {"defaultService": BACKEND, **PATCHED})],
            ),
            (
                {"defaultService": None, "defaultUrlRedirect": REDIRECT},
                [("PATCH", "", {"defaultService": BACKEND, "defaultUrlRedirect": None, **PATCHED})],
            ),
            (
                {"defaultService": None, "defaultRouteAction": WEIGHTED},
                [
                    (
                        "PATCH",
                        "",
                        {"defaultService": BACKEND, "defaultRouteAction": {"weightedBackendServices": None}, **PATCHED},
                    )
                ],
            ),
        ],
    ),
    "redirect": Case(
        "compute_url_map",
        "urlMaps",
        {"default_url_redirect": {"https_redirect": True}},
        {"name": "lb", "defaultUrlRedirect": REDIRECT},
        [
            (
                {"defaultUrlRedirect": {**REDIRECT, "httpsRedirect": False, "hostRedirect": "x"}},
                [("PATCH", "", {"defaultUrlRedirect": REDIRECT, **PATCHED})],
            ),
            (
                {"defaultUrlRedirect": None, "defaultService": BACKEND},
                [("PATCH", "", {"defaultService": None, "defaultUrlRedirect": REDIRECT, **PATCHED})],
            ),
        ],
    ),
    "HTTPS proxy": Case(
        "compute_target_https_proxy",
        "targetHttpsProxies",
        {"url_map": "map", "ssl_certificates": ["new"], "detach": ["old"], "ssl_policy": "strict"},
        {"name": "lb", "urlMap": MAP, "sslCertificates": [CERT], "sslPolicy": link("sslPolicies", "strict")},
        [
            ({"sslPolicy": None}, [("POST", "/setSslPolicy", {"sslPolicy": link("sslPolicies", "strict")})]),
            ({"urlMap": link("urlMaps", "old")}, [("POST", "/setUrlMap", {"urlMap": MAP})]),
            (
                {"sslCertificates": [link("sslCertificates", name) for name in ("theirs", "old", "more")]},
                [
                    (
                        "POST",
                        "/setSslCertificates",
                        {"sslCertificates": [link("sslCertificates", name) for name in ("theirs", "new", "more")]},
                    )
                ],
            ),
            (
                {"sslCertificates": [link("sslCertificates", "theirs")]},
                [
                    (
                        "POST",
                        "/setSslCertificates",
                        {"sslCertificates": [link("sslCertificates", name) for name in ("theirs", "new")]},
                    )
                ],
            ),
            (
                {"sslCertificates": [], "urlMap": link("urlMaps", "old")},
                [("POST", "/setSslCertificates", {"sslCertificates": [CERT]}), ("POST", "/setUrlMap", {"urlMap": MAP})],
            ),
        ],
        required=("url_map",),
    ),
    "HTTP proxy": Case(
        "compute_target_http_proxy",
        "targetHttpProxies",
        {"url_map": MAP},
        {"name": "lb", "urlMap": MAP},
        [({"urlMap": link("urlMaps", "old")}, [("POST", "/setUrlMap", {"urlMap": MAP})])],
        required=("url_map",),
    ),
    "forwarding rule": Case(
        "compute_global_forwarding_rule",
        "forwardingRules",
        {"ip_address": "203.0.113.7", "port": 443, "target": link("targetHttpsProxies", "new")},
        {
            "name": "lb",
            "IPAddress": "203.0.113.7",
            "IPProtocol": "TCP",
            "portRange": "443-443",
            "loadBalancingScheme": "EXTERNAL_MANAGED",
            "target": link("targetHttpsProxies", "new"),
        },
        [
            (
                {"target": link("targetHttpsProxies", "old")},
                [("POST", "/setTarget", {"target": link("targetHttpsProxies", "new")})],
            )
        ],
        required=("port", "target"),
        fixed={
            "IPAddress": "203.0.113.8",
            "portRange": "80-80",
            "loadBalancingScheme": "EXTERNAL",
            "IPProtocol": "UDP",
        },
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def run(run_module, case, **more):
    return run_module(case.module, name="lb", **{**case.options, **more})


@cases
def test_creates(google, run_module, case):
    google.expect("GET", case.url, google.old_error(404, "notFound", "not found"))
    google.expect("POST", case.url.rpartition("/")[0], DONE, body=case.sent).expect("GET", case.url, case.live)
    result = run(run_module, case)
    assert (result["changed"], result["self_link"]) == (True, case.live["selfLink"])


@cases
def test_check_mode_knows_the_link(google, run_module, case):
    google.expect("GET", case.url, google.old_error(404, "notFound", "not found"))
    result = run(run_module, case, check=True)
    assert (result["changed"], result["self_link"]) == (True, case.live["selfLink"])


@cases
def test_second_run_changes_nothing(google, run_module, case):
    live = {**case.live, "portRange": "443"} if "portRange" in case.live else case.live
    google.expect("GET", case.url, live)
    assert not run(run_module, case)["changed"]


@pytest.mark.parametrize(
    ("case", "live", "requests"),
    [
        pytest.param(case, *update, id=f"{name} {n}")
        for name, case in CASES.items()
        for n, update in enumerate(case.updates)
    ],
)
def test_changes_only_what_differs(google, run_module, case, live, requests):
    live = {key: value for key, value in {**case.live, **live}.items() if value is not None}
    google.expect("GET", case.url, live)
    assert run(run_module, case, check=True)["changed"]
    google.expect("GET", case.url, live)
    for method, suffix, body in requests:
        google.expect(method, case.request(suffix), DONE, body=body)
    google.expect("GET", case.url, case.live)
    result = run(run_module, case)
    assert result["changed"] and result["diff"]["before"] != result["diff"]["after"]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("case", "path", "value"),
    [
        pytest.param(case, *entry, id=f"{name}: {entry[0]}")
        for name, case in CASES.items()
        for entry in case.fixed.items()
    ],
)
def test_refuses_what_google_cannot_change(google, run_module, case, path, value, check):
    google.expect("GET", case.url, {**case.live, path: value})
    with pytest.raises(
        Exception, match=f"{path} is '{value}' and cannot be changed to .*; delete the forwarding rule and"
    ):
        run(run_module, case, check=check)


@pytest.mark.parametrize("case", [CASES["URL map"], CASES["redirect"]])
def test_a_concurrent_change(google, run_module, case):
    live, requests = case.updates[0]
    google.expect("GET", case.url, {**case.live, **live})
    google.expect("PATCH", case.url, google.old_error(412, "conditionNotMet", "Invalid fingerprint."))
    google.expect("GET", case.url, {**case.live, **live, "fingerprint": "new="})
    google.expect("PATCH", case.url, DONE, body={**requests[0][2], "fingerprint": "new="}).expect(
        "GET", case.url, case.live
    )
    assert run(run_module, case)["changed"]


@cases
def test_a_change_that_google_refuses_fails(google, run_module, case):
    live, ((method, suffix, _body), *_more) = case.updates[0]
    google.expect("GET", case.url, {**case.live, **live})
    google.expect(method, case.request(suffix), google.old_error(403, "forbidden", "Required 'compute.x' permission"))
    with pytest.raises(Exception, match="^Cannot update .* lb of project demo: "):
        run(run_module, case)


@cases
def test_deletes(google, run_module, case):
    google.expect("GET", case.url, case.live).expect("DELETE", case.url, DONE)
    assert run_module(case.module, name="lb", state="absent")["changed"]


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (
            "compute_url_map",
            {},
            "option default_service: None is not allowed; give either this or default_url_redirect",
        ),
        (
            "compute_url_map",
            {"default_service": "a", "default_url_redirect": {"https_redirect": True}},
            "option default_service: 'a' is not allowed; give either this or",
        ),
        *(
            (case.module, {key: value for key, value in case.options.items() if key != name}, f"{name}")
            for case in CASES.values()
            for name in case.required
        ),
        ("compute_global_forwarding_rule", {"port": 70000, "target": "x"}, "option port: 70000 is not allowed"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, module, options, message):
    with pytest.raises(Exception, match=message):
        run_module(module, name="lb", **options)


def test_a_forwarding_rule_has_labels(google, run_module):
    """A creation without an effect on them is followed by setLabels; those of others stay."""
    case = CASES["forwarding rule"]
    wanted = {"team": "ml", "mlflow-gcp-labels": "team"}
    bare, done = case.live | {"labelFingerprint": "a="}, case.live | {"labels": wanted}
    google.expect("GET", case.url, google.old_error(404, "notFound", "Not found."))
    google.expect("POST", case.url.rpartition("/")[0], DONE).expect("GET", case.url, bare)
    google.expect("POST", f"{case.url}/setLabels", DONE, body={"labels": wanted, "labelFingerprint": "a="})
    google.expect("GET", case.url, done)
    assert run_module(case.module, name="lb", labels={"team": "ml"}, **case.options)["changed"]
    google.expect("GET", case.url, bare | {"labels": {"cost": "4711"}})
    both = {"cost": "4711"} | wanted
    google.expect("POST", f"{case.url}/setLabels", DONE, body={"labels": both, "labelFingerprint": "a="})
    google.expect("GET", case.url, case.live | {"labels": both})
    assert run_module(case.module, name="lb", labels={"team": "ml"}, **case.options)["changed"]
    google.expect("GET", case.url, case.live | {"labels": both})
    assert not run_module(case.module, name="lb", labels={"team": "ml"}, **case.options)["changed"]
