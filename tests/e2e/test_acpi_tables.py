"""The build's way to get ACPI tables, on a machine whose event log says what they must be.

The tables of TDX machines (nix/build_acpi_tables.py) come from an emulated run up to the kernel.
The same code, given the runner's QEMU and command line, must find the bytes that the firmware of
its machines measured into PCR 1; given the command line of a TD that others started on hardware,
those that its event log names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
from pathlib import Path

import build_acpi_tables
import fw_cfg
import pytest

from confide.commands.system import Build, System
from confide.host.runner import swtpm
from confide.host.runner.accelerator import kvm_works
from confide.host.runner.processes import ProcessGroup
from confide.host.runner.qemu import MachineSpec, arguments
from confide.host.runner.vm import DEFAULT_MEMORY_MIB, default_cpus
from measure import eventlog
from tests.support.attested import evidence
from tests.support.launch import launched_for

# In the order in which OVMF measures them: the script, then each blob as it allocates it.
BLOBS = ("etc/table-loader", "etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables")
FIRMWARE_BOOTS = b"BdsDxe"
SECONDS = 120
# Machines of virtee-tdx-measure in the vectors, less what only KVM can run: vhost-vsock, for which
# another device stands here (the tables say that there is one, not which).
SCSI = "virtio-scsi-pci,disable-legacy=on,iommu_platform=true"
RECORDED = {
    "runtime-capture": (16384, ("e1000,addr=0x2,romfile=", "virtio-rng-pci", SCSI, SCSI, SCSI)),
    "q35-with-hpet": (4096, ("virtio-rng-pci", "virtio-balloon-pci", "virtio-scsi-pci")),
}


def found(build: Build, folder: Path, *extra: str) -> list[str]:
    """SHA-256 of each blob that a coordinator's firmware would be given, in hex."""
    group = ProcessGroup()
    kvm = kvm_works(build.tools)
    with contextlib.ExitStack() as stack:
        stack.callback(group.kill)
        variables, state = folder / "variables.fd", folder / "tpm"
        shutil.copyfile(build.tools.variables, variables)
        config = folder / "config.disk"
        config.write_bytes(launched_for(build).encode())
        state.mkdir()
        swtpm.provision(build.tools.swtpm, state, group, folder / "swtpm.log")
        tpm = swtpm.serve_machine(build.tools.swtpm, state, group, folder / "swtpm.log")
        _, monitor = (stack.enter_context(end) for end in socket.socketpair())
        stack.enter_context(tpm)
        spec = MachineSpec(
            disk=build.images / "coordinator/disk.raw",
            variables=variables,
            console=folder / "console.log",
            memory_mib=DEFAULT_MEMORY_MIB,
            cpus=default_cpus("coordinator", kvm=kvm),
            kvm=kvm,
            tpm=tpm.fileno(),
            monitor=monitor.fileno(),
            config_disk=config,
            extra=extra,
        )
        machine = stack.enter_context(
            fw_cfg.run(
                arguments(build.tools, spec),
                console=spec.console,
                until=FIRMWARE_BOOTS,
                memory=spec.memory_mib << 20,
                seconds=SECONDS,
                pass_fds=[tpm.fileno(), monitor.fileno()],
            )
        )
        items = machine.files()
        return [hashlib.sha256(items[name]).hexdigest() for name in BLOBS]


@pytest.fixture(scope="module")
def measured(system: System) -> list[str]:
    """SHA-256 of each ACPI blob in the running coordinator's event log."""
    log = eventlog.parse(evidence(system.machine("coordinator").url).event_log, "event log")
    acpi = [event for event in log.events if event.pcr == 1 and event.data.startswith(b"ACPI DATA")]
    return [event.digests["sha256"].hex() for event in acpi]


def test_found_without_booting_what_the_firmware_measured(
    build: Build, measured: list[str], tmp_path: Path
) -> None:
    assert found(build, tmp_path) == measured


