"""The expressions of IAM conditions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from gcp_sandbox.core.conditions import ConditionError, check, evaluate

ATTRIBUTES = {
    "request.time": datetime(2026, 7, 1, 12, tzinfo=UTC),
    "resource.name": "projects/1/secrets/x",
    "resource.type": "secretmanager.googleapis.com/Secret",
    "request.path": "/api/x",
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('request.time < timestamp("2027-01-01T00:00:00Z")', True),
        ('request.time > timestamp("2027-01-01T00:00:00Z")', False),
        ('resource.name.startsWith("projects/1/secrets/") && !resource.name.endsWith("/y")', True),
        ('resource.type != "secretmanager.googleapis.com/Secret" || resource.name.matches("x$")', True),
        ('request.path.startsWith("/api") && request.time.getHours("Europe/Berlin") == 14', True),
        ('resource.name.extract("secrets/{name}") in ["x", "y"]', True),
        ("request.auth == 'a' || true", True),
        ('request.time - duration("60s") == request.time', None),
        ("resource.missing == 'a'", None),
    ],
)
def test_evaluate(expression: str, value: bool | None) -> None:
    if value is None:
        with pytest.raises(ConditionError):
            evaluate(expression, ATTRIBUTES)
    else:
        assert evaluate(expression, ATTRIBUTES) is value


@pytest.mark.parametrize("expression", ["", "a =", 'x.startsWith("', "(true", "true false", "a.b.", "#"])
def test_check_refuses(expression: str) -> None:
    with pytest.raises(ConditionError):
        check(expression)
