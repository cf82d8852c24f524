# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module iam_role_members."""

from __future__ import annotations

import pytest

JANE, TEAM, APP = "user:jane@example.com", "group:team@example.com", "serviceAccount:app@demo.iam.gserviceaccount.com"
ROLE = "roles/run.invoker"
PROJECT = "https://cloudresourcemanager.googleapis.com/v1/projects/demo"
CONDITION = {"title": "office hours", "expression": "request.time.getHours() < 18"}
READ = {"options.requestedPolicyVersion": "3"}


def policy(*bindings, etag="BwX1"):
    return {"version": 1, "etag": etag, "bindings": list(bindings)} if bindings else {"etag": etag}


def binding(*members, role=ROLE, **more):
    return {"role": role, "members": list(members), **more}


@pytest.fixture
def grant(run_module):
    """Runs the module on project demo; keyword arguments over the defaults."""
    defaults = {"resource_type": "project", "resource": "demo", "role": ROLE, "members": [JANE]}
    return lambda **options: run_module("iam_role_members", **{**defaults, **options})


def test_adds_a_member_and_keeps_the_rest(google, grant):
    others = [binding("user:x@example.com", role="roles/owner"), binding(TEAM, condition=CONDITION)]
    google.expect(
        "POST",
        f"{PROJECT}:getIamPolicy",
        policy(binding(APP), *others),
        body={"options": {"requestedPolicyVersion": 3}},
    )
    google.expect(
        "POST",
        f"{PROJECT}:setIamPolicy",
        {},
        body={"policy": {"version": 3, "etag": "BwX1", "bindings": [*others, binding(APP, JANE)]}},
    )
    result = grant()
    assert (result["changed"], result["members"]) == (True, [APP, JANE])
    assert result["diff"] == {"before": binding(APP), "after": binding(APP, JANE)}


@pytest.mark.parametrize(
    ("held", "options"),
    [
        ([JANE, APP], {}),
        (["user:Jane@Example.com"], {"exclusive": True}),
        ([JANE], {"exclusive": True, "members": [JANE, JANE]}),
        ([APP], {"state": "absent"}),
        ([], {"exclusive": True, "members": []}),
        ([TEAM], {"exclusive": True, "members": ["group:Team@EXAMPLE.com"], "on_conditional": "refuse"}),
    ],
)
def test_no_change(google, grant, held, options):
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy(binding(*held)) if held else policy())
    assert grant(**options)["changed"] is False


@pytest.mark.parametrize(
    ("held", "options", "left"),
    [
        ([JANE, APP], {"exclusive": True}, [JANE]),
        ([JANE, APP], {"exclusive": True, "members": []}, []),
        ([JANE, "deleted:user:eve@example.com?uid=1"], {"exclusive": True}, [JANE]),
        ([JANE, APP], {"state": "absent"}, [APP]),
        ([JANE], {"state": "absent"}, []),
        ([f"deleted:{JANE}?uid=123", APP], {"state": "absent"}, [APP]),
    ],
)
def test_revokes_the_role(google, grant, held, options, left):
    other = binding(TEAM, role="roles/viewer", condition=CONDITION)
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy(binding(*held), other))
    google.expect(
        "POST",
        f"{PROJECT}:setIamPolicy",
        {},
        body={"policy": {"version": 3, "etag": "BwX1", "bindings": [other, *([binding(*left)] if left else [])]}},
    )
    assert grant(**options)["members"] == left


def test_without_exclusive_conditional_bindings_of_the_role_stay(google, grant):
    conditional = binding(TEAM, condition=CONDITION)
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy(conditional))
    body = {"policy": {"version": 3, "etag": "BwX1", "bindings": [conditional, binding(JANE)]}}
    google.expect("POST", f"{PROJECT}:setIamPolicy", {}, body=body)
    assert grant()["diff"]["before"] == binding()


