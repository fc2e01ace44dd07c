"""Build nvidia.ko and nvidia-uvm.ko for our own kernel, from locked driver packages.

Runs in a root with a compiler; the kernel is an output of build_kernel.py. The packages are those
of one driver: kernel modules as source (usr/src/FOLDER with Kbuild), GSP firmware, libraries;
Debian's or NVIDIA's, which have the same files in other folders. The output folder gets the modules
without debug information, `version` (the driver's), `kernel-release` (that the modules are for) and
packages.txt (the package file that brought the source). Versions are checked before anything is
compiled: a driver only works with firmware and libraries of exactly its own. The build fails if a
module uses what the kernel does not export, and at every warning that is not known here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import tree

# What a machine that computes needs. The others are for displays and for other vendors' network
# cards, which reach past the protection of the memory.
MODULES = ("nvidia", "nvidia-uvm")
# The firmware of every GPU that has confidential computing, from Hopper on.
FIRMWARE = "gsp_ga10x.bin"
# Libraries that speak to the module; it refuses those of another version.
LIBRARIES = (
    *("libcuda", "libnvidia-cfg", "libnvidia-ml"),
    *("libnvidia-pkcs11-openssl3", "libnvidia-ptxjitcompiler"),
)
# Warnings that are known: one for each function in the core, 9000 times, which was compiled without
# return thunks; and a macro of the driver's that the kernel has under the same name.
KNOWN = ("'naked' return found in MITIGATION_RETHUNK build", '"BITS_TO_BYTES" redefined')
# Features of the kernel that the driver is told not to look for, and so does without.
NOT_LOOKED_FOR = {
    # Resizing a GPU's window into memory is off unless asked for, a virtual machine's windows are
    # its host's affair, and the function's arguments are others since Linux 6.12.117 than driver
    # 550 expects.
    "nvidia/nvidia.Kbuild": ("FUNCTION", "pci_rebar_get_possible_sizes"),
    # The driver finds their declaration, which our kernel has without mmu notifiers, too. As with
    # its parameter uvm_enable_va_space_mm=0, which turns off what confidential mode never has.
    "nvidia-uvm/nvidia-uvm.Kbuild": ("TYPE", "mmu_notifier_ops_arch_invalidate_secondary_tlbs"),
}
BUILD = Path("/build/driver")  # the same in every build: paths end up in the modules


def find_source(root: Path) -> Path:
    """The one folder below usr/src that is a driver: Kbuild, and the core as an object file."""
    found = [p.parent.parent for p in root.glob("usr/src/*/nvidia/nv-kernel.o_binary")]
    if len(found) != 1:
        raise tree.BuildError(
            "the driver packages have the open kernel modules' source "
            f"{len(found)} times in usr/src, expected once; lock one driver's packages"
        )
    return found[0]


def source_version(source: Path) -> str:
    """The version that the modules will have, from their Kbuild."""
    found = re.search(r'NV_VERSION_STRING=\\"([0-9.]+)\\"', (source / "Kbuild").read_text())
    if found is None:
        raise tree.BuildError("the driver's Kbuild does not say its version (NV_VERSION_STRING)")
    return found[1]


def check_versions(root: Path, version: str) -> None:
    """Raise BuildError unless firmware and libraries of exactly this version are there."""
    firmware = sorted(p.parent.name for p in root.glob(f"usr/lib/firmware/nvidia/*/{FIRMWARE}"))
    if firmware != [version]:
        raise tree.BuildError(
            f"the kernel modules are {version} and need GSP firmware {FIRMWARE} of that version, "
            f"but the packages have {', '.join(firmware) or 'none'}; lock one driver's packages"
        )
    for name in LIBRARIES:
        files = root.glob(f"usr/lib/x86_64-linux-gnu/**/{name}.so.*.*")
        found = sorted({p.name.partition(".so.")[2] for p in files})
        if found != [version]:
            raise tree.BuildError(
                f"the kernel modules are {version} and need {name} of that version, "
                f"but the packages have {', '.join(found) or 'none'}; lock one driver's packages"
            )


def leave_out(source: Path) -> None:
    """Take out of the driver's makefiles what it shall not look for in a kernel."""
    for name, (kind, feature) in NOT_LOOKED_FOR.items():
        text = (source / name).read_text()
        test = f"NV_CONFTEST_{kind}_COMPILE_TESTS += {feature}\n"
        (source / name).write_text(text.replace(test, ""))


def unknown_warnings(lines: Iterable[str]) -> Iterator[str]:
    """The warnings of compiler, objtool and modpost among these lines that are not known."""
    for line in lines:
        if "warning: " in line.lower() and not any(known in line for known in KNOWN):
            yield line


def compile_modules(source: Path, kernel: Path) -> None:
    """Run the driver's own makefile; what it does goes to the build log.

    Args:
        source: of the driver.
        kernel: what compiling modules takes of the kernel (build/ of build_kernel.py's output).

    Raises:
        tree.BuildError: It does not compile, or not without a warning that is not known.
    """
    # A maintainer script would have made this link.
    programs = Path("/build/bin")
    programs.mkdir()
    (programs / "awk").symlink_to("/usr/bin/mawk")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    # Debug information, 200 MB of it, is dropped in the end: not linking it saves memory and time.
    subprocess.run(["strip", "--strip-debug", source / "nvidia/nv-kernel.o_binary"], check=True)
    jobs = os.environ.get("NIX_BUILD_CORES", "0")
    # Synchronized, or the lines of two programs run into each other.
    command = ["make", f"-j{jobs if jobs != '0' else os.cpu_count()}", "--output-sync", "modules"]
    command += ["ARCH=x86_64", "CC=gcc-14", "HOSTCC=gcc-14", f"SYSSRC={kernel}", f"SYSOUT={kernel}"]
    command.append(f"NV_KERNEL_MODULES={' '.join(MODULES)}")
    command.append("KCFLAGS=-g0")  # the last one counts: no debug information
    said: list[str] = []
    with subprocess.Popen(
        command,
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as make:
        for line in make.stdout or ():
            if not any(known in line for known in KNOWN):
                print(line, end="", flush=True)
                said.append(line)
    if make.returncode:
        raise tree.BuildError(f"the driver does not compile for the kernel {kernel}; see above")
    if warnings := list(unknown_warnings(said)):
        raise tree.BuildError(
            "the driver compiles with warnings that are not known; look at each, then name it in "
            f"KNOWN of nix/build_driver.py:\n  {'  '.join(warnings)}"
        )


def main() -> None:
    """Read the arguments and write the modules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, nargs="+", help="packages of one driver")
    parser.add_argument("--kernel", type=Path, required=True, help="output of build_kernel.py")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True)

    unpacked = Path("/build/unpacked")
    owner = tree.unpack(args.package, unpacked)
    source = find_source(unpacked)
    version = source_version(source)
    check_versions(unpacked, version)
    release = (args.kernel / "kernel-release").read_text().strip()
    print(f"driver: {version} for Linux {release}", flush=True)

    source_package = owner[str((source / "Kbuild").relative_to(unpacked))]
    leave_out(source)
    source.rename(BUILD)
    compile_modules(BUILD, args.kernel / "build")
    for module in MODULES:
        target = args.output / f"{module}.ko"
        shutil.copyfile(BUILD / f"{module}.ko", target)
        subprocess.run(["strip", "--strip-debug", target], check=True)
    (args.output / "version").write_text(version + "\n")
    (args.output / "kernel-release").write_text(release + "\n")
    (args.output / "packages.txt").write_text(source_package + "\n")


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
