"""What the kernel of the images has and has not, asked of the running kernel.

The first tests start the coordinator's kernel and initrd alone, with a shell in place of init; the
last one boots the debug image.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from confide.commands.system import Build
from tests.support.debug_machine import booted
from tests.support.kernel_machine import COMMAND_LINE, Kernel

SHELL = "PATH=/bin; mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; "
# Devices that a host could show: QEMU's arguments, and the PCI class
DEVICES = {
    "NVMe": ("nvme,serial=n,drive=none", "0x010802"),
    "USB": ("qemu-xhci", "0x0c0330"),
    "SCSI": ("virtio-scsi-pci", "0x010000"),
    "consoles": ("virtio-serial-pci", "0x078000"),
    "random numbers": ("virtio-rng-pci", "0x00ff00"),
    "balloon": ("virtio-balloon-pci", "0x00ff00"),
    "input": ("virtio-keyboard-pci", "0x090000"),
    "sound": ("intel-hda", "0x040300"),
    "e1000": ("e1000,netdev=net,romfile=", "0x020000"),
    "e1000e": ("e1000e,romfile=", "0x020000"),
    "graphics": ("VGA,romfile=", "0x030000"),
    "watchdog": ("i6300esb", "0x088000"),
    "shared memory": ("ivshmem-plain,memdev=shared", "0x050000"),
    "serial ports": ("pci-serial", "0x070002"),
    "SD cards": ("sdhci-pci", "0x080501"),
    "9P": ("virtio-9p-pci,fsdev=files,mount_tag=files", "0x000200"),
}
BACKENDS = (
    *("-drive", "if=none,id=none,driver=null-co"),
    *("-netdev", "user,id=net,restrict=on"),
    *("-object", "memory-backend-ram,id=shared,size=1M"),
)
CONTROL = ("-device", "virtio-blk-pci,drive=disk", "-drive", "if=none,id=disk,driver=null-co")
# PCI and TPM; then the kernel's own: the system, its buses and a power button
OWN_DEVICES = {
    *("PNP0A08:00", "MSFT0101:00"),
    *("LNXSYSTM:00", "LNXSYBUS:00", "LNXSYBUS:01", "LNXPWRBN:00"),
}
VIRTIO, BLOCK = "virtio-pci", "virtio_blk"


@pytest.fixture(scope="module")
def kernel(build: Build) -> Kernel:
    return Kernel(build.tools, build.images / "coordinator")


def asked(kernel: Kernel, folder: Path, script: str, *extra: str) -> str:
    """What a shell script in place of init says."""
    line = f'{COMMAND_LINE} quiet rdinit=/bin/sh -- -c "{SHELL}{script}"'
    return kernel.boot(folder, *extra, line=line)


def test_a_device_of_another_kind_gets_no_driver(kernel: Kernel, tmp_path: Path) -> None:
    """One that is a virtio device gets the bus's driver, and no driver of its own."""
    files = ["-fsdev", f"local,id=files,security_model=none,readonly=on,path={tmp_path}"]
    shown = [word for name, _ in DEVICES.values() for word in ("-device", name)]
    script = (
        "for d in /sys/bus/pci/devices/* /sys/bus/virtio/devices/*; do "
        "echo =$(cat $d/class $d/modalias) $(readlink $d/driver)=; done; "
        "for d in /sys/class/input/* /sys/class/hwrng/* /sys/bus/serio/*; do echo +$d+; done"
    )
    said = asked(kernel, tmp_path, script, *BACKENDS, *CONTROL, *files, *shown)
    listed = re.findall(r"=(?:(0x\w+) )?(\w+):\S+ (\S*)=", said)
    classes = {kind for kind, _, _ in listed}
    assert {kind for _, kind in DEVICES.values()} <= classes
    drivers = {driver.rsplit("/")[-1] for _, _, driver in listed}
    assert drivers == {"", VIRTIO, BLOCK}
    own = [driver for _, bus, driver in listed if bus == "virtio" and driver]
    assert len(own) == 1, "the disk alone has a driver"
    for none in ("input", "hwrng"):
        assert f"\n+/sys/class/{none}/*+" in said
    assert "\n+/sys/bus/serio/*+" in said, "no i8042, which every such board has"


