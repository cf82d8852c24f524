# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others set on the network's resources stays; see keep.py."""

from __future__ import annotations

from typing import Any

import pytest
from gcp_sandbox.testing import Sandbox

from tests.unit.keep import Kept

PROJECT = "keep-network"
BASE = "compute.googleapis.com/compute/v1/projects/{project}"
CREATED = "can only be set when the resource is created"
