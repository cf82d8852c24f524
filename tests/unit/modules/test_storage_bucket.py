# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module storage_bucket."""

from __future__ import annotations

import pytest

API = "https://storage.googleapis.com/storage/v1/b"
URL = f"{API}/artifacts"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
OPTIONS = {
    "name": "artifacts",
    "location": "europe-west2",
    "labels": {"team": "ml"},
    "versioning": True,
    "lifecycle_rules": [
        {"action": {"type": "Delete"}, "condition": {"days_since_noncurrent": 30, "is_live": False}},
        {"action": {"type": "SetStorageClass", "storage_class": "NEARLINE"}, "condition": {"age_days": 90}},
    ],
    "soft_delete_retention_seconds": 604800,
}
LABELS = {"team": "ml", "mlflow-gcp-labels": "team"}
SENT = {
    "name": "artifacts",
    "location": "EUROPE-WEST2",
    "labels": LABELS,
    "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
    "versioning": {"enabled": True},
    "lifecycle": {
        "rule": [
            {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30, "isLive": False}},
            {"action": {"type": "SetStorageClass", "storageClass": "NEARLINE"}, "condition": {"age": 90}},
        ]
    },
    "softDeletePolicy": {"retentionDurationSeconds": "604800"},
}
# As a real bucket comes back: defaults filled in, rules in Google's order.
LIVE = {
    **SENT,
    "kind": "storage#bucket",
    "projectNumber": "123456789012",
    "storageClass": "STANDARD",
    "rpo": "DEFAULT",
    "locationType": "region",
    "iamConfiguration": {**SENT["iamConfiguration"], "bucketPolicyOnly": {"enabled": True}},
    "lifecycle": {"rule": SENT["lifecycle"]["rule"][::-1]},
    "softDeletePolicy": {"retentionDurationSeconds": "604800", "effectiveTime": "2024-04-01T12:34:56.123456Z"},
}


def live_bucket(google, **changes):
    google.expect("GET", URL, {**LIVE, **changes})
    google.expect("GET", PROJECT, {"projectNumber": "123456789012"})
    return google


def test_creates(google, run_module):
    google.expect("GET", URL, google.old_error(404, "notFound", "The specified bucket does not exist."))
    google.expect("POST", API, LIVE, body=SENT, params={"project": "demo"})
    result = run_module("storage_bucket", **OPTIONS)
    assert result["changed"] and result["url"] == "gs://artifacts" and result["resource"] == LIVE
    assert result["diff"] == {"before": {}, "after": SENT}


def test_check_mode_creates_nothing(google, run_module):
    google.expect("GET", URL, google.old_error(404, "notFound", "The specified bucket does not exist."))
    assert run_module("storage_bucket", check=True, **OPTIONS)["changed"]


def test_second_run_changes_nothing(google, run_module):
    live_bucket(google)
    assert not run_module("storage_bucket", **OPTIONS)["changed"]


def test_without_labels_nothing_is_said_about_those_of_others(google, run_module):
    others = {"cost-center": "4711", "team": "platform"}
    live_bucket(google, labels=others)
    assert not run_module("storage_bucket", **{**OPTIONS, "labels": {}})["changed"]
    # Those of an earlier run go, and their record.
    body = {key: value for key, value in SENT.items() if key not in ("name", "location")}
    live_bucket(google, labels=LABELS | {"cost-center": "4711"}).expect(
        "PATCH", URL, LIVE, body={**body, "labels": dict.fromkeys(LABELS)}
    )
    result = run_module("storage_bucket", **{**OPTIONS, "labels": {}})
    before, after = result["diff"]["before"], result["diff"]["after"]
    assert after == before | {"labels": {"cost-center": "4711"}}


