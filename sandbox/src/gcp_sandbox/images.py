"""Container images without containers: a reference stands for a folder, whose Containerfile defines how to start it.

Files that COPY would put into the image are used in place, with the interpreter (and its packages) that the image was
registered with; of RUN only the installation of a local package counts, whose code the interpreter then finds first.
https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import shlex
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from gcp_sandbox.core.operations import now

# Google's sample images for Cloud Run, which these modules of the package replace.
_HELLO = "gcp_sandbox.services.run.hello"
BUILT_IN = {
    "us-docker.pkg.dev/cloudrun/container/hello": [_HELLO],
    "us-docker.pkg.dev/cloudrun/container/placeholder": [_HELLO],
    "us-docker.pkg.dev/cloudrun/container/job": [_HELLO, "--job"],
    "gcr.io/cloudrun/hello": [_HELLO],
    "gcr.io/cloudrun/placeholder": [_HELLO],
    "gcr.io/google-samples/hello-app": [_HELLO],
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMES = ("Containerfile", "Dockerfile")
_SKIPPED = {"LABEL", "MAINTAINER", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ONBUILD", "SHELL"}


class ImageError(Exception):
    """A problem with an image's folder, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Image:
    """How to start a container of an image on this machine.

    env: the image's own variables, including PATH.  entrypoint, cmd: words from the Containerfile.  files: path in
    the container -> local path.  python: the interpreter that replaces the image's, or None.
    """

    reference: str
    digest: str
    env: dict[str, str]
    entrypoint: list[str]
    cmd: list[str]
    workdir: str
    files: dict[str, str]
    python: str | None
    ports: tuple[int, ...] = ()

    def argv(self, command: list[str], args: list[str]) -> list[str]:
        """The words to execute, for the command and args of a Cloud Run container (both may be empty)."""
        words = [*command, *args] if command else [*self.entrypoint, *(args or self.cmd)]
        if not words:
            raise ImageError(f"{self.reference} has neither ENTRYPOINT nor CMD, and no command is given")
        return [self._program(words[0]), *map(self._word, words[1:])]

    def folder(self, workdir: str = "") -> str | None:
        """The local folder of the container's working directory, or None if the image has no files in it."""
        path = _join(self.workdir, workdir) if workdir else self.workdir
        here = self._path(path)
        if here is not None and Path(here).is_dir():
            return here
        beside = {str(Path(h).parent) for c, h in self.files.items() if str(PurePosixPath(c).parent) == path}
        return beside.pop() if len(beside) == 1 else None

    def local(self, text: str) -> str:
        """A text with the container's absolute paths replaced by local ones."""
        for path in sorted(self.files, key=len, reverse=True):
            if path != "/":
                text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", functools.partial(self._here, path), text)
        return text

    def _here(self, path: str, match: re.Match[str]) -> str:
        return self.files[path]

    def _program(self, word: str) -> str:
        name = PurePosixPath(word).name
        if self.python and re.fullmatch(r"python(3(\.\d+)?)?", name):
            return self.python
        if word.startswith("/"):
            here = self._path(word)
            if here is None and self.python and (Path(self.python).parent / name).exists():
                here = str(Path(self.python).parent / name)
            return here or word
        return self._word(word)

    def _word(self, word: str) -> str:
        """A word of a command line, with the container's paths replaced by local ones."""
        if not re.search(r"\s", word):
            here = self._path(_join(self.workdir, word))
            if here is not None and (word.startswith("/") or Path(here).is_file()):
                return here
        return self.local(word)

    def _path(self, path: str) -> str | None:
        parts = PurePosixPath(path)
        for parent in (parts, *parts.parents):
            if str(parent) in self.files:
                here = Path(self.files[str(parent)], *parts.parts[len(parent.parts) :])
                return str(here) if here.exists() else None
        return None


