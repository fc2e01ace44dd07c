"""The build's way to get ACPI tables, on a machine whose event log says what they must be.

The tables of TDX machines (nix/build_acpi_tables.py) come from an emulated run up to the kernel. No
TD is at hand to compare them with; the runner's machines are: the same code, given their QEMU and
their command line, must find the bytes that their firmware measured into PCR 1.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
from pathlib import Path

import pytest
from confide.runner import swtpm
from confide.runner.accelerator import kvm_works
from confide.runner.processes import ProcessGroup
from confide.runner.qemu import MachineSpec, arguments
from confide.runner.system import Build, System
from confide.runner.vm import DEFAULT_CPUS, DEFAULT_MEMORY_MIB

from measure import eventlog
from nix import fw_cfg
from tests.support.attested import evidence

# In the order in which OVMF measures them: the script, then each blob as it allocates it.
BLOBS = ("etc/table-loader", "etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables")
FIRMWARE_BOOTS = b"BdsDxe"
SECONDS = 120


def found(build: Build, folder: Path, *extra: str) -> list[str]:
    """SHA-256 of each blob that a coordinator's firmware would be given, in hex."""
    group = ProcessGroup()
    with contextlib.ExitStack() as stack:
        stack.callback(group.kill)
        variables, state = folder / "variables.fd", folder / "tpm"
        shutil.copyfile(build.tools.variables, variables)
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
            cpus=DEFAULT_CPUS,
            kvm=kvm_works(build.tools),
            tpm=tpm.fileno(),
            monitor=monitor.fileno(),
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
