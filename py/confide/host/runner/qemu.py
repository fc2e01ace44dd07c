"""The virtual machine as QEMU arguments. They fix everything that a boot register depends on.

What is fixed, with the register (PCR) that would show a change: firmware (0); no option ROMs and no
graphics (2, 3); one boot disk or one kernel, and nothing else to boot from (4, 5); empty firmware
variables, so no Secure Boot (7). Memory, processors and further disks change no register that a
manifest pins.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confide.errors import ConfigError
from confide.protocol.configdisk import SERIAL as CONFIG_SERIAL

TOOLS_VARIABLE = "CONFIDE_QEMU"
MODEL_SERIAL = "confide-model-"
HOST_IN_GUEST = "10.0.2.2"  # what QEMU's user-mode network calls this computer
# All that QEMU emulates, but not the claim that "rep movsb" and "rep stosb" are fast: the emulator
# works byte by byte there. Without it, kernel and C library move eight bytes or more at once.
EMULATED_CPU = "max,-erms,-fsrm,-fsrs,-fsrc,-fzrm"
TRANSLATION_MIB = 256  # code cache of the emulator; an engine's code is larger than the default


@dataclass(frozen=True)
class Tools:
    """The folder with QEMU, swtpm and the firmware."""

    folder: Path

    @classmethod
    def find(cls, folder: Path | None = None) -> Tools:
        """The tools in `folder`, or else in $CONFIDE_QEMU.

        Raises:
            ConfigError: Neither is given, or a file is missing.
        """
        named = str(folder or os.environ.get(TOOLS_VARIABLE, ""))
        if not named:
            raise ConfigError(
                "no-qemu",
                "the folder with QEMU, swtpm and the firmware is unknown",
                expected=f"that folder in {TOOLS_VARIABLE} or --tools",
                seen="neither",
                next="use `nix run .#confide`, or give the folder that `nix build .#qemu` makes",
            )
        tools = cls(Path(named))
        for path in (tools.qemu, tools.swtpm, tools.firmware, tools.variables):
            if not path.exists():
                raise ConfigError(
                    "no-qemu",
                    "a file of the virtual machine is missing",
                    expected=str(path),
                    seen="no such file",
                    next=f"set {TOOLS_VARIABLE} to the folder that `nix build .#qemu` makes",
                )
        return tools

    @property
    def qemu(self) -> Path:
        """The emulator."""
        return self.folder / "bin/qemu-system-x86_64"

    @property
    def swtpm(self) -> Path:
        """The software TPM."""
        return self.folder / "bin/swtpm"

    @property
    def firmware(self) -> Path:
        """OVMF's code, without Secure Boot."""
        return self.folder / "share/OVMF/OVMF_CODE_4M.fd"

    @property
    def variables(self) -> Path:
        """OVMF's variable store as it is before a first boot."""
        return self.folder / "share/OVMF/OVMF_VARS_4M.fd"


@dataclass(frozen=True)
class DirectBoot:
    """What the firmware boots in place of a disk: the parts of its unified kernel image."""

    kernel: Path
    initrd: Path
    command_line: str

    @classmethod
    def of(cls, image: Path) -> DirectBoot:
        """The parts in an image's folder. Raises OSError if one is missing."""
        boot = image / "boot"
        return cls(boot / "linux", boot / "initrd", (boot / "cmdline").read_text())


@dataclass(frozen=True)
class MachineSpec:
    """One machine.

    `ports` maps guest ports to ports of 127.0.0.1. `kvm` is the result of the trial. Without
    `direct`, the machine boots from `disk`. `tpm` and `monitor` are inherited descriptors of
    connected sockets. `extra` are further arguments, for tests that play a hostile host.
    """

    disk: Path
    variables: Path
    console: Path
    memory_mib: int
    cpus: int
    kvm: bool
    tpm: int
    monitor: int
    direct: DirectBoot | None = None
    config_disk: Path | None = None
    model_disks: Sequence[Path] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    extra: Sequence[str] = ()


def base_arguments(tools: Tools, variables: Path, console: Path, *, kvm: bool) -> list[str]:
    """Board, processor, firmware and serial console; the KVM trial needs only these."""
    accelerator = "kvm" if kvm else f"tcg,thread=multi,tb-size={TRANSLATION_MIB}"
    return [
        str(tools.qemu),
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",  # a panic ends the machine, so that it is noticed
        "-display",
        "none",
        "-machine",
        "q35,smm=off",
        "-accel",
        accelerator,
        "-cpu",
        "host" if kvm else EMULATED_CPU,
        "-drive",
        f"if=pflash,unit=0,format=raw,readonly=on,file={_value(tools.firmware)}",
        "-drive",
        f"if=pflash,unit=1,format=raw,file={_value(variables)}",
        "-chardev",
        f"file,id=console,path={_value(console)}",
        "-serial",
        "chardev:console",
    ]


def arguments(tools: Tools, spec: MachineSpec) -> list[str]:
    """QEMU's argument list for `spec`."""
    argv = base_arguments(tools, spec.variables, spec.console, kvm=spec.kvm)
    argv += ["-m", str(spec.memory_mib), "-smp", str(spec.cpus)]
    argv += ["-chardev", f"socket,id=monitor,fd={spec.monitor}"]
    argv += ["-mon", "chardev=monitor,mode=control"]
    argv += ["-chardev", f"socket,id=tpm,fd={spec.tpm}"]
    argv += ["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]
    if spec.direct is None:
        argv += _disk("boot", spec.disk, "bootindex=0")
    else:
        argv += ["-kernel", str(spec.direct.kernel), "-initrd", str(spec.direct.initrd)]
        argv += ["-append", spec.direct.command_line, *_disk("boot", spec.disk)]
    if spec.config_disk is not None:
        argv += _disk("config", spec.config_disk, f"serial={CONFIG_SERIAL}")
    for number, path in enumerate(spec.model_disks):
        argv += _disk(f"model{number}", path, f"serial={MODEL_SERIAL}{number}")
    forwards = "".join(
        f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for guest, host in spec.ports.items()
    )
    # An option ROM would be measured, and could boot from the network
    argv += ["-netdev", f"user,id=net,ipv6=off{forwards}"]
    argv += ["-device", "virtio-net-pci,netdev=net,romfile="]
    return argv + list(spec.extra)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no program uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _disk(name: str, path: Path, *options: str) -> list[str]:
    """A read-only virtio disk: a guest must not write to the host's files."""
    drive = f"if=none,id={name},format=raw,readonly=on,file={_value(path)}"
    device = ",".join(("virtio-blk-pci", f"drive={name}", *options))
    return ["-drive", drive, "-device", device]


def _value(path: Path) -> str:
    """A path as the value of an option: QEMU reads two commas as one."""
    return str(path).replace(",", ",,")
