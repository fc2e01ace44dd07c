"""Firmware as an SEV-SNP launch sees it: sections, hostile ones too."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from measure import ovmf
from measure.errors import FormatError, UnsupportedError
from measure.snp import digest, firmware, vmsa
from tests.support.measurement import ovmf_builders as build
from tests.support.measurement.snp_builders import PAGE, launch


def test_empty_sections_are_no_steps() -> None:
    empty = tuple((0, 0, kind) for kind in (1, 2, 3, 4, 0x10))
    before, after = launch(build.image((*empty, *build.SECTIONS))), launch()
    assert before.firmware.sections == after.firmware.sections


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ((0x900000, 0x800, 1), "SEC_MEMORY is not a whole number of pages"),
        ((0x900800, 0x1000, 1), "is not a whole number of pages"),
        ((0x900000, 0x2000, 2), "SECRETS is not one page"),
        ((0x900000, 0x2000, 3), "CPUID is not one page"),
        ((0x900000, 0x2000, 0x10), "KERNEL_HASHES is not one page"),
        ((0x900000, 0x1000, 0x10), "KERNEL_HASHES is the second of its type"),
        ((0x808000, 0x1000, 1), "SEC_MEMORY overlaps the section at 0x800000"),
        ((0x7FF000, 0x20000, 1), "overlaps the section at 0x800000"),
        ((0xFFFFE000, 0x1000, 1), "overlaps the firmware"),
        ((0x900000, 0xFF700000, 1), "overlaps the firmware"),
        ((0x900000, 64 << 20, 1), "brings the prepared memory to more than 67108864 bytes"),
    ],
)
def test_bad_sections(section: tuple[int, int, int], message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        launch(build.image((*build.SECTIONS, section)))
    assert caught.value.file == "fw" and caught.value.offset is not None
    assert caught.value.seen == f"{section[1]:#x} bytes at {section[0]:#x}"


def test_the_most_that_may_be_prepared() -> None:
    found = launch(build.image(((0x1000000, 64 << 20, 1),)), kernel=None).firmware
    assert found.sections[0].size == 64 << 20


def test_unknown_section() -> None:
    with pytest.raises(UnsupportedError, match="unknown type; expected 1, 2, 3, 4, 16, seen 7"):
        launch(build.image((*build.SECTIONS, (0x900000, 0x1000, 7))))


def test_a_hostile_firmware_costs_neither_time_nor_memory() -> None:
    most = tuple((0x1000 * n, 0x1000, 1) for n in range(1, ovmf.MAX_SECTIONS + 1))
    huge = tuple((0x10000000 * n, 0xF000000, 1) for n in range(1, 15))
    empty = build.image([(0, 0, 1)] * 1_000_000, pages=3000)
    started = time.process_time()
    launch(build.image(most), kernel=None, vmm=vmsa.EC2)
    with pytest.raises(FormatError, match="more than"):
        launch(build.image(huge), kernel=None)
    assert time.process_time() - started < 2
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="too many sections; expected at most 64"):
            launch(empty, kernel=None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_no_sev_metadata() -> None:
    with pytest.raises(UnsupportedError, match=r"no SEV-SNP metadata.*OVMF\.amdsev\.fd"):
        launch(build.image(None))


@pytest.mark.parametrize("cut", [1, 4095, 4097])
def test_firmware_of_half_pages(cut: int) -> None:
    with pytest.raises(FormatError, match="not a whole number of pages"):
        launch(build.image(pages=3)[cut:])


def test_firmware_cut_at_its_end_or_foreign() -> None:
    with pytest.raises(FormatError, match="not OVMF"):
        launch(build.image()[:-PAGE])
    with pytest.raises(FormatError, match="not OVMF"):
        launch(bytes(2 * PAGE))


@pytest.mark.parametrize("eip", [None, 0])
def test_no_address_for_further_vcpus(eip: int | None) -> None:
    subject = launch(build.image(reset_eip=eip))
    assert len(subject.digest(1)) == 48
    with pytest.raises(FormatError, match="does not say where a second vCPU starts"):
        subject.digest(2)


def test_recorded_metadata_gives_the_same() -> None:
    image = build.image()
    described = ovmf.parse(image, "fw")
    assert described.sev_sections is not None
    recorded = firmware.from_metadata(
        digest.extend_data(bytes(48), 0xFFFFE000, image),
        described.sev_sections,
        described.hash_table,
        described.reset_eip,
        "fw",
    )
    assert recorded == firmware.from_image(image, "fw")


@pytest.mark.parametrize("size", [0, 47, 49])
def test_recorded_hash_of_the_wrong_size(size: int) -> None:
    with pytest.raises(FormatError, match=f"expected 48 bytes, seen {size} bytes"):
        firmware.from_metadata(bytes(size), (), None, None, "fw")
