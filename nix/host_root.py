"""Build a folder of programs that run on any Linux, out of an unpacked Debian root.

Takes what the list names, and the libraries that those files need (tree.py). Then each program is
told to start with our own loader and to look for libraries in our own folders first, whatever the
user's environment says, and the loader forgets the system's folders and cache. Reads the
environment: source, list, folders, compile, wrap, seed, out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import bytecode
import elf
import tree

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = f"{LIBRARIES}/ld-linux-x86-64.so.2"
# Strings of the loader that name places of the system it runs on; each is replaced in its length.
SYSTEM_PLACES = (
    b"/etc/ld.so.cache\0",
    b"/lib/x86_64-linux-gnu/\0/usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0",
)


def expand(line: str) -> list[str]:
    """`a{b,c}d` as [`abd`, `acd`]."""
    match = re.search(r"\{([^}]*)\}", line)
    if match is None:
        return [line]
    return [line[: match.start()] + part + line[match.end() :] for part in match[1].split(",")]


def forget_system(loader: Path) -> None:
    """Make the loader look for libraries where it is told to and nowhere else."""
    data = loader.read_bytes()
    for places in SYSTEM_PLACES:
        if places not in data:
            raise tree.BuildError(
                f"{loader} does not hold {places!r} as expected; look how it changed"
            )
        nowhere = b"\0".join(
            b"/" + b"-" * (len(p) - 2) + p[-1:] if p else p for p in places.split(b"\0")
        )
        data = data.replace(places, nowhere)
    loader.write_bytes(data)


def wrap(out: Path, program: str, options: str) -> None:
    """Start bin/PROGRAM with options before the user's own; @out@ in them is this folder."""
    start = out / "bin" / program
    start.unlink()
    command = f'{out}/usr/bin/{program} {options.replace("@out@", str(out))} "$@"'
    start.write_text(f"#!{os.environ['seed']}/bin/busybox sh\nexec {command}\n")
    start.chmod(0o755)


def main() -> None:
    """Build $out."""
    environment = os.environ
    source, out = Path(environment["source"]), Path(environment["out"])
    folders = [LIBRARIES, *environment["folders"].split()]
    lines = [part for line in environment["list"].splitlines() for part in expand(line.strip())]
    chosen = tree.select(tree.walk(source), lines)
    paths = tree.with_libraries(source, chosen, folders)
    tree.copy(source, paths, out)
    for path in paths:
        if path != LOADER:
            elf.relocate(
                out / path, out / LOADER, ":".join(str(out / folder) for folder in folders)
            )
    forget_system(out / LOADER)
    for name in ("share", "lib64"):
        if (out / "usr" / name).exists():
            (out / name).symlink_to(f"usr/{name}")
    (out / "bin").mkdir()
    for program in sorted((out / "usr/bin").glob("*")):
        (out / "bin" / program.name).symlink_to(f"../usr/bin/{program.name}")
    if environment["wrap"]:
        wrap(out, *environment["wrap"].split(maxsplit=1))
    if environment["compile"]:
        bytecode.compile_tree(out / environment["compile"])
        version = Path(environment["compile"]).name
        (out / "bin/python3").symlink_to(f"../usr/bin/{version}")


if __name__ == "__main__":
    try:
        main()
    except (tree.BuildError, elf.ElfError) as error:
        tree.fail(error)
