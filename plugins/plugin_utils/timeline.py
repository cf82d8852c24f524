# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of one run on an axis of time, as a picture (SVG), a page (HTML) and a summary of five lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from html import escape

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils import waits
from ansible_collections.mlops.mlflow_gcp.plugins.plugin_utils.watch import Waited, duration

Span = tuple[str, float, float]
# Seconds that may pass between the end of a task and the begin of the one that waits for it, and by which Ansible's reports differ.
SLACK = 0.25
# Of the whole run: what is shorter shares a row with its neighbours.
SHORT = 0.005
# Pixels of the picture.
WIDTH, LABELS, ROW, HEADER, LANE, CHARACTERS = 1160, 330, 18, 66, 26, 46
STYLE = """
svg { --ink: #1f2328; --dim: #656d76; --line: #d0d7de; --back: #ffffff; --ours: #8c959f; --call: #54aeff; --pending: #0969da;
  --critical: #bc4c00; --failed: #cf222e; font: 12px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --dim: #8d96a0; --line: #30363d; --back: #0d1117; --ours: #6e7681;
  --call: #79c0ff; --pending: #1f6feb; --critical: #f0883e; --failed: #ff7b72 } }
svg text { fill: var(--ink) } svg .dim { fill: var(--dim) } svg .lane { font-weight: 600 } svg .back { fill: var(--back) }
svg .line { stroke: var(--line) } svg .ours { fill: var(--ours) } svg .call { fill: var(--call) } svg .pending { fill: var(--pending) }
svg .critical { fill: var(--critical) } svg .failed { fill: var(--failed) } svg text.failed { font-weight: 600 }
"""
PAGE_STYLE = """
:root { color-scheme: light dark } body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1160px; padding: 0 1rem;
  background: #ffffff; color: #1f2328 } table { border-collapse: collapse; width: 100% } svg { width: 100%; height: auto }
td, th { text-align: left; padding: 2px 10px 2px 0; border-bottom: 1px solid #88888844 } .n { text-align: right; white-space: nowrap }
@media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3 } }
"""


@dataclass
class Event:
    """One task on one host, as Ansible reports it; times in seconds of the monotonic clock."""

    host: str
    task: str
    """Ansible's ID."""
    name: str
    began: float
    ended: float = 0.0
    status: str = "running"
    """ok, changed, failed, ignored, unreachable, skipped; running in a run that was stopped."""
    hidden: bool = False
    """The task has no_log."""


@dataclass
class Bar:
    """One resource, or a task without one; times in seconds since the run began."""

    host: str
    task: str
    resource: str
    status: str
    began: float
    ended: float
    spans: list[Span] = field(default_factory=list)
    """What was waited for, without overlaps; the rest is ours."""
    calls: int = 0
    critical: bool = False

    @property
    def label(self) -> str:
        return self.resource.partition(" of project ")[0] or self.task

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def waited(self, kind: str) -> float:
        """Seconds of one kind of wait."""
        return sum(end - begin for each, begin, end in self.spans if each == kind)

    @property
    def sentence(self) -> str:
        """All about it, for a tooltip."""
        calls, pending = self.waited(waits.CALL), self.waited(waits.PENDING)
        return (
            f"{self.host}: {self.task}{f' ({self.resource})' if self.resource else ''}: {self.status}, {duration(self.seconds)}, of "
            f"which operations {duration(pending)}, {self.calls} calls {duration(calls)}, "
            f"ours {duration(self.seconds - calls - pending)}"
        )


