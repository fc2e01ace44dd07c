"""Mistakes that published tools make, each ruled out by name.

The facts are the specifications' and systemd's; where a program of Debian's can say the same, it is
asked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from measure import __main__ as cli
from measure import direct, eventlog, pcr, pe, uki
from measure.errors import FormatError, NotCryptoAgileError, UnsupportedError
from measure.shapes import OVMF_DIRECT
from measure.snp.launch import Launch
from measure.snp.prediction import SnpShape
from measure.uki import Section
from tests.support.measurement import builders
from tests.support.measurement.samples import changed_uki, predict

KERNEL = builders.pe([(".text", b"kernel")])
REQUIRED = {
    Section.LINUX: KERNEL, Section.OSREL: b"ID=x\n", Section.CMDLINE: b"quiet",
    Section.INITRD: b"initrd",
}  # fmt: skip
OPTIONAL = [Section.UCODE, Section.SPLASH, Section.DTB, Section.UNAME, Section.SBAT,
            Section.PCRPKEY, Section.PROFILE]  # fmt: skip
# What the hardware chooses: systemd-measure calculates it, `uki.parse` refuses it.
CHOSEN = [Section.DTBAUTO, Section.HWIDS]


def pcr_11(image: uki.Uki, bank: str = "sha256") -> str:
    events = [event.digest for event in pcr.uki_events(image, bank) if event.pcr == 11]
    return eventlog.extend(events, 11, bank).hex()


def image_of(sections: Mapping[Section, bytes]) -> uki.Uki:
    return uki.parse(builders.uki({".uname": None, ".sbat": None} | {
        section.value: content for section, content in sections.items()
    }), "f")  # fmt: skip


def test_the_public_keys_section_is_called_pcrpkey() -> None:
    """Several published tools write `.pcrkey`."""
    assert Section.PCRPKEY.value == ".pcrpkey"
    image = uki.parse(changed_uki(pcrpkey=b"KEY"), "f")
    measured = [event.digest for event in pcr.uki_events(image)]
    assert hashlib.sha256(b".pcrpkey\0").digest() in measured
    assert hashlib.sha256(b"KEY").digest() in measured
    with pytest.raises(UnsupportedError, match=r"does not know.*\.pcrpkey.*seen \.pcrkey"):
        uki.parse(changed_uki(pcrkey=b"KEY"), "f")


@pytest.mark.parametrize("name", [".ucode", ".profile"])
def test_sections_that_published_tools_have_forgotten(name: str) -> None:
    """Both are measured, and both also reach the kernel in its initrd."""
    plain, more = (uki.parse(builders.uki(change), "f") for change in ({}, {name: b"content"}))
    assert pcr_11(plain) != pcr_11(more)
    assert plain.initrd != more.initrd and b"content" in more.initrd


def test_the_signature_of_register_11_is_not_in_register_11() -> None:
    plain, signed = (uki.parse(changed_uki(**c), "f") for c in ({}, {"pcrsig": b"{}"}))
    assert pcr_11(plain) == pcr_11(signed)
    assert plain.initrd != signed.initrd


def calculate(program: Path, folder: Path, files: Mapping[Section, bytes], bank: str) -> str:
    """PCR 11 at the start of the kernel, as systemd-measure calculates it."""
    options: list[str] = []
    for section, content in files.items():
        path = folder / section.value
        path.write_bytes(content)
        options.append(f"--{section.value[1:]}={path}")
    command = [str(program), "calculate", *options, f"--bank={bank}", "--phase=:", "--json=short"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ((found,),) = json.loads(printed).values()
    assert found["pcr"] == 11
    return str(found["hash"])


def test_the_order_of_sections_is_systemds(systemd_measure: Path, tmp_path: Path) -> None:
    """Any choice of sections, any content: the same register as systemd-measure's."""

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        st.dictionaries(st.sampled_from(OPTIONAL), st.binary(min_size=1, max_size=20)),
        st.sampled_from(["sha1", "sha256", "sha384", "sha512"]),
    )
    def check(chosen: dict[Section, bytes], bank: str) -> None:
        # In an order that is not systemd's: neither the file's nor the options' order counts.
        sections = dict(reversed([*REQUIRED.items(), *chosen.items()]))
        expected = calculate(systemd_measure, tmp_path, sections, bank)
        assert pcr_11(image_of(sections), bank) == expected

    check()


def test_the_order_of_all_sections_is_systemds(systemd_measure: Path, tmp_path: Path) -> None:
    """Also of those that are refused in an image because the hardware chooses one of several."""
    sections = dict.fromkeys((*REQUIRED, *OPTIONAL, *CHOSEN), b"HALLO\n")
    events = [
        hashlib.sha256(data).digest()
        for section in Section if section in sections
        for data in (section.value.encode() + b"\0", sections[section])
    ]  # fmt: skip
    expected = calculate(systemd_measure, tmp_path, sections, "sha256")
    assert eventlog.extend(events, 11).hex() == expected


