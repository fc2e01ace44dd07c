"""Build, for each TDX machine in some shapes files, what its firmware is given to measure.

One folder per machine with the fw_cfg items table-loader, rsdp, tables, bootorder and boot-menu,
and with smbios, the SMBIOS structures as the firmware completes them. They come from a run of the
same firmware and the same kernel on the same QEMU, emulated: without TDX the machine has another
accelerator and another CPU, and nothing else differs in what is read here (docs/decisions/067).
A GPU that a host passes through stands behind a port of its own. The tables say that the port is
taken, not by what, so a device that every QEMU has stands in for it (docs/decisions/100).
NAME.arguments is how a machine is started that measures these, an argument a line. Reads the
environment: firmware, kernel, qemu, shapes (the files), out.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fw_cfg

# What is read, by the name of its file here; from "etc/" on they are named by the fw_cfg directory.
FILES = {
    "table-loader": "etc/table-loader",
    "rsdp": "etc/acpi/rsdp",
    "tables": "etc/acpi/tables",
    "bootorder": "bootorder",
}
BOOT_MENU = 0x0E
# The firmware measures these too where they exist; machines of ours have none of them.
UNWANTED = (
    "etc/boot-menu-wait",
    "etc/extra-pci-roots",
    "etc/reserved-memory-end",
    "opt/ovmf/X-PciMmio64Mb",
)
# The kernel's first words, on a command line that makes it speak early.
KERNEL_SPEAKS = b"Linux version"
SPEAK_EARLY = "console=ttyS0 earlyprintk=ttyS0,115200"
SECONDS = 300  # one takes two
# A TD has its host's CPU, which the SMBIOS tables would name; any fixed value but 0 hides it.
PROCESSOR_ID = 1
# From 46 bits on, the firmware places PCI windows where it does with 46. The vendor: for a
# processor of AMD's, which the emulated one would be, QEMU moves large memory above 1 TiB.
EMULATED = ["-accel", "tcg", "-cpu", "max,phys-bits=46,vendor=GenuineIntel"]
# Machines larger than this computer can run as far as is needed: they touch little of their memory.
MEMORY = "memory-backend-ram,id=memory,reserve=off,size={}M"
CONFIDENTIAL = ["-accel", "kvm", "-cpu", "host", "-object", "tdx-guest,id=tdx0"]
# In the tables the 64-bit PCI window ends with the devices' memory, or has this size if that is
# more: larger than what 8 GPUs need, it hides which GPUs there are.
PCI_WINDOW = ["-global", "q35-pcihost.pci-hole64-size=4096G"]
GPU_MEMORY = "256G"  # an H200's; any size below the window's gives the same tables


def arguments(shape: Mapping[str, Any], *, emulated: bool) -> list[str]:
    """QEMU's arguments for a machine, less its firmware, payload, console and what disks hold."""
    special = "memory-backend=memory" if emulated else "confidential-guest-support=tdx0"
    options = ["-nodefaults", "-no-user-config", "-display", "none"]
    options += ["-machine", f"{shape['machine']},{special}"]
    options += EMULATED if emulated else CONFIDENTIAL
    if emulated:
        options += ["-object", MEMORY.format(shape["memory_mib"])]
    options += ["-m", str(shape["memory_mib"]), "-smp", str(shape["vcpus"])]
    options += ["-smbios", f"type=4,processor-id={PROCESSOR_ID}"]
    for number in range(shape["disks"]):
        options += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    # An option ROM would be measured, and would offer to boot from the network.
    options += ["-device", "virtio-net-pci,netdev=network,romfile="]
    return [*options, *gpu_arguments(shape["gpus"], emulated=emulated)]


def gpu_arguments(count: int, *, emulated: bool) -> list[str]:
    """GPUs, each behind a port of its own, whose memory can have its whole size there."""
    if not count:
        return []
    options = PCI_WINDOW if emulated else [*PCI_WINDOW, "-object", "iommufd,id=iommufd0"]
    for number in range(count):
        port = f"gpu{number}"
        gpu = f"pci-testdev,bus={port},membar={GPU_MEMORY}"
        if not emulated:
            # Without its option ROM, which would be measured.
            gpu = f"vfio-pci,bus={port},host=GPU{number},iommufd=iommufd0,rombar=0"
        bridge = f"pcie-root-port,id={port},chassis={number + 1}"
        options = [*options, "-device", bridge, "-device", gpu]
    return options


def launch(shape: Mapping[str, Any]) -> list[str]:
    """How to start the machine; words in capitals stand for files and values of the user's."""
    options = arguments(shape, emulated=False)
    for number in range(shape["disks"]):
        drive = f"driver=raw,node-name=disk{number},read-only=on"
        options += ["-blockdev", f"{drive},file.driver=file,file.filename=DISK{number}"]
    options += ["-netdev", "user,id=network", "-serial", "stdio", "-bios", "OVMF.tdx.fd"]
    return [*options, "-kernel", "boot/linux", "-initrd", "boot/initrd", "-append", "CMDLINE"]


def emulation(
    shape: Mapping[str, Any], qemu: Path, firmware: Path, kernel: Path, initrd: Path, console: Path
) -> list[str]:
    """QEMU's command line for the emulated machine; the kernel speaks into the file `console`."""
    argv = [str(qemu), *arguments(shape, emulated=True)]
    for number in range(shape["disks"]):
        argv += ["-blockdev", f"driver=null-co,node-name=disk{number},read-only=on"]
    argv += ["-netdev", "hubport,id=network,hubid=0"]
    argv += ["-serial", f"file:{console}", "-bios", str(firmware / "OVMF.tdx.fd")]
    return [*argv, "-kernel", str(kernel), "-initrd", str(initrd), "-append", SPEAK_EARLY]


def build(shape: Mapping[str, Any], firmware: Path, kernel: Path, qemu: Path, out: Path) -> None:
    """Write the folder of one machine."""
    with tempfile.TemporaryDirectory() as scratch:
        console = Path(scratch, "console")
        program = qemu / "bin/qemu-system-x86_64"
        linux, initrd = kernel / "vmlinuz", kernel / "initrd.img"
        argv = emulation(shape, program, firmware, linux, initrd, console)
        memory = shape["memory_mib"] << 20
        with fw_cfg.run(
            argv, console=console, until=KERNEL_SPEAKS, memory=memory, seconds=SECONDS
        ) as machine:
            items = machine.files()
            if unwanted := sorted(items.directory.keys() & set(UNWANTED)):
                raise fw_cfg.GuestError(f"QEMU gives the firmware {', '.join(unwanted)} as well")
            found = {name: items[item] for name, item in FILES.items()}
            found["boot-menu"] = machine.item(BOOT_MENU, 2)
            found["smbios"] = machine.smbios()
    out.mkdir()
    for name, data in found.items():
        (out / name).write_bytes(data)
    out.with_name(f"{out.name}.arguments").write_text("\n".join(launch(shape)) + "\n")


def main() -> None:
    """Build $out."""
    places = (Path(os.environ[name]) for name in ("firmware", "kernel", "qemu", "out"))
    firmware, kernel, qemu, out = places
    out.mkdir()
    files = [Path(name) for name in os.environ["shapes"].split()]
    wanted = [shape for file in files for shape in json.loads(file.read_text())["tdx"]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            shape["name"]: pool.submit(build, shape, firmware, kernel, qemu, out / shape["name"])
            for shape in wanted
        }
        for name, job in jobs.items():
            try:
                job.result()
            except fw_cfg.GuestError as error:
                pool.shutdown(cancel_futures=True)
                sys.exit(f"error: {name}: {error}")


if __name__ == "__main__":
    main()