@pytest.mark.parametrize(
    ("key", "answer"),
    [("kernel.dmesg_restrict", "took it"), ("kernel.dmesg_restict", "refused it")],
)
def test_a_setting_that_is_misspelt_is_refused(
    kernel: Kernel, tmp_path: Path, key: str, answer: str
) -> None:
    """As init asks for it, with the image's own program."""
    script = f"echo {key}=1 >/s; sysctl -q -p /s && echo 'took it' || echo 'refused it'"
    assert answer in asked(kernel, tmp_path, script)


def test_acpi_describes_what_the_kernel_s_own_byte_code_has(kernel: Kernel, tmp_path: Path) -> None:
    """QEMU's own describes a dozen devices more: a keyboard, serial ports, slots for PCI."""
    script = (
        "for d in /sys/bus/acpi/devices/*; do echo =${d##*/}=; done; "
        "echo table $(head -c 24 /sys/firmware/acpi/tables/DSDT | tail -c 14)"
    )
    said = asked(kernel, tmp_path, script)
    assert set(re.findall(r"=([\w:]+)=", said)) == OWN_DEVICES
    assert "table CONFIDMACHINE" in said


def test_no_code_enters_and_memory_is_closed_from_the_start(kernel: Kernel, tmp_path: Path) -> None:
    script = (
        "mount -t securityfs x /sys/kernel/security; cat /sys/kernel/security/lockdown; "
        "for f in /proc/modules /proc/kcore /dev/mem /dev/kmem /dev/port /proc/sysrq-trigger "
        "/proc/kallsyms; do [ -e $f ] && echo have $f; done; "
        "echo end of list"
    )
    said = asked(kernel, tmp_path, script)
    assert "none integrity [confidentiality]" in said
    assert "\nend of list" in said
    assert re.findall(r"(?m)^have .*", said) == []


PROBE = """\
[Service]
Type=oneshot
ExecStart=/opt/debug/usr/bin/busybox wget -q -T 5 -O /dev/null http://127.0.0.1:8000/healthz
ExecStopPost=/opt/debug/usr/bin/busybox sh -c "echo {name} $SERVICE_RESULT >>/run/result"
"""
NO_ADDRESS = "IPAddressDeny=any"


def test_units_rules_for_addresses_and_devices_are_kept(
    build: Build, debug_image: Path, tmp_path: Path
) -> None:
    """Both are BPF programs: without them systemd would warn, and go on."""
    units = {"open": PROBE.format(name="open"), "closed": PROBE.format(name="closed") + NO_ADDRESS}
    with booted(build, debug_image, tmp_path) as machine:
        folder = "/run/systemd/system"
        machine.type(f"mkdir -p {folder}/default.target.d")
        for name, unit in units.items():
            text = unit.replace("\n", "\\n").replace('"', '\\"').replace("$", "\\$")
            machine.type(f'printf "{text}\\n" >{folder}/{name}.service')
        wants = "\\n".join(f"Wants={name}.service" for name in units)
        machine.type(f'printf "[Unit]\\n{wants}\\n" >{folder}/default.target.d/probe.conf')
        machine.type("kill -HUP 1; sleep 5; kill -34 1; sleep 20")  # reload; start default.target
        results = machine.type("cat /run/result")
        group = "/sys/fs/cgroup/system.slice/confide-role.service/cgroup.procs"
        disk = "dd if=/dev/vda of=/dev/null bs=512 count=1 2>&1"
        before = machine.type(disk)
        within = machine.type(f"sh -c 'echo $$ >{group}; {disk}'")
        console = machine.type("dmesg | grep -i bpf")
    assert sorted(results.split("\n")) == ["closed exit-code", "open success"]
    assert "1+0 records in" in before
    assert "Operation not permitted" in within
    assert "BPF" not in console
