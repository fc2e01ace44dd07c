"""Compile Linux from Debian's source package, with a configuration and patches of our own.

Runs in a root with the source and the tools (set kernel-tools). The output folder gets vmlinuz,
kernel-release, config (the final one, checked by kernel_config.py) and packages.txt (the package
file of the source). With modules, build/ has what compiling modules for this kernel takes. The bits
depend on nothing but the source and the arguments: user, host, time and path are fixed, and no key
or seed is made.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

import kernel_config
import tree

SOURCE = Path("/build/linux")  # the same in every build: paths end up in the kernel
PROGRAMS = Path("/build/bin")
FIXED = {
    "KBUILD_BUILD_TIMESTAMP": "1980-01-01",
    "KBUILD_BUILD_USER": "confide",
    "KBUILD_BUILD_HOST": "confide",
    "KBUILD_BUILD_VERSION": "1",
}


def make(*arguments: str) -> None:
    """Run the kernel's makefile.

    Raises:
        tree.BuildError: It failed; its own words are in the build log.
    """
    environment = {**os.environ, **FIXED, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    cores = os.environ.get("NIX_BUILD_CORES", "0")
    command = ["nice", "make", "-s", f"-j{cores if cores != '0' else os.cpu_count()}"]
    command += ["ARCH=x86_64", "CC=gcc-14", "HOSTCC=gcc-14", *arguments]
    if subprocess.run(command, cwd=SOURCE, env=environment, check=False).returncode:
        raise tree.BuildError(f"make {' '.join(arguments)} failed for the kernel; see above")


def unpack(patches: list[Path]) -> None:
    """Unpack the one source archive of the root, and patch it."""
    archives = sorted(Path("/usr/src").glob("linux-source-*.tar.xz"))
    if len(archives) != 1:
        raise tree.BuildError(f"/usr/src has {len(archives)} kernel sources, expected one")
    SOURCE.mkdir()
    subprocess.run(
        ["tar", "-xf", archives[0], "-C", SOURCE, "--strip-components=1", "--no-same-owner"],
        check=True,
    )
    for patch in patches:
        applied = subprocess.run(
            ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "--input", patch],
            cwd=SOURCE,
            check=False,
        )
        if applied.returncode:
            raise tree.BuildError(f"{patch.name} does not fit this kernel; adapt it")


def write_byte_code(source: Path) -> None:
    """Compile the machine's ACPI byte code to the C file that the kernel includes.

    Raises:
        tree.BuildError: ACPICA's compiler refuses it, or warns.
    """
    compiled = Path("/build/dsdt.aml")
    made = subprocess.run(["iasl", "-we", "-p", compiled.with_suffix(""), source], check=False)
    if made.returncode:
        raise tree.BuildError(f"iasl refuses {source.name}; see above")
    values = ", ".join(str(byte) for byte in compiled.read_bytes())
    (SOURCE / "include/confide-dsdt.h").write_text(
        f"static const unsigned char dsdt_aml_code[] = {{ {values} }};\n"
    )


def configure(fragments: list[Path], required: list[Path], forbidden: Path) -> None:
    """Write the final .config from what is asked for, all else off, and check it."""
    asked = [fragment.read_text() for fragment in fragments]
    (SOURCE / "asked.config").write_text("".join(asked))
    make("KCONFIG_ALLCONFIG=asked.config", "allnoconfig")
    final = (SOURCE / ".config").read_text()
    wanted = "".join(path.read_text() for path in required)
    kernel_config.check(final, asked, wanted, forbidden.read_text())


def main() -> None:
    """Read the arguments, and write the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="what is asked for")
    parser.add_argument("--required", type=Path, nargs="+", required=True)
    parser.add_argument("--forbidden", type=Path, required=True)
    parser.add_argument("--patch", type=Path, nargs="*", default=[])
    parser.add_argument("--byte-code", type=Path, required=True, help="the machine's own, as ASL")
    parser.add_argument("--package", type=Path, required=True, help="the source's package file")
    parser.add_argument("--modules", action="store_true", help="modules will be built for it")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True)
    PROGRAMS.mkdir()
    (PROGRAMS / "awk").symlink_to("/usr/bin/mawk")  # a maintainer script would have made this link

    unpack(args.patch)
    write_byte_code(args.byte_code)
    configure(args.config, args.required, args.forbidden)
    shutil.copyfile(SOURCE / ".config", args.output / "config")
    make("bzImage", *(["modules"] if args.modules else []))
    shutil.copyfile(SOURCE / "arch/x86/boot/bzImage", args.output / "vmlinuz")
    release = (SOURCE / "include/config/kernel.release").read_text()
    (args.output / "kernel-release").write_text(release)
    (args.output / "packages.txt").write_text(args.package.name + "\n")
    if args.modules:
        target = args.output / "build"
        make("run-command", f"KBUILD_RUN_COMMAND=+scripts/package/install-extmod-build {target}")
        shutil.copyfile(SOURCE / ".config", target / ".config")


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
