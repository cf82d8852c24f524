"""The format of resource labels.  https://cloud.google.com/resource-manager/docs/labels-overview#requirements"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LABEL = re.compile(r"[\w-]{0,63}")


def violation(labels: Mapping[str, str]) -> str:
    """The error of the first invalid label, in the wording of Compute Engine and Cloud Run, or "" if all are valid."""
    letters = "can only contain lowercase letters, numeric characters, underscores and dashes."
    for key, value in labels.items():
        for what, text, start in (("key", key, "must start with a lowercase character, "), ("value", value, "")):
            if _LABEL.fullmatch(text) is None or text != text.lower() or start and not text[:1].isalpha():
                return (
                    f"Label {what} '{text}' violates format constraints. The {what} {start}{letters} The {what} can be at "
                    "most 63 characters long. International characters are allowed."
                )
    return ""
