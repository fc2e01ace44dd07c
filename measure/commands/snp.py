"""`measure snp`: SEV-SNP launch digests, the QEMU command line that yields them, the ID block."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from measure import image
from measure.binding import HOST_DATA
from measure.commands.common import (
    Commands,
    add_manifest,
    bound,
    launch_json,
    map_file,
    read,
    register,
    write,
)
from measure.errors import InputError
from measure.output import print_json, show
from measure.snp import cpu, features, firmware, idblock, kernel, qemu, vmsa
from measure.snp.launch import MAX_VCPUS, Launch
from measure.status import ExitStatus
from measure.uki import Section

_ID_PROPERTIES = re.compile(
    r"id-block=[A-Za-z0-9+/=]+,id-auth=[A-Za-z0-9+/=]+(,author-key-enabled=on)?"
)
_VCPUS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True)
class _Parts:
    """The contents of a direct boot; the command line as the kernel gets it."""

    kernel: bytes | memoryview
    initrd: bytes | memoryview
    command_line: bytes


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "snp",
        run,
        "print SEV-SNP launch digests of a disk image's kernel, or of given files",
        "snp --disk disk.raw --firmware OVMF.amdsev.fd --vcpu-type EPYC-Genoa --vcpus 1-8 "
        "--guest-features 0x1",
    )
    parser.add_argument("--firmware", required=True, help="the firmware (OVMF.amdsev.fd)")
    boot = parser.add_mutually_exclusive_group()
    boot.add_argument("--disk", help="a disk image: kernel, initrd and command line of its UKI")
    boot.add_argument(
        "--kernel", help="a kernel (without --kernel and --disk, no kernel is measured)"
    )
    parser.add_argument("--initrd", help="an initrd (with --kernel)")
    parser.add_argument("--append", metavar="TEXT", help="the command line (with --kernel)")
    parser.add_argument(
        "--vcpus", required=True, metavar="N", help="numbers of vCPUs: 4, or 1-255, or 1,2,4"
    )
    vcpu = parser.add_mutually_exclusive_group()
    vcpu.add_argument("--vcpu-type", help="QEMU's name of the vCPU type: " + ", ".join(cpu.TYPES))
    vcpu.add_argument(
        "--vcpu-signature", metavar="VALUE", type=_number, help="the CPUID signature of the vCPU"
    )
    vcpu.add_argument(
        "--vcpu-model", metavar="F/M/S", help="family, model and stepping of the vCPU"
    )
    parser.add_argument(
        "--guest-features",
        required=True,
        metavar="VALUE",
        type=_number,
        help="SEV features that the host turns on: 0x1, or 0x21 on a host with debug swap",
    )
    parser.add_argument(
        "--vmm",
        default=vmsa.QEMU.name,
        help="; ".join(f"{v.name}: {v.text}" for v in vmsa.VMMS.values()) + " (default: qemu)",
    )
    add_manifest(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_launch_options(parser)


def _add_launch_options(parser: argparse.ArgumentParser) -> None:
    """Options for launching what was measured; they need one number of vCPUs."""
    group = parser.add_argument_group("launch, for one number of vCPUs")
    group.add_argument("--qemu", action="store_true", help="print QEMU's command line instead")
    group.add_argument("--extract", metavar="DIR", help="write kernel and initrd of --disk here")
    group.add_argument("--memory", default="4G", help="memory, not measured (default: 4G)")
    group.add_argument(
        "--policy",
        type=_number,
        default=qemu.POLICY,
        help=f"guest policy, not in the digest (default: {qemu.POLICY:#x}: no debugging)",
    )
    group.add_argument("--id-check", metavar="FILE", help="what `measure snp-id` wrote")
    group.add_argument("--id-block", metavar="FILE", help="write the ID block, to be signed")
    group.add_argument("--guest-svn", type=_number, default=0, help="in the ID block (default: 0)")


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    parts = _parts(options)
    launch = Launch(
        firmware=firmware.from_image(map_file(options.firmware), options.firmware),
        kernel=kernel.KernelHashes.of(parts.kernel, parts.initrd, parts.command_line)
        if parts
        else None,
        vmm=vmsa.vmm_of(options.vmm),
        signature=_signature(options),
        guest_features=options.guest_features,
    )
    host_data = bound(HOST_DATA, options)
    counts = parse_vcpus(options.vcpus)
    digests = launch.digests_for(counts)
    if options.qemu or options.id_block or options.extract or options.id_check:
        if len(counts) != 1:
            raise InputError("a launch needs exactly one number of vCPUs", seen=options.vcpus)
        _prepare_launch(options, parts, counts[0], digests[counts[0]], host_data)
    if options.qemu:
        return ExitStatus.OK
    if options.json:
        print_json(
            {
                "vmm": launch.vmm.name,
                "vcpu_signature": launch.signature,
                "guest_features": launch.guest_features,
                "guest_feature_names": features.names(launch.guest_features),
                "components": [
                    {"component": c.name, "description": c.description, "digest": c.value.hex()}
                    for c in launch.components(max(counts))
                ],
                "launch_digests": {str(count): value.hex() for count, value in digests.items()},
                **launch_json(HOST_DATA, host_data),
            }
        )
        return ExitStatus.OK
    _print_table(launch, digests)
    if host_data is not None:
        show("", f"{'HOST_DATA':<14} {host_data.hex()}  SHA-256 of the manifest's bytes")
        show(f"{'launch':<14} {HOST_DATA.argument(host_data)}  of QEMU's object sev-snp-guest")
    return ExitStatus.OK


def _print_table(launch: Launch, digests: dict[int, bytes]) -> None:
    for component in launch.components(max(digests)):
        show(f"{component.name:<14} {component.value.hex()}  {component.description}")
    show(f"{'vmm':<14} {launch.vmm.name}: {launch.vmm.text}")
    if launch.signature is not None:
        show(f"{'vcpu signature':<14} {launch.signature:#x}")
    named = ", ".join(features.names(launch.guest_features))
    show(f"{'guest features':<14} {launch.guest_features:#x}: {named}")
    show("", "vCPUs launch digest")
    for count, value in digests.items():
        show(f"{count:>5} {value.hex()}")


def _prepare_launch(
    options: argparse.Namespace,
    parts: _Parts | None,
    vcpus: int,
    digest: bytes,
    host_data: bytes | None,
) -> None:
    """Writes the files that a launch needs, and prints QEMU's command line if wanted."""
    block = idblock.IdBlock(digest, options.policy, guest_svn=options.guest_svn).encode()
    if options.id_block:
        write(options.id_block, block)
    properties = _id_check(options.id_check, block) if options.id_check else ""
    boot = _boot(options, parts)
    if not options.qemu:
        return
    if options.vmm not in (vmsa.QEMU.name, vmsa.QEMU_WITHOUT_INIT2.name) or not options.vcpu_type:
        raise InputError("a QEMU command line needs a QEMU as --vmm, and --vcpu-type")
    if options.disk and not options.extract:
        raise InputError("QEMU needs kernel and initrd as files; write them with --extract DIR")
    machine = qemu.Machine(
        firmware=options.firmware,
        vcpu_type=options.vcpu_type,
        vcpus=vcpus,
        memory=options.memory,
        policy=options.policy,
        boot=boot,
        id_properties=properties,
        host_data=host_data,
    )
    show(*qemu.render(qemu.arguments(machine)).split("\n"))


