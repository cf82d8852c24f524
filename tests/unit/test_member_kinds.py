# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members of IAM policies: https://cloud.google.com/iam/docs/principal-identifiers#allow."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import iam, values

WORKFORCE = "iam.googleapis.com/locations/global/workforcePools/staff"
WORKLOAD = "iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools"
PODS = (
    "serviceAccount:my-project.svc.id.goog[mlflow/trainer]",
    "serviceAccount:example.com:my-project.svc.id.goog[mlflow/trainer]",
    f"principal://{WORKLOAD}/ci/subject/repo:org/repo:ref:refs/heads/main",
    f"principalSet://{WORKLOAD}/ci/*",
    f"principalSet://{WORKLOAD}/ci/group/admins@example.com",
    f"principalSet://{WORKLOAD}/ci/attribute.repository/org/repo",
    f"principal://{WORKLOAD}/my-project.svc.id.goog/subject/ns/mlflow/sa/trainer",
    f"principal://{WORKLOAD}/my-project.svc.id.goog/kubernetes.serviceaccount.uid/7c3b",
    f"principalSet://{WORKLOAD}/my-project.svc.id.goog/namespace/mlflow",
    f"principalSet://{WORKLOAD}/my-project.svc.id.goog/kubernetes.cluster/https://container.googleapis.com/v1/projects/p",
)
PEOPLE = (
    "user:jane@example.com",
    "user:Jane.O'Neil+ml@Example.COM",
    "group:ml-team@example.com",
    "domain:example.com",
    "serviceAccount:ci@my-project.iam.gserviceaccount.com",
    "serviceAccount:ci@proj.example.com.iam.gserviceaccount.com",
    "serviceAccount:123456789012-compute@developer.gserviceaccount.com",
    "serviceAccount:my-project@appspot.gserviceaccount.com",
    f"principal://{WORKFORCE}/subject/jane@example.com",
    f"principalSet://{WORKFORCE}/group/ml-team@example.com",
    f"principalSet://{WORKFORCE}/attribute.department/ml",
    f"principalSet://{WORKFORCE}/*",
    "principalSet://cloudresourcemanager.googleapis.com/projects/123456789012/type/ServiceAccount",
    "principalSet://cloudresourcemanager.googleapis.com/folders/123456789012/type/ServiceAccount",
    "principalSet://cloudresourcemanager.googleapis.com/organizations/123456789012/type/ServiceAccount",
    "principal://parametermanager.googleapis.com/projects/123456789012/uid/locations/global/parameters/7c3b",
)
REFUSED = {
    "jane@example.com": "user:jane@example.com",
    "user:jane": "user:jane@example.com",
    "domain:jane@example.com": "domain: and the address",
    "serviceAccount:my-project.svc.id.goog": "serviceAccount: or",
    "serviceAccount:my-project.svc.id.goog[trainer]": "serviceAccount: or",
    "principal://": "the path that IAM has for it",
    "principal:jane": "the path that IAM has for it",
    "principal://goog/subject/jane@example.com": "one of deny policies",
    "principalSet://goog/public:all": "one of deny policies",
    "principal://iam.googleapis.com/projects/-/serviceAccounts/ci@my-project.iam.gserviceaccount.com": "deny policies",
    "allUsers": "stands for everybody",
    "allAuthenticatedUsers": "stands for everybody",
    "projectOwner:my-project": "a basic role on a project",
    "deleted:user:jane@example.com?uid=1": "a deleted one cannot sign in",
}


@pytest.mark.parametrize("member", PEOPLE + PODS)
def test_every_kind_of_member_is_accepted_by_roles_and_modules(member):
    for kind in (values.MEMBERS, values.USERS, values.ANY_MEMBERS):
        assert kind.check([member]) == [member]


@pytest.mark.parametrize("member", REFUSED)
def test_what_is_no_named_member_is_refused_with_what_is_allowed(member):
    for kind in (values.MEMBERS, values.USERS):
        with pytest.raises(values.Refused) as refused:
            kind.check([member])
        assert REFUSED[member] in refused.value.allowed and refused.value.value == member


@pytest.mark.parametrize("member", ["allUsers", "allAuthenticatedUsers", "projectViewer:p", "deleted:principalSet://x"])
def test_modules_accept_what_policies_contain(member):
    assert values.ANY_MEMBERS.check([member]) == [member]


@pytest.mark.parametrize("member", PODS)
def test_workloads_among_the_users_are_doubted(member):
    assert member in values.USERS.doubt([PEOPLE[0], member])
    assert "mlflow_logger_token_creators" in values.USERS.doubt(f"{PEOPLE[0]}, {member}")


def test_people_among_the_users_are_not_doubted():
    assert values.USERS.doubt(list(PEOPLE)) is None


@pytest.mark.parametrize(
    ("member", "stored"),
    [
        ("user:Jane@Example.com", "user:jane@example.com"),
        ("group:ML@example.com", "group:ml@example.com"),
        ("domain:Example.com", "domain:example.com"),
        (
            "serviceAccount:CI@My-Project.iam.gserviceaccount.com",
            "serviceAccount:ci@my-project.iam.gserviceaccount.com",
        ),
        (f"principal://{WORKFORCE}/subject/Jane", f"principal://{WORKFORCE}/subject/Jane"),
    ],
)
def test_addresses_are_compared_and_sent_in_lower_case_other_identifiers_as_they_are(member, stored):
    assert iam.exactly([member, stored])([]) == [stored]
    assert iam.exactly([member])([member]) == [member], "Google's spelling is not a change"


@pytest.mark.parametrize(
    ("project", "email"),
    [
        ("my-project", "ci@my-project.iam.gserviceaccount.com"),
        ("example.com:proj", "ci@proj.example.com.iam.gserviceaccount.com"),
    ],
)
def test_the_project_of_an_account(project, email):
    assert values.service_account_email("ci", project) == email
    assert values.project_of(email) == project


@pytest.mark.parametrize("email", ["123456789012-compute@developer.gserviceaccount.com", "jane@example.com"])
def test_accounts_without_a_project_in_their_address(email):
    assert values.project_of(email) is None
    assert iam.account_url(email, "demo").endswith(f"/projects/demo/serviceAccounts/{email}")
