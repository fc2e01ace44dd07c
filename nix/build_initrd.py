"""Build the kernel image and the initrd: busybox, dmsetup, kernel modules in order, one script.

The output folder gets vmlinuz (as packaged), initrd.img (newc cpio, zstd), kernel-release and
packages.txt (the package files that brought something). The module list is checked: a module that
another one needs must stand before it.
"""

from __future__ import annotations

import argparse
import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import tree

# Programs that the init script uses, all of them busybox.
APPLETS = (
    *("sh", "mount", "insmod", "sysctl", "switch_root"),
    *("cat", "chmod", "chown", "cp", "dd", "grep", "mkdir", "sed", "sleep"),
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


def install_modules(kernel: Path, listed: list[str], target: Path) -> None:
    """Unpack the listed modules (entries may start with "?") and check their order."""
    files = {module_name(p.name.removesuffix(".ko.xz")): p for p in kernel.rglob("*.ko.xz")}
    loaded: set[str] = set()
    for entry in listed:
        name = entry.removeprefix("?")
        if module_name(name) not in files:
            raise tree.BuildError(f"the kernel package has no module {name}")
        data = lzma.decompress(files[module_name(name)].read_bytes())
        found = re.search(rb"(?<=\0)depends=([^\0]*)\0", data)
        depends = {module_name(d) for d in found[1].decode().split(",") if d} if found else set()
        if depends - loaded:
            missing = ", ".join(sorted(depends - loaded))
            raise tree.BuildError(f"module {name} needs {missing} before it in the list")
        loaded.add(module_name(name))
        (target / f"{name}.ko").write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, nargs="+", help="busybox, dmsetup, libraries")
    parser.add_argument("--kernel", type=Path, nargs=1, help="the kernel's package")
    parser.add_argument("--modules", type=Path, required=True, help="list of modules in load order")
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as scratch:
        unpacked, kernel, root = (Path(scratch, n) for n in ("unpacked", "kernel", "root"))
        owner = tree.unpack(args.package, unpacked)
        tree.unpack(args.kernel, kernel)
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)
        paths = tree.with_libraries(unpacked, ["usr/sbin/dmsetup"], tree.LIBRARY_FOLDERS)
        tree.copy(unpacked, paths, root)
        (root / "lib64").symlink_to("usr/lib64")  # ELF files name their interpreter through it
        (root / "bin/dmsetup").symlink_to("../usr/sbin/dmsetup")
        tree.copy(unpacked, ["usr/bin/busybox"], root)
        brought = {owner[p] for p in [*paths, "usr/bin/busybox"]} | {p.name for p in args.kernel}
        (args.output / "packages.txt").write_text("".join(f"{p}\n" for p in sorted(brought)))
        (root / "usr/bin/busybox").rename(root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        shutil.copyfile(args.init, root / "init")
        (root / "init").chmod(0o755)
        lines = [line.split("#", 1)[0].strip() for line in args.modules.read_text().splitlines()]
        listed = [line for line in lines if line]
        (root / "modules").write_text("".join(f"{m}\n" for m in listed))
        install_modules(kernel, listed, root / "modules.d")

        (vmlinuz,) = (kernel / "boot").glob("vmlinuz-*")
        shutil.copyfile(vmlinuz, args.output / "vmlinuz")
        (args.output / "kernel-release").write_text(vmlinuz.name.removeprefix("vmlinuz-") + "\n")
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
