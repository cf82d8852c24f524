# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module compute_serverless_neg."""

from __future__ import annotations

import hashlib

import pytest

COMPUTE = "https://compute.googleapis.com/compute/v1/projects/demo"
LINKS = "https://www.googleapis.com/compute/v1/projects/demo"
NEGS = f"{COMPUTE}/regions/europe-west2/networkEndpointGroups"
LIST = f"{COMPUTE}/aggregated/networkEndpointGroups"
OPTIONS = {"name": "mlflow-neg", "region": "europe-west2", "cloud_run_service": "mlflow"}
DONE = {
    "kind": "compute#operation",
    "name": "op",
    "status": "DONE",
    "progress": 100,
    "selfLink": f"{LINKS}/regions/europe-west2/operations/op",
}


def named(content):
    return f"mlflow-neg-{hashlib.sha256(content.encode()).hexdigest()[:4]}"


NAME = named("europe-west2/mlflow")
OLD, EAST = "mlflow-neg", "mlflow-neg-0a1b"
SENT = {"name": NAME, "networkEndpointType": "SERVERLESS", "cloudRun": {"service": "mlflow"}}


def live(name=NAME, region="europe-west2", **more):
    return {
        **SENT,
        "kind": "compute#networkEndpointGroup",
        "name": name,
        "region": f"{LINKS}/regions/{region}",
        "selfLink": f"{LINKS}/regions/{region}/networkEndpointGroups/{name}",
        "size": 0,
        **more,
    }


