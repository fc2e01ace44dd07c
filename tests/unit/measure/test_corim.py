"""CoRIM: what is written is read again, and each departure from the definition is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cbor2 import CBORTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from confide.client import cose as signatures
from confide.errors import ConfigError, VerificationError
from confide.errors import FormatError as ConfideFormatError
from measure import cbor, report
from measure.corim import cose, manifest, rules, values
from measure.errors import FormatError, InputError, MeasureError
from tests.support.measurement import platforms


def states() -> list[manifest.State]:
    return list(manifest.states(report.read(platforms.measurements(), "m")))


def corim(about: manifest.Publication | None = None) -> bytes:
    return manifest.write(platforms.measurements(), states(), about or manifest.Publication())


def content(data: bytes) -> Any:
    """A CoRIM's map, and the first CoMID's, to change."""
    outer = cbor.decode(data, "c").value
    return outer, cbor.decode(outer[1][0].value, "c")


def pack(outer: Any, comid: Any) -> bytes:
    outer[1][0] = CBORTag(rules.TAG_COMID, cbor.encode(comid))
    return cbor.encode(CBORTag(rules.TAG_CORIM, outer))


def test_every_predicted_value_is_there() -> None:
    measured = platforms.measurements()
    found = report.read(measured, "m")
    expected = set()
    for pcrs in found.vtpm:
        for number, pcr in pcrs.pcrs().items():
            expected.add(("TCG/vTPM", pcrs.shape.name, f"PCR {number}", "sha-256", pcr.hex()))
    for launch in found.sev_snp:
        name, value = launch.shape.name, launch.digest.hex()
        expected.add(("AMD/SEV-SNP", name, "MEASUREMENT", "sha-384", value))
    for machine in found.tdx:
        shape = machine.shape
        mrtd = machine.mrtd[shape.page_order].hex()
        expected.add(("Intel/TDX", shape.name, "MRTD", "sha-384", mrtd))
        for number, rtmr in machine.rtmrs().items():
            expected.add(("Intel/TDX", shape.name, f"RTMR {number}", "sha-384", rtmr.hex()))
        expected.add(("Intel/TDX", shape.name, "ATTRIBUTES", "raw", "0000001000000000"))
        expected.add(("Intel/TDX", shape.name, "XFAM", "raw", "e71a060000000000"))
    read = values.read(corim(), "c").values
    seen = {(v.environment, v.tag.split("/")[-1], v.element, v.kind, v.value) for v in read}
    assert seen == expected
    assert len(read) == len(expected)


def test_what_it_says_of_itself() -> None:
    about = manifest.Publication("Example Ltd", 1_700_000_000, 1_800_000_000)
    read = values.read(corim(about), "c")
    assert read.identity == f"test/{hashlib.sha256(platforms.encoded()).hexdigest()}"
    assert read.profile == manifest.PROFILE
    assert read.validity == (1_700_000_000, 1_800_000_000)
    assert read.signed is None
    outer, comid = content(corim(about))
    assert outer[5] == [{0: "Example Ltd", 2: [1]}]
    assert comid[2] == [{0: "Example Ltd", 2: [0]}]
    assert values.read(corim(), "c").validity == (None, None)


def test_the_encoding_is_deterministic() -> None:
    data = corim(manifest.Publication("Example Ltd", None, 1))
    assert data == cbor.encode(cbor.decode(data, "c"))
    assert data[:3] == bytes.fromhex("d901f5")  # tag 501


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, None)])
def test_a_validity_without_end(before: int, after: int | None) -> None:
    with pytest.raises(InputError, match="needs a later end"):
        manifest.Publication(None, before, after)


@pytest.mark.parametrize("seconds", [-1, rules.MAX_TIME + 1, 1 << 62])
def test_a_validity_beyond_the_calendar(seconds: int) -> None:
    for before, after in ((None, seconds), (seconds, 1 << 63)):
        with pytest.raises(InputError, match="1970 to 9999"):
            manifest.Publication(None, before, after)
    outer, comid = content(corim())
    for validity in ({1: seconds}, {0: seconds, 1: 1}):
        outer[4] = {key: CBORTag(1, value) for key, value in validity.items()}
        with pytest.raises(FormatError, match="an integer from 0 to 253402300799"):
            values.read(pack(outer, comid), "c")


def test_the_whole_calendar_is_a_validity() -> None:
    read = values.read(corim(manifest.Publication(None, 0, rules.MAX_TIME)), "c")
    assert read.validity == (0, rules.MAX_TIME)


def test_only_validity_and_entities_are_not_content() -> None:
    plain = values.read(corim(), "c")
    other = values.read(corim(manifest.Publication("Example Ltd", 1, 2)), "c")
    assert (plain.values, plain.content) == (other.values, other.content)


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({0: {1: "AMD", 2: "SEV-SNP"}}, "AMD/SEV-SNP"),
        ({0: {1: "AMD"}, 1: CBORTag(554, "SEV-SNP")}, "AMD/instance SEV-SNP"),
        ({0: {1: "AMD", 0: CBORTag(560, b"x"), 3: 1, 4: 2}}, "AMD/class-id 78/layer 1/index 2"),
        ({2: CBORTag(37, bytes(16))}, f"group {bytes(16).hex()}"),
    ],
)
def test_what_names_an_environment(environment: Any, shown: str) -> None:
    outer, comid = content(corim())
    comid[4][0][0][0] = environment
    assert values.read(pack(outer, comid), "c").values[0].environment == shown


def test_launch_measurement_profile() -> None:
    """Against the identifiers that the profile's own tests name."""
    by_platform = {state.platform: state for state in states()}
    for platform, identity, tag, element in (
        ("sev-snp", "AMD/SEV-SNP", "77e8061e-4634-5e53-a848-d1d09e996843", "MEASUREMENT"),
        ("tdx", "Intel/TDX", "e0510081-7b78-5b2a-97a6-d73d890e07b6", "MRTD"),
    ):
        data = manifest.launch_measurement(by_platform[platform], 3)
        read = values.read(data, "c")
        assert read.identity == f"{identity}/launch-measurement"
        assert read.profile == "tag:microsoft.com,2026:launch-measurement/v1"
        assert [(v.tag, v.element) for v in read.values] == [(tag, element), (tag, "triples")]
        _, comid = content(data)
        ((condition, ((selection, addition),)),) = comid[4][8]
        assert condition == [comid[4][0][0][0], []]
        assert selection == comid[4][0][0][1]
        assert addition == [{1: {1: CBORTag(552, 3)}}]
    with pytest.raises(InputError, match="has no such platform"):
        manifest.launch_measurement(by_platform["vtpm"], 3)
    with pytest.raises(InputError, match="the security version is negative"):
        manifest.launch_measurement(by_platform["tdx"], -1)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda o, c: o.pop(0), r"c\.id"),
        (lambda o, c: o.update({0: 1}), r"c\.id"),
        (lambda o, c: o[1].append(CBORTag(507, b"")), r"c\.tags\[\d+\]"),
        (lambda o, c: o.update({3: 7}), r"c\.profile"),
        (lambda o, c: o.update({4: {0: CBORTag(1, 1)}}), r"c\.rim-validity\.not-after"),
        (lambda o, c: o.update({4: {1: 1}}), r"c\.rim-validity\.not-after"),
        (lambda o, c: o.update({5: []}), r"c\.entities"),
        (lambda o, c: o.update({5: [{0: "x", 2: [9]}]}), r"c\.entities\[0\]\.role\[0\]"),
        (lambda o, c: o.update({6: 1}), "a defined key or a negative one"),
        (lambda o, c: o.update({"x": 1}), "a defined key or a negative one"),
        (lambda o, c: c.pop(1), "tag-identity"),
        (lambda o, c: c.pop(4), "triples"),
        (lambda o, c: c.update({4: {}}), "a map of at least 1"),
        (lambda o, c: c[4].update({7: []}), "a defined key"),
        (lambda o, c: c[4].update({0: []}), "an array of at least 1"),
        (lambda o, c: c[4][0][0].append(1), "an array of environment, measurements"),
        (lambda o, c: c[4][0][0][0].clear(), "a map of at least 1"),
        (
            lambda o, c: c[4][0][0][0][0].update({1: b"AMD"}),
            r"class\.vendor",
        ),
        (lambda o, c: c[4][0][0][1][0].pop(1), "mval"),
        (lambda o, c: c[4][0][0][1][0].update({1: {}}), "a map of at least 1"),
        (lambda o, c: c[4][0][0][1][0][1].update({14: {}}), "a map of at least 1"),
        (lambda o, c: c[4][0][0][1][0][1][14].update({0: [[1]]}), "an array of algorithm, value"),
        (
            lambda o, c: c[4][0][0][1][0][1].update({2: [[1, "x"]]}),
            "value: not as",
        ),
        (lambda o, c: c[4][0][0][1][0][1].update({1: True}), "a security version"),
        (lambda o, c: c[4][0][0][1][0][1].update({12: 1}), "a defined key or a negative one"),
        (lambda o, c: c[4][0][0][1][0][1].update({15: CBORTag(564, [1])}), "an integer or a range"),
    ],
)
def test_departures_from_the_definition(change: Callable[[Any, Any], Any], place: str) -> None:
    outer, comid = content(corim())
    assert values.read(pack(outer, comid), "c").values  # before the change all is well
    change(outer, comid)
    with pytest.raises(FormatError, match=place):
        values.read(pack(outer, comid), "c")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xd9\x01\xf5",
        corim() + b"\0",
        corim()[3:],  # no tag
        b"\xbf\x00\x01\xff",  # indefinite length
        b"\xa2\x00\x01\x00\x02",  # a key twice
        b"\x18\x01",  # 1 in two bytes
        b"\x81" * 100 + b"\x00",  # deep
        b"\xfb\x3f\xf0\0\0\0\0\0\0",  # 1.0, which is shorter in other ways
        b"\xc1\x5f\x41\x00\xff",
        b"\xd9\x01\xf5\xa1\xa1\x00\x00\x00",  # a map as a key
    ],
)
def test_what_is_not_shortest_cbor_or_no_corim(data: bytes) -> None:
    with pytest.raises(FormatError):
        values.read(data, "c")


