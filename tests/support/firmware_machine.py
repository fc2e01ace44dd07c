"""A machine with nothing but firmware and what a hostile host gives it, and its serial port.

Emulated without SEV: the page with the hashes of kernel, initrd and command line is put into memory
where an SEV-SNP launch puts it, so the firmware finds it and checks what it is given.
"""

from __future__ import annotations

import array
import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.host.runner.qemu import Tools
from confide.vendors.tpm import commands
from measure import ovmf
from measure.snp.kernel import KernelHashes

POLL_SECONDS = 0.1
START_SECONDS = 20
MEMORY_MIB = 512
_CONTROL_SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_c])|\0")
_SET_DATAFD = 0x10  # swtpm's control channel: CMD_SET_DATAFD, with a descriptor beside it


@dataclass(frozen=True)
class Launch:
    """What a genuine host gives the firmware, and what the launch measurement covers."""

    kernel: Path
    initrd: Path
    command_line: str

    def arguments(self) -> list[str]:
        """QEMU's arguments for them."""
        return [
            *("-kernel", str(self.kernel), "-initrd", str(self.initrd)),
            *("-append", self.command_line),
        ]

    def hashes(self, firmware: bytes, path: Path) -> list[str]:
        """QEMU's arguments for the page of hashes, written to `path`."""
        table = ovmf.parse(firmware, "firmware").hash_table
        assert table is not None
        line = self.command_line.encode()
        found = KernelHashes.of(self.kernel.read_bytes(), self.initrd.read_bytes(), line)
        path.write_bytes(found.page(0)[: table.size])
        return ["-device", f"loader,file={path},addr={table.base:#x},force-raw=on"]


@dataclass(frozen=True)
class Said:
    """What a machine wrote to its serial port until it was stopped, and after how many seconds.

    Attributes:
        ended: it reset itself, which ends it, before it was stopped.
    """

    text: str
    seconds: float
    ended: bool


def one_file(firmware: Path) -> list[str]:
    """QEMU's arguments for firmware in one file, as SEV-SNP and TDX machines load it."""
    return ["-bios", str(firmware)]


def two_files(tools: Tools, folder: Path) -> list[str]:
    """QEMU's arguments for the vTPM platform's firmware and its empty variables."""
    variables = folder / "variables.fd"
    shutil.copyfile(tools.variables, variables)
    return [
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={tools.firmware}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
    ]


def command(tools: Tools, serial: Path, memory_mib: int) -> list[str]:
    """QEMU's command line for board, processor, memory, and a serial port into a file."""
    return [
        *(str(tools.qemu), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "q35,smm=off", "-accel", "tcg", "-cpu", "max", "-smp", "1"),
        *("-m", str(memory_mib), "-serial", f"file:{serial}"),
    ]


def run(
    tools: Tools,
    folder: Path,
    arguments: Sequence[str],
    until: str,
    seconds: float,
    memory_mib: int = MEMORY_MIB,
    then: float = 0,
) -> Said:
    """Boots until the machine writes a text (regular expression), ends, or the time is over.

    Args:
        tools, folder: QEMU, and where its logs go.
        arguments: of QEMU: firmware and what else the host gives.
        until, seconds: the text, and how long to wait for it at most.
        memory_mib: of the machine.
        then: seconds to watch it further after the text.
    """
    serial = folder / "serial.log"
    serial.unlink(missing_ok=True)
    argv = [*command(tools, serial, memory_mib), *arguments]
    start = time.monotonic()
    with (folder / "qemu.log").open("wb") as log, subprocess.Popen(argv, stderr=log) as qemu:
        try:
            while qemu.poll() is None and time.monotonic() < start + seconds:
                if re.search(until, _read(serial)):
                    time.sleep(then)
                    break
                time.sleep(POLL_SECONDS)
        finally:
            qemu.kill()  # at once, so that a TPM keeps its registers
    assert qemu.returncode in (0, -9), (folder / "qemu.log").read_text()
    return Said(_read(serial), time.monotonic() - start, qemu.returncode == 0)


def _read(serial: Path) -> str:
    data = serial.read_bytes() if serial.exists() else b""
    return _CONTROL_SEQUENCE.sub(b"", data).decode("utf-8", "replace")


class Tpm:
    """A software TPM that outlives its machine, so that its registers can be read."""

    def __init__(self, folder: Path) -> None:
        self._control = folder / "tpm.socket"
        self.arguments = [
            *("-chardev", f"socket,id=tpm,path={self._control}"),
            *("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"),
        ]

    def registers(self, wanted: Iterable[int]) -> dict[int, bytes]:
        """PCRs of the SHA-256 bank, once the machine has ended."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(START_SECONDS)
            control.connect(str(self._control))
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.settimeout(START_SECONDS)
                rights = [
                    (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))
                ]
                control.sendmsg([_SET_DATAFD.to_bytes(4)], rights)
                assert control.recv(4) == bytes(4)

                def exchange(command: bytes) -> bytes:
                    ours.sendall(command)
                    return ours.recv(commands.MAX_RESPONSE)

                return commands.read_pcrs(exchange, wanted)


@contextlib.contextmanager
def software_tpm(tools: Tools, folder: Path) -> Iterator[Tpm]:
    """A new software TPM."""
    state = folder / "tpm"
    state.mkdir()
    tpm, path = Tpm(folder), folder / "tpm.socket"
    argv = [
        *(str(tools.swtpm), "socket", "--tpm2", "--tpmstate", f"dir={state}"),
        *("--ctrl", f"type=unixio,path={path}"),
    ]
    with (folder / "swtpm.log").open("wb") as log, subprocess.Popen(argv, stderr=log) as process:
        try:
            end = time.monotonic() + START_SECONDS
            while not path.exists():
                assert time.monotonic() < end, (folder / "swtpm.log").read_text()
                time.sleep(POLL_SECONDS)
            yield tpm
        finally:
            process.kill()
