# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option labels."""

from __future__ import annotations


class ModuleDocFragment:
    """Labels, beside those that others set."""

    DOCUMENTATION = r"""
options:
  labels:
    description:
      - Labels that the resource must have. Cloud Run services and jobs pass them on to their revisions and executions.
      - Labels that others have set stay, except that the value given here replaces theirs if the key is the same.
      - A label that was given here before and is not given any more is removed. The resource itself records which labels were given
        here, in its label C(mlflow-gcp-labels) (and C(mlflow-gcp-labels-2) and so on for more keys than fit into one value). A
        key that contains C(--) or ends with C(-) is not recorded, so such a label is never removed.
      - Without this option no label is changed.
    type: dict
"""