def test_too_large() -> None:
    with pytest.raises(FormatError, match="too large"):
        cbor.decode(bytes(cbor.MAX_SIZE + 1), "c")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, b"\xd9\x01\xf5" + data, b"\xd2" + data):
        try:
            values.read(candidate, "c")
        except MeasureError:
            continue


@given(st.data())
def test_any_edit_of_a_corim_is_read_or_refused(data: st.DataObject) -> None:
    original = corim()
    at = data.draw(st.integers(0, len(original) - 1))
    new = data.draw(st.binary(max_size=4))
    try:
        values.read(original[:at] + new + original[at + len(new) :], "c")
    except MeasureError:
        return


KEYS = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}


@pytest.mark.parametrize("algorithm", KEYS)
def test_signing_and_verifying(algorithm: str) -> None:
    key = ec.generate_private_key(KEYS[algorithm])
    signed = signatures.sign(corim(), key, "Example Ltd")
    assert signatures.verify(signed, key.public_key()) == corim()
    read = values.read(signed, "s")
    assert read.values == values.read(corim(), "c").values
    assert read.signed is not None
    assert (read.signed.signer, read.signed.algorithm.name) == ("Example Ltd", algorithm)
    other = ec.generate_private_key(KEYS[algorithm]).public_key()
    with pytest.raises(VerificationError, match="another key signed"):
        signatures.verify(signed, other)


