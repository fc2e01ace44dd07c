"""A hostile host plugs devices into a running machine, or exchanges one: none gets a driver.

In the debug image, whose shell says what the kernel has. That the devices are there is shown at
the end: the shell has the kernel look for them.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from confide.commands.system import Build
from tests.support.debug_machine import DebugMachine, booted

SETTLE_SECONDS = 15  # far more than a kernel that listens takes to bind a device here
# Who tells the guest of a device behind a root port: the board's ACPI tables, or the port itself
SIGNALS = {
    "acpi": (),
    "port": ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"),
}
# A port without a switch for its power shows a device as soon as it is plugged in
PORT = "pcie-root-port,power_controller_present=off"
TAKEN, LATE = "0000:02:00.0", "0000:01:00.0"  # behind the second root port, and the first
DISK, NETWORK, OTHER = "0x010000", "0x020000", "0x00ff00"  # PCI classes
DRIVER = "virtio-pci"


def devices(machine: DebugMachine) -> dict[str, tuple[str, str]]:
    """What the kernel has on its PCI buses: address -> class and driver ("" for none)."""
    said = machine.type(
        "for d in /sys/bus/pci/devices/*; do "
        "echo =${d##*/} $(cat $d/class) $(readlink $d/driver)=; done"
    )
    listed = re.findall(r"=([\w:.]+) (0x\w+) (?:[\w./]*/)?([\w-]*)=", said)
    return {address: (kind, driver) for address, kind, driver in listed}


@pytest.mark.parametrize("signal", SIGNALS)
def test_nothing_that_comes_later_is_seen(
    build: Build, debug_image: Path, tmp_path: Path, signal: str
) -> None:
    extra = [
        *("-device", f"{PORT},id=empty,chassis=1,addr=0x10"),
        *("-device", f"{PORT},id=taken,chassis=2,addr=0x11"),
        *("-netdev", "user,id=late,ipv6=off", "-device", "virtio-rng-pci,id=old,bus=taken"),
        *SIGNALS[signal],
    ]
    with booted(build, debug_image, tmp_path, extra) as machine:
        before = devices(machine)
        assert before[TAKEN] == (OTHER, DRIVER)
        assert list(before.values()).count((DISK, DRIVER)) == 2  # its own, and the config disk
        card = {"driver": "virtio-net-pci", "netdev": "late", "romfile": ""}
        machine.tell("device_add", id="new", bus="empty", **card)
        machine.tell("device_del", id="old")  # a request, which the guest does not hear
        time.sleep(SETTLE_SECONDS)
        assert devices(machine) == before
        # Asked by hand, the kernel finds the new device: it was there to be seen.
        machine.type("echo 1 >/sys/bus/pci/rescan")
        assert devices(machine) == {**before, LATE: (NETWORK, DRIVER)}
