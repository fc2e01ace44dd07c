"""A hostile host adds ACPI tables. The kernel runs their code, which reaches no memory of ours.

On this platform, as on SEV-SNP, nothing measures the tables. What stops them is the kernel's own
patch (images/kernel/acpi-memory.patch): it ends the machine at the first access that is not to the
registers of HPET or TPM.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.errors import UnavailableError
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from tests.support import aml

BOOT_SECONDS = 300
RAN, WENT_ON = "<code of the host runs>", "<code of the host goes on>"
HPET = 0xFED00000
KERNEL = 0x1000000  # where memory is, and most often the kernel


def machine(build: Build, config: ConfigDisk, folder: Path, table: bytes) -> Machine:
    """A coordinator whose host has one table more."""
    file = folder / "table.aml"
    file.write_bytes(table)
    extra = ("-acpitable", f"file={file}")
    return Machine(
        build.images / "coordinator",
        "coordinator",
        config=config,
        run_dir=folder / "run",
        tools=build.tools,
        extra=extra,
    )


def test_code_that_reads_a_listed_register_is_run(
    build: Build, config: ConfigDisk, tmp_path: Path
) -> None:
    """The other tests' tables are run, then: this one differs from them in the address alone."""
    with machine(build, config, tmp_path, aml.table(HPET, before=RAN, after=WENT_ON)) as booted:
        booted.wait_ready(BOOT_SECONDS)
        said = booted.console.read_text(errors="replace")
    assert RAN in said
    assert WENT_ON in said


@pytest.mark.parametrize(
    ("table", "address"),
    [
        pytest.param(aml.table(KERNEL, before=RAN, after=WENT_ON), KERNEL, id="reads"),
        pytest.param(aml.table(KERNEL, write=True, before=RAN, after=WENT_ON), KERNEL, id="writes"),
        pytest.param(
            aml.table(HPET + 0x3FE, before=RAN, after=WENT_ON), HPET + 0x3FE, id="crosses the end"
        ),
        pytest.param(
            aml.table(KERNEL, signature="PSDT", oem="BOCHS", before=RAN, after=WENT_ON),
            KERNEL,
            id="PSDT",
        ),
        pytest.param(
            aml.table(KERNEL, signature="OSDT", oem="INTEL", before=RAN, after=WENT_ON),
            KERNEL,
            id="OSDT",
        ),
    ],
)
def test_code_that_touches_other_memory_ends_the_machine(
    build: Build, config: ConfigDisk, tmp_path: Path, table: bytes, address: int
) -> None:
    booted = machine(build, config, tmp_path, table)
    with booted, pytest.raises(UnavailableError):
        booted.wait_ready(BOOT_SECONDS)
    said = booted.console.read_text(errors="replace")
    assert RAN in said
    assert f"ACPI may not access memory at {address:#x}" in said
    assert WENT_ON not in said
