"""Build the kernel image and the initrd: busybox, dmsetup, kernel modules in order, one script.

The kernel is a folder of build_kernel.py. The output folder gets vmlinuz (as it is there),
initrd.img (newc cpio, zstd), kernel-release and packages.txt (the package files that brought
something). A module list has one module a line with its parameters, "?" before it if the machine
may do without. It is checked: a module that another one needs must stand before it, and each must
have been built for this kernel. Without a list, the kernel has all that it needs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tree

# Programs that the init script uses, all of them busybox.
APPLETS = (
    *("sh", "mount", "insmod", "sysctl", "switch_root"),
    *("cat", "chmod", "chown", "cp", "dd", "grep", "mkdir", "mknod", "sed", "sleep"),
)
FOLDERS = ("dev", "proc", "sys", "run", "root", "bin", "modules.d")


def cpio(root: Path) -> bytes:
    """The tree as a newc archive: sorted, owner 0, time 0, inode numbers from 1."""
    out = bytearray()

    def entry(number: int, name: str, mode: int, data: bytes) -> None:
        raw = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        out.extend(b"070701" + b"".join(b"%08X" % f for f in fields) + raw)
        out.extend(b"\0" * (-len(out) % 4) + data)
        out.extend(b"\0" * (-len(out) % 4))

    names = sorted(os.path.relpath(p, root) for p in root.rglob("*"))
    for number, name in enumerate(names, 1):
        path = root / name
        if path.is_symlink():
            entry(number, name, stat.S_IFLNK | 0o777, os.readlink(path).encode())
        elif path.is_dir():
            entry(number, name, stat.S_IFDIR | 0o755, b"")
        else:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            entry(number, name, stat.S_IFREG | mode, path.read_bytes())
    entry(0, "TRAILER!!!", 0, b"")
    return bytes(out)


def module_name(name: str) -> str:
    """Modules are known with "-" or "_": one spelling to compare."""
    return name.replace("-", "_")


def module_fact(data: bytes, name: str) -> str:
    """What a module says of itself under this name ("depends", "vermagic"); "" if nothing."""
    found = re.search(rb"(?<=\0)" + name.encode() + rb"=([^\0]*)\0", data)
    return found[1].decode() if found else ""


def module_files(folder: Path) -> dict[str, Path]:
    """Every module in the folder, by its name."""
    return {module_name(path.stem): path for path in folder.glob("*.ko")}


def install_modules(files: Mapping[str, Path], release: str, listed: list[str], to: Path) -> None:
    """Copy the listed modules; check their order, and that they are for the kernel `release`."""
    loaded: set[str] = set()
    for entry in listed:
        name = entry.removeprefix("?").split()[0]
        if (file := files.get(module_name(name))) is None:
            raise tree.BuildError(f"the driver has no module {name}; expected it from the list")
        data = file.read_bytes()
        if (built_for := module_fact(data, "vermagic").partition(" ")[0]) != release:
            raise tree.BuildError(f"module {name} is for Linux {built_for}, expected {release}")
        depends = {module_name(d) for d in module_fact(data, "depends").split(",") if d}
        if depends - loaded:
            missing = ", ".join(sorted(depends - loaded))
            raise tree.BuildError(f"module {name} needs {missing} before it in the list")
        loaded.add(module_name(name))
        (to / f"{name}.ko").write_bytes(data)


def read_list(file: Path) -> list[str]:
    """The lines of a module list without comments."""
    lines = [line.split("#", 1)[0].strip() for line in file.read_text().splitlines()]
    return [line for line in lines if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, nargs="+", help="busybox, dmsetup, libraries")
    parser.add_argument("--kernel", type=Path, required=True, help="output of build_kernel.py")
    parser.add_argument("--modules", type=Path, help="list of modules in load order")
    parser.add_argument("--driver", type=Path, help="the folder that has them")
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--setup", type=Path, help="what init does for them once they are loaded")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as scratch:
        unpacked, root = Path(scratch, "unpacked"), Path(scratch, "root")
        owner = tree.unpack(args.package, unpacked)
        release = (args.kernel / "kernel-release").read_text().strip()
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
        paths = tree.with_libraries(unpacked, ["usr/sbin/dmsetup"], tree.LIBRARY_FOLDERS)
        tree.copy(unpacked, paths, root)
        (root / "lib64").symlink_to("usr/lib64")  # ELF files name their interpreter through it
        (root / "bin/dmsetup").symlink_to("../usr/sbin/dmsetup")
        tree.copy(unpacked, ["usr/bin/busybox"], root)
        brought = {owner[p] for p in [*paths, "usr/bin/busybox"]}
        for built in filter(None, (args.kernel, args.driver)):
            brought |= set((built / "packages.txt").read_text().splitlines())
        (args.output / "packages.txt").write_text("".join(f"{p}\n" for p in sorted(brought)))
        (root / "usr/bin/busybox").rename(root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        shutil.copyfile(args.init, root / "init")
        (root / "init").chmod(0o755)
        if args.setup:
            shutil.copyfile(args.setup, root / "driver")

        shutil.copyfile(args.kernel / "vmlinuz", args.output / "vmlinuz")
        (args.output / "kernel-release").write_text(release + "\n")
        if args.modules:
            listed = read_list(args.modules)
            (root / "modules").write_text("".join(f"{m}\n" for m in listed))
            install_modules(module_files(args.driver), release, listed, root / "modules.d")
        subprocess.run(
            [
                "zstd",
                "-12",
                "--single-thread",
                "--quiet",
                "--force",
                "-o",
                str(args.output / "initrd.img"),
                "-",
            ],
            input=cpio(root),
            check=True,
        )


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