class Timeline:
    """The bars of a run, from what Ansible and the modules have reported."""

    def __init__(self, events: Iterable[Event], waited: Iterable[Waited], began: float, ended: float) -> None:
        self.seconds = max(ended - began, 0.001)
        by_task: dict[tuple[str, str], list[Waited]] = {}
        for each in waited:
            by_task.setdefault((each.host, each.task), []).append(each)
        self.bars: list[Bar] = []
        for event in events:
            if event.status != "skipped":
                self.bars += bars(event, by_task.get((event.host, event.task), []), began)
        self.bars.sort(key=lambda one: (one.began, one.ended))
        for one in path(self.bars):
            one.critical = True

    @property
    def hosts(self) -> list[str]:
        """The hosts in the order of their first task."""
        return list(dict.fromkeys(one.host for one in self.bars))

    @property
    def critical(self) -> list[Bar]:
        """The bars that the length of the run depends on, in their order."""
        return [one for one in self.bars if one.critical]

    def summary(self) -> list[str]:
        """What the run has waited for, in four lines."""
        calls = sum(one.waited(waits.CALL) for one in self.critical)
        pending = sum(one.waited(waits.PENDING) for one in self.critical)
        ours = self.seconds - calls - pending
        longest = sorted(self.critical, key=lambda one: -one.seconds)[:3]
        hosts, number = len(self.hosts), sum(one.calls for one in self.bars)
        return [
            f"The run took {duration(self.seconds)}: {hosts} host{'s' * (hosts != 1)}, {len(self.bars)} tasks, {number} calls of Google",
            f"Waiting for Google: {duration(calls + pending)} ({(calls + pending) / self.seconds:.0%}), operations "
            f"{duration(pending)}, other calls {duration(calls)}",
            f"Waiting for us: {duration(ours)} ({ours / self.seconds:.0%}), Ansible and the modules",
            f"Longest on the critical path: {'; '.join(f'{short(one.label)} {duration(one.seconds)}' for one in longest) or 'nothing'}",
        ]


def bars(event: Event, waited: list[Waited], began: float) -> Iterator[Bar]:
    """The bars of one task: one for each run of its module, of which a loop has several."""
    # A task may run several times; its process may begin before Ansible says so.
    inside = [each for each in waited if each.ended > event.began and each.began < event.ended]
    start = event.began
    for number, each in enumerate(inside, 1):
        end = event.ended if number == len(inside) else each.ended
        found = list(spans(each.waits, start, end))
        shifted = [(kind, first - began, last - began) for kind, first, last in found]
        calls = sum(kind == waits.CALL for kind, _first, _last in each.waits)
        resource = "" if event.hidden else each.resource
        yield Bar(event.host, event.name, resource, event.status, start - began, end - began, shifted, calls)
        start = end
    if not inside:
        yield Bar(event.host, event.name, "", event.status, start - began, event.ended - began)


def spans(noted: Iterable[Span], began: float, ended: float) -> Iterator[Span]:
    """The waits between two times, without overlaps; a request about a pending operation is a part of its wait."""
    clipped = [(kind, max(first, began), min(last, ended)) for kind, first, last in noted]
    times = sorted({time for _kind, first, last in clipped if first < last for time in (first, last)})
    joined: list[Span] = []
    for first, last in zip(times, times[1:], strict=False):
        kinds = {kind for kind, begin, end in clipped if begin <= first and last <= end}
        if not kinds:
            continue
        kind = waits.PENDING if waits.PENDING in kinds else waits.CALL
        if joined and joined[-1][0] == kind and joined[-1][2] == first:
            joined[-1] = (kind, joined[-1][1], last)
        else:
            joined.append((kind, first, last))
    yield from joined


def path(bars: list[Bar]) -> Iterator[Bar]:
    """
    The critical path, from its end: the bar that ended last, what had to end before it could begin, and so on.

    That is the last one to end on the same host, or on another one if this one was waiting for it, as the strategy linear does.
    """
    order = sorted(bars, key=lambda one: one.ended)
    index = len(order) - 1
    while index >= 0:
        one = order.pop(index)
        yield one
        while order and (order[-1].ended > one.began + SLACK or order[-1].began >= one.began):
            order.pop()
        index = last = len(order) - 1
        for near in range(last, -1, -1):
            if order[near].ended < order[last].ended - SLACK:
                break
            if order[near].host == one.host:
                index = near
                break


def rows(bars: list[Bar], short: float) -> Iterator[list[Bar]]:
    """The bars of a host in rows; SHORT ones, in seconds, that follow each other share one."""
    row: list[Bar] = []
    for one in bars:
        if row and not (
            one.seconds < short and row[-1].seconds < short and row[-1].status == one.status == row[0].status
        ):
            yield row
            row = []
        row.append(one)
    if row:
        yield row


def short(text: str) -> str:
    """TEXT as far as there is room."""
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"


def ticks(seconds: float) -> Iterator[float]:
    """The times that the axis shows, at most ten."""
    steps: tuple[float, ...] = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
    step = next((step for step in steps if seconds / step <= 10), float(math.ceil(seconds / 10)))
    for number in range(int(seconds / step) + 1):
        yield number * step


