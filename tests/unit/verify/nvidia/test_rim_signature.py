"""Attacks on a RIM's XML signature, each by its name, and what the XML itself may not contain."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from signxml.algorithms import (
    CanonicalizationMethod,
    DigestAlgorithm,
    SignatureConstructionMethod,
    SignatureMethod,
)
from signxml.signer import XMLSigner

from confide.errors import FormatError
from confide.vendors.nvidia.rim import (
    MAX_ATTRIBUTES,
    MAX_RIM,
    Rim,
    load_rim_xml,
    signing_certificates,
)
from confide.verify.nvidia.rim import verify_rim
from tests.support.simulated_gpu import NOW, SimulatedNvidia, issue, rim_tree, sign_rim

GOOD = b"\x11" * 48
EVIL = b"\x66" * 48
SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
DSIG = "{http://www.w3.org/2000/09/xmldsig#}"


@pytest.fixture(scope="module")
def rim(nvidia: SimulatedNvidia) -> bytes:
    """A genuine RIM that accepts GOOD at index 7."""
    return nvidia.rim("550.127.05", {7: [GOOD]})


def accepted(nvidia: SimulatedNvidia, xml: bytes) -> Rim | None:
    """The values that a verifier would use, None if it refuses."""
    checks, signed = verify_rim("RIM", xml, now=NOW, root=nvidia.roots[1])
    return signed.rim if signed and all(check.passed for check in checks) else None


def evil_tree() -> etree._Element:
    return rim_tree("550.127.05", {7: [EVIL]})


def test_a_genuine_rim(nvidia: SimulatedNvidia, rim: bytes) -> None:
    found = accepted(nvidia, rim)
    assert found is not None
    assert found.active == {7: (GOOD,)}
    assert (found.edition, found.product, found.version) == ("GPU", "GH100", "550.127.05")


def test_a_value_is_changed(nvidia: SimulatedNvidia, rim: bytes) -> None:
    assert accepted(nvidia, rim.replace(GOOD.hex().encode(), EVIL.hex().encode())) is None


def test_an_index_is_made_inactive(nvidia: SimulatedNvidia, rim: bytes) -> None:
    assert accepted(nvidia, rim.replace(b'active="True"', b'active="False"')) is None


def test_the_signature_is_left_out(nvidia: SimulatedNvidia, rim: bytes) -> None:
    assert accepted(nvidia, re.sub(rb"(?s)<ds:Signature .*</ds:Signature>", b"", rim)) is None
    assert accepted(nvidia, etree.tostring(evil_tree())) is None


def test_the_signature_is_moved_to_other_values(nvidia: SimulatedNvidia, rim: bytes) -> None:
    evil = evil_tree()
    signature = etree.fromstring(rim).find(f"{DSIG}Signature")
    assert signature is not None
    evil.append(signature)
    assert accepted(nvidia, etree.tostring(evil)) is None


def wrapped_in_evil(rim: bytes) -> bytes:
    """The genuine document, signature and all, as a child of another."""
    evil = evil_tree()
    evil.append(etree.fromstring(rim))
    return etree.tostring(evil)


def wrapped_with_signature_outside(rim: bytes) -> bytes:
    """The genuine document as a child, its signature beside it where a checker looks."""
    evil, genuine = evil_tree(), etree.fromstring(rim)
    signature = genuine.find(f"{DSIG}Signature")
    assert signature is not None
    genuine.remove(signature)
    evil.extend([genuine, signature])
    return etree.tostring(evil)


def wrapped_in_object(rim: bytes) -> bytes:
    """The genuine document inside the signature's own Object element."""
    evil, genuine = evil_tree(), etree.fromstring(rim)
    signature = genuine.find(f"{DSIG}Signature")
    assert signature is not None
    genuine.remove(signature)
    etree.SubElement(signature, f"{DSIG}Object").append(genuine)
    evil.append(signature)
    return etree.tostring(evil)


def second_payload(rim: bytes) -> bytes:
    genuine = etree.fromstring(rim)
    payload = evil_tree().find(f"{SWID}Payload")
    assert payload is not None
    genuine.insert(0, payload)
    return etree.tostring(genuine)