def page(*negs):
    """An aggregated list; scopes without NEGs have a warning."""
    items = {"zones/europe-west2-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}
    for neg in (*negs, live("other-neg"), live("mlflow-neg-of-us")):
        items.setdefault(f"regions/{neg['region'].rsplit('/', 1)[1]}", {}).setdefault(
            "networkEndpointGroups", []
        ).append(neg)
    return {"items": items}


OTHER = {"cloudRun": {"service": "other"}}
ZONAL = live("mlflow-neg-ffff", networkEndpointType="GCE_VM_IP_PORT")


def test_creates(google, run_module):
    google.expect("GET", LIST, page()).expect("GET", LIST, page()).expect(
        "POST", NEGS, {**DONE, "status": "RUNNING"}, body=SENT
    )
    google.expect("POST", f"{COMPUTE}/regions/europe-west2/operations/op/wait", DONE)
    google.expect("GET", LIST, page(live())).expect("GET", LIST, page(live(), ZONAL))
    result = run_module("compute_serverless_neg", **OPTIONS)
    assert (result["changed"], result["name"], result["obsolete"]) == (True, NAME, [])
    assert result["self_link"] == live()["selfLink"]


@pytest.mark.parametrize("name", [NAME, OLD, EAST])
def test_a_neg_of_the_family_that_leads_to_the_service_is_used(google, run_module, name):
    for _read in range(2):
        google.expect("GET", LIST, page(live(name)))
    result = run_module("compute_serverless_neg", **OPTIONS)
    assert (result["changed"], result["name"], result["obsolete"]) == (False, name, [])


def test_reads_all_pages(google, run_module):
    for _read in range(2):
        google.expect("GET", LIST, {**page(), "nextPageToken": "2"}).expect("GET", LIST, page(live()))
    assert not run_module("compute_serverless_neg", **OPTIONS)["changed"]
    assert google.sent[1].params["pageToken"] == "2"


def test_check_mode_knows_the_link(google, run_module):
    for _read in range(2):
        google.expect("GET", LIST, page())
    result = run_module("compute_serverless_neg", check=True, **OPTIONS)
    assert result["changed"] and result["self_link"] == live()["selfLink"]


def test_check_mode_before_compute_is_enabled(google, run_module):
    off = google.error(403, "PERMISSION_DENIED", "off", details=[{"reason": "SERVICE_DISABLED"}])
    google.expect("GET", LIST, off).expect("GET", LIST, off)
    assert run_module("compute_serverless_neg", check=True, **OPTIONS)["name"] == NAME


@pytest.mark.parametrize(
    ("old", "link"),
    [
        (live(OLD, **OTHER), live(OLD)["selfLink"]),
        (live(OLD, cloudRun={"service": "mlflow", "tag": "canary"}), live(OLD)["selfLink"]),
        (live(EAST, "us-east1"), live(EAST, "us-east1")["selfLink"]),
    ],
    ids=["service", "tag", "region"],
)
def test_another_target_has_an_additional_neg_which_takes_over_what_others_set(google, run_module, old, link):
    old = {**old, "description": "of us", "annotations": {"team": "ml"}}
    sent = {**SENT, "description": "of us", "annotations": {"team": "ml"}}
    google.expect("GET", LIST, page(old)).expect("GET", LIST, page(old)).expect("POST", NEGS, DONE, body=sent)
    google.expect("GET", LIST, page(old, live())).expect("GET", LIST, page(old, live()))
    result = run_module("compute_serverless_neg", **OPTIONS)
    assert (result["changed"], result["name"], result["obsolete"]) == (True, NAME, [link])


def test_a_name_that_is_taken_is_left_to_its_owner(google, run_module):
    taken, name = live(**OTHER), named("europe-west2/mlflow/1")
    google.expect("GET", LIST, page(taken)).expect("GET", LIST, page(taken))
    google.expect("POST", NEGS, DONE, body={**SENT, "name": name})
    google.expect("GET", LIST, page(taken, live(name))).expect("GET", LIST, page(taken, live(name)))
    assert run_module("compute_serverless_neg", **OPTIONS)["name"] == name


def test_deletes_the_obsolete_ones_of_all_regions(google, run_module):
    east = live(EAST, "us-east1")
    google.expect("GET", LIST, page(live(), live(OLD), east, ZONAL))
    google.expect("DELETE", f"{NEGS}/{OLD}", DONE)
    google.expect(
        "DELETE", f"{COMPUTE}/regions/us-east1/networkEndpointGroups/{EAST}", google.old_error(404, "notFound", "")
    )
    result = run_module("compute_serverless_neg", name="mlflow-neg", keep=[live()["selfLink"]], state="absent")
    assert result["changed"] and result["obsolete"] == []
    assert len(result["diff"]["before"]["negs"]) == 3 and len(result["diff"]["after"]["negs"]) == 1


def test_deleting_in_check_mode(google, run_module):
    google.expect("GET", LIST, page(live()))
    assert run_module("compute_serverless_neg", name="mlflow-neg", state="absent", check=True)["changed"]
    google.expect("GET", LIST, page())
    assert not run_module("compute_serverless_neg", name="mlflow-neg", state="absent")["changed"]


def test_a_neg_that_others_use_is_left_with_a_warning(google, run_module):
    def refuse(_request):
        google.expect("DELETE", f"{NEGS}/{OLD}", refuse)
        return google.old_error(400, "resourceInUseByAnotherResource", "already being used by 'backendServices/theirs'")

    google.expect("GET", LIST, page(live(), live(OLD))).expect("DELETE", f"{NEGS}/{OLD}", refuse)
    result = run_module("compute_serverless_neg", name="mlflow-neg", keep=[live()["selfLink"]], state="absent")
    assert (result["changed"], result["obsolete"]) == (False, [live(OLD)["selfLink"]])
    assert f"serverless NEG {OLD} is obsolete, but not deleted because it is in use" in str(result["warnings"])
    google.script.clear()


def test_a_deletion_that_is_refused_fails(google, run_module):
    google.expect("GET", LIST, page(live(OLD)))
    google.expect(
        "DELETE", f"{NEGS}/{OLD}", google.old_error(403, "forbidden", "Required 'compute.x.delete' permission")
    )
    with pytest.raises(Exception, match=f"^Cannot delete serverless NEG {OLD}: "):
        run_module("compute_serverless_neg", name="mlflow-neg", state="absent")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cloud_run_service": ""}, "^option cloud_run_service: '' is not allowed"),
        ({"region": "europe"}, "^option region: 'europe' is not allowed; give a region of Google Cloud"),
        ({"name": "m" * 59}, "1 to 58 lower-case letters"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception, match=message):
        run_module("compute_serverless_neg", **{**OPTIONS, **options})
