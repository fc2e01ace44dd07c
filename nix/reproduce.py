#!/usr/bin/env python3
"""Build every step of some outputs a second time, under other circumstances, and compare the bits.

The second build has another number of cores, another build folder and another time of day. Prints
each step; where a file differs, its name and the first differing byte. Exits 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

RUN = str(Path(__file__).resolve().parent / "run")
CHUNK = 1 << 20


def nix(*command: str) -> str:
    """Output of a Nix command; its messages go to the terminal."""
    return subprocess.run([RUN, *command], stdout=subprocess.PIPE, text=True, check=True).stdout


def steps(outputs: list[str]) -> list[str]:
    """Build the outputs, and list every derivation that this ran, sources excepted."""
    nix("nix", "build", "--no-link", *(f".#{output}" for output in outputs))
    tops = [nix("nix", "eval", "--raw", f".#{output}.drvPath") for output in outputs]
    found = nix("nix-store", "--query", "--requisites", *tops).split()
    return [path for path in found if path.endswith(".drv") and not is_source(Path(path))]


def is_source(derivation: Path) -> bool:
    """Whether a derivation is a locked file, which is compared with its hash anyway."""
    return '("url","missing-source://' in derivation.read_text()


def differences(one: Path, two: Path, name: str = "") -> Iterator[str]:
    """What differs between two files, links or folders, one line each."""
    if one.is_symlink() or two.is_symlink():
        if not (one.is_symlink() and two.is_symlink() and one.readlink() == two.readlink()):
            yield f"{name or one.name}: links differ"
    elif one.is_dir() and two.is_dir():
        names = {path.name for folder in (one, two) for path in folder.iterdir()}
        for child in sorted(names):
            if os.path.lexists(one / child) != os.path.lexists(two / child):
                yield f"{name}/{child}: only in one of them"
            else:
                yield from differences(one / child, two / child, f"{name}/{child}")
    elif (offset := first_difference(one, two)) is not None:
        sizes = f"{one.stat().st_size} and {two.stat().st_size} bytes"
        yield f"{name or one.name}: first difference at byte {offset:#x} ({sizes})"


def first_difference(one: Path, two: Path) -> int | None:
    """Offset in bytes of the first difference between two files."""
    with one.open("rb") as left, two.open("rb") as right:
        offset = 0
        while True:
            a, b = left.read(CHUNK), right.read(CHUNK)
            if a != b:
                common = min(len(a), len(b))
                return offset + next((i for i in range(common) if a[i] != b[i]), common)
            if not a:
                return None
            offset += len(a)


def rebuild(derivation: str) -> list[str]:
    """Build one step again; return what differs."""
    cores = "1" if (os.cpu_count() or 1) > 1 else "2"
    command = [RUN, "nix-store", "--realise", "--check", "--keep-failed", derivation]
    command += ["--cores", cores, "--option", "sandbox-build-dir", "/elsewhere"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return []
    found = re.search(r"output '([^']+)' differs from '([^']+\.check)'", result.stderr)
    if found is None:
        return [f"cannot be built again: {result.stderr.strip()}"]
    if shutil.which("diffoscope"):
        subprocess.run(["diffoscope", found[1], found[2]], check=False)
    return list(differences(Path(found[1]), Path(found[2]))) or ["differs in modes only"]


def main() -> int:
    """Rebuild all steps of the outputs named on the command line; 0 when every bit is the same."""
    parser = argparse.ArgumentParser(prog="reproduce", description=__doc__)
    parser.add_argument(
        "output", nargs="+", help="flake outputs, such as images; they must be fetched"
    )
    derivations = steps(parser.parse_args().output)
    bad = 0
    for number, derivation in enumerate(derivations, 1):
        name = Path(derivation).stem.partition("-")[2]
        lines = rebuild(derivation)
        print(
            f"[{number}/{len(derivations)}] {'DIFFERS' if lines else 'same   '} {name}", flush=True
        )
        for line in lines:
            print(f"    {line}", flush=True)
        bad += bool(lines)
    print(f"reproduce: {len(derivations)} steps built again, {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
