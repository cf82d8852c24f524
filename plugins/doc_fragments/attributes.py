# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that all modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes and requirements shared by the modules."""

    DOCUMENTATION = r"""
requirements:
  - python >= 3.11
  - google-auth
  - requests
attributes:
  check_mode:
    description: Reports what would be changed, without writing.
    support: full
  diff_mode:
    description: Shows the body of Google's API before and after, with secrets masked.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
"""
