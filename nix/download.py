"""Where locked files come from: the machine's own apt mirror and its own pip.

Used by fetch.py (bytes that are locked) and lock.py (bytes about to be locked).
No registry is named here: a mirror is the user's configuration.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

CHUNK = 1 << 18  # bytes read at a time
ATTEMPTS = 4  # per file and mirror, each one resuming where the last broke off
DEBIAN_SUITES = ("bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable")
TRANSPORTS = ("http:", "https:", "file:")  # of apt's, those that Python knows too
URL_CHARACTERS = "/:@!$&'()*+,;=[]~?%"  # not to be quoted; apt decodes some URLs, and some not
MIRROR_LIST_LIMIT = 1 << 20  # bytes
NAME_A_MIRROR = (
    "name one with --debian-mirror URL, or with make's DEBIAN_MIRROR=URL "
    "(the URL under which dists/ and pool/ lie)"
)

Opener = urllib.request.OpenerDirector


class DownloadError(Exception):
    """A file could not be had; the message says which, and what to do about it."""


@dataclasses.dataclass(frozen=True)
class File:
    """One locked file. `path` is a pool path (Debian), otherwise a file name; `size` in bytes."""

    kind: str  # "deb", "wheel", or "folder": a package that no mirror has
    name: str
    version: str
    path: str
    size: int
    sha256: str  # 64 hex digits
    python: str = ""  # wheels only: the CPython version they are for, as "3.13"


@dataclasses.dataclass(frozen=True)
class Mirrors:
    """Base URLs of Debian archives, tried in order."""

    main: tuple[str, ...]
    security: tuple[str, ...]

    def candidates(self, pool_path: str) -> list[str]:
        """Every URL that may have the file, likeliest first."""
        both = (self.main, self.security)
        first, second = reversed(both) if pool_path.startswith("pool/updates/") else both
        return [f"{base}/{urllib.parse.quote(pool_path)}" for base in dict.fromkeys(first + second)]


def find_mirrors(given: Sequence[str] = ()) -> Mirrors:
    """The mirrors given on the command line, else those that this machine's apt uses for Debian.

    Raises DownloadError if there is neither.
    """
    if given:
        bases = [url.rstrip("/") for url in given]
        return Mirrors(tuple(bases), (*_security_siblings(bases), *bases))
    if shutil.which("apt-get") is None:
        raise DownloadError(f"this machine has no apt that names a Debian mirror; {NAME_A_MIRROR}")
    main: dict[str, None] = {}
    security: dict[str, None] = {}
    problems = []
    # One line for each index, "'URI' NAME SIZE", from all of apt's files, whatever their format.
    # Unlike `apt-get indextargets` this knows a source before its index was downloaded.
    result = _run("apt-get", "update", "--print-uris")
    for site, suite in re.findall(r"^'(.+)/dists/(.+)/InRelease' ", result.stdout, re.MULTILINE):
        release, _, pocket = suite.partition("-")
        if release not in DEBIAN_SUITES:
            problems.append(f"{site} has {suite}, which is no release of Debian")
            continue
        try:
            for base in _bases(site):
                (security if pocket == "security" else main)[base.rstrip("/")] = None
        except DownloadError as error:
            problems.append(str(error))
    if not main:
        problems += result.stderr.splitlines()
        raise DownloadError(
            "\n  ".join(["apt's sources name no Debian mirror.", *dict.fromkeys(problems)])
            + f"\n  {NAME_A_MIRROR[0].upper()}{NAME_A_MIRROR[1:]}"
        )
    return Mirrors(tuple(main), tuple(security) or (*_security_siblings(main), *main))


def _bases(site: str) -> list[str]:
    """The URLs behind the site of an apt source: itself, or those in its list of mirrors.

    See sources.list(5) and apt-transport-mirror(1). Raises DownloadError for a list that cannot be
    read, and for a transport that is not known here.
    """
    if site.startswith("mirror:"):
        site = "mirror+http" + site.removeprefix("mirror")
    if not site.startswith("mirror+"):
        return [_known(urllib.parse.quote(site, safe=URL_CHARACTERS))]
    place = site.removeprefix("mirror+")
    url = _known(urllib.parse.quote(place, safe=URL_CHARACTERS))
    try:
        with make_opener().open(url, timeout=60) as response:
            text = response.read(MIRROR_LIST_LIMIT).decode()
    except (OSError, ValueError) as error:
        raise DownloadError(f"apt's list of mirrors at {place} cannot be read: {error}") from error
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    return [_known(line[0]) for line in lines if line]


def _known(url: str) -> str:
    if not url.startswith(TRANSPORTS):
        raise DownloadError(f"{url} begins with none of {', '.join(TRANSPORTS)} and mirror+ these")
    return url


def _security_siblings(bases: Iterable[str]) -> list[str]:
    # Where mirrors that have both keep the security archive.
    return [base + "-security" for base in bases if base.endswith("/debian")]


def proxies() -> dict[str, str]:
    """The proxy of each scheme: apt's where apt has one (or "DIRECT"), else the environment's.

    As in apt, what is set for http holds for https too (apt-transport-https(1)).
    """
    found = urllib.request.getproxies()
    if shutil.which("apt-config") is None:
        return found
    for scheme, scopes in (("http", ("http",)), ("https", ("https", "http"))):
        options = (f"Acquire::{scope}::Proxy" for scope in scopes)
        shell = next(
            filter(None, (_run("apt-config", "shell", "v", o).stdout for o in options)), ""
        )
        match shlex.split(shell):
            case ["v=DIRECT"]:
                found.pop(scheme, None)
            case [setting]:
                found[scheme] = setting.removeprefix("v=")
    return found


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def verify(path: Path, file: File) -> None:
    """Raise DownloadError, and delete the file, unless its size and SHA-256 are the locked ones."""
    size = path.stat().st_size
    seen = sha256_of(path) if size == file.size else ""
    if seen != file.sha256:
        path.unlink()
        raise DownloadError(
            f"{path.name} is not the locked file: expected {file.size} bytes with sha256 "
            f"{file.sha256}; got {size} bytes, sha256 {seen or 'not computed'}"
        )


class Progress:
    """Bytes done, rate and time left: one moving line on a terminal, a line every 5 s elsewhere."""

    def __init__(self, total: int, files: int, quiet: bool = False) -> None:
        self.total, self.files, self.quiet = total, files, quiet
        self.done = self.resumed = 0
        self.finished = 0
        self.start = self.shown = time.monotonic()
        self.lock = threading.Lock()
        self.tty = sys.stderr.isatty()

    def add(self, count: int, *, resumed: bool = False) -> None:
        """Count bytes; `resumed` ones were there before and say nothing about the rate."""
        with self.lock:
            self.done += count
            self.resumed += count if resumed else 0
            now = time.monotonic()
            if now - self.shown >= (0.1 if self.tty else 5):
                self.shown = now
                self._show()

    def finish_file(self) -> None:
        """Count a file that is complete and verified."""
        with self.lock:
            self.finished += 1
            if self.finished == self.files:
                self._show(last=True)

    def _show(self, *, last: bool = False) -> None:
        if self.quiet:
            return
        rate = (self.done - self.resumed) / max(time.monotonic() - self.start, 0.001)
        left = (self.total - self.done) / rate if rate > 0 else 0
        share = self.done / self.total if self.total else 1
        text = (
            f"{self.finished}/{self.files} files  {self.done / 1e6:7.1f}/{self.total / 1e6:.1f} MB"
            f"  {rate / 1e6:5.1f} MB/s  {int(left) // 60}:{int(left) % 60:02d} left"
        )
        if self.tty:
            bar = "#" * int(share * 30)
            print(f"\r[{bar:<30}] {text}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(f"fetch: {share:4.0%}  {text}", file=sys.stderr, flush=True)


def download_deb(
    file: File,
    destination: Path,
    mirrors: Mirrors,
    opener: Opener,
    progress: Progress,
) -> None:
    """Download one Debian package to `destination`, resuming a part that is already there."""
    part = destination.with_name(destination.name + ".part")
    problems = []
    for url in mirrors.candidates(file.path):
        for attempt in range(ATTEMPTS):
            try:
                _resume(url, part, file.size, opener, progress)
                verify(part, file)
                part.replace(destination)
                progress.finish_file()
                return
            except urllib.error.HTTPError as error:
                problems.append(f"{url}: HTTP status {error.code}")
                if error.code in (404, 410):
                    break
            except DownloadError as error:
                progress.add(-file.size)
                problems.append(f"{url}: {error}")
            except (OSError, ValueError) as error:
                problems.append(f"{url}: {error}")
            time.sleep(0.5 * 2**attempt)
    raise DownloadError(
        f"{file.name} {file.version} ({file.path}) could not be fetched.\n  "
        + "\n  ".join(dict.fromkeys(problems))
        + "\n  If this version has left the mirror, name an archive that still has it "
        "(--debian-mirror URL, for example a snapshot), or re-lock with: make lock"
    )


def _resume(url: str, part: Path, size: int, opener: Opener, progress: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= size:  # complete already, or wrong: verify() decides
        progress.add(size, resumed=True)
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (apt's or the user's URL)
    with opener.open(request, timeout=60) as response:
        if have and getattr(response, "status", None) != 206:
            have = 0  # the server sends it all again
        progress.add(have, resumed=True)
        counted = have
        try:
            with part.open("ab" if have else "wb") as stream:
                while chunk := response.read(CHUNK):
                    stream.write(chunk)
                    counted += len(chunk)
                    progress.add(len(chunk))
            if counted < size:
                raise OSError(f"connection ended after {counted} of {size} bytes")
        except BaseException:
            progress.add(-counted)
            raise


def pip_target(python: str) -> list[str]:
    """Pip's options for wheels that run on CPython `python` with Debian 13's C library (2.41)."""
    tags = [f"manylinux_2_{minor}_x86_64" for minor in range(41, 4, -1)]
    tags += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    options = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    return options + [option for tag in tags for option in ("--platform", tag)]


def run_pip(pip: list[str], python: str, directory: Path, arguments: Sequence[str]) -> None:
    """Run `pip download ARGUMENTS` into `directory` for CPython `python`; raise DownloadError."""
    command = [
        *pip,
        "download",
        "--quiet",
        "--dest",
        str(directory),
        *pip_target(python),
        *arguments,
    ]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        raise DownloadError(
            f"pip failed ({' '.join(arguments)}):\n{result.stderr.strip()}\n"
            "  Each locked version must be on the index that this machine's pip uses (pip config "
            "list); a build such as torch's +cpu may need its publisher's index there."
        )


def download_wheels(files: Iterable[File], directory: Path, progress: Progress) -> None:
    """Download wheels, all for one Python version, with the machine's own pip, by SHA-256."""
    wanted = list(files)
    requirements = directory / f"requirements-{wanted[0].sha256[:16]}.txt"
    requirements.write_text(
        "".join(f"{file.name}=={file.version} --hash=sha256:{file.sha256}\n" for file in wanted)
    )
    arguments = ["--no-deps", "--require-hashes", "--requirement", str(requirements)]
    run_pip([sys.executable, "-m", "pip"], wanted[0].python, directory, arguments)
    requirements.unlink()
    for file in wanted:
        path = directory / file.path
        if not path.exists():
            raise DownloadError(f"pip chose another file than {file.path}; re-lock with: make lock")
        verify(path, file)
        progress.add(file.size)
        progress.finish_file()


def make_opener() -> Opener:
    """An opener for Debian mirrors."""
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies()))