def test_one_signature_for_der_and_raw() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    structure = cose.to_be_signed(corim(), cose.Algorithm.ES256, "Example Ltd", "c")
    for _ in range(40):  # r or s is shorter than usual in some
        der = key.sign(structure, ec.ECDSA(hashes.SHA256()))
        signed = cose.assemble(structure, der, "tbs", "sig")
        raw = cose.parse(signed, "s").signature
        assert len(raw) == 64
        assert cose.assemble(structure, raw, "tbs", "sig") == signed
        signatures.verify(signed, key.public_key())


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"\x30\x00",
        bytes(63),
        encode_dss_signature(1, 1) + b"\0",
        encode_dss_signature(1, 1 << 256),
        encode_dss_signature(1, 1)[:-1],
        b"\x30\x09" + b"\x02\x01\x01" * 3,
        b"\x30\x06\x02\x01\x00\x02\x01\x01",  # r is zero
        b"\x30\x06\x02\x01\xff\x02\x01\x01",  # r is negative
        b"\x30\x81\x06\x02\x01\x01\x02\x01\x01",  # a long form of a short length
    ],
)
def test_no_signature(signature: bytes) -> None:
    structure = cose.to_be_signed(corim(), cose.Algorithm.ES256, "x", "c")
    with pytest.raises(FormatError):
        cose.assemble(structure, signature, "tbs", "sig")


def header(**changes: Any) -> bytes:
    """A signed CoRIM with another protected header, and a signature of the right size."""
    fields: dict[int, Any] = {1: -7, 3: "application/rim+cbor", 15: {1: "Example Ltd"}}
    fields.update({int(key[1:]): value for key, value in changes.items()})
    protected = cbor.encode({key: value for key, value in fields.items() if value is not None})
    return cbor.encode(CBORTag(18, [protected, {}, corim(), bytes(64)]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(_1=-8), "unknown signature algorithm; expected -7"),
        (header(_1=-35), "wrong size; expected 96 bytes for ES384, seen 64"),
        (header(_1=None), "protected.alg"),
        (header(_3="application/cbor"), "content-type"),
        (header(_15=None), "does not name one signer.*seen neither"),
        (header(_15={2: "x"}), "CWT-Claims.iss"),
        (header(_8=cbor.encode({0: {0: "Other"}})), "seen Example Ltd, Other"),
        (header(_8=b"x"), "corim-meta"),
    ],
)
def test_protected_headers(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        cose.parse(data, "s")


def test_both_ways_to_name_one_signer() -> None:
    data = header(_8=cbor.encode({0: {0: "Example Ltd"}}))
    assert cose.parse(data, "s").signer == "Example Ltd"


def test_what_cannot_be_signed() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ConfideFormatError, match="cannot be signed"):
        signatures.sign(b"\x00", key, "x")
    with pytest.raises(ConfideFormatError, match="the signer has no name"):
        signatures.sign(corim(), key, "")
    with pytest.raises(ConfigError, match="P-256 or P-384; seen secp521r1"):
        signatures.sign(corim(), ec.generate_private_key(ec.SECP521R1()), "x")
    with pytest.raises(ConfideFormatError, match="not a signed CoRIM"):
        signatures.verify(corim(), key.public_key())


def test_a_detached_payload_is_refused() -> None:
    protected = cbor.decode(header(), "s").value[0]
    for payload in (None, hashlib.sha256(corim()).digest(), b""):
        data = cbor.encode(CBORTag(18, [protected, {}, payload, bytes(64)]))
        with pytest.raises(FormatError):
            cose.parse(data, "s")
