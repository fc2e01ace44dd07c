"""What VCEK and VLEK certificates say, and the table that hosts hand certificates over in.

The certificates are SIMULATED; published ones are in tests/vectors/test_snp_vectors.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.vendors.amd.certificates import (
    ARK_GUID,
    ASK_GUID,
    VCEK_GUID,
    VLEK_GUID,
    EndorsementKey,
    parse_certificate_table,
)
from confide.vendors.amd.report import Product, SigningKey
from tests.support.simulated_amd import CSP_ID, SimulatedChip, der_integer, name_of

ARC = "1.3.6.1.4.1.3704.1."
KEY = ec.generate_private_key(ec.SECP384R1())
P256 = ec.generate_private_key(ec.SECP256R1())
MADE = datetime(2026, 1, 1, tzinfo=UTC)
MILAN = {
    "1": der_integer(0),
    "2": b"\x16\x08Milan-B0",
    "3.1": der_integer(4),
    "3.2": der_integer(0),
    "3.3": der_integer(24),
    "3.4": der_integer(0),
    "3.5": der_integer(0),
    "3.6": der_integer(0),
    "3.7": der_integer(0),
    "3.8": der_integer(219),
    "4": bytes(range(64)),
}


def certificate(
    extensions: dict[str, bytes],
    key: ec.EllipticCurvePrivateKey = KEY,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """Signed by nobody that matters: only what it says is looked at here."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of("SIMULATED VCEK"))
        .issuer_name(name_of("SIMULATED SEV milan"))
        .serial_number(1)
        .not_valid_before(MADE)
        .not_valid_after(MADE.replace(year=2027))
        .public_key(key.public_key())
    )
    for oid, value in extensions.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(ARC + oid), value)
        builder = builder.add_extension(extension, critical=False)
    for other, critical in more:
        builder = builder.add_extension(other, critical)
    return builder.sign(P256, hashes.SHA256()).public_bytes(Encoding.DER)


def test_vcek() -> None:
    key = EndorsementKey.parse(certificate(MILAN))
    assert (key.kind, key.product) == (SigningKey.VCEK, Product.MILAN)
    assert key.tcb.to_dict() == {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}
    assert (key.chip_id, key.csp_id) == (bytes(range(64)), None)
    assert key.public_key == KEY.public_key()


@pytest.mark.parametrize("product", list(Product))
def test_simulated_chips(product: Product) -> None:
    hardware_id = b"\xaa" * (8 if product is Product.TURIN else 64)
    for wrapped in (False, True):
        chip = SimulatedChip(product=product, hardware_id=hardware_id, wrap_hardware_id=wrapped)
        key = EndorsementKey.parse(chip.certificate())
        assert key.product is product
        assert key.chip_id == hardware_id.ljust(64, b"\0")
        assert list(key.tcb.to_dict().values())[-4:] == [1, 2, 3, 4]


def test_vlek() -> None:
    key = EndorsementKey.parse(SimulatedChip(csp_id=CSP_ID).certificate())
    assert (key.kind, key.csp_id, key.chip_id) == (SigningKey.VLEK, CSP_ID, None)


@pytest.mark.parametrize("oid", [oid for oid in MILAN if oid != "1"])
def test_each_extension_is_needed(oid: str) -> None:
    with pytest.raises(FormatError, match="malformed"):
        EndorsementKey.parse(certificate({k: v for k, v in MILAN.items() if k != oid}))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x02",
        b"\x02\x01",
        b"\x02\x00",
        b"\x02\x01\x80",  # minus 128
        b"\x02\x02\x00\x04",  # not the shortest
        b"\x02\x02\x01\x00",  # 256
        b"\x02\x81\x01\x04",
        b"\x04\x01\x04",
        b"\x02\x01\x04\x00",
        b"\x04",
    ],
)
def test_tcb_component_that_is_no_small_integer(value: bytes) -> None:
    with pytest.raises(FormatError, match="INTEGER"):
        EndorsementKey.parse(certificate(MILAN | {"3.1": value}))


def test_reserved_tcb_component() -> None:
    with pytest.raises(FormatError, match="TCB version"):
        EndorsementKey.parse(certificate(MILAN | {"3.4": der_integer(1)}))


@pytest.mark.parametrize(
    "name",
    [b"", b"\x16", b"\x16\x05Milos", b"\x16\x04Milan", b"\x0c\x05Milan", b"\x16\x05Mil\xffn"],
)
def test_product_name(name: bytes) -> None:
    with pytest.raises(FormatError, match=r"product name|IA5String"):
        EndorsementKey.parse(certificate(MILAN | {"2": name}))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        bytes(63),
        bytes(65),
        b"\x04\x3f" + bytes(63),
        b"\x04\x40" + bytes(63),
        b"\x04\x40" + bytes(65),
        b"\x05\x40" + bytes(64),
        bytes(8),
        b"\x04\x08" + bytes(8),
    ],
)
def test_hardware_id_of_another_size(value: bytes) -> None:
    with pytest.raises(FormatError, match="hardware id"):
        EndorsementKey.parse(certificate(MILAN | {"4": value}))


