"""Templates compiled by one process of a run are used by the others."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils import templates
from jinja2 import Environment, TemplateSyntaxError
from jinja2.nativetypes import NativeEnvironment

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Shares templates in memory of a size, until the test ends; returns the sources that this process compiles."""
    compiled: list[str] = []
    compile_ = Environment.compile

    def counted(environment: Environment, source: Any, *args: Any, **kwargs: Any) -> Any:
        compiled.append(source)
        return compile_(environment, source, *args, **kwargs)

    def started(*size: int) -> list[str]:
        monkeypatch.setattr(Environment, "compile", counted)
        templates.share(templates.SharedTemplates(*size))
        return compiled

    # Restored in the end, after what share() has put there.
    monkeypatch.setattr(Environment, "compile", compile_)
    return started


def render(source: str, environment: Environment | None = None, **variables: Any) -> Any:
    return (environment or Environment()).from_string(source).render(variables)


def elsewhere(*arguments: Any, **variables: Any) -> None:
    """Render in a process of its own, as a task does."""
    process = FORK.Process(target=render, args=arguments, kwargs=variables)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_template_is_compiled_by_one_process_only(share):
    compiled = share()
    elsewhere("{{ name | upper }} of {{ many }}", name="a", many=1)
    elsewhere("{% for one in many %}{{ one }},{% endfor %}", many=[1])
    assert render("{{ name | upper }} of {{ many }}", name="b", many=2) == "B of 2"
    assert render("{% for one in many %}{{ one }},{% endfor %}", many=[2, 3]) == "2,3,"
    assert render("{{ name | upper }} of {{ many }}", name="c", many=3) == "C of 3"
    assert compiled == []
    assert render("{{ name }}", name="d") == "d"
    assert compiled == ["{{ name }}"]


@pytest.mark.parametrize(
    "other, expected",
    [
        (Environment(variable_start_string="[[", variable_end_string="]]"), "{{ one }}"),
        (Environment(keep_trailing_newline=True), "1\n"),
        (NativeEnvironment(), 1),
    ],
)
def test_the_same_source_means_something_else_in_another_environment(share, other, expected):
    compiled = share()
    elsewhere("{{ one }}\n", one=1)
    assert render("{{ one }}\n", other, one=1) == expected
    assert render("{{ one }}\n", one=1) == "1"
    assert compiled == ["{{ one }}\n"]


def test_a_template_is_compiled_anew_if_there_is_no_room(share):
    compiled = share(3000)
    sources = [f"{{{{ one }}}} {number}" for number in range(9)]
    for source in sources:
        elsewhere(source, one=1)
    assert [render(source, one=2) for source in sources] == [f"2 {number}" for number in range(9)]
    assert 0 < len(compiled) < 9 and compiled == sources[-len(compiled) :]


def test_an_error_is_the_error_of_each_process(share):
    share()
    for _ in range(2):
        with pytest.raises(TemplateSyntaxError, match="unexpected '}'"):
            render("{{ one }")
        with pytest.raises(TemplateSyntaxError, match="No filter named 'nowhere'"):
            render("{{ one | nowhere }}")


def test_a_template_with_a_backslash_is_compiled_each_time(share):
    compiled = share()
    for _ in range(2):
        assert render(r"{{ 'a\tb' }}") == "a\tb"
    assert len(compiled) == 2
