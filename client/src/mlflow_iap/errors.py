# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong, in one sentence that says what to do."""

from __future__ import annotations


class IapError(Exception):
    """A sign-in that does not work; the text is for the person at the client."""


class Unreachable(IapError):
    """Google could not be asked just now: a token that is still valid goes on being used."""


class Denied(IapError):
    """The credentials may not do what was asked of them."""
