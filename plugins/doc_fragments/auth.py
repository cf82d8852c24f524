# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options for signing in that google.cloud lacks."""

from __future__ import annotations


class ModuleDocFragment:
    """Credentials of other types, impersonation and quota project, beside the fragment google.cloud.gcp."""

    DOCUMENTATION = r"""
options:
  credentials_file:
    description:
      - With O(auth_kind=application), path of the file with the credentials, of any type that C(GOOGLE_APPLICATION_CREDENTIALS) can
        have - V(authorized_user), V(service_account), V(external_account) of workload identity federation,
        V(external_account_authorized_user) or V(impersonated_service_account).
      - By default, application default credentials.
    type: path
  impersonate_service_account:
    description:
      - E-mail address of a service account to act as. The credentials must have C(roles/iam.serviceAccountTokenCreator) on it.
      - It can also be set in the environment variable E(GCP_IMPERSONATE_SERVICE_ACCOUNT).
    type: str
  impersonate_delegates:
    description:
      - E-mail addresses of service accounts between the credentials and O(impersonate_service_account), each of which may act as
        the next.
    type: list
    elements: str
  quota_project:
    description:
      - ID of the project whose quotas the requests count against, instead of the one in the credentials.
    type: str
notes:
  - Where a task and C(module_defaults) name no credentials, the variables of its host do, such as C(mlflow_auth_kind); where these are not
    set either, the environment does. See docs/credentials.md.
"""