def test_the_record_of_many_labels_is_continued_in_further_labels(google, run_module):
    keys = [letter * 30 for letter in "abcde"]
    record = {
        "mlflow-gcp-labels": f"{keys[0]}--{keys[1]}",
        "mlflow-gcp-labels-2": f"{keys[2]}--{keys[3]}",
        "mlflow-gcp-labels-3": keys[4],
    }
    body = {key: value for key, value in SENT.items() if key not in ("name", "location")}
    live = {**dict.fromkeys(keys, "1"), **record, "other": "1"}
    live_bucket(google, labels=live)
    assert not run_module("storage_bucket", **{**OPTIONS, "labels": dict.fromkeys(keys, 1)})["changed"]
    sent = {"bbb": "1", "mlflow-gcp-labels": "bbb"} | dict.fromkeys(keys) | dict.fromkeys(list(record)[1:])
    live_bucket(google, labels=live).expect("PATCH", URL, LIVE, body={**body, "labels": sent})
    after = run_module("storage_bucket", **{**OPTIONS, "labels": {"bbb": 1}})["diff"]["after"]["labels"]
    assert after == {"bbb": "1", "mlflow-gcp-labels": "bbb", "other": "1"}


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [({"Team": "ml", "prod": True}, "Team: ml"), ({"a": "b", "mlflow-gcp-labels": "a"}, "mlflow-gcp-labels: a")],
)
def test_the_label_that_is_wrong_is_named(google, run_module, labels, wrong):
    with pytest.raises(
        Exception, match=f"^option labels: '{wrong}' is not allowed; give keys and values of at most 63"
    ):
        run_module("storage_bucket", **{**OPTIONS, "labels": labels})


def test_undeclared_fields_are_left_unchanged(google, run_module):
    live_bucket(google, labels={"of": "somebody"})
    assert not run_module("storage_bucket", name="artifacts", location="EUROPE-WEST2")["changed"]


@pytest.mark.parametrize(
    ("live", "sent"),
    [
        (
            {"labels": {"team": "it", "old": "x", "cost-center": "4711", "mlflow-gcp-labels": "old--team"}},
            {"labels": {**LABELS, "old": None}},
        ),
        ({"labels": {"cost-center": "4711"}}, {"labels": LABELS}),
        ({"softDeletePolicy": {"retentionDurationSeconds": "0"}}, {}),
        ({"lifecycle": {"rule": SENT["lifecycle"]["rule"][:1]}}, {}),
        # Without isLive the rule deletes live objects: never the same.
        (
            {
                "lifecycle": {
                    "rule": [
                        {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 30}},
                        SENT["lifecycle"]["rule"][1],
                    ]
                }
            },
            {},
        ),
    ],
    ids=["label removed", "labels of others", "soft delete", "rule missing", "rule wider"],
)
def test_patches_a_difference(google, run_module, live, sent):
    body = {key: value for key, value in SENT.items() if key not in ("name", "location")}
    live_bucket(google, **live).expect("PATCH", URL, LIVE, body={**body, **sent})
    result = run_module("storage_bucket", **OPTIONS)
    assert result["changed"]
    assert result["diff"]["before"] != result["diff"]["after"]


def test_rules_can_be_removed(google, run_module):
    live_bucket(google).expect("PATCH", URL, {**LIVE, "lifecycle": {}})
    assert run_module("storage_bucket", **{**OPTIONS, "lifecycle_rules": []})["changed"]
    assert google.writes[0].body["lifecycle"] == {"rule": []}


def test_no_rules_declared_and_none_live(google, run_module):
    google.expect("GET", URL, {key: value for key, value in LIVE.items() if key != "lifecycle"})
    google.expect("GET", PROJECT, {"projectNumber": "123456789012"})
    assert not run_module("storage_bucket", **{**OPTIONS, "lifecycle_rules": []})["changed"]


def test_the_location_cannot_be_changed(google, run_module):
    live_bucket(google, location="US")
    with pytest.raises(
        Exception, match="location is 'US' and cannot be changed to 'EUROPE-WEST2'; Google cannot move a bucket"
    ):
        run_module("storage_bucket", **OPTIONS)


TAKEN = (
    "^Cannot use bucket artifacts: a project other than demo has a bucket with this name, "
    "and names are unique across all of Google Cloud; choose another name$"
)


def test_name_taken_and_unreadable(google, run_module):
    google.expect(
        "GET",
        URL,
        google.old_error(
            403, "forbidden", "x does not have storage.buckets.get access to the Google Cloud Storage bucket."
        ),
    )
    google.expect(
        "GET",
        API,
        {"kind": "storage#buckets", "items": [{"name": "artifacts-2"}]},
        params={"project": "demo", "prefix": "artifacts", "fields": "items(name),nextPageToken"},
    )
    with pytest.raises(Exception, match=TAKEN):
        run_module("storage_bucket", **OPTIONS)


def test_name_taken_and_readable(google, run_module):
    google.expect("GET", URL, {**LIVE, "projectNumber": "999"})
    google.expect("GET", PROJECT, {"projectNumber": "123456789012"})
    assert not run_module("storage_bucket", state="absent", force_destroy=True, name="artifacts")["changed"]