def test_another_machine_has_other_tables(
    build: Build, measured: list[str], tmp_path: Path
) -> None:
    assert found(build, tmp_path, "-device", "virtio-rng-pci")[-1] != measured[-1]


@pytest.mark.parametrize("name", RECORDED)
def test_tables_of_a_recorded_td(
    build: Build, firmware: Path, vectors: Path, tmp_path: Path, name: str
) -> None:
    """`runtime-capture` is a live TD (QEMU 10.2.1); nothing of ours was near it.

    It has no serial port, so here the machine is stopped when its kernel, which finds no root file
    system, restarts it; QEMU's own log says so.
    """
    memory, devices = RECORDED[name]
    log = tmp_path / "qemu.log"
    argv = [str(build.tools.qemu), "-nodefaults", "-no-user-config", "-display", "none"]
    argv += ["-machine", "pc-q35-10.0,kernel-irqchip=split,smm=off,pic=off,memory-backend=memory"]
    argv += ["-object", f"memory-backend-ram,id=memory,reserve=off,size={memory}M"]
    argv += ["-m", str(memory), "-smp", "8", "-accel", "tcg", "-cpu", "max,phys-bits=46"]
    argv += ["-global", "q35-pcihost.pci-hole64-size=4096G"]
    argv += [word for device in devices for word in ("-device", device)]
    # Otherwise the kernel clears all memory while it starts, which this computer may not have.
    line = "panic=-1 init_on_free=0"
    argv += ["-bios", str(firmware / "OVMF.tdx.fd"), "-append", line]
    argv += ["-kernel", str(build.images / "coordinator/boot/linux")]
    argv += ["-no-reboot", "-no-shutdown", "-trace", "runstate_set", "-D", str(log)]
    expected = json.loads((vectors / "virtee-tdx-measure/expected.json").read_text())
    events = dict(expected["fixtures"][name]["events_sha384"])
    with fw_cfg.run(
        argv, console=log, until=b"(shutdown)", memory=memory << 20, seconds=SECONDS
    ) as machine:
        items = machine.files()
        for event, item in zip(("loader", "rsdp", "tables"), (*BLOBS[:2], BLOBS[3]), strict=True):
            assert hashlib.sha384(items[item]).hexdigest() == events[f"acpi_{event}"], item


GPU_SHAPE = {
    "machine": "pc-q35-10.0,kernel-irqchip=split,smm=off,pic=off,hpet=off",
    "memory_mib": 4096, "vcpus": 2, "disks": 1, "gpus": 1,
}  # fmt: skip
STAND_IN = "pci-testdev,bus=gpu0,membar=256G"


def test_what_stands_in_for_a_gpu(build: Build, firmware: Path, tmp_path: Path) -> None:
    """Whether a port is taken shows in the tables; by what it is taken, only without our window."""

    def tables(words: list[str]) -> bytes:
        console.unlink(missing_ok=True)
        with fw_cfg.run(
            words,
            console=console,
            until=build_acpi_tables.KERNEL_SPEAKS,
            memory=4096 << 20,
            seconds=SECONDS,
        ) as machine:
            return machine.files()["etc/acpi/tables"]

    def with_gpu(words: list[str], gpu: str) -> list[str]:
        return [gpu if word == STAND_IN else word for word in words]

    console, boot = tmp_path / "console", build.images / "coordinator/boot"
    words = build_acpi_tables.emulation(
        GPU_SHAPE, build.tools.qemu, firmware, boot / "linux", boot / "initrd", console
    )
    ours = tables(words)
    smaller, other = "pci-testdev,bus=gpu0,membar=128G", "virtio-rng-pci,bus=gpu0"
    assert tables(with_gpu(words, smaller)) == ours
    assert tables(with_gpu(words, other)) == ours
    at = words.index(STAND_IN)
    assert tables(words[: at - 1] + words[at + 1 :]) != ours
    at = words.index("-global")
    windowless = words[:at] + words[at + 2 :]
    assert tables(windowless) != tables(with_gpu(windowless, smaller))