def test_exclusive_leaves_nobody_else_also_under_a_condition_or_through_everybody(google, grant):
    conditional = binding(TEAM, condition=CONDITION)
    other = binding(TEAM, role="roles/viewer", condition=CONDITION)
    everybody = binding("allAuthenticatedUsers", "allUsers", APP, role="roles/run.viewer")
    only_everybody = binding("allUsers", role="roles/run.developer")
    audit = [{"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]}]
    live = policy(binding(JANE), conditional, other, everybody, only_everybody) | {"auditConfigs": audit}
    google.expect("POST", f"{PROJECT}:getIamPolicy", live)
    kept = [other, binding(APP, role="roles/run.viewer"), binding(JANE)]
    body = {"policy": {"version": 3, "etag": "BwX1", "bindings": kept, "auditConfigs": audit}}
    google.expect("POST", f"{PROJECT}:setIamPolicy", {}, body=body)
    result = grant(exclusive=True)
    public = [binding("allAuthenticatedUsers", "allUsers", role="roles/run.viewer"), only_everybody]
    assert result["diff"]["before"] == {**binding(JANE), "conditional": [conditional], "public": public}
    assert result["diff"]["after"] == result["resource"] == binding(JANE)


@pytest.mark.parametrize("options", [{}, {"check": True}, {"state": "checked"}])
def test_refuses_to_remove_conditional_bindings(google, grant, options):
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy(binding(APP), binding(TEAM, JANE, condition=CONDITION)))
    with pytest.raises(
        Exception,
        match="^Cannot change the members of roles/run.invoker on project demo: it is held by group:team@example.com, "
        "user:jane@example.com under the condition 'office hours'. Remove these bindings, or set on_conditional=remove",
    ):
        grant(exclusive=True, on_conditional="refuse", **options)


@pytest.mark.parametrize("state", ["present", "checked"])
def test_refuses_to_leave_nobody(google, grant, state):
    options = {"exclusive": True, "members": [APP], "own_members": [APP], "allow_nobody": False, "state": state}
    for held in ([APP], ["deleted:user:eve@example.com?uid=1"], []):
        google.expect("POST", f"{PROJECT}:getIamPolicy", policy(binding(*held)))
        if state == "present" and held != [APP]:
            google.expect("POST", f"{PROJECT}:setIamPolicy", {})
        assert grant(**options)["changed"] is (state == "present" and held != [APP])
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy(binding(APP, JANE, TEAM)))
    with pytest.raises(
        Exception,
        match="^Cannot revoke roles/run.invoker on project demo from everybody: group:team@example.com, "
        "user:jane@example.com would lose it. Name the members who keep it, or set allow_nobody=true",
    ):
        grant(**options)


def test_checking_changes_nothing_and_needs_no_resource(google, grant):
    options = {"exclusive": True, "state": "checked", "resource_type": "secret", "resource": "s"}
    url = "https://secretmanager.googleapis.com/v1/projects/demo/secrets/s:getIamPolicy"
    conditional = binding(TEAM, condition=CONDITION)
    google.expect("GET", url, policy(binding(APP), conditional))
    result = grant(**options)
    assert (result["changed"], result["members"]) == (False, [APP])
    assert result["resource"]["conditional"] == [conditional]
    google.expect("GET", url, google.error(404, "NOT_FOUND", "Secret not found."))
    assert grant(**options)["members"] == []
    off = google.error(403, "PERMISSION_DENIED", "Off.", details=[{"reason": "SERVICE_DISABLED"}])
    google.expect("GET", PROJECT, off)
    assert grant(**options | {"resource_type": "iap_backend_service"})["members"] == []
    google.expect("GET", url, google.error(403, "PERMISSION_DENIED", "No."))
    with pytest.raises(Exception, match="^Cannot read the IAM policy of secret s: No"):
        grant(**options)


def test_check_mode_only_reads(google, grant):
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy())
    assert grant(check=True)["changed"] is True