def _id_check(path: str, block: bytes) -> str:
    """QEMU's properties in a file that `measure snp-id` wrote, if they are for this ID block."""
    properties = read(path, 1 << 16).decode("ascii", "replace").strip()
    if not _ID_PROPERTIES.fullmatch(properties):
        raise InputError("the file is not from `measure snp-id`", file=path, seen=properties[:80])
    expected = idblock.qemu_block(block)
    if not properties.startswith(expected + ","):
        raise InputError(
            "the ID block is of another launch: digest, policy or guest SVN differ",
            file=path,
            expected=expected,
            seen=properties[: len(expected)],
        )
    return properties


def _boot(options: argparse.Namespace, parts: _Parts | None) -> qemu.Boot | None:
    """Where kernel and initrd are, after they were extracted if that is wanted."""
    if options.extract and not options.disk:
        raise InputError("--extract takes kernel and initrd out of --disk, so give that too")
    if parts is None:
        return None
    kernel_path, initrd_path = options.kernel or "", options.initrd or ""
    if options.extract:
        folder = _folder(options.extract)
        kernel_path, initrd_path = str(folder / "linux"), str(folder / "initrd")
        write(kernel_path, bytes(parts.kernel))
        write(initrd_path, bytes(parts.initrd))
    return qemu.Boot(kernel_path, initrd_path, parts.command_line.decode("ascii"))


def _folder(path: str) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder: {error.strerror}", file=path) from None
    return folder


def _parts(options: argparse.Namespace) -> _Parts | None:
    """What is booted directly, or None."""
    if options.disk:
        if options.initrd or options.append:
            raise InputError("--disk has an initrd and a command line of its own")
        found = image.parse(map_file(options.disk), options.disk).uki
        return _Parts(
            found.sections[Section.LINUX],
            found.sections[Section.INITRD],
            found.command_line.encode("ascii"),
        )
    if options.kernel:
        initrd = map_file(options.initrd) if options.initrd else b""
        return _Parts(map_file(options.kernel), initrd, _ascii(options.append or ""))
    if options.initrd or options.append:
        raise InputError("--initrd and --append go with --kernel")
    return None


def _ascii(command_line: str) -> bytes:
    if not command_line.isascii():
        raise InputError("invalid command line", expected="ASCII", seen=ascii(command_line)[:80])
    return command_line.encode("ascii")


def _signature(options: argparse.Namespace) -> int | None:
    """The vCPU signature from whichever option gives it."""
    if options.vcpu_type:
        return cpu.signature_of(options.vcpu_type)
    if options.vcpu_model:
        numbers = options.vcpu_model.split("/")
        if len(numbers) != 3 or not all(n.isascii() and n.isdecimal() for n in numbers):
            raise InputError(
                "invalid --vcpu-model", expected="FAMILY/MODEL/STEPPING", seen=options.vcpu_model
            )
        return cpu.signature(*(int(number) for number in numbers))
    signature: int | None = options.vcpu_signature
    return signature


def parse_vcpus(text: str) -> list[int]:
    """Numbers and ranges, `1,2,4` or `1-255`, ascending, each once.

    Raises:
        InputError: anything else, or a number that is not 1 to 255.
    """
    counts: set[int] = set()
    for item in text.split(","):
        match = _VCPUS.fullmatch(item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= MAX_VCPUS:
            raise InputError(
                "invalid number of vCPUs", expected=f"1 to {MAX_VCPUS}, like 4 or 1-8", seen=text
            )
        counts.update(range(first, last + 1))
    return sorted(counts)


def _number(text: str) -> int:
    """A number, also in hexadecimal (0x...)."""
    return int(text, 0)
