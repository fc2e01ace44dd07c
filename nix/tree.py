"""Put a file tree together from unpacked packages: only what a list names goes in.

A list (images/*/files.list) has one glob per line, relative to the root; "!glob" takes paths out of
what the globs before it let in; "#" starts a comment. A line that matches nothing is an error, so a
list cannot rot. Shared libraries are the one exception to naming: what an ELF file that goes in
asks for (DT_NEEDED) is pulled in from the packages, and a library that is nowhere is an error.
"""

from __future__ import annotations

import fnmatch
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd", "usr/lib")
# Debian merged /usr: these are links in the root, so that both spellings of a path work.
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
# tar, not dpkg-deb -x, extracts: dpkg-deb would replace our merged-/usr links by folders. Nix's
# sandbox refuses set-id bits, and no image wants them.
EXTRACT = (
    "tar",
    "-xv",
    "--keep-directory-symlink",
    "--no-same-owner",
    "--no-same-permissions",
    "-C",
)
# A program of one of these names would be a way to run commands: no release image has one.
SHELLS = frozenset(
    {"sh", "bash", "dash", "busybox", "ash", "zsh", "ksh", "csh", "fish", "su", "sudo"}
)


class BuildError(Exception):
    """The tree cannot be built as listed."""


def unpack(packages: Iterable[Path], target: Path) -> dict[str, str]:
    """Unpack Debian packages over each other; no maintainer script runs.

    Returns the package file's name for each path that was unpacked.
    """
    target.mkdir(parents=True, exist_ok=True)
    for link, to in MERGED.items():
        (target / to).mkdir(parents=True, exist_ok=True)
        (target / link).symlink_to(to)

    def one(package: Path) -> list[tuple[str, str]]:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as p:
            listing = subprocess.run(
                [*EXTRACT, target],
                stdin=p.stdout,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        if p.returncode:
            raise BuildError(f"{package.name}: dpkg-deb ended with status {p.returncode}")
        return [(merged(path), package.name) for path in listing.splitlines()]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(entry for listing in pool.map(one, packages) for entry in listing)


def merged(path: str) -> str:
    """A package's path as it is in a root with merged /usr: some name files by the old spelling."""
    path = os.path.normpath(path)
    top, slash, rest = path.partition("/")
    return MERGED[top] + slash + rest if slash and top in MERGED else path


def walk(root: Path) -> Iterator[str]:
    """Every file and link below root as a path relative to it, sorted."""
    found = []
    for folder, names, files in os.walk(root):
        here = os.path.relpath(folder, root)
        links = [n for n in names if os.path.islink(os.path.join(folder, n))]
        found += [os.path.normpath(os.path.join(here, n)) for n in files + links]
    return iter(sorted(found))


def select(paths: Iterable[str], lines: Iterable[str]) -> list[str]:
    """The paths that the list lets in, sorted.

    A glob without wildcard may name a folder: everything below it is meant.
    """
    everything = sorted(paths)
    chosen: set[str] = set()
    for raw in lines:
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        pattern = line.removeprefix("!")
        among = chosen if line.startswith("!") else everything
        hits = {p for p in among if fnmatch.fnmatchcase(p, pattern) or p.startswith(pattern + "/")}
        if not hits:
            raise BuildError(f"the list's line {line!r} matches no file; correct or remove it")
        chosen = chosen - hits if line.startswith("!") else chosen | hits
    return sorted(chosen)


def needed(path: Path) -> tuple[str | None, list[str]]:
    """Program interpreter and DT_NEEDED names of an ELF64 file; (None, []) for any other file."""
    with path.open("rb") as file:
        if file.read(6) != b"\x7fELF\x02\x01":
            return None, []
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, offset + i * size) for i in range(count)]
    loads = [(h[3], h[2], h[5]) for h in headers if h[0] == 1]
    interpreter = next((data[h[2] : h[2] + h[5] - 1].decode() for h in headers if h[0] == 3), None)
    dynamic = next(((h[2], h[5]) for h in headers if h[0] == 2), None)
    if dynamic is None:
        return interpreter, []
    entries = [struct.unpack_from("<QQ", data, dynamic[0] + i) for i in range(0, dynamic[1], 16)]
    table = next(value for tag, value in entries if tag == 5)
    start = next(table - v + o for v, o, length in loads if v <= table < v + length)
    names = [start + value for tag, value in entries if tag == 1]
    return interpreter, [data[n : data.find(b"\0", n)].decode() for n in names]


def with_libraries(
    root: Path, chosen: Iterable[str], folders: Iterable[str], present: Iterable[str] = ()
) -> list[str]:
    """The chosen paths and, until nothing is missing, link targets and libraries that they need.

    A library counts as there if a chosen file has its name (wheels bring their own, in folders that
    only they know) or if it is in `present`, the paths of a layer below.
    """
    queue = list(chosen)
    done: set[str] = set()
    there = {os.path.basename(path) for path in (*queue, *present)}
    while queue:
        path = queue.pop()
        if path in done:
            continue
        done.add(path)
        full = root / path
        if full.is_symlink():
            target = os.readlink(full)
            base = root if target.startswith("/") else full.parent
            real = os.path.relpath(os.path.normpath(base / target.lstrip("/")), root)
            if (root / real).is_file() or (root / real).is_symlink():
                queue.append(real)
            continue
        interpreter, libraries = needed(full)
        if interpreter and os.path.basename(interpreter) not in there:
            top, _, rest = interpreter.lstrip("/").partition("/")
            queue.append(f"{MERGED[top]}/{rest}")
        for name in libraries:
            hits = [f"{d}/{name}" for d in folders if (root / d / name).exists()]
            if hits and name not in there:
                queue.append(hits[0])
            elif name not in there:
                raise BuildError(f"{path} needs {name}, which nothing brings")
    return sorted(done)


def copy(root: Path, paths: Iterable[str], target: Path) -> None:
    """Copy files and links; modes become 0755 or 0644, so no set-id bit gets in."""
    _transfer(root, paths, target, shutil.copyfile)


def move(root: Path, paths: Iterable[str], target: Path) -> None:
    """Like copy, for a root that nobody needs afterwards: large files change their place only."""
    _transfer(root, paths, target, os.rename)


def _transfer(
    root: Path, paths: Iterable[str], target: Path, put: Callable[[Path, Path], object]
) -> None:
    for path in paths:
        source, destination = root / path, target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            destination.symlink_to(os.readlink(source))
        elif source.is_file():
            mode = 0o755 if source.stat().st_mode & 0o111 else 0o644
            put(source, destination)
            destination.chmod(mode)
        else:
            raise BuildError(f"{path} is neither a file nor a link")


def refuse_shells(root: Path) -> None:
    """No program in a release tree may be a shell by name."""
    found = [p for p in walk(root) if Path(p).name in SHELLS]
    if found:
        raise BuildError(f"shells have no place in a release image: {', '.join(found)}")


def fail(error: Exception) -> None:
    """Say what is wrong in one line, as the last line of the build log."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(1)