def test_check_mode_before_the_resource_exists(google, grant):
    google.expect(
        "GET",
        "https://storage.googleapis.com/storage/v1/b/b1/iam",
        google.old_error(404, "notFound", "The specified bucket does not exist."),
    )
    result = grant(resource_type="bucket", resource="b1", check=True)
    assert result["changed"] is True and "Check mode assumes that the IAM policy of" in str(result["warnings"])


@pytest.mark.parametrize("conflict", [(409, "ABORTED"), (412, "conditionNotMet")])
def test_starts_over_after_a_concurrent_write(google, grant, conflict):
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy())
    google.expect("POST", f"{PROJECT}:setIamPolicy", google.error(*conflict, "There were concurrent policy changes."))
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy(binding(APP), etag="BwX2"))
    google.expect(
        "POST",
        f"{PROJECT}:setIamPolicy",
        {},
        body={"policy": {"version": 3, "etag": "BwX2", "bindings": [binding(APP, JANE)]}},
    )
    assert grant()["members"] == [APP, JANE]


def test_waits_for_a_new_service_account(google, grant, clock):
    message = "Service account app@demo.iam.gserviceaccount.com does not exist."
    for _ in range(2):
        google.expect("POST", f"{PROJECT}:getIamPolicy", policy())
        google.expect("POST", f"{PROJECT}:setIamPolicy", google.error(400, "INVALID_ARGUMENT", message))
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy()).expect("POST", f"{PROJECT}:setIamPolicy", {})
    grant(members=[APP])
    assert len(clock.slept) == 2


def test_waits_for_the_policy_of_a_new_service_account(google, grant, clock):
    url = "https://iam.googleapis.com/v1/projects/demo/serviceAccounts/app@demo.iam.gserviceaccount.com"
    google.expect("POST", f"{url}:getIamPolicy", google.error(404, "NOT_FOUND", "Unknown service account"))
    google.expect("POST", f"{url}:getIamPolicy", policy()).expect("POST", f"{url}:setIamPolicy", {})
    grant(resource_type="service_account", resource=url.rpartition("/")[2])
    assert len(clock.slept) == 1


def test_check_mode_before_the_projects_number_can_be_read(google, grant):
    google.expect(
        "GET", PROJECT, google.error(403, "PERMISSION_DENIED", "Off.", details=[{"reason": "SERVICE_DISABLED"}])
    )
    result = grant(
        resource_type="iap_backend_service", resource="backend", role="roles/iap.httpsResourceAccessor", check=True
    )
    assert result["members"] == [JANE]


def test_does_not_wait_for_a_user_that_does_not_exist(google, grant):
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy())
    google.expect(
        "POST",
        f"{PROJECT}:setIamPolicy",
        google.error(400, "INVALID_ARGUMENT", "User jane@example.com does not exist."),
    )
    with pytest.raises(
        Exception,
        match=r"^Cannot change the members of roles/run.invoker on project demo: User jane@example.com "
        r"does not exist. \(400 INVALID_ARGUMENT\)$",
    ):
        grant()


def test_gives_up_after_two_minutes(google, grant, clock):
    started, conflict = clock.now, google.error(409, "ABORTED", "There were concurrent policy changes.")

    def script():
        return google.expect("POST", f"{PROJECT}:getIamPolicy", lambda _: script() and policy()).expect(
            "POST", f"{PROJECT}:setIamPolicy", conflict
        )

    script()
    with pytest.raises(Exception, match="concurrent policy changes"):
        grant()
    google.script.clear()
    assert 100 < clock.now - started < 125


