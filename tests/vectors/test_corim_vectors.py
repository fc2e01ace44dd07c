"""CoRIM files of other projects (veraison/corim, confidential-containers/trustee) are all read.

Each is decoded, checked against the definition and encoded again to the same bytes; the signed ones
verify with the public key they were made with.
"""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from cbor2 import CBORTag
from cryptography.hazmat.primitives.asymmetric import ec

from confide.client import cose as signatures
from confide.errors import FormatError as ConfideFormatError
from confide.errors import VerificationError
from measure import cbor
from measure.corim import cose, rules, values
from measure.errors import FormatError, MeasureError

TRUSTEE = "trustee/rvps/unsigned-example-corim.cbor"
SIGNED = (
    "signed-corim-with-extensions.cbor",
    "signed-example-corim.cbor",
    "signed-good-corim.cbor",
)
# The key of RFC 7517, appendix A.1, with which veraison/corim signs its examples.
X, Y = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"


def corims(vectors: Path) -> list[Path]:
    folder = vectors / "veraison-corim"
    found = [p for p in sorted(folder.glob("*corim*.cbor")) if p.name not in SIGNED]
    return [*found, vectors / TRUSTEE]


def signing_key() -> ec.EllipticCurvePublicKey:
    x, y = (int.from_bytes(base64.urlsafe_b64decode(n + "="), "big") for n in (X, Y))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def test_every_file_encodes_to_what_it_was(vectors: Path) -> None:
    files = sorted((vectors / "veraison-corim").rglob("*.cbor"))
    assert len(files) > 35
    for path in files:
        data = path.read_bytes()
        value = cbor.decode(data, path.name)
        # decode() has compared in the file's own order of keys; most are sorted as well.
        again = cbor.decode(cbor.encode(value), path.name)
        assert again == value, path


def test_every_comid_is_as_defined(vectors: Path) -> None:
    files = sorted((vectors / "veraison-corim").glob("comid-*.cbor"))
    assert len(files) == 20
    for path in files:
        rules.comid(cbor.decode(path.read_bytes(), path.name), path.name)


def test_every_corim_is_read(vectors: Path) -> None:
    files = corims(vectors)
    assert len(files) == 9
    for path in files:
        assert values.read(path.read_bytes(), path.name).signed is None, path


def test_the_values_that_trustee_extracts(vectors: Path) -> None:
    corim = values.read((vectors / TRUSTEE).read_bytes(), TRUSTEE)
    assert corim.profile == "http://example.com/example-profile"
    digests = [value for value in corim.values if value.kind == "sha-256"]
    names = [[*v.environment.split("/")[:2], v.element] for v in digests]
    assert names == [["ACME", "RoadRunner", "31fb5abf023e4992aa4e95f9c1503bfa"]] * 3
    assert digests[2].value == ("a3a5e715f0cc574a73c3f9bebb6bc24f32ffd5b67b387244c2c909da779a1478")


def test_integrity_registers_and_raw_values_are_read(vectors: Path) -> None:
    """In the shape in which our own CoRIM has PCRs, RTMRs and attributes."""
    folder = vectors / "veraison-corim"
    for name, elements in (
        ("comid-integrity-registers.cbor", ["0", "0", "my-ir", "my-ir"]),
        ("comid-raw-value.cbor", ["", "", "", ""]),
    ):
        comid = CBORTag(rules.TAG_COMID, (folder / name).read_bytes())
        corim = cbor.encode(CBORTag(rules.TAG_CORIM, {0: "wrapped", 1: [comid]}))
        read = values.read(corim, name).values
        assert [value.element for value in read] == elements
        assert read[-1].value.startswith(("fefefafa", "44ffff0000"))  # a register, a mask


@pytest.mark.parametrize("name", SIGNED)
def test_signed_corims_verify(vectors: Path, name: str) -> None:
    data = (vectors / "veraison-corim" / name).read_bytes()
    read = values.read(data, name)
    assert read.signed is not None
    assert read.signed.signer == "ACME Ltd signing key"
    assert signatures.verify(data, signing_key()) == read.signed.payload
    # What we put together from the same parts is the same file.
    _, unprotected, payload, signature = cbor.decode(data, name).value
    assert unprotected == {}
    assert payload == read.signed.payload
    assembled = cose.assemble(read.signed.to_be_signed, signature, name, name)
    assert assembled == data


@pytest.mark.parametrize("name", SIGNED)
def test_no_altered_signed_corim_verifies(vectors: Path, name: str) -> None:
    data, key = (vectors / "veraison-corim" / name).read_bytes(), signing_key()
    choose = random.Random(name)
    for _ in range(400):
        at = choose.randrange(len(data))
        altered = data[:at] + bytes([data[at] ^ 1 << choose.randrange(8)]) + data[at + 1 :]
        with pytest.raises((VerificationError, ConfideFormatError)):
            signatures.verify(altered, key)


def test_another_key_does_not_verify(vectors: Path) -> None:
    data = (vectors / "veraison-corim" / SIGNED[0]).read_bytes()
    with pytest.raises(VerificationError, match="another key signed"):
        signatures.verify(data, ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(VerificationError, match="expected ES384; seen ES256"):
        signatures.verify(data, ec.generate_private_key(ec.SECP384R1()).public_key())


def test_evidence_is_no_corim(vectors: Path) -> None:
    data = (vectors / "veraison-corim/ce-evidence.cbor").read_bytes()
    with pytest.raises(FormatError, match="expected tag 501, seen CBORTag"):
        values.read(data, "ce-evidence.cbor")


def test_every_truncation_and_many_mutations_only_raise_measure_errors(vectors: Path) -> None:
    for path in [*corims(vectors), vectors / "veraison-corim" / SIGNED[1]]:
        data, choose = path.read_bytes(), random.Random(path.name)
        for size in range(len(data)):
            with pytest.raises(MeasureError):
                values.read(data[:size], path.name)
        for _ in range(300):
            at = choose.randrange(len(data))
            altered = data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :]
            try:
                values.read(altered, path.name)
            except MeasureError:
                continue
