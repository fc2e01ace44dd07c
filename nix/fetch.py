#!/usr/bin/env python3
"""Fetch the locked sources that flake outputs need and that the Nix store does not have yet."""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import download

FLAKE = Path(__file__).resolve().parent.parent
LOCK = FLAKE / "nix" / "lock"
PARALLEL = 4
BATCH = 64  # files handed to one nix-store call; wheels asked of one pip call
ENOUGH = 3  # problems after which the rest is not tried
BIG = 20_000_000  # bytes; a wheel this big gets a pip call of its own

Job = Callable[[], None]
Item = TypeVar("Item")


def unpack_seed(deb: Path, directory: Path) -> Path:
    """Make directory/busybox-seed/bin/busybox from a package, with no tool but Python."""
    with deb.open("rb") as archive:
        if archive.read(8) != b"!<arch>\n":
            raise download.DownloadError(f"{deb} is no Debian package (not an ar archive)")
        while len(header := archive.read(60)) == 60:
            name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
            if name.startswith("data.tar"):
                break
            archive.seek(size + size % 2, os.SEEK_CUR)
        else:
            raise download.DownloadError(f"{deb} has no data.tar")
        with tarfile.open(fileobj=archive, mode="r|*") as data:
            for member in data:
                if member.name.endswith("/bin/busybox") and (stream := data.extractfile(member)):
                    seed = directory / "busybox-seed"
                    (seed / "bin").mkdir(parents=True, exist_ok=True)
                    program = seed / "bin" / "busybox"
                    program.write_bytes(stream.read())
                    program.chmod(0o755)
                    return seed
    raise download.DownloadError(f"{deb} has no bin/busybox")


@dataclasses.dataclass(frozen=True)
class Source:
    """A fixed-output derivation that waits for its file."""

    store_path: str
    sha256: str  # of the file, or (recursive) of the Nix archive of the folder
    recursive: bool

    @property
    def name(self) -> str:
        """The name under which it must be added: the store path without folder and hash."""
        return self.store_path.rpartition("/")[2].partition("-")[2]


class Lock:
    """Everything that nix/lock/ locks, by SHA-256."""

    def __init__(self, directory: Path) -> None:
        debian = json.loads((directory / "debian.json").read_text())
        self.files: dict[str, download.File] = {}
        for release in debian["releases"].values():
            for name, entry in release["packages"].items():
                self.files[entry["sha256"]] = download.File(kind="deb", name=name, **entry)
        driver = directory / "driver.json"
        if driver.exists():
            for name, entry in json.loads(driver.read_text())["packages"].items():
                self.files[entry["sha256"]] = download.File(kind="folder", name=name, **entry)
        for path in directory.glob("wheels-*.json"):
            wheels = json.loads(path.read_text())
            for entry in wheels["wheels"]:
                self.files[entry["sha256"]] = download.File(
                    "wheel", entry["name"], entry["version"], entry["filename"],
                    entry["size"], entry["sha256"], wheels["python"],
                )  # fmt: skip
        seed = debian["seed"]
        self.seed_sha256: str = seed["nar_sha256"]
        self.seed_deb = self.files[
            debian["releases"][seed["release"]]["packages"][seed["package"]]["sha256"]
        ]

    def file(self, source: Source) -> download.File:
        """What is to be downloaded for a source."""
        if source.recursive and source.sha256 == self.seed_sha256:
            return self.seed_deb
        if (file := self.files.get(source.sha256)) is None:
            raise download.DownloadError(f"{source.name} ({source.sha256}) is not in {LOCK}")
        return file


