"""docs/kernel-inputs.md fits the kernel's final configuration and what is fuzzed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz import inputs

PAGE = (Path(__file__).parents[3] / "docs/kernel-inputs.md").read_text()
# Options that the page says are on: the drivers for what a host shows, and two of hardening.
BUILT = {
    *("CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_BLK", "CONFIG_VIRTIO_NET", "CONFIG_SERIAL_8250"),
    *("CONFIG_RTC_DRV_CMOS", "CONFIG_TCG_TIS", "CONFIG_TCG_CRB", "CONFIG_PANIC_ON_OOPS"),
    "CONFIG_EFI_DISABLE_RUNTIME",
}
DRIVERS = re.compile(r"CONFIG_(VIRTIO_(?!ANCHOR|PCI_|MENU)\w+|TCG_(?!TPM|TIS_CORE)\w+|RTC_DRV_\w+)")


def test_options_are_as_the_page_says(linux: Path) -> None:
    on = set(re.findall(r"^(CONFIG_\w+)=[ym]$", (linux / "config").read_text(), re.M))
    named = set(re.findall(r"`(CONFIG_\w+)`", PAGE))
    assert named & on == BUILT
    assert {option for option in on if DRIVERS.fullmatch(option)} <= BUILT


def test_every_table_and_kind_that_is_fuzzed_has_a_row() -> None:
    first_cells = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ")]
    words = set(re.findall(r"[A-Z0-9]{4}", " ".join(first_cells)))
    assert {name.decode() for name in inputs.OTHERS} | {"SRAT", "SLIT", "MADT", "FADT"} <= words
    tests = "".join(re.findall(r"fuzzed \(([^)]*)\)", PAGE))
    for kind in inputs.KINDS:
        assert f"`{kind.__name__.removeprefix('_')}`" in tests