def test_check_mode_before_the_projects_number_can_be_read(google, run_module):
    google.expect("GET", URL, LIVE)
    google.expect(
        "GET", PROJECT, google.error(403, "PERMISSION_DENIED", "Off.", details=[{"reason": "SERVICE_DISABLED"}])
    )
    assert not run_module("storage_bucket", check=True, **OPTIONS)["changed"]


def test_name_taken_when_creating(google, run_module):
    google.expect("GET", URL, google.old_error(404, "notFound", "The specified bucket does not exist."))
    google.expect("POST", API, google.old_error(409, "conflict", "The requested bucket name is not available."))
    google.expect("GET", URL, google.old_error(404, "notFound", "The specified bucket does not exist."))
    with pytest.raises(Exception, match=TAKEN):
        run_module("storage_bucket", **OPTIONS)


def test_a_bucket_of_the_project_that_may_not_be_read(google, run_module):
    google.expect("GET", URL, google.old_error(403, "forbidden", "x does not have storage.buckets.get access."))
    google.expect("GET", API, {"items": [{"name": "artifacts"}]})
    with pytest.raises(Exception, match="Cannot read bucket artifacts: x does not have storage.buckets.get access"):
        run_module("storage_bucket", **OPTIONS)


def test_does_not_delete_objects(google, run_module):
    live_bucket(google).expect(
        "GET", f"{URL}/o", {"items": [{"name": "a"}]}, params={"versions": "true", "maxResults": "1"}
    )
    with pytest.raises(
        Exception, match="^Cannot delete bucket artifacts: it contains objects; give force_destroy=true"
    ):
        run_module("storage_bucket", name="artifacts", state="absent", check=True)
    assert not google.writes


def test_deletes_an_empty_bucket(google, run_module):
    live_bucket(google).expect("GET", f"{URL}/o", {"kind": "storage#objects"}).expect(
        "DELETE", URL, google.answer(204, b"")
    )
    assert run_module("storage_bucket", name="artifacts", state="absent")["changed"]


def test_force_destroy_deletes_every_version(google, run_module):
    live_bucket(google)
    google.expect("GET", f"{URL}/o", {"items": [{"name": "1/a b", "generation": "7"}]}, params={"versions": "true"})
    google.expect("DELETE", f"{URL}/o/1%2Fa%20b", google.answer(204, b""), params={"generation": "7"})
    google.expect("DELETE", URL, google.answer(204, b""))
    assert run_module("storage_bucket", name="artifacts", state="absent", force_destroy=True)["changed"]


def test_nothing_is_kept_of_what_is_deleted(google, run_module):
    live_bucket(google)
    google.expect("PATCH", URL, {}, body={"softDeletePolicy": {"retentionDurationSeconds": "0"}})
    google.expect("GET", f"{URL}/o", {}).expect("DELETE", URL, google.answer(204, b""))
    options = {"force_destroy": True, "soft_delete_retention_seconds": 0}
    assert run_module("storage_bucket", name="artifacts", state="absent", **options)["changed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Big Letters"}, "^option name: 'Big Letters' is not allowed; give 3 to 63 lower-case letters"),
        ({"soft_delete_retention_seconds": 60}, "soft_delete_retention_seconds: 60 is not allowed; give 0, or 604800"),
        ({"lifecycle_rules": [{"action": {"type": "Delete"}, "condition": {}}]}, "every rule requires a condition"),
        ({"location": ""}, "^option location: '' is not allowed; it is required for state=present$"),
        ({"lifecycle_rules": [{"action": {"type": "SetStorageClass"}, "condition": {"age_days": 1}}]}, "storage_class"),
    ],
)
def test_invalid_options_make_no_request(google, run_module, options, message):
    with pytest.raises(Exception, match=message):
        run_module("storage_bucket", **{**OPTIONS, **options})
    assert not google.sent


def test_label_values_are_converted_to_text(google, run_module):
    google.expect("GET", URL, google.old_error(404, "notFound", "The specified bucket does not exist."))
    labels = {"temporary": "true", "cost": "7", "note": "", "mlflow-gcp-labels": "cost--note--temporary"}
    google.expect("POST", API, {**LIVE, "labels": labels}, body={**SENT, "labels": labels})
    run_module("storage_bucket", **{**OPTIONS, "labels": {"temporary": True, "cost": 7, "note": None}})
