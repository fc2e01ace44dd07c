"""Fetch the recorded vectors that the tests read, check each by SHA-256, and make the derived ones.

Each file comes from the public repository that tests/vectors/sources.json names. A file that is
there already, and right, is not fetched again: run this once more to resume.

Exit status: 0 the folder is complete; 1 a file could not be had, is wrong or cannot be written;
2 wrong usage.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.vectors import derive, sources

GITHUB = "https://raw.githubusercontent.com"
TIMEOUT = 30  # seconds without an answer, or without a further byte
PARALLEL = 8  # files asked for at a time
ENOUGH = 3  # problems after which nothing further is tried

Item = TypeVar("Item", bound=sources.Entry)


@dataclass
class Result:
    """What happened: numbers of files, and a sentence for each problem."""

    folder: str
    files: int = 0  # in the folder and right, without inputs of derived files
    fetched: int = 0
    made: int = 0
    unpublished: int = 0  # that the list names and the folder lacks
    problems: list[str] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        return len(self.problems) >= ENOUGH


class FetchError(Exception):
    """A file could not be had, or is not the one that the list names. Says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.vectors.fetch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--to", type=Path, default=sources.cache(), help="the folder to fill (default: %(default)s)"
    )
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument(
        "--from",
        type=Path,
        dest="copy",
        metavar="FOLDER",
        help="take the files from a copy at hand",
    )
    origin.add_argument(
        "--base-url",
        default=GITHUB,
        help="the server of raw files: URL/OWNER/NAME/COMMIT/PATH (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args(argv)
    if urllib.parse.urlsplit(options.base_url).scheme not in ("http", "https"):
        parser.error(f"--base-url: expected an http or https address, not {options.base_url}")
    if options.copy and not options.copy.is_dir():
        parser.error(f"--from: {options.copy} is not a folder")
    try:
        listed = sources.read()
    except sources.SourcesError as error:
        parser.error(str(error))
    try:
        result = fill(listed, options.to, options.copy, options.base_url)
    except OSError as error:
        print(f"vectors: {options.to} cannot be filled: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        report(result)
    return 1 if result.problems else 0


def report(result: Result) -> None:
    """Prints a result for people: problems to standard error, the summary to standard output."""
    for problem in result.problems:
        print(f"vectors: {problem}", file=sys.stderr)
    if result.enough:
        print(f"vectors: stopped after {ENOUGH} problems; run it again to resume", file=sys.stderr)
    print(
        f"vectors: {result.files} files in {result.folder}: {result.fetched} fetched and "
        f"{result.made} made now; {result.unpublished} are absent because they are not published"
    )


def fill(listed: sources.Sources, folder: Path, copy: Path | None, base_url: str) -> Result:
    """Brings `folder` to what the list says, from `copy` if there is one, else from a server.

    Problems of single files are in the result. OSError if `folder` cannot be written.
    """
    result = Result(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    get: Callable[[sources.Published], bytes]
    get = partial(_copied, copy) if copy else partial(_download, base_url)
    _take(listed.published, folder, get, result)
    if copy:
        ours = (*listed.derived, *listed.unpublished)
        there = [entry for entry in ours if (copy / entry.path).exists()]
        _take(there, folder, partial(_copied, copy), result)
    missing = [entry for entry in listed.derived if not entry.is_in(folder)]
    if missing and not result.problems:
        _take(listed.inputs, folder, get, result)
        _make(missing, folder, result)
    result.unpublished = sum(not entry.is_in(folder) for entry in listed.unpublished)
    known = (*listed.published, *listed.derived, *listed.unpublished)
    result.files = sum(entry.is_in(folder) for entry in known)
    if not result.problems:
        listed.mark_complete(folder)
    return result


def _take(
    entries: Sequence[Item], folder: Path, get: Callable[[Item], bytes], result: Result
) -> None:
    """Gets those of `entries` that are not in `folder`; counts them and notes problems.

    `get` gives the bytes of a file, at most one more than it should have, or raises FetchError.
    """
    wanted = [entry for entry in entries if not entry.is_in(folder)]

    def one(entry: Item) -> bool:
        """Whether the file is there now."""
        if result.enough:
            return False
        try:
            data = get(entry)
        except FetchError as error:
            result.problems.append(str(error))
            return False
        if problem := entry.problem(data):
            result.problems.append(f"{entry.path}: {problem}")
            return False
        _write(folder / entry.path, data)
        return True

    with ThreadPoolExecutor(PARALLEL) as pool:
        for number, (entry, done) in enumerate(zip(wanted, pool.map(one, wanted), strict=True), 1):
            if done:
                result.fetched += 1
                print(f"[{number}/{len(wanted)}] {entry.path}", file=sys.stderr, flush=True)


def _make(entries: Sequence[sources.Entry], folder: Path, result: Result) -> None:
    """Makes derived files from those in `folder`; counts them and notes problems."""
    for entry in entries:
        try:
            data = derive.make(entry.path, folder)
        except derive.DeriveError as error:
            result.problems.append(str(error))
            continue
        if problem := entry.problem(data):
            result.problems.append(f"{entry.path}: made here, but {problem}")
            continue
        _write(folder / entry.path, data)
        result.made += 1


def _write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: an interrupted run leaves only a file *.part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def _copied(copy: Path, entry: sources.Entry) -> bytes:
    try:
        return entry.read(copy)
    except OSError as error:
        raise FetchError(f"{entry.path}: not in the copy at hand: {error}") from None


def _download(base_url: str, entry: sources.Published) -> bytes:
    """The file from a server of raw files; reads at most one byte more than it should have."""
    name = urllib.parse.quote(f"{entry.repository}/{entry.commit}/{entry.origin}")
    address = f"{base_url.rstrip('/')}/{name}"
    unproven = "" if entry.proven else " (nobody has proven that this file was ever there)"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(entry.size + 1)
            return data
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FetchError(f"{entry.path}: {address}: {error}{unproven}") from None


if __name__ == "__main__":
    sys.exit(main())
