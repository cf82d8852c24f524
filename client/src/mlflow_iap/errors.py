# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors, each with one sentence that says what to do."""

from __future__ import annotations


class IapError(Exception):
    """The sign-in failed; the message is for the user of the client."""


class Unreachable(IapError):
    """Google is temporarily unreachable: a token that is still valid stays in use."""


class Denied(IapError):
    """The credentials lack a permission."""
