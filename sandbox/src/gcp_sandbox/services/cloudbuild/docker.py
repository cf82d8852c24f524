"""The builder gcr.io/cloud-builders/docker: follows a Containerfile, and says what Docker says.

RUN is not executed, except that the requirements of every ``pip install`` are checked by the pip of the interpreter that
stands for the image's: a requirement that it does not have fails the build.  https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from gcp_sandbox.images import NAMES, ImageError, Stage, installations, instructions, is_path

# Options of pip that name a place for what is installed, or another index; each has a value.
_PLACES = ("--prefix", "--target", "-t", "--root", "--index-url", "-i", "--extra-index-url", "--find-links", "-f")
# What the interpreter has, pip would install into the image.
_PRESENT = re.compile(r"Requirement already satisfied: ([\w.-]+).* \(([^()]+)\)$")
_FILES = ("-r", "--requirement", "-c", "--constraint")


class StepError(Exception):
    """The step exits with this status, after these lines."""

    def __init__(self, *lines: str, status: int = 1) -> None:
        super().__init__(*lines)
        self.lines, self.status = lines, status


class Docker:
    """The images that the steps of a build have made.  python: the interpreter that stands for the images', or None."""

    def __init__(self, context: Path, python: Path | None) -> None:
        self._context, self._python = context, python
        # Reference -> folder of its Containerfile's context.
        self.images: dict[str, Path] = {}

    async def run(self, args: list[str], folder: str) -> AsyncIterator[str]:
        """The lines of ``docker ARGS``.  Raises StepError."""
        if args[:1] != ["build"]:
            raise StepError(f"gcp-sandbox runs docker build, not docker {' '.join(args[:1])}", status=127)
        tags, file, context = _options(args[1:])
        root = (self._context / folder / context).resolve()
        if not root.is_dir() or not root.is_relative_to(self._context.resolve()):
            raise StepError(f"unable to prepare context: path {context!r} not found")
        named = (
            root / file if file else next((root / name for name in NAMES if (root / name).is_file()), root / NAMES[1])
        )
        if not named.is_file():
            raise StepError(
                f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat "
                f"/workspace/{named.relative_to(self._context.resolve())}: no such file or directory"
            )
        if named.name not in NAMES or named.parent != root:
            raise StepError(f"gcp-sandbox builds from {' or '.join(NAMES)} in the context's folder, not {file}")
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        yield f"Sending build context to Docker daemon  {size / 1000:.4g}kB"
        async for line in self._follow(named, root):
            yield line
        yield f"Successfully built {secrets.token_hex(6)}"
        for tag in tags:
            self.images[tag] = root
            yield f"Successfully tagged {tag}"

    async def _follow(self, file: Path, root: Path) -> AsyncIterator[str]:
        stage = Stage(file, root)
        steps = instructions(file.read_text(encoding="utf-8"))
        if not any(word == "FROM" for _, word, _ in steps):
            raise StepError("no build stage in current context")
        for number, (line, word, rest) in enumerate(steps, 1):
            yield f"Step {number}/{len(steps)} : {word} {rest}"
            try:
                stage.take(line, word, rest)
            except ImageError as error:
                raise StepError(_in_dockers_words(str(error))) from None
            if word == "RUN":
                yield f" ---> Running in {secrets.token_hex(6)}"
                for words in installations(rest):
                    async for line_ in self._install(stage, words, rest):
                        yield line_
            yield f" ---> {secrets.token_hex(6)}"
            await asyncio.sleep(0)

    async def _install(self, stage: Stage, words: list[str], command: str) -> AsyncIterator[str]:
        """Check the requirements of a ``pip install``."""
        arguments, places = _arguments(stage, words)
        for place in places:
            yield f"Processing {place}"
            here = stage.local(place)
            if "*" not in place and not (here and any((here / f).is_file() for f in ("pyproject.toml", "setup.py"))):
                raise StepError(
                    f"ERROR: Directory '{place}' is not installable. Neither 'setup.py' nor 'pyproject.toml' found.",
                    _failed(command),
                )
        if not arguments:
            return
        if self._python is None:
            yield "gcp-sandbox has no interpreter for images (up --image-python), and does not check the requirements"
            return
        names = {str(here): there for there, here in stage.files.items()}
        async for line in self._pip(["install", "--dry-run", "--no-index", *arguments], names, command):
            yield line

    async def _pip(self, words: list[str], names: dict[str, str], command: str) -> AsyncIterator[str]:
        with tempfile.TemporaryDirectory() as home:
            process = await asyncio.create_subprocess_exec(
                str(self._python),
                *("-m", "pip", "--disable-pip-version-check", "--no-color"),
                *words,
                env={"HOME": home, "PATH": os.defpath, "PIP_CONFIG_FILE": os.devnull},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                assert process.stdout
                installed = []
                async for data in process.stdout:
                    line = data.decode(errors="replace").rstrip()
                    if found := _PRESENT.match(line):
                        installed.append(f"{found[1]}-{found[2]}")
                        continue
                    for here, there in names.items():
                        line = line.replace(here, there)
                    yield line
                status = await process.wait()
                if installed and not status:
                    yield f"Successfully installed {' '.join(installed)}"
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if status:
            raise StepError(_failed(command, status), status=1)


def _failed(command: str, status: int = 1) -> str:
    return f"The command '/bin/sh -c {command}' returned a non-zero code: {status}"


def _in_dockers_words(text: str) -> str:
    if found := re.search(r": (COPY|ADD) (\S+): no such file", text):
        return (
            f"{found[1]} failed: file not found in build context or excluded by .dockerignore: stat {found[2]}: file "
            "does not exist"
        )
    return f"Error response from daemon: dockerfile parse error: {text}"


def _options(words: list[str]) -> tuple[list[str], str, str]:
    """(tags, file, context) of ``docker build``."""
    tags, file, context = [], "", "."
    valued = {"-t", "--tag", "-f", "--file", "--build-arg", "--platform", "--label", "--target", "--cache-from"}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in valued and not equals:
            value = next(rest, "")
        if name in ("-t", "--tag"):
            tags.append(value)
        elif name in ("-f", "--file"):
            file = value
        elif not word.startswith("-"):
            context = word
    return tags, file, context


def _arguments(stage: Stage, words: list[str]) -> tuple[list[str], list[str]]:
    """The arguments of a ``pip install`` with local files, and the packages in folders or wheels of the image."""
    arguments, places = [], []
    requirements = False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in _PLACES:
            if not equals:
                next(rest, "")
        elif name in _FILES:
            here = stage.local(value if equals else next(rest, ""))
            # A file that a command of the image has written is not here.
            if here and here.is_file():
                arguments += [name, str(here)]
                requirements |= name in _FILES[:2]
        elif is_path(word) or word.endswith(".whl"):
            places.append(word)
        else:
            arguments.append(word)
            requirements |= not word.startswith("-")
    return (arguments if requirements else []), places