def payload_in_signature(rim: bytes) -> bytes:
    """The enveloped signature is not covered by itself: other values hidden there."""
    genuine = etree.fromstring(rim)
    payload = evil_tree().find(f"{SWID}Payload")
    signature = genuine.find(f"{DSIG}Signature")
    assert payload is not None
    assert signature is not None
    etree.SubElement(signature, f"{DSIG}Object").append(payload)
    return etree.tostring(genuine)


def second_signature(rim: bytes) -> bytes:
    genuine = etree.fromstring(rim)
    signature = genuine.find(f"{DSIG}Signature")
    assert signature is not None
    genuine.append(copy.deepcopy(signature))
    return etree.tostring(genuine)


@pytest.mark.parametrize(
    "attack",
    [
        wrapped_in_evil,
        wrapped_with_signature_outside,
        wrapped_in_object,
        second_payload,
        payload_in_signature,
        second_signature,
    ],
)
def test_signature_wrapping(
    nvidia: SimulatedNvidia, rim: bytes, attack: Callable[[bytes], bytes]
) -> None:
    assert accepted(nvidia, attack(rim)) is None


def signer(**changes: object) -> XMLSigner:
    settings: dict[str, object] = {
        "method": SignatureConstructionMethod.enveloped,
        "signature_algorithm": SignatureMethod.ECDSA_SHA384,
        "digest_algorithm": DigestAlgorithm.SHA384,
        "c14n_algorithm": CanonicalizationMethod.CANONICAL_XML_1_1,
    }
    return XMLSigner(**(settings | changes))  # type: ignore[arg-type]


def test_a_signature_over_a_part_only(nvidia: SimulatedNvidia) -> None:
    """By the genuine signer: what it covers is one resource, and that is no RIM."""
    tree = rim_tree("550.127.05", {7: [GOOD]})
    meta = tree.find(f"{SWID}Meta")
    assert meta is not None
    meta.set("Id", "part")
    chain = nvidia.rim_chain
    certificates = [authority.certificate for authority in chain]
    signed = signer().sign(tree, key=chain[0].key, cert=certificates, reference_uri="#part")
    xml = etree.tostring(signed)
    assert accepted(nvidia, xml) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"signature_algorithm": SignatureMethod.ECDSA_SHA256},
        {"digest_algorithm": DigestAlgorithm.SHA256},
    ],
)
def test_weaker_algorithms(nvidia: SimulatedNvidia, changes: dict[str, object]) -> None:
    chain = nvidia.rim_chain
    certificates = [authority.certificate for authority in chain]
    tree = rim_tree("550.127.05", {7: [GOOD]})
    signed = signer(**changes).sign(tree, key=chain[0].key, cert=certificates)
    assert accepted(nvidia, etree.tostring(signed)) is None


def test_an_hmac_with_a_public_key(nvidia: SimulatedNvidia) -> None:
    chain = nvidia.rim_chain
    tree = rim_tree("550.127.05", {7: [EVIL]})
    settings = signer(signature_algorithm=SignatureMethod.HMAC_SHA384)
    signed = settings.sign(tree, key=chain[0].der)
    signature = signed.find(f"{DSIG}Signature")
    assert signature is not None
    key_info = etree.SubElement(signature, f"{DSIG}KeyInfo")
    data = etree.SubElement(key_info, f"{DSIG}X509Data")
    for authority in chain:
        certificate = etree.SubElement(data, f"{DSIG}X509Certificate")
        certificate.text = base64.b64encode(authority.der).decode()
    assert accepted(nvidia, etree.tostring(signed)) is None


def test_a_strangers_signature_with_nvidias_certificates(nvidia: SimulatedNvidia) -> None:
    """The first certificate is the signer's: a genuine chain beside it proves nothing."""
    stranger = issue("HCC RIM L4 Signer", None, ca=False)
    assert accepted(nvidia, sign_rim(evil_tree(), (stranger, *nvidia.rim_chain[1:]))) is None
    assert accepted(nvidia, sign_rim(evil_tree(), (stranger, *nvidia.rim_chain))) is None


def test_a_signer_with_another_kind_of_key(nvidia: SimulatedNvidia) -> None:
    small = issue("HCC RIM L4 Signer", nvidia.rim_l3, ca=False, curve=ec.SECP256R1())
    chain = (small, *nvidia.rim_chain[1:])
    assert accepted(nvidia, sign_rim(evil_tree(), chain)) is None


