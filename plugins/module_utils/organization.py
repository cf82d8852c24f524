# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
What to do when a policy of the organization forbids something, by constraint.

https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints
"""

from __future__ import annotations

import re

ASK = "ask its administrator, or change the option that the policy names"
NO_KEYS = (
    "no part of this collection needs a key of a service account: sign in by impersonation or workload identity federation "
    "(auth_kind application)"
)
# Constraint -> what to do; docs/organisations.md has a row for each.
ADVICE: dict[str, str] = {
    "compute.restrictLoadBalancerCreationForTypes": "users reach the server by a load balancer of the type "
    "GLOBAL_EXTERNAL_MANAGED_HTTP_HTTPS: ask its administrator to allow this type in the project",
    "compute.restrictVpcPeering": "reach the database by Private Service Connect (variable network_private_access: psc), use a network "
    "that already has private services access (variable mlflow_network_name), or ask its administrator to allow the peering",
    "gcp.resourceLocations": "choose locations that it allows (variables mlflow_region, bucket_location and, for secrets, "
    "mlflow_secret_locations), or ask its administrator to allow this one",
    "gcp.restrictNonCmekServices": "give a key of Cloud KMS (variable mlflow_kms_key)",
    "gcp.restrictServiceUsage": "ask its administrator to allow this API in the project; variable services_names lists all that are needed",
    "iam.allowedPolicyMemberDomains": "name only members of organizations that it allows (variables mlflow_webapp_users and "
    "mlflow_logger_token_creators), or ask its administrator to allow theirs",
    "iam.disableServiceAccountCreation": "have this service account created by somebody who may; one that exists is used "
    "(variables cloudrun_account_id and mlflow_logger_service_account)",
    "iam.disableServiceAccountKeyCreation": NO_KEYS,
    "iam.disableServiceAccountKeyUpload": NO_KEYS,
    "run.allowedIngress": "choose an ingress that it allows (variable cloudrun_ingress); the load balancer needs "
    "internal-and-cloud-load-balancing or all",
    "run.allowedVPCEgress": "choose an egress that it allows (variable cloudrun_vpc_egress: ALL_TRAFFIC or PRIVATE_RANGES_ONLY)",
    "sql.restrictPublicIp": "leave the instance without a public IP address, which it does not need",
    "storage.publicAccessPrevention": "leave public access prevention enforced (variable bucket_public_access_prevention)",
    "storage.uniformBucketLevelAccess": "leave access to the bucket to IAM alone (variable mlflow_storage_uniform: true)",
}
CUSTOM = (
    "this is a constraint of your own organization: if it requires labels, set variable mlflow_labels, if it requires an SSL policy, "
    f"variable iap_lb_ssl_policy; else {ASK}"
)
# What some APIs say without the constraint's name.
WORDS = {
    r"do not belong to a permitted customer": "iam.allowedPolicyMemberDomains",
    r"Service account creation is not allowed": "iam.disableServiceAccountCreation",
    r"Key creation is not allowed on this service account": "iam.disableServiceAccountKeyCreation",
    r"public access prevention is enforced": "storage.publicAccessPrevention",
}


def constraint(text: str) -> str:
    """The constraint that an error is about, "" if it is about none."""
    if named := re.search(r"constraints/([\w.]*\w)|\b(custom(?:Constraints/custom)?\.\w+)", text):
        return str(named[1] or named[2]).removeprefix("customConstraints/")
    return next((name for pattern, name in WORDS.items() if re.search(pattern, text, re.IGNORECASE)), "")


def advice(name: str) -> str:
    """What to do about a violated constraint."""
    known = CUSTOM if name.startswith("custom.") else ADVICE.get(name.replace(".managed.", "."), ASK)
    return f"An organization policy (constraints/{name}) forbids this: {known}"
