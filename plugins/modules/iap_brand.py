#!/usr/bin/python
# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iap_brand
short_description: Create the OAuth brand of a project
description:
  - A brand is the OAuth consent screen of a project. A project has at most one brand, and the API can neither change nor
    delete it, so there is no O(ignore:state). An existing brand with a different title or e-mail address is kept, with a
    warning.
  - Google deprecated this API on 2025-01-22 and announced its shutdown for 2026-03-19. After the shutdown the module fails
    with a message that names the two alternatives, the Google-managed OAuth client and a manually created one.
  - C(google.cloud) has no module for this.
version_added: 0.1.0
author:
  - mlops.mlflow_gcp contributors (@mlops)
extends_documentation_fragment:
  - google.cloud.gcp
  - mlops.mlflow_gcp.auth
  - mlops.mlflow_gcp.attributes
options:
  application_title:
    description: Name on the sign-in page.
    type: str
    required: true
  support_email:
    description:
      - E-mail address on the sign-in page. Google accepts the caller's own address, and that of a group that the caller
        manages.
    type: str
    required: true
seealso:
  - module: mlops.mlflow_gcp.iap_client
  - name: Brands
    description: The API.
    link: https://cloud.google.com/iap/docs/reference/rest/v1/projects.brands
"""

EXAMPLES = r"""
- name: Create the consent screen
  mlops.mlflow_gcp.iap_brand:
    project: my-project
    auth_kind: application
    application_title: MLflow
    support_email: mlops@example.com
  register: brand
"""

RETURN = r"""
name:
  description: Name of the brand; with the project's ID if it would be created in check mode.
  returned: success
  type: str
  sample: projects/123456789012/brands/123456789012
resource:
  description: The brand as Google returns it.
  returned: success
  type: dict
  sample:
    name: projects/123456789012/brands/123456789012
    applicationTitle: MLflow
    supportEmail: mlops@example.com
    orgInternalOnly: true
"""

from typing import Any

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import values
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.iap import API, explain_shutdown
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.module import Task, run
from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.resource import Resource


class Brand(Resource):
    """https://cloud.google.com/iap/docs/reference/rest/v1/projects.brands"""

    kind = "OAuth brand"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.name = f"of project {task.project}"
        self.collection = f"{API}/projects/{task.project}/brands"
        self.wanted = {
            "applicationTitle": self.params["application_title"],
            "supportEmail": self.params["support_email"],
        }

    def read(self) -> dict[str, Any] | None:
        with explain_shutdown(f"read {self.label}"):
            brands = self.client.get(self.collection).get("brands")
        return brands[0] if brands else None

    def differences(self, live: dict[str, Any]) -> list[str]:
        for path in super().differences(live):
            self.task.warn(
                f"{self.label} keeps {path} {live.get(path)!r}: a brand can be changed in the console, but not with the API"
            )
        return []

    def create(self) -> dict[str, Any]:
        with explain_shutdown(f"create {self.label}"):
            return super().create()

    def returns(self, live: dict[str, Any]) -> dict[str, Any]:
        return {"name": live.get("name") or f"projects/{self.task.project}/brands/{self.task.project}"}


def main() -> None:
    run(
        Brand.converge,
        argument_spec={
            "application_title": {"type": "str", "required": True},
            "support_email": {"type": "str", "required": True, "kind": values.EMAIL},
        },
    )


if __name__ == "__main__":
    main()