def test_chip_or_cloud_but_not_both() -> None:
    with pytest.raises(FormatError, match="kind"):
        EndorsementKey.parse(certificate(MILAN | {"5": b"\x16\x01x"}))


def test_other_kinds_of_key() -> None:
    with pytest.raises(FormatError, match="P-384"):
        EndorsementKey.parse(certificate(MILAN, P256))


def test_unknown_critical_extension() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    with pytest.raises(FormatError, match="unknown critical"):
        EndorsementKey.parse(certificate(MILAN, more=[(unknown, True)]))
    EndorsementKey.parse(certificate(MILAN, more=[(unknown, False)]))


@pytest.mark.parametrize(
    "bad", [b"", b"\x30\0", certificate(MILAN)[:-1], certificate(MILAN) + b"\0"]
)
def test_what_is_no_certificate(bad: bytes) -> None:
    with pytest.raises(FormatError):
        EndorsementKey.parse(bad)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(MILAN)), st.binary(max_size=80))
def test_any_bytes_in_an_extension_parse_or_are_a_format_error(oid: str, value: bytes) -> None:
    try:
        key = EndorsementKey.parse(certificate(MILAN | {oid: value}))
    except FormatError:
        return
    assert key.chip_id is not None and len(key.chip_id) == 64


VCEK = certificate(MILAN)
changes = st.lists(st.tuples(st.integers(0, len(VCEK) - 1), st.integers(0, 255)), max_size=4)


@settings(max_examples=500, deadline=None)
@given(changes)
def test_any_change_of_a_certificate_parses_or_is_a_format_error(
    changed: list[tuple[int, int]],
) -> None:
    der = bytearray(VCEK)
    for at, value in changed:
        der[at] = value
    try:
        key = EndorsementKey.parse(bytes(der))
    except FormatError:
        return
    assert key.certificate.public_bytes(Encoding.DER) == der


# --- the host's table ---------------------------------------------------------------------------


def table(entries: Sequence[tuple[UUID, int, int]], rest: bytes = b"", end: bool = True) -> bytes:
    data = b"".join(
        guid.bytes + offset.to_bytes(4, "little") + length.to_bytes(4, "little")
        for guid, offset, length in entries
    )
    return data + bytes(24 if end else 0) + rest


def test_table() -> None:
    data = table([(VCEK_GUID, 72, 4), (ASK_GUID, 76, 3)], b"vcekask" + bytes(9))
    assert parse_certificate_table(data) == {VCEK_GUID: b"vcek", ASK_GUID: b"ask"}


def test_guids_are_in_text_order_on_the_wire() -> None:
    """As the specification prints them, not as a UEFI GUID would be stored."""
    data = bytes.fromhex("63da758de6644564adc5f4b93be8accd") + b"\x30\0\0\0\2\0\0\0" + bytes(24)
    assert parse_certificate_table(data + b"ok") == {VCEK_GUID: b"ok"}
    assert str(VLEK_GUID) == "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
    assert str(ASK_GUID) == "4ab7b379-bbac-4fe4-a02f-05aef327c782"
    assert str(ARK_GUID) == "c0b406a4-a803-4952-9743-3fb6014cd0ae"


@pytest.mark.parametrize("empty", [b"", bytes(24), bytes(16384)])
def test_host_that_gives_nothing(empty: bytes) -> None:
    assert parse_certificate_table(empty) == {}


@pytest.mark.parametrize(
    "bad",
    [
        bytes(23),
        b"\1",
        table([(VCEK_GUID, 24, 0)], end=False),
        table([(VCEK_GUID, 24, 0)], end=False) + bytes(23),
        table([(VCEK_GUID, 47, 1)], b"xx"),  # into the entries
        table([(VCEK_GUID, 48, 3)], b"xx"),  # beyond the end
        table([(VCEK_GUID, 2**32 - 1, 2**32 - 1)], b"xx"),
        table([(VCEK_GUID, 72, 1), (VCEK_GUID, 73, 1)], b"xx"),  # twice
        table([(VCEK_GUID, 48, 16385)], bytes(16385)),
        bytes((1 << 17) + 1),
    ],
)
def test_bad_tables(bad: bytes) -> None:
    with pytest.raises(FormatError, match="table"):
        parse_certificate_table(bad)


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_format_error(data: bytes) -> None:
    try:
        parsed = parse_certificate_table(data)
    except FormatError:
        return
    assert all(value in data for value in parsed.values())


@given(st.lists(st.tuples(st.uuids(), st.integers(0, 300), st.integers(0, 300)), max_size=4))
def test_any_entries_are_a_table_or_a_format_error(entries: list[tuple[UUID, int, int]]) -> None:
    data = table(entries, bytes(range(100)))
    try:
        parsed = parse_certificate_table(data)
    except FormatError:
        return
    for guid, offset, length in entries:
        assert parsed[guid] == data[offset : offset + length]