def clock(seconds: float) -> str:
    """SECONDS at the axis: "0:30", "1:04:00", "0.5"."""
    if seconds % 1:
        return f"{seconds:.1f}"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def svg(timeline: Timeline, title: str) -> str:
    """The picture, a complete SVG document that needs nothing else."""
    lines = list(lanes(timeline))
    height = HEADER + sum(LANE if isinstance(each, str) else ROW for each in lines) + 12
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f'<style>{STYLE.strip()}</style><rect class="back" width="{WIDTH}" height="{height}"/>'
    ]
    legend = (
        ("pending", "waiting for Google: operation"),
        ("call", "waiting for Google: call"),
        ("ours", "ours: Ansible, modules"),
        ("critical", "critical path"),
    )
    for number, (kind, text) in enumerate(legend):
        x, thick = 10 + number * 230, 3 if kind == "critical" else 10
        out.append(
            f'<rect class="{kind}" x="{x}" y="{19 - thick}" width="14" height="{thick}"/><text x="{x + 20}" y="19">{text}</text>'
        )
    scale = (WIDTH - LABELS - 16) / timeline.seconds
    for time in ticks(timeline.seconds):
        left = LABELS + time * scale
        out.append(
            f'<path class="line" d="M{left:.1f} {HEADER - 14}V{height - 8}"/><text class="dim" x="{left + 3:.1f}" y="{HEADER - 18}">{clock(time)}</text>'
        )
    y = HEADER
    for each in lines:
        if isinstance(each, str):
            out.append(f'<text class="lane" x="10" y="{y + 18}">{escape(each)}</text>')
            y += LANE
            continue
        text = each[0].label if len(each) == 1 else f"{len(each)} short tasks"
        name = ' class="failed"' if each[0].status in ("failed", "unreachable") else ""
        out.append(f'<text{name} x="22" y="{y + 12}">{escape(short(text))}</text>')
        out += [drawn(one, y, scale) for one in each]
        y += ROW
    return "\n".join([*out, "</svg>\n"])


def lanes(timeline: Timeline) -> Iterator[str | list[Bar]]:
    """The lines of the picture: the name of each host, and its rows."""
    for host in timeline.hosts:
        yield host
        yield from rows([one for one in timeline.bars if one.host == host], timeline.seconds * SHORT)


def drawn(one: Bar, y: int, scale: float) -> str:
    """One bar; its parts are shortened to a tenth of a pixel."""

    def rect(kind: str, first: float, last: float, top: int, thick: int, least: float = 0) -> str:
        wide = max((last - first) * scale, least)
        return f'<rect class="{kind}" x="{LABELS + first * scale:.1f}" y="{top}" width="{wide:.1f}" height="{thick}"/>'

    kind = "failed" if one.status in ("failed", "unreachable") else "ours"
    parts = [rect(kind, one.began, one.ended, y + 3, 10, least=0.8)]
    parts += [rect(each, first, last, y + 3, 10) for each, first, last in one.spans if (last - first) * scale >= 0.1]
    if one.critical:
        parts.append(rect("critical", one.began, one.ended, y + 14, 2, least=0.8))
    return f"<g><title>{escape(one.sentence)}</title>{''.join(parts)}</g>"


def html(timeline: Timeline, title: str, when: datetime) -> str:
    """A page with the summary, the picture and all numbers; it needs no network."""
    numbers = "\n".join(
        f"<tr><td>{escape(one.host)}<td>{escape(one.task)}<td>{escape(one.resource)}<td>{one.status}<td>{'yes' if one.critical else ''}"
        + "".join(
            f'<td class="n">{value}'
            for value in (
                f"{one.began:.2f}",
                f"{one.seconds:.2f}",
                f"{one.waited(waits.PENDING):.2f}",
                f"{one.waited(waits.CALL):.2f}",
                str(one.calls),
            )
        )
        for one in timeline.bars
    )
    heads = "".join(f"<th>{text}" for text in ("Host", "Task", "Resource", "Status", "Critical"))
    heads += "".join(
        f'<th class="n">{text}' for text in ("Begin (s)", "Took (s)", "Operations (s)", "Calls (s)", "Calls")
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{PAGE_STYLE.strip()}</style></head><body>\n<h1>{escape(title)}</h1>\n<p>{when:%Y-%m-%d %H:%M:%S %Z}</p>\n<ul>\n"
        + "".join(f"<li>{escape(line)}</li>\n" for line in timeline.summary())
        + f"</ul>\n{svg(timeline, title)}<details><summary>All tasks in numbers</summary>\n<table>\n<tr>{heads}\n{numbers}\n</table>"
        "</details>\n</body></html>\n"
    )