class Images:
    """The images of a sandbox, in ``images.json`` of its state folder, which is read on every access."""

    def __init__(self, state: Path) -> None:
        self._file = state / "images.json"

    def add(self, reference: str, folder: Path, python: Path | None = None) -> Image:
        """Register a folder under a reference.  Raises ImageError if it could not be started."""
        if not re.fullmatch(r"[a-z0-9][\w.:/-]*[\w](@sha256:[0-9a-f]{64})?", reference):
            raise ImageError(
                f"{reference!r} is not an image reference such as europe-docker.pkg.dev/project/repository/name:tag"
            )
        folder = folder.absolute()
        if python is not None:
            python = python.absolute()
            if not python.is_file():
                raise ImageError(f"the interpreter {python} does not exist")
        image = read(reference, folder, python)
        image.argv([], [])
        images = self.all()
        images[canonical(reference)] = {"folder": str(folder), "python": str(python) if python else None}
        self._write(images)
        return image

    def push(self, references: list[str], digest: str, folder: Path, python: Path | None) -> None:
        """Register a built image, whose folder is in the state folder, under its digest and the references' tags."""
        pushed = {
            "folder": str(folder.relative_to(self._file.parent)),
            "python": str(python) if python else None,
            "digest": digest,
            "uploaded": now(),
        }
        images = self.all()
        for reference in references:
            images[f"{untagged(reference)}@{digest}"] = pushed
            images[canonical(reference)] = pushed | {"updated": pushed["uploaded"]}
        self._write(images)

    def tag(self, reference: str, digest: str) -> None:
        """Let the tag of a reference stand for an image of its repository that was built."""
        images = self.all()
        images[canonical(reference)] = images[f"{untagged(reference)}@{digest}"] | {"updated": now()}
        self._write(images)

    def remove(self, *references: str) -> None:
        """Forget tags (repository:tag) and images with all their tags (repository@digest)."""
        images = self.all()
        for reference in references:
            name, _, digest = reference.partition("@")
            for key in list(images):
                same = untagged(key) == name and images[key].get("digest") == digest if digest else key == reference
                if same:
                    del images[key]
        self._write(images)

    def _write(self, images: dict[str, dict[str, Any]]) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(images, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(self._file)

    def lookup(self, reference: str) -> Image | None:
        """The image of a reference, or None.  Raises ImageError if its folder has become unusable."""
        name, _, digest = reference.partition("@")
        key = canonical(name)
        images = self.all()
        if digest:  # it says which image, whatever the tag
            repository = untagged(name)
            for added in sorted(images, key=lambda other: other != key):
                if untagged(added) == repository and (image := self._added(added, images[added])).digest == digest:
                    return image
        elif found := images.get(key):
            return self._added(name, found)
        module = BUILT_IN.get(key.removesuffix(":latest"))
        if module is None:
            return None
        return Image(
            reference,
            "sha256:" + hashlib.sha256(key.encode()).hexdigest(),
            {"PATH": SYSTEM_PATH},
            [
                sys.executable,
                "-E",
                "-s",
                str(Path(__file__).parent.joinpath(*module[0].split(".")[1:]).with_suffix(".py")),
            ],
            module[1:],
            "/",
            {},
            None,
            (8080,),
        )

    def all(self) -> dict[str, dict[str, Any]]:
        """The images: {repository:tag or repository@digest: {folder, python}}, and of built ones digest and uploaded.

        Raises ImageError if the file is invalid.
        """
        try:
            return json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ImageError(f"{self._file} is not JSON: {error}") from None

    def _added(self, reference: str, found: dict[str, Any]) -> Image:
        """The image of an entry.  Raises ImageError."""
        folder = self._file.parent / found["folder"]
        image = read(reference, folder, Path(found["python"]) if found.get("python") else None)
        digest = reference.partition("@")[2] or found.get("digest")
        return dataclasses.replace(image, digest=digest) if digest else image


def untagged(reference: str) -> str:
    """A reference without its tag and digest."""
    name = reference.partition("@")[0]
    return name.removesuffix(":" + name.rpartition("/")[2].partition(":")[2])


def canonical(reference: str) -> str:
    """A reference with its tag; ``latest`` if it has none."""
    name, at, digest = reference.partition("@")
    last = name.rsplit("/", 1)[-1]
    return (name if ":" in last else f"{name}:latest") + at + digest


def read(reference: str, folder: Path, python: Path | None) -> Image:
    """An image from the Containerfile (or Dockerfile) of a folder.  Raises ImageError."""
    if not folder.is_dir():
        raise ImageError(f"the folder {folder} does not exist")
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        raise ImageError(f"{folder} has no Containerfile")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{file} cannot be read: {error}") from None
    stage = Stage(file, folder)
    for line, word, rest in instructions(text):
        stage.take(line, word, rest)
    if not stage.begun:
        raise ImageError(f"{file}: no FROM")
    first = [str(python.parent)] if python else []
    if stage.installed:
        stage.env["PYTHONPATH"] = ":".join([*stage.installed, *filter(None, [stage.env.get("PYTHONPATH")])])
    stage.env["PATH"] = ":".join([*first, stage.env.get("PATH", SYSTEM_PATH)])
    digest = "sha256:" + hashlib.sha256(text.encode() + canonical(reference).encode()).hexdigest()
    return Image(
        reference,
        digest,
        stage.env,
        stage.entrypoint,
        stage.cmd,
        stage.workdir,
        stage.files,
        str(python) if python else None,
        tuple(stage.ports),
    )


def instructions(text: str) -> list[tuple[int, str, str]]:
    """(line number, INSTRUCTION, rest) with continuation lines joined, comments and here-documents dropped."""
    out: list[tuple[int, str, str]] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = line.strip()
        while whole.endswith("\\"):
            whole = whole[:-1].rstrip()
            for _, more in lines:
                if more.strip() and not more.lstrip().startswith("#"):
                    whole += " " + more.strip()
                    break
            else:
                break
        word, _, rest = whole.partition(" ")
        if heredoc := re.search(r"<<-?\s*[\"']?(\w+)", rest):
            for _, more in lines:
                if more.strip() == heredoc.group(1):
                    break
        out.append((number, word.upper(), rest.strip()))
    return out


def installations(command: str) -> list[list[str]]:
    """The arguments of each ``pip install`` in a shell command."""
    found = []
    for part in re.split(r"&&|\|\||;|\n", command):
        try:
            words = shlex.split(part)
        except ValueError:
            continue
        for number, word in enumerate(words[:-1]):
            if re.fullmatch(r"(?:.*/)?pip3?", word) and words[number + 1] == "install":
                found.append(words[number + 2 :])
                break
    return found


def is_path(word: str) -> bool:
    """Whether an argument of pip is a local folder."""
    return word in (".", "./") or word.startswith(("/", "./", "../"))


class Stage:
    """The last stage of a Containerfile, while it is being read.  folder: the build context."""

    def __init__(self, file: Path, folder: Path) -> None:
        self._file, self._folder = file, folder
        self._args: dict[str, str] = {}
        self.begun = False
        # Local folders with the code of packages that a stage installs from its own files.
        self.installed: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self.env: dict[str, str] = {}
        self.entrypoint: list[str] = []
        self.cmd: list[str] = []
        self.workdir = "/"
        self.files: dict[str, str] = {}
        self.ports: list[int] = []

    def take(self, line: int, word: str, rest: str) -> None:
        """Follow an instruction.  Raises ImageError."""
        at = f"{self._file.name}:{line}"
        if word == "FROM":
            self._reset()
            self.begun = True
        elif word == "ARG":
            name, _, value = rest.partition("=")
            self._args[name.strip()] = self._expand(value.strip().strip("\"'"))
        elif not self.begun:
            raise ImageError(f"{at}: {word} comes before FROM")
        elif word == "ENV":
            self._set(at, rest)
        elif word == "WORKDIR":
            self.workdir = _join(self.workdir, self._expand(rest))
        elif word in ("COPY", "ADD"):
            self._copy(at, word, rest)
        elif word == "EXPOSE":
            self.ports += [
                int(p.partition("/")[0]) for p in self._expand(rest).split() if p.partition("/")[0].isdigit()
            ]
        elif word == "ENTRYPOINT":
            self.entrypoint, self.cmd = self._words(at, rest), []
        elif word == "CMD":
            self.cmd = self._words(at, rest)
        elif word == "RUN":
            self.installed += [str(folder) for folder in self._packages(rest) if str(folder) not in self.installed]
        elif word != "USER" and word not in _SKIPPED:
            raise ImageError(f"{at}: {word} is not a supported instruction")

    def _packages(self, rest: str) -> list[Path]:
        """The folders with the code of the packages that a RUN installs from the image's own files."""
        places = [self.local(word) for words in installations(rest) for word in words if is_path(word)]
        sources = [place / "src" if (place / "src").is_dir() else place for place in places if place]
        return [source for source in sources if source.is_dir()]

    def local(self, path: str) -> Path | None:
        """Where a path of the image is on this machine, or None."""
        wanted = PurePosixPath(_join(self.workdir, path))
        for parent in (wanted, *wanted.parents):
            if str(parent) in self.files:
                return Path(self.files[str(parent)], *wanted.parts[len(parent.parts) :])
        # Files that were copied one by one into the same folder, as they are in the build context.
        beside = {str(Path(here).parent) for there, here in self.files.items() if PurePosixPath(there).parent == wanted}
        return Path(beside.pop()) if len(beside) == 1 else None

    def _expand(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            name, default = found.group(1) or found.group(2), found.group(3)
            return self.env.get(name) or self._args.get(name) or default or ""

        return re.sub(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})", value, text)

    def _set(self, at: str, rest: str) -> None:
        if not re.match(r"[\w.]+=", rest):
            name, _, value = rest.partition(" ")
            self.env[name] = self._expand(value.strip())
            return
        try:
            pairs = shlex.split(rest)
        except ValueError as error:
            raise ImageError(f"{at}: {error}") from None
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                raise ImageError(f"{at}: ENV {pair} has no value")
            self.env[name] = self._expand(value)

    def _words(self, at: str, rest: str) -> list[str]:
        if not rest.startswith("["):
            return ["/bin/sh", "-c", rest]
        try:
            words = json.loads(rest)
        except ValueError as error:
            raise ImageError(f"{at}: the exec form must be a JSON array with double quotes: {error}") from None
        if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            raise ImageError(f"{at}: the exec form must be a JSON array of strings")
        return words

    def _copy(self, at: str, word: str, rest: str) -> None:
        flags = []
        while rest.startswith("--"):
            flag, _, rest = rest.partition(" ")
            flags.append(flag)
            rest = rest.strip()
        if any(flag.startswith("--from=") for flag in flags):
            return  # files built by another stage come with the interpreter, or not at all
        words = self._words(at, rest) if rest.startswith("[") else self._expand(rest).split()
        if len(words) < 2:
            raise ImageError(f"{at}: {word} needs a source and a destination")
        *sources, target = words
        into = _join(self.workdir, target)
        for source in sources:
            if word == "ADD" and re.match(r"https?://|git@", source):
                continue
            found = (
                sorted(self._folder.glob(source.lstrip("/").removeprefix("./").rstrip("/") or "*"))
                if any(c in source for c in "*?[")
                else [self._folder / source.lstrip("/")]
            )
            found = [path for path in found if path.exists()]
            if not found:
                raise ImageError(f"{at}: {word} {source}: no such file in {self._folder}")
            for path in found:
                whole = path.resolve()
                if not whole.is_relative_to(self._folder.resolve()):
                    raise ImageError(f"{at}: {word} {source} is outside {self._folder}")
                inside = target.endswith("/") or len(sources) > 1 or len(found) > 1 or target in (".", "./")
                self.files[_join(into, path.name) if path.is_file() and inside else into] = str(whole)


def _join(base: str, path: str) -> str:
    """A path of the container, absolute and normalized."""
    parts: list[str] = []
    for part in PurePosixPath(base, path).parts:
        if part == "..":
            parts[1:] = parts[1:-1]
        else:
            parts.append(part)
    return str(PurePosixPath(*parts)) if parts else "/"
