# Copyright (c) 2026, mlops.mlflow_gcp contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source of an image: a folder with a Containerfile, as an archive that is the same wherever and whenever it is made."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ansible_collections.mlops.mlflow_gcp.plugins.module_utils.errors import GcpError

CONTAINERFILES = ("Containerfile", "Dockerfile")
# The file of an archive that lists additional packages, which the Containerfile installs.
EXTRA = "extra-requirements.txt"
# What tools leave in a folder without being part of the source.
LEFTOVERS = (".git", ".hg", ".svn", ".DS_Store", "__pycache__", "*.pyc", "*.egg-info", ".venv*", ".*_cache")
LARGEST = 512 * 1024 * 1024


def containerfile(folder: Path) -> str | None:
    """The name of the Containerfile (or Dockerfile) of a folder, None without one."""
    return next((name for name in CONTAINERFILES if (folder / name).is_file()), None)


class Archive:
    """
    The files of FOLDER in a tar archive, and EXTRA_PACKAGES as its file EXTRA.

    Only names, contents, the owner's execute permission and the targets of links count, in the order of the names: neither times nor
    owners, nor the order in which the file system lists them. Raises GcpError for a folder that cannot be built.
    """

    def __init__(self, folder: Path, extra_packages: Sequence[str] = ()) -> None:
        self.folder = folder
        name = containerfile(folder)
        if name is None:
            raise GcpError(f"{folder} has no {' or '.join(CONTAINERFILES)}")
        self.containerfile = name
        if extra_packages and EXTRA not in (folder / name).read_text(encoding="utf-8", errors="replace"):
            raise GcpError(f"{folder / name} does not install {EXTRA}, the file with the additional packages")
        self._extra = "".join(f"{package}\n" for package in sorted(set(extra_packages))).encode()
        tar = self._tar()
        self.digest = hashlib.sha256(tar).hexdigest()
        """Of the archive before compression, whose result depends on the library."""
        self.content = gzip.compress(tar, mtime=0)

    def _names(self) -> list[str]:
        """The paths of all files and links, sorted."""
        found: list[str] = []
        size = 0
        for base, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not _is_leftover(name)]
            links = [name for name in folders if Path(base, name).is_symlink()]
            for path in (Path(base, name) for name in files + links if not _is_leftover(name)):
                size += path.lstat().st_size
                found.append(path.relative_to(self.folder).as_posix())
        if size > LARGEST:
            raise GcpError(f"{self.folder} has {size >> 20} MiB, and a source has at most {LARGEST >> 20} MiB")
        return sorted(found)

    def _tar(self) -> bytes:
        out = io.BytesIO()
        names = self._names()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name in sorted({*names, EXTRA}) if self._extra else names:
                self._add(tar, name)
        return out.getvalue()

    def _add(self, tar: tarfile.TarFile, name: str) -> None:
        path, info = self.folder / name, tarfile.TarInfo(name)
        if name == EXTRA and self._extra:
            info.mode, content = 0o644, self._extra
        elif path.is_symlink():
            info.type, info.linkname, info.mode, content = tarfile.SYMTYPE, os.readlink(path), 0o777, b""
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise GcpError(f"{path} is a link to {info.linkname}, which is outside of the source")
        elif path.is_file():
            info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            try:
                content = path.read_bytes()
            except OSError as error:
                raise GcpError(f"{path} cannot be read: {error.strerror}") from None
        else:
            raise GcpError(f"{path} is neither a file nor a link")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def _is_leftover(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in LEFTOVERS)