@pytest.mark.parametrize(
    ("options", "method", "url", "params"),
    [
        (
            {"resource_type": "secret", "resource": "s"},
            "GET",
            "https://secretmanager.googleapis.com/v1/projects/demo/secrets/s:getIamPolicy",
            READ,
        ),
        (
            {"resource_type": "secret", "resource": "projects/other/secrets/s"},
            "GET",
            "https://secretmanager.googleapis.com/v1/projects/other/secrets/s:getIamPolicy",
            READ,
        ),
        (
            {"resource_type": "service_account", "resource": "a@other.iam.gserviceaccount.com"},
            "POST",
            "https://iam.googleapis.com/v1/projects/other/serviceAccounts/a@other.iam.gserviceaccount.com:getIamPolicy",
            READ,
        ),
        (
            {"resource_type": "run_service", "resource": "mlflow", "region": "europe-west2"},
            "GET",
            "https://run.googleapis.com/v2/projects/demo/locations/europe-west2/services/mlflow:getIamPolicy",
            READ,
        ),
        (
            {"resource_type": "bucket", "resource": "b1"},
            "GET",
            "https://storage.googleapis.com/storage/v1/b/b1/iam",
            {"optionsRequestedPolicyVersion": "3"},
        ),
    ],
)
def test_every_type_of_resource(google, grant, options, method, url, params):
    google.expect(method, url, policy(), params=params)
    if options["resource_type"] == "bucket":
        google.expect("PUT", url, {}, body={"version": 3, "etag": "BwX1", "bindings": [binding(JANE)]})
    else:
        google.expect("POST", url.replace(":get", ":set"), {})
    assert grant(**options)["changed"] is True


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"resource_type": "iap_backend_service", "resource": "bs"}, "compute/services/bs"),
        (
            {"resource_type": "iap_run_service", "resource": "mlflow", "region": "europe-west2"},
            "cloud_run-europe-west2/services/mlflow",
        ),
    ],
)
def test_iap_uses_the_project_number(google, grant, options, path):
    url = f"https://iap.googleapis.com/v1/projects/123456789012/iap_web/{path}"
    google.expect("GET", PROJECT, {"projectNumber": "123456789012"})
    google.expect("POST", f"{url}:getIamPolicy", policy()).expect("POST", f"{url}:setIamPolicy", {})
    assert grant(**options)["changed"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"members": ["jane@example.com"]},
            "option members: 'jane@example.com' is not allowed; give user:, group:, serviceAccount: or domain: and the "
            "address, such as user:jane@example.com",
        ),
        ({"members": ["user:jane"]}, "option members: 'user:jane' is not allowed"),
        ({"members": ["domain:jane@example.com"]}, "option members: 'domain:jane@example.com' is not allowed"),
        ({"role": "run.invoker"}, "option role: 'run.invoker' is not allowed; give roles/NAME"),
        ({"members": []}, "option members: [] is not allowed; give at least one"),
        ({"state": "checked"}, "option state: 'checked' is not allowed; it requires exclusive=true"),
        ({"on_conditional": "refuse"}, "option on_conditional: 'refuse' is not allowed; it requires exclusive=true"),
        (
            {"allow_nobody": False},
            "option allow_nobody: False is not allowed; it requires exclusive=true or state=absent",
        ),
        (
            {"exclusive": True, "state": "absent"},
            "option exclusive: True is not allowed; it requires state=present",
        ),
        ({"resource": ""}, "option resource: '' is not allowed; it is required"),
        (
            {"resource_type": "run_service", "region": ""},
            "option region: '' is not allowed; it is required for resource_type=run_service",
        ),
        ({"resource_type": "run_service"}, "resource_type is run_service but all of the following are missing: region"),
    ],
)
def test_invalid_options_make_no_request(google, grant, options, message):
    with pytest.raises(Exception) as caught:
        grant(**options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "member",
    [
        "allUsers",
        "allAuthenticatedUsers",
        "domain:example.com",
        "projectViewer:demo",
        APP,
        TEAM,
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/*",
        "serviceAccount:demo.svc.id.goog[ns/sa]",
        "deleted:serviceAccount:a@demo.iam.gserviceaccount.com?uid=1",
    ],
)
def test_every_type_of_member(google, grant, member):
    google.expect("POST", f"{PROJECT}:getIamPolicy", policy(binding(member)))
    assert grant(members=[member])["changed"] is False
