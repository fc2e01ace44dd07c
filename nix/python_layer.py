"""Unpack Python wheels into $out/site-packages and compile them; their programs go to $out/bin.

Reads the environment: wheels, python, seed, out. Each wheel's own RECORD was hashed with it.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import bytecode
import tree


def destination(name: str, out: Path) -> Path | None:
    """Where a wheel's member goes; None for what no program needs (headers, manual pages)."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return out / "site-packages" / name
    kind, _, rest = rest.partition("/")
    return {"purelib": out / "site-packages" / rest, "platlib": out / "site-packages" / rest,
            "scripts": out / "bin" / rest}.get(kind)  # fmt: skip


def main() -> None:
    """Build $out."""
    out, python = Path(os.environ["out"]), Path(os.environ["python"])
    libraries = python / "usr/lib/x86_64-linux-gnu"
    (out / "site-packages").mkdir(parents=True)
    for wheel in os.environ["wheels"].split():
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                target = destination(member.filename, out)
                if member.is_dir() or target is None:
                    continue
                if ".." in target.parts:
                    raise tree.BuildError(f"{wheel} has a member outside itself: {member.filename}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))
                if target.parent == out / "bin":
                    target.chmod(0o755)
                    start_with_our_loader(target, out, libraries)
    bytecode.compile_tree(out / "site-packages")


def start_with_our_loader(program: Path, out: Path, libraries: Path) -> None:
    """Leave a program that is no script as it is, and put in its place a script that starts it."""
    if program.read_bytes()[:4] != b"\x7fELF":
        return
    (out / "libexec").mkdir(exist_ok=True)
    binary = program.rename(out / "libexec" / program.name)
    command = f"{libraries}/ld-linux-x86-64.so.2 --library-path {libraries} {binary}"
    program.write_text(f'#!{os.environ["seed"]}/bin/busybox sh\nexec {command} "$@"\n')
    program.chmod(0o755)


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
