# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that services and jobs of Cloud Run have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Container, environment, account and network."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Its name, up to 49 lower case letters, digits and hyphens.
    type: str
    required: true
  region:
    description:
      - Its region, such as V(europe-west2).
    type: str
    required: true
  image:
    description:
      - Container image; required for O(state=present).
    type: str
  command:
    description:
      - Entry point in place of the image's.
    type: list
    elements: str
    default: []
  args:
    description:
      - Arguments in place of the image's.
    type: list
    elements: str
    default: []
  env:
    description:
      - All environment variables with plain values; together with O(secret_env) they are the whole environment.
      - Whoever may view the service or job reads these, so nothing secret belongs here.
    type: dict
    default: {}
  secret_env:
    description:
      - Environment variables with values from Secret Manager. Each key is a variable's name, each value a dictionary of
        C(secret) (a name or V(projects/PROJECT/secrets/NAME)) and C(version) (a number or V(latest)).
    type: dict
    default: {}
  service_account:
    description:
      - E-mail address of the service account that the container runs as.
    type: str
  cpu:
    description:
      - Processors of an instance.
    type: str
    default: '1'
  memory:
    description:
      - Memory of an instance; the container's file system is in it.
    type: str
    default: 1Gi
  network:
    description:
      - VPC network that instances are attached to directly (direct VPC egress), by name, path or selfLink.
    type: str
  subnetwork:
    description:
      - Subnetwork of O(network) that instances take their addresses from.
    type: str
  vpc_connector:
    description:
      - Serverless VPC Access connector in place of O(network), by name or path.
    type: str
  vpc_egress:
    description:
      - What goes through the VPC network.
    type: str
    choices: [PRIVATE_RANGES_ONLY, ALL_TRAFFIC]
    default: PRIVATE_RANGES_ONLY
  execution_environment:
    description:
      - Execution environment of the container.
    type: str
    choices: [EXECUTION_ENVIRONMENT_GEN1, EXECUTION_ENVIRONMENT_GEN2]
  labels:
    description:
      - All labels; others are removed. Without this option the labels stay as they are.
    type: dict
  annotations:
    description:
      - All annotations; others are removed. Without this option the annotations stay as they are.
    type: dict
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 600
  state:
    description:
      - Whether it exists.
    type: str
    choices: [present, absent]
    default: present
"""
