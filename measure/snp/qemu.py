"""The QEMU command line that yields a predicted launch digest.

Only what the digest depends on, and what a machine cannot start without; disks, network and console
can be added, for they are not measured. Source: QEMU 11.1, docs/system/i386/amd-memory-encryption.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from measure.binding import HOST_DATA

PROGRAM = "qemu-system-x86_64"
# SMT allowed, no debugging, no migration agent, any ABI version (ABI 4.3); bit 17 is always set.
POLICY = 0x30000
# The same on every processor with SEV-SNP (CPUID 0x8000001f, EBX).
_ENCRYPTION_BIT = 51
_REDUCED_ADDRESS_BITS = 1


@dataclass(frozen=True)
class Boot:
    """A direct boot: paths of kernel and initrd ("" for none), and the command line."""

    kernel: str
    initrd: str
    command_line: str


@dataclass(frozen=True)
class Machine:
    """One launch.

    Attributes:
        firmware: path of the image.
        vcpu_type: QEMU's name.
        vcpus: 1 to 255.
        memory: as QEMU's -m takes it; not measured.
        policy: guest policy (64 bits); not in the digest, but in reports and in the ID block.
        boot: what is booted directly, with hashes; None to boot from a disk.
        id_properties: of `idblock.qemu_properties`, or "".
        host_data: what the launch carries for a manifest (32 bytes); None for no manifest.
    """

    firmware: str
    vcpu_type: str
    vcpus: int
    memory: str
    policy: int
    boot: Boot | None
    id_properties: str = ""
    host_data: bytes | None = None


def arguments(machine: Machine) -> list[str]:
    """The command line as a list, the program first."""
    guest = ",".join(
        (
            "sev-snp-guest",
            "id=sev0",
            f"cbitpos={_ENCRYPTION_BIT}",
            f"reduced-phys-bits={_REDUCED_ADDRESS_BITS}",
            f"policy={machine.policy:#x}",
            f"kernel-hashes={'on' if machine.boot else 'off'}",
            *((machine.id_properties,) if machine.id_properties else ()),
            *((HOST_DATA.argument(machine.host_data),) if machine.host_data else ()),
        )
    )
    argv = [
        PROGRAM,
        "-nodefaults",
        "-no-user-config",
        "-accel",
        "kvm",
        # The VMware port would read registers that the host can no longer see.
        "-machine",
        "q35,confidential-guest-support=sev0,vmport=off",
        "-object",
        guest,
        "-cpu",
        machine.vcpu_type,
        # No vCPU can be added later: it would not be measured.
        "-smp",
        f"cpus={machine.vcpus},maxcpus={machine.vcpus}",
        "-m",
        machine.memory,
        "-bios",
        machine.firmware,
    ]
    if machine.boot:
        argv += ["-kernel", machine.boot.kernel]
        if machine.boot.initrd:
            argv += ["-initrd", machine.boot.initrd]
        argv += ["-append", machine.boot.command_line]
    return argv


def render(argv: list[str]) -> str:
    """The command line as a shell takes it, one option on each line."""
    lines: list[str] = []
    for argument in argv:
        if argument.startswith("-") or not lines:
            lines.append(shlex.quote(argument))
        else:
            lines[-1] += " " + shlex.quote(argument)
    return " \\\n  ".join(lines)