def test_a_ca_does_not_sign_rims(nvidia: SimulatedNvidia) -> None:
    assert accepted(nvidia, sign_rim(evil_tree(), nvidia.rim_chain[1:])) is None


def test_no_certificate(nvidia: SimulatedNvidia, rim: bytes) -> None:
    pattern = rb"<ds:X509Certificate>.*?</ds:X509Certificate>"
    assert accepted(nvidia, re.sub(pattern, b"", rim, flags=re.DOTALL)) is None


BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><a>&j;</a>"
)


@pytest.mark.parametrize(
    "xml",
    [
        BOMB,
        b'<!DOCTYPE a SYSTEM "http://example.invalid/x.dtd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a [<!ATTLIST a b CDATA "evil">]><a/>',
        b"<a><!-- comment --></a>",
        b"<a><?instruction?></a>",
        b"<a><![CDATA[text]]></a>",
        b'<?xml version="1.0" encoding="UTF-16"?><a/>',
        b'<?xml version="1.0" encoding="UTF-7"?><a/>',
        '<?xml version="1.0"?><!DOCTYPE a><a/>'.encode("utf-16"),
        b"\xef\xbb\xbf<!DOCTYPE a><a/>",
        b"<a>" * 100_000,
        b"<a>" * 300 + b"</a>" * 300,
        b"<a>\0</a>",
        b"<a>\xff</a>",
        b"<a>&undefined;</a>",
        b"<a/><b/>",
        b"",
        b" " * (MAX_RIM + 1),
        # Canonicalization sorts them, in quadratic time: as many as fit would take seconds.
        b"<a " + b" ".join(b'a%d=""' % number for number in range(MAX_ATTRIBUTES + 1)) + b"/>",
    ],
)
def test_xml_that_is_refused(xml: bytes) -> None:
    with pytest.raises(FormatError):
        load_rim_xml(xml)


@pytest.mark.parametrize(
    "declaration", [b'<?xml version="1.0"?>', b'<?xml version="1.0" encoding="UTF-8"?>\n']
)
def test_a_plain_declaration_is_no_matter(
    nvidia: SimulatedNvidia, rim: bytes, declaration: bytes
) -> None:
    assert accepted(nvidia, declaration + rim) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'type="Measurement"', b'type="Restriction"'),
        (b'index="8"', b'index="7"'),
        (b'index="8"', b'index="08"'),
        (b'index="8"', b'index="-8"'),
        (b'index="8"', b'index="257"'),
        (b'size="48"', b'size="32"'),
        (b'active="True"', b'active="yes"'),
        (b'active="True"', b'active="False"'),
        (b'alternatives="1"', b'alternatives="2"'),
        (b'alternatives="1"', b'alternatives="0"'),
        (b'alternatives="1"', b'alternatives="99"'),
        (b'edition="GPU"', b""),
        (b'product="GH100"', b'product=""'),
        (b"Meta", b"Beta"),
        (b"Payload", b"Workload"),
        (b"SoftwareIdentity", b"HardwareIdentity"),
        (GOOD.hex().encode(), GOOD.hex().encode()[:-1]),
        (GOOD.hex().encode(), b"g" * 96),
    ],
)
def test_values_that_are_no_rim(old: bytes, new: bytes) -> None:
    xml = etree.tostring(rim_tree("550.127.05", {7: [GOOD]}))
    assert Rim.read(load_rim_xml(xml)).active == {7: (GOOD,)}
    changed = xml.replace(old, new)
    assert changed != xml
    with pytest.raises(FormatError):
        Rim.read(load_rim_xml(changed))


def test_too_many_resources() -> None:
    tree = rim_tree("550.127.05", {7: [GOOD]})
    payload = tree.find(f"{SWID}Payload")
    assert payload is not None
    for _ in range(200):
        payload.append(copy.deepcopy(payload[0]))
    with pytest.raises(FormatError, match="at most 256"):
        Rim.read(tree)


@pytest.mark.parametrize("text", ["!!!!", "YQ=", "\u00e9"])
def test_certificates_that_are_no_base64(rim: bytes, text: str) -> None:
    root = load_rim_xml(rim)
    certificate = next(root.iter(f"{DSIG}X509Certificate"))
    certificate.text = text
    with pytest.raises(FormatError):
        signing_certificates(root)