def authenticode(data: bytes) -> bytes:
    """The specification's algorithm, step by step, apart from `measure.pe`."""
    optional = struct.unpack_from("<I", data, 0x3C)[0] + 24
    count, size = struct.unpack_from("<H12xH", data, optional - 18)
    headers_size = struct.unpack_from("<I", data, optional + 60)[0]
    security = optional + 112 + 32
    state = hashlib.sha256(data[: optional + 64])
    state.update(data[optional + 68 : security] + data[security + 8 : headers_size])
    hashed = headers_size
    table = [struct.unpack_from("<16xII", data, optional + size + 40 * n) for n in range(count)]
    for raw_size, raw_offset in sorted(table, key=lambda entry: entry[1]):
        state.update(data[raw_offset : raw_offset + raw_size])
        hashed += raw_size
    certificates = struct.unpack_from("<4xI", data, security)[0]
    if len(data) > hashed:
        state.update(data[hashed : len(data) - certificates])
    return state.digest()


def without_checksum_and_certificates(data: bytes) -> bytes:
    """What several published tools hash instead."""
    optional = struct.unpack_from("<I", data, 0x3C)[0] + 24
    security = optional + 112 + 32
    certificates = struct.unpack_from("<4xI", data, security)[0]
    parts = data[: optional + 64], data[optional + 68 : security], data[security + 8 :]
    joined = b"".join(parts)
    return hashlib.sha256(joined[: len(joined) - certificates]).digest()


SECTION_TABLE = 0x40 + 24 + 240


def with_gap() -> bytes:
    """An image whose second section starts 16 bytes behind the end of the first."""
    data = builders.pe([(".a", b"A" * 8), (".b", b"B" * 8)], trailing=b"T" * 16)
    second = SECTION_TABLE + 40 + 20
    assert struct.unpack_from("<I", data, second)[0] == 0x208
    moved = data[:second] + struct.pack("<I", 0x218) + data[second + 4 :]
    return moved[:0x208] + b"G" * 16 + moved[0x208:]


def out_of_order() -> bytes:
    """An image whose section table is not in the order of the file."""
    data = builders.pe([(".a", b"A" * 8), (".b", b"B" * 8)])
    first, second = (data[SECTION_TABLE + 40 * n : SECTION_TABLE + 40 * n + 40] for n in (0, 1))
    return data[:SECTION_TABLE] + second + first + data[SECTION_TABLE + 80 :]


@pytest.mark.parametrize(
    "data",
    [
        builders.pe([(".a", b"A" * 9), (".b", b"B")]),
        builders.pe([(".a", b"A" * 9)], trailing=b"odd", certificate=b"C" * 24),
        out_of_order(),
        with_gap(),
    ],
    ids=["plain", "trailing data and certificates", "out of order", "gap"],
)
def test_authenticode_follows_the_specification(data: bytes) -> None:
    """Headers, sections by file offset, then the rest by count of bytes."""
    assert pe.parse(data, "f").authenticode() == authenticode(data)


def test_authenticode_is_not_the_file_without_checksum_and_certificates() -> None:
    data = with_gap()
    assert pe.parse(data, "f").authenticode() != without_checksum_and_certificates(data)
    contiguous = builders.pe([(".a", b"A" * 8)], certificate=b"C" * 8)
    assert pe.parse(contiguous, "f").authenticode() == without_checksum_and_certificates(contiguous)


def test_overlapping_sections_have_no_authenticode() -> None:
    """Bytes would be hashed twice, or one byte would have two meanings."""
    data = bytearray(builders.pe([(".a", b"A" * 16), (".b", b"B" * 8)]))
    struct.pack_into("<I", data, SECTION_TABLE + 40 + 20, 0x208)
    with pytest.raises(FormatError) as caught:
        pe.parse(bytes(data), "kernel")
    error = caught.value
    assert (error.file, error.offset) == ("kernel", 0x208)
    assert error.expected == "within 0x210..0x218" and error.seen == "0x208..0x210"


def test_guest_features_have_no_default() -> None:
    """0x1 on one kernel is 0x21 on another: a default would be a wrong digest for somebody."""
    for owner in (Launch, SnpShape):
        (field,) = [f for f in dataclasses.fields(owner) if f.name == "guest_features"]
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING


def test_guest_features_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["snp", "--firmware", "f", "--vmm", "qemu", "--vcpu-type", "EPYC", "--vcpus", "1"])
    assert "--guest-features" in capsys.readouterr().err


def test_old_qemu_rewrites_the_kernels_header() -> None:
    """So the same kernel has another digest there; the shape asks for a QEMU that does not."""
    kernel = bytearray(builders.pe([(".a", bytes(0x400))]))
    kernel[0x202:0x206] = b"HdrS"
    kernel[0x22C:0x230] = b"\xff\xff\xff\x7f"
    rewritten = direct.rewritten_kernel(bytes(kernel), 1 << 20, 1 << 30, "k")
    plain = pe.parse(bytes(kernel), "k").authenticode()
    assert pe.parse(rewritten, "k").authenticode() != plain
    (event, *_) = predict(changed_uki(linux=bytes(kernel)), shape=OVMF_DIRECT).of(4)
    assert event.digest == plain
    assert any("QEMU 10 or later" in text for text in OVMF_DIRECT.requirements)


def test_a_sha1_only_log_is_called_so() -> None:
    event = struct.pack("<II20sI", 0, 8, b"d" * 20, 4) + b"data"
    with pytest.raises(NotCryptoAgileError) as caught:
        eventlog.parse(event, "log")
    assert "not crypto-agile" in str(caught.value)
    assert caught.value.offset == 0 and caught.value.file == "log"
