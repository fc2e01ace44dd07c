"""A hostile host plugs devices into a running machine, or exchanges one: none gets a driver.

In the debug image, whose shell says what the kernel has. Our own kernel has no hot plug built in,
so it is the same without the two words on the command line, which are for Debian's kernel.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk

WORDS = ("acpiphp.disable=1", "pcie_ports=compat")
BOOT_SECONDS = 300
SHELL_SECONDS = 60
MONITOR_SECONDS = 60
SETTLE_SECONDS = 15  # far more than a kernel that listens takes to bind a device here
# Who tells the guest of a device behind a root port: the board's ACPI tables, or the port itself
SIGNALS = {
    "acpi": (),
    "port": ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"),
}
TAKEN = "0000:02:00.0"  # behind the second root port
DISK, OTHER = "0x010000", "0x00ff00"  # PCI classes
DRIVER = "virtio-pci"


class Host:
    """A booted machine with two root ports, a device behind the second, and its console."""

    def __init__(self, machine: Machine, shell: int, monitor: Path) -> None:
        self._machine, self._shell, self._asked = machine, shell, 0
        self._monitor = socket.socket(socket.AF_UNIX)
        self._monitor.settimeout(MONITOR_SECONDS)
        self._monitor.connect(str(monitor))
        self._replies = self._monitor.makefile("r")
        self._replies.readline()  # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: str) -> None:
        """Have QEMU do something; it says that it did."""
        request = {"execute": name, "arguments": arguments}
        self._monitor.sendall(json.dumps(request).encode() + b"\n")
        while "event" in (reply := json.loads(self._replies.readline())):
            pass
        assert "return" in reply, reply

    def devices(self) -> dict[str, tuple[str, str]]:
        """What the kernel has on its PCI buses: address -> class and driver ("" for none)."""
        self._asked += 1
        start, end = f"start-{self._asked}-", f"end-{self._asked}-"
        # In two pieces, so that the echo of the command is not taken for its output
        script = (
            f"echo {start[:3]}''{start[3:]}; for d in /sys/bus/pci/devices/*; do "
            "echo =${d##*/} $(cat $d/class) $(readlink $d/driver)=; "
            f"done; echo {end[:3]}''{end[3:]}\n"
        )
        os.write(self._shell, script.encode())
        deadline = time.monotonic() + SHELL_SECONDS
        while time.monotonic() < deadline:
            said = self._machine.console.read_text(errors="replace")
            if start in said and end in said.split(start)[-1]:
                listed = re.findall(
                    r"=([\w:.]+) (0x\w+) (?:[\w./]*/)?([\w-]*)=", said.split(start)[-1]
                )
                return {address: (kind, driver) for address, kind, driver in listed}
            time.sleep(0.2)
        raise self._machine.failure("has no shell", "no answer on its console")


@contextmanager
def booted(
    build: Build,
    config: ConfigDisk,
    image: Path,
    folder: Path,
    signal: str,
    left_out: tuple[str, ...] = (),
) -> Iterator[Host]:
    """The debug image, booted without some words of its command line."""
    (folder / "image/boot").mkdir(parents=True)
    for name in ("disk.raw", "boot/linux", "boot/initrd"):
        (folder / "image" / name).symlink_to(image / name)
    words = (image / "boot/cmdline").read_text().split()
    assert set(WORDS) < set(words)
    line = " ".join(word for word in words if word not in left_out)
    (folder / "image/boot/cmdline").write_text(line)
    typed, monitor = folder / "typed", folder / "monitor"
    os.mkfifo(typed)
    shell = os.open(typed, os.O_RDWR)
    extra = [
        *("-set", f"chardev.console.input-path={typed}"),
        *("-qmp", f"unix:{monitor},server=on,wait=off"),
        *("-device", "pcie-root-port,id=empty,chassis=1,addr=0x10"),
        *("-device", "pcie-root-port,id=taken,chassis=2,addr=0x11"),
        *("-netdev", "user,id=late,ipv6=off", "-device", "virtio-rng-pci,id=old,bus=taken"),
        *SIGNALS[signal],
    ]
    try:
        with Machine(
            folder / "image",
            "coordinator",
            config=config,
            run_dir=folder / "run",
            tools=build.tools,
            direct=True,
            extra=extra,
        ) as machine:
            machine.wait_ready(BOOT_SECONDS)
            yield Host(machine, shell, monitor)
    finally:
        os.close(shell)


def plug(host: Host) -> None:
    card = {"driver": "virtio-net-pci", "netdev": "late", "romfile": ""}
    host.command("device_add", id="new", bus="empty", **card)


@pytest.mark.parametrize("left_out", [(), WORDS], ids=["as built", "without the words"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_nothing_that_comes_later_is_seen(
    build: Build,
    config: ConfigDisk,
    debug_image: Path,
    tmp_path: Path,
    signal: str,
    left_out: tuple[str, ...],
) -> None:
    with booted(build, config, debug_image, tmp_path, signal, left_out) as host:
        before = host.devices()
        assert before[TAKEN] == (OTHER, DRIVER)
        assert list(before.values()).count((DISK, DRIVER)) == 1
        card = {"driver": "virtio-net-pci", "netdev": "late", "romfile": ""}
        host.command("device_add", id="new", bus="empty", **card)
        host.command("device_del", id="old")  # a request, which the guest does not hear
        time.sleep(SETTLE_SECONDS)
        assert host.devices() == before
