"""SEV-SNP reports and TCB versions: every field where the ABI has it, nothing reserved set.

The reports are SIMULATED; published ones are in tests/vectors/test_snp_vectors.py.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.vendors.amd.report import (
    REPORT_SIZE,
    TCB_LAYOUTS,
    GuestPolicy,
    PlatformInfo,
    Product,
    Report,
    SigningKey,
    Tcb,
    bit_name,
)
from tests.support.simulated_amd import TCBS, SimulatedChip, with_signature

REPORT_DATA = bytes(range(64))
GOOD = SimulatedChip(
    version=5,
    guest_svn=0x01020304,
    policy=0b11_1111_1111 << 16 | 0x0102,
    vmpl=2,
    platform_info=0xFF,
    key_info=1 | 2 | 1 << 2,
    host_data=b"\x01" * 32,
    id_key_digest=b"\x02" * 48,
    author_key_digest=b"\x03" * 48,
    family_id=b"\x04" * 16,
    image_id=b"\x05" * 16,
    reported_tcb=b"\x11" * 8,
    committed_tcb=b"\x12" * 8,
    current_tcb=b"\x13" * 8,
    launch_tcb=b"\x14" * 8,
    mitigations=(0x0102030405060708, 0x1112131415161718),
).unsigned_report(REPORT_DATA)
SIGNED = with_signature(GOOD, 2**383 + 5, 7)


def changed(report: bytes, at: int, value: bytes) -> bytes:
    return report[:at] + value + report[at + len(value) :]


def test_every_field() -> None:
    report = Report.parse(SIGNED)
    assert dataclasses.asdict(report) == {
        "signed": SIGNED[:0x2A0],
        "signature_r": 2**383 + 5,
        "signature_s": 7,
        "version": 5,
        "guest_svn": 0x01020304,
        "policy": GuestPolicy(sum(GuestPolicy)),
        "policy_abi": (1, 2),
        "family_id": b"\x04" * 16,
        "image_id": b"\x05" * 16,
        "vmpl": 2,
        "current_tcb": b"\x13" * 8,
        "platform_info": PlatformInfo(0xFF),
        "signing_key": SigningKey.VLEK,
        "chip_key_masked": True,
        "author_key_present": True,
        "report_data": REPORT_DATA,
        "measurement": bytes(range(48)),
        "host_data": b"\x01" * 32,
        "id_key_digest": b"\x02" * 48,
        "author_key_digest": b"\x03" * 48,
        "report_id": b"\x14" * 32,
        "report_id_ma": b"\xff" * 32,
        "reported_tcb": b"\x11" * 8,
        "product": Product.MILAN,
        "chip_id": bytes(range(1, 65)),
        "committed_tcb": b"\x12" * 8,
        "current_firmware": (1, 55, 29),
        "committed_firmware": (1, 55, 29),
        "launch_tcb": b"\x14" * 8,
        "launch_mitigations": 0x0102030405060708,
        "current_mitigations": 0x1112131415161718,
    }


@pytest.mark.parametrize("version", [2, 3, 4])
def test_older_versions_state_less(version: int) -> None:
    report = Report.parse(SimulatedChip(version=version).unsigned_report(REPORT_DATA))
    assert report.product is (Product.MILAN if version >= 3 else None)
    assert report.launch_mitigations is report.current_mitigations is None


@pytest.mark.parametrize("version", [0, 1, 6, 0x0102, 2**32 - 1])
def test_unknown_version(version: int) -> None:
    with pytest.raises(FormatError, match="version"):
        Report.parse(changed(SIGNED, 0, version.to_bytes(4, "little")))


@pytest.mark.parametrize("size", [0, 1, 0x2A0, REPORT_SIZE - 1, REPORT_SIZE + 1, 4096])
def test_other_sizes(size: int) -> None:
    with pytest.raises(FormatError, match="1184 bytes"):
        Report.parse(SIGNED.ljust(size, b"\0")[:size])


@pytest.mark.parametrize("algorithm", [0, 2, 0x0101])
def test_other_signature_algorithms(algorithm: int) -> None:
    with pytest.raises(FormatError, match="signature algorithm"):
        Report.parse(changed(SIGNED, 0x34, algorithm.to_bytes(4, "little")))


RESERVED = {
    "beside key information": range(0x4C, 0x50),
    "behind the processor": range(0x18B, 0x1A0),
    "beside current firmware": range(0x1EB, 0x1EC),
    "beside committed firmware": range(0x1EF, 0x1F0),
    "behind mitigations": range(0x208, 0x2A0),
    "above r": range(0x2D0, 0x2E8),
    "above s": range(0x318, 0x330),
    "behind the signature": range(0x330, 0x4A0),
}


@pytest.mark.parametrize("reserved", RESERVED.values(), ids=RESERVED)
def test_every_reserved_byte_is_zero(reserved: range) -> None:
    for at in reserved:
        with pytest.raises(FormatError, match="reserves"):
            Report.parse(changed(SIGNED, at, b"\1"))


@pytest.mark.parametrize(
    ("version", "later"), [(2, range(0x188, 0x18B)), *((v, range(0x1F8, 0x208)) for v in (2, 3, 4))]
)
def test_fields_of_later_versions_are_reserved_in_earlier_ones(version: int, later: range) -> None:
    report = SimulatedChip(version=version).unsigned_report(REPORT_DATA)
    Report.parse(report)
    for at in later:
        with pytest.raises(FormatError, match=f"version {version} reserves"):
            Report.parse(changed(report, at, b"\1"))


@pytest.mark.parametrize("bit", [17, *range(26, 64)])
def test_reserved_bits_of_the_guest_policy(bit: int) -> None:
    policy = int.from_bytes(SIGNED[8:16], "little") ^ 1 << bit
    with pytest.raises(FormatError, match="guest policy"):
        Report.parse(changed(SIGNED, 8, policy.to_bytes(8, "little")))


@pytest.mark.parametrize("bit", range(8, 64))
def test_unknown_bits_of_platform_information(bit: int) -> None:
    with pytest.raises(FormatError, match="platform information"):
        Report.parse(changed(SIGNED, 0x40, (1 << bit).to_bytes(8, "little")))


@pytest.mark.parametrize("key_info", [*(kind << 2 for kind in range(2, 7)), 1 << 5, 1 << 31])
def test_reserved_key_information(key_info: int) -> None:
    with pytest.raises(FormatError, match="key information"):
        Report.parse(changed(SIGNED, 0x48, key_info.to_bytes(4, "little")))


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, Product.MILAN),
        (0x19, 0x0F, Product.MILAN),
        (0x19, 0x10, Product.GENOA),
        (0x19, 0x1F, Product.GENOA),
        (0x19, 0xA0, Product.GENOA),
        (0x19, 0xAF, Product.GENOA),
        (0x1A, 0x00, Product.TURIN),
        (0x1A, 0x1F, Product.TURIN),
        (0x19, 0x20, None),
        (0x19, 0xB0, None),
        (0x1A, 0x20, None),
        (0x17, 0x31, None),
        (0x00, 0x00, None),
    ],
)
def test_processors(family: int, model: int, product: Product | None) -> None:
    report = changed(SIGNED, 0x188, bytes([family, model]))
    if product is None:
        with pytest.raises(FormatError, match="processor"):
            Report.parse(report)
    else:
        assert Report.parse(report).product is product


# --- TCB versions -------------------------------------------------------------------------------


def test_layouts() -> None:
    data = bytes([1, 2, 0, 0, 0, 0, 7, 8])
    expected = {"bootloader": 1, "tee": 2, "snp": 7, "microcode": 8}
    assert Tcb.parse(data, Product.MILAN).to_dict() == expected
    assert Tcb.parse(data, Product.GENOA).to_dict() == expected
    turin = Tcb.parse(bytes([1, 2, 3, 4, 0, 0, 0, 8]), Product.TURIN)
    assert turin.to_dict() == {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 8}
    assert str(turin) == "fmc 1 bootloader 2 tee 3 snp 4 microcode 8"


@pytest.mark.parametrize("product", list(Product))
def test_reserved_bytes_of_a_tcb_version(product: Product) -> None:
    for at in set(range(8)) - set(TCB_LAYOUTS[product].values()):
        with pytest.raises(FormatError, match="TCB version"):
            Tcb.parse(changed(TCBS[product], at, b"\1"), product)


@pytest.mark.parametrize("size", [0, 7, 9])
def test_tcb_version_of_another_size(size: int) -> None:
    with pytest.raises(FormatError, match="TCB version"):
        Tcb.parse(bytes(size), Product.MILAN)


def test_at_least_means_every_component() -> None:
    minimum = Tcb(Product.MILAN, (2, 2, 2, 2))
    assert minimum.at_least(minimum)
    for at in range(4):
        lower = [9, 9, 9, 9]
        lower[at] = 1
        assert not Tcb(Product.MILAN, tuple(lower)).at_least(minimum)
    assert not Tcb(Product.GENOA, (9, 9, 9, 9)).at_least(minimum)


def test_names_of_bits() -> None:
    assert bit_name(GuestPolicy.AES_256_XTS) == "aes-256-xts"
    assert bit_name(PlatformInfo.IOMMU_WRITE_SAFE) == "iommu-write-safe"


# --- fuzzing ------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=2 * REPORT_SIZE))
def test_any_bytes_are_a_report_or_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        Report.parse(data)


@settings(max_examples=500)
@given(st.integers(0, REPORT_SIZE - 1), st.binary(min_size=1, max_size=64))
def test_any_change_of_a_report_parses_or_is_a_format_error(at: int, value: bytes) -> None:
    data = changed(SIGNED, at, value)[:REPORT_SIZE]
    try:
        report = Report.parse(data)
    except FormatError:
        return
    assert report.signed == data[:0x2A0]
    again = with_signature(
        report.signed.ljust(REPORT_SIZE, b"\0"), report.signature_r, report.signature_s
    )
    assert again == data, "a report holds nothing but what it signs and the signature"