def nix(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a Nix command with the project's settings; raise DownloadError with its message."""
    run = [str(FLAKE / "nix" / "run"), *command]
    try:
        result = subprocess.run(run, capture_output=True, text=True, check=False)
    except OSError as error:
        raise download.DownloadError(f"{' '.join(run)}: {error}") from error
    if result.returncode != 0:
        raise download.DownloadError(f"{' '.join(command[:2])} failed:\n{result.stderr.strip()}")
    return result


def missing_sources(installables: list[str]) -> list[Source]:
    """The sources without which these flake outputs cannot be built, and which the store lacks."""
    plan = nix("nix", "build", "--dry-run", "--no-link", *installables).stderr
    sources = {}
    for path in re.findall(r"^\s*(/\S+\.drv)$", plan, re.MULTILINE):
        derivation = Path(path).read_text()
        if '("url","missing-source://' in derivation:
            found = re.match(
                r'Derive\(\[\("out","([^"]+)","(r:)?sha256","([0-9a-f]{64})"\)', derivation
            )
            if found is None:
                raise download.DownloadError(
                    f"{path} is a source of a form that fetch does not know"
                )
            sources[found[1]] = Source(found[1], found[3], recursive=bool(found[2]))
    return [sources[path] for path in sorted(sources)]


def cache_directory() -> Path:
    """Where downloads are kept until they are in the store; DownloadError if nothing says where."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "confide"
    try:
        return Path.home() / ".cache" / "confide"
    except RuntimeError as error:
        raise download.DownloadError(
            "there is no folder for downloads: neither the environment nor the system's list of "
            "users names this user's home; set HOME or XDG_CACHE_HOME"
        ) from error


class Fetcher:
    """Gets files into the cache folder, each as <sha256>/<name>, and from there into the store."""

    def __init__(
        self,
        cache: Path,
        lock: Lock,
        mirror_urls: list[str],
        folder: Path | None,
        progress: download.Progress,
    ) -> None:
        self.cache, self.lock, self.progress = cache, lock, progress
        self.mirror_urls, self.folder = mirror_urls, folder
        self.problems: list[str] = []

    def place(self, source: Source) -> Path:
        """The source's file in the cache."""
        directory = self.cache / source.sha256
        directory.mkdir(parents=True, exist_ok=True)
        return directory / source.name

    def fetch(self, sources: list[Source]) -> list[Source]:
        """Download what is not in the cache; return the sources whose files are now there."""
        wanted = {source: self.lock.file(source) for source in sources}
        todo = {source: file for source, file in wanted.items() if not self.cached(source, file)}
        debs = {source: file for source, file in todo.items() if file.kind == "deb"}
        wheels = {source: file for source, file in todo.items() if file.kind == "wheel"}
        jobs: list[Job] = [partial(self.fetch_wheels, b) for b in batches_of_wheels(wheels)]
        jobs += [partial(self.take, *item) for item in todo.items() if item[1].kind == "folder"]
        if debs:
            mirrors, opener = download.find_mirrors(self.mirror_urls), download.make_opener()
            jobs += [partial(self.fetch_deb, *item, mirrors, opener) for item in debs.items()]
        self._run(jobs)
        return [source for source in sources if self.place(source).exists()]

    def _run(self, jobs: list[Job]) -> None:
        """Run jobs side by side; note what goes wrong, and stop after a few problems."""
        pool = concurrent.futures.ThreadPoolExecutor(PARALLEL)
        try:
            futures = [pool.submit(job) for job in jobs]
            for future in concurrent.futures.as_completed(futures):
                try:
                    future.result()
                except download.DownloadError as error:
                    self.problems.append(str(error))
                if len(self.problems) == ENOUGH:
                    break
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown(cancel_futures=True)

    def cached(self, source: Source, file: download.File) -> bool:
        """Whether an earlier run left the whole file."""
        path = self.place(source)
        if source.recursive or not path.exists():
            return False
        try:
            download.verify(path, file)
        except download.DownloadError:
            return False
        self.progress.add(file.size, resumed=True)
        self.progress.finish_file()
        return True

    def fetch_deb(
        self,
        source: Source,
        file: download.File,
        mirrors: download.Mirrors,
        opener: download.Opener,
    ) -> None:
        """Download one Debian package, and take the seed out of it if it is for that."""
        path = self.place(source)
        if source.recursive:
            deb = path.parent / "package.deb"
            download.download_deb(file, deb, mirrors, opener, self.progress)
            unpack_seed(deb, path.parent)
        else:
            download.download_deb(file, path, mirrors, opener, self.progress)

    def take(self, source: Source, file: download.File) -> None:
        """Copy a package out of the user's folder."""
        if self.folder is None or not (self.folder / file.path).is_file():
            raise download.DownloadError(
                f"{file.path} was locked from a folder; name that folder with --folder FOLDER "
                f"({self.folder or 'none was given'})"
            )
        path = self.place(source)
        shutil.copyfile(self.folder / file.path, path)
        download.verify(path, file)
        self.progress.add(file.size)
        self.progress.finish_file()

    def fetch_wheels(self, batch: dict[Source, download.File]) -> None:
        """Download some wheels with one call of pip."""
        directory = self.cache / f"pip-{next(iter(batch)).sha256[:16]}"
        directory.mkdir(exist_ok=True)
        download.download_wheels(batch.values(), directory, self.progress)
        for source, file in batch.items():
            (directory / file.path).replace(self.place(source))
        shutil.rmtree(directory)

    def add(self, sources: list[Source]) -> None:
        """Add files to the Nix store and drop them from the cache."""
        for recursive in (True, False):
            of_kind = [source for source in sources if source.recursive == recursive]
            for batch in batched(of_kind, BATCH):
                flags = ["--recursive"] if recursive else []
                paths = [str(self.place(source)) for source in batch]
                added = nix("nix-store", "--add-fixed", *flags, "sha256", *paths).stdout.split()
                expected = [source.store_path for source in batch]
                if added != expected:
                    raise download.DownloadError(f"the store has {added}, expected {expected}")
        for source in sources:
            shutil.rmtree(self.cache / source.sha256)


def batches_of_wheels(wheels: dict[Source, download.File]) -> Iterator[dict[Source, download.File]]:
    """Wheels that one pip call can get: one Python version each, big ones alone."""
    for python in sorted({file.python for file in wheels.values()}):
        ours = [(source, file) for source, file in wheels.items() if file.python == python]
        yield from ({source: file} for source, file in ours if file.size >= BIG)
        small = [(source, file) for source, file in ours if file.size < BIG]
        yield from (dict(part) for part in batched(small, BATCH))


def batched(items: list[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of at most `size`."""
    yield from (items[start : start + size] for start in range(0, len(items), size))


def main() -> int:
    """0 when everything is in the store, 1 with messages when not, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="fetch", description=__doc__)
    parser.add_argument(
        "output", nargs="*", help="flake outputs, such as proxy or images (default: all packages)"
    )
    parser.add_argument(
        "--debian-mirror",
        action="append",
        default=[],
        metavar="URL",
        help="a Debian archive or snapshot to use instead of apt's mirrors; may be repeated",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the driver's packages are, if lock.py --driver locked some",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    options = parser.parse_args()
    try:
        return fetch(options)
    except download.DownloadError as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        message = "\nfetch: interrupted; what is there is kept, run it again to go on"
        print(message, file=sys.stderr, flush=True)
        os._exit(130)  # without waiting for the downloads that are under way


def fetch(options: argparse.Namespace) -> int:
    """Fetch what the command line says."""
    started = time.monotonic()
    outputs = options.output or all_packages()
    installables = [name if "#" in name else f".#{name}" for name in outputs]
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # one fetch at a time shares the partial files
        lock = Lock(LOCK)
        sources = missing_sources(installables)
        total = sum(lock.file(source).size for source in sources)
        progress = download.Progress(total, len(sources))
        fetcher = Fetcher(cache, lock, options.debian_mirror, options.folder, progress)
        fetcher.add(fetcher.fetch(sources))
    for problem in fetcher.problems:
        print(f"fetch: {problem}", file=sys.stderr)
    seconds = round(time.monotonic() - started, 1)
    if options.json:
        summary = {"outputs": outputs, "files": len(sources), "bytes": total, "seconds": seconds}
        print(json.dumps({**summary, "problems": fetcher.problems}))
    elif not fetcher.problems:
        print(f"fetch: {len(sources)} files, {total / 1e6:.1f} MB, {seconds} s")
    return 1 if fetcher.problems else 0


def all_packages() -> list[str]:
    """Names of the flake's packages."""
    names = nix("nix", "eval", "--json", ".#packages.x86_64-linux", "--apply", "builtins.attrNames")
    found: list[str] = json.loads(names.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
