# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign-in through Identity-Aware Proxy (IAP) for MLflow's clients."""

from mlflow_iap.errors import IapError
from mlflow_iap.provider import IapAuth

__all__ = ["IapAuth", "IapError"]
