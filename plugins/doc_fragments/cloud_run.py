# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that Cloud Run services and jobs have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Container, environment, service account and network."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name, at most 49 lower case letters, digits and hyphens.
    type: str
    required: true
  region:
    description:
      - Region, such as V(europe-west2).
    type: str
    required: true
  image:
    description:
      - Container image; required for O(state=present).
    type: str
  command:
    description:
      - Entry point that replaces the one of the image.
    type: list
    elements: str
    default: []
  args:
    description:
      - Arguments that replace those of the image.
    type: list
    elements: str
    default: []
  env:
    description:
      - All environment variables with plain values. Variables in neither O(env) nor O(secret_env) are removed.
      - Anyone who may view the service or job can read these values, so they must not contain secrets.
    type: dict
    default: {}
  secret_env:
    description:
      - All environment variables with values from Secret Manager. Each key is the name of a variable, each value a
        dictionary with C(secret) (a name or V(projects/PROJECT/secrets/NAME)) and C(version) (a number or V(latest)).
    type: dict
    default: {}
  service_account:
    description:
      - E-mail address of the service account that the container runs as.
    type: str
  cpu:
    description:
      - Number of CPUs per instance.
    type: str
    default: '1'
  memory:
    description:
      - Memory per instance, which includes the container's file system.
    type: str
    default: 1Gi
  kms_key:
    description:
      - Key of Cloud KMS to encrypt the container image as deployed with, as V(projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY), in the region.
      - Its service agent must have the role C(roles/cloudkms.cryptoKeyEncrypterDecrypter) on the key, see
        M(mlops.mlflow_gcp.kms_key_agents).
      - If empty, the key is left unchanged.
    type: str
  network:
    description:
      - VPC network to connect to with direct VPC egress, as a name, path or selfLink.
    type: str
  subnetwork:
    description:
      - Subnetwork of O(network) that provides the IP addresses of instances.
    type: str
  vpc_connector:
    description:
      - Serverless VPC Access connector to use instead of O(network), as a name or path.
    type: str
  vpc_egress:
    description:
      - Traffic to send through the VPC network.
    type: str
    choices: [PRIVATE_RANGES_ONLY, ALL_TRAFFIC]
    default: PRIVATE_RANGES_ONLY
  execution_environment:
    description:
      - Execution environment of the container.
    type: str
    choices: [EXECUTION_ENVIRONMENT_GEN1, EXECUTION_ENVIRONMENT_GEN2]
  annotations:
    description:
      - All annotations; others are removed. Without this option the annotations are left unchanged.
    type: dict
  timeout:
    description:
      - Seconds to wait for an operation.
    type: int
    default: 600
"""
