#!/usr/bin/env python3
"""Records a command in a terminal, and writes it as an SVG that plays by itself.

python tools/record.py FILE [--seconds S] COMMAND

The command runs in a pseudo-terminal. What it prints, in which colour and when, is what the picture shows; only the time is
compressed to S seconds, and the current folder is called ~/<its name>. The picture needs neither a script nor a font of its
own, and shows its end for who prefers reduced motion. docs/images/demo.svg is `tools/record.py docs/images/demo.svg make demo`.
"""

from __future__ import annotations

import argparse
import codecs
import fcntl
import os
import pty
import re
import shlex
import struct
import sys
import termios
import time
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path

COLUMNS, ROWS = 100, 26
FONT, LINE, MARGIN, BAR = 12, 16, 12, 30  # pixels
COLUMN = 7.25  # pixels: what a character of common monospace fonts of this size takes
HOLD = 5  # seconds that the last picture stays
# The colours of SGR 30 to 37 on a dark background; the bright ones are the same.
COLOURS = ("#8b949e", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", "#e6edf3")
ESCAPE = re.compile(r"\x1b(?:\[([0-9;?]*)([A-Za-z])|\][^\x07]*\x07|[()].)")


@dataclass
class Line:
    """One row of the terminal, and the second at which it was complete."""

    at: float
    pieces: list[tuple[str, str]]  # colour ("" for the default) and text


def run(command: list[str]) -> tuple[list[tuple[float, str]], int, float]:
    """What a command prints, with its times, its exit status, and how long it took."""
    start = time.monotonic()
    child, terminal = pty.fork()
    if not child:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    decoder, printed = codecs.getincrementaldecoder("utf-8")("replace"), []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: the last program has closed the terminal
            break
        if not data:
            break
        printed.append((time.monotonic() - start, decoder.decode(data)))
        sys.stdout.write(printed[-1][1])
        sys.stdout.flush()
    return printed, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - start


def lines(printed: list[tuple[float, str]], names: dict[str, str]) -> list[Line]:
    """The rows, with colours; a line that is longer than the terminal takes several."""
    found, colour, rest = [], "", ""
    for at, text in printed:
        *whole, rest = (rest + text).replace("\r\n", "\n").split("\n")
        for one in whole:
            for name, shown in names.items():
                one = one.replace(name, shown)
            pieces, position = [], 0
            one = one.rpartition("\r")[2]
            for match in [*ESCAPE.finditer(one), None]:
                end = match.start() if match else len(one)
                if end > position:
                    pieces.append((colour, one[position:end]))
                if match:
                    position = match.end()
                    if match[2] == "m":
                        colour = colour_of(match[1], colour)
            found += [Line(at, row) for row in wrap(pieces)]
    return found


def colour_of(codes: str, before: str) -> str:
    """The colour after a sequence of SGR."""
    colour = before
    for code in codes.split(";"):
        number = int(code or 0)
        if number in (0, 39):
            colour = ""
        elif 30 <= number <= 37 or 90 <= number <= 97:
            colour = COLOURS[number % 10]
    return colour


def wrap(pieces: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """The rows of a line."""
    rows: list[list[tuple[str, str]]] = [[]]
    for colour, text in pieces:
        while text:
            room = COLUMNS - sum(len(part) for _, part in rows[-1])
            if not room:
                rows.append([])
                continue
            rows[-1].append((colour, text[:room]))
            text = text[room:]
    return rows


def picture(rows: list[Line], command: str, took: float, seconds: float, day: date) -> str:
    """The SVG: a tall sheet of all rows behind a window, which moves as they come; a cover hides those that are to come."""
    title = f"{command}: {took:.0f} s on {day}"
    playing = min(took, seconds)
    title += f", played in {playing:.0f} s" if playing < took else ""
    shades = {colour: f"c{number}" for number, colour in enumerate(COLOURS)}
    # Rows that are complete at the same tenth of a second of the recording appear together.
    steps: dict[float, int] = {0: 1}
    for number, row in enumerate(rows):
        steps[round(row.at / took * playing, 1)] = number + 2  # with the command itself
    width, height = round(COLUMNS * COLUMN + 2 * MARGIN), BAR + ROWS * LINE + MARGIN
    whole, count = playing + HOLD, len(rows) + 1

    def track(name: str, values: dict[float, int]) -> str:
        frames, last = [], None
        for at, value in values.items():
            if value != last:
                frames.append(f"{at / whole * 100:.2f}%{{transform:translateY({value}px)}}")
            last = value
        return f"@keyframes {name}{{{''.join(frames)}}}"

    sheet = {at: -LINE * max(0, number - ROWS) for at, number in steps.items()}
    cover = {at: LINE * min(number, ROWS) for at, number in steps.items()}
    style = [
        f"text{{font:{FONT}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        "fill:#e6edf3;white-space:pre}",
        *(f".{name}{{fill:{colour}}}" for colour, name in shades.items()),
        f".sheet{{transform:translateY({-LINE * max(0, count - ROWS)}px);animation:sheet {whole:.1f}s step-end infinite}}",
        f".cover{{transform:translateY({LINE * min(count, ROWS)}px);animation:cover {whole:.1f}s step-end infinite}}",
        "@media (prefers-reduced-motion:reduce){.sheet,.cover{animation:none}}",
        track("sheet", sheet),
        track("cover", cover),
    ]
    texts = [f'<text y="{FONT}"><tspan class="c2">$</tspan> {escape(command)}</text>']
    for number, row in enumerate(rows, 1):
        spans = (
            f'<tspan class="{shades[colour]}">{escape(text, quote=False)}</tspan>'
            if colour
            else escape(text, quote=False)
            for colour, text in row.pieces
        )
        inside = "".join(spans).rstrip()
        if inside:
            texts.append(f'<text y="{number * LINE + FONT}">{inside}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{''.join(style)}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
            *(
                f'<circle cx="{18 + 18 * place}" cy="15" r="5" fill="{colour}"/>'
                for place, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))
            ),
            f'<text x="{width / 2:.0f}" y="19" text-anchor="middle" class="c0">{escape(title)}</text>',
            f'<svg x="{MARGIN}" y="{BAR}" width="{width - MARGIN}" height="{ROWS * LINE}">',
            '<g class="sheet">',
            *texts,
            "</g>",
            f'<rect class="cover" width="{width}" height="{ROWS * LINE}" fill="#0d1117"/>',
            "</svg>",
            "</svg>",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=30, help="how long the recording plays at most (30)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    printed, status, took = run(arguments.command)
    if status:
        print(f"{shlex.join(arguments.command)} failed ({status}): nothing was written", file=sys.stderr)
        return 1
    here = Path.cwd()
    rows = lines(printed, {str(here): f"~/{here.name}"})
    arguments.file.write_text(
        picture(rows, shlex.join(arguments.command), took, arguments.seconds, date.today()), encoding="utf-8"
    )
    print(f"{arguments.file}: {arguments.file.stat().st_size} bytes, {len(rows)} lines, {took:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
