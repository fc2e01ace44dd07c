"""NVIDIA's reference values (RIM): a SWID tag in XML that lists accepted measurements by index.

Two steps, with the signature between them. `load_rim_xml` reads the file as it came, and from that
nothing but the certificates may be used (`signing_certificates`). `Rim.read` reads the element that
the XML signature was found to cover, which is another object; verify/nvidia/rim.py has the middle.

The XML is the plainest that there is: no document type, no entities, no comments, no processing
instructions, no CDATA. None of these occur in NVIDIA's files, all have been used to deceive.

Source: ISO/IEC 19770-2 (SWID); TCG Reference Integrity Manifest Information Model 1.01.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confide.errors import FormatError
from confide.vendors.nvidia.spdm import DIGEST_SIZE, Field, Report

if TYPE_CHECKING:
    from lxml import etree

MAX_RIM = 256 * 1024
MAX_RESOURCES = 256
MAX_ALTERNATIVES = 64
MAX_CERTIFICATES = 6

_SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_HASH = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_DSIG = "{http://www.w3.org/2000/09/xmldsig#}"
_DECLARATION = re.compile(r"<\?xml version=\"1\.0\"( encoding=\"(UTF|utf)-8\")?\?>\s*")
_RESOURCE_ATTRIBUTES = {"type", "index", "active", "alternatives", "name", "size"}
MAX_ATTRIBUTES = len(_RESOURCE_ATTRIBUTES) + MAX_ALTERNATIVES


@dataclass(frozen=True)
class Rim:
    """Reference values for one version of one piece of software.

    `edition` is what kind of device ("GPU"), `product` which chip ("GH100"), `version` which driver
    or VBIOS. `active` has, for each index that counts, the accepted digests of 48 bytes.
    """

    edition: str
    product: str
    version: str
    active: Mapping[int, tuple[bytes, ...]]

    @classmethod
    def read(cls, root: etree._Element) -> Rim:
        """From the element that a signature was found to cover. Raises FormatError."""
        if root.tag != f"{_SWID}SoftwareIdentity":
            raise _bad("a SoftwareIdentity element", ascii(root.tag)[:80])
        meta, payload = _only(root, "Meta"), _only(root, "Payload")
        resources: dict[int, tuple[bytes, ...]] = {}
        active: dict[int, tuple[bytes, ...]] = {}
        if len(payload) > MAX_RESOURCES:
            raise _bad(f"at most {MAX_RESOURCES} resources", f"{len(payload)}")
        for resource in payload:
            index, is_active, digests = _resource(resource)
            if index in resources:
                raise _bad("each index once", f"index {index} twice")
            resources[index] = digests
            if is_active:
                active[index] = digests
        if not active:
            raise _bad("active measurements", "none")
        edition = _attribute(meta, "edition")
        product = _attribute(meta, "product")
        return cls(edition, product, _attribute(meta, "colloquialVersion"), active)


@dataclass(frozen=True)
class RimIds:
    """The ids by which NVIDIA's service knows the two RIMs for a report."""

    driver: str
    vbios: str


def rim_ids(report: Report, chip: str) -> RimIds:
    """Which RIMs a report of a GPU with this chip ("GH100") has to match. Raises FormatError.

    For Blackwell the service also has a driver RIM under the name that Hopper's has. It is genuine
    and for another chip, so the id says the chip, and `Rim.product` has to agree.
    """
    driver = "NV_GPU_DRIVER" if chip == "GH100" else "NV_GPU_CC_DRIVER"
    board = "_".join(
        report.text(field) for field in (Field.PROJECT, Field.PROJECT_SKU, Field.CHIP_SKU)
    )
    vbios = report.vbios_version.replace(".", "")
    return RimIds(
        f"{driver}_{chip}_{report.text(Field.DRIVER_VERSION)}",
        f"NV_GPU_VBIOS_{board}_{vbios}".upper(),
    )


def load_rim_xml(data: bytes) -> etree._Element:
    """The root element of a RIM file of at most 256 KiB. Raises FormatError.

    Nothing in it is verified yet.
    """
    # Imported here: XML is for GPUs only, and each machine imports this module.
    from lxml import etree

    if len(data) > MAX_RIM:
        raise _bad(f"at most {MAX_RIM} bytes", f"{len(data)} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad("UTF-8", "other bytes") from error
    text = text[match.end() :] if (match := _DECLARATION.match(text)) else text
    if "<!" in text or "<?" in text:
        raise _bad("elements and text only", "a declaration, comment or instruction")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _bad("well-formed XML", str(error).splitlines()[0][:120]) from error
    # Canonicalization, which comes before any signature, sorts them in quadratic time.
    if any(len(element.attrib) > MAX_ATTRIBUTES for element in root.iter()):
        raise _bad(f"at most {MAX_ATTRIBUTES} attributes of an element", "more")
    return root


def signing_certificates(root: etree._Element) -> tuple[bytes, ...]:
    """The DER certificates that come with the signature, the signer's first. Raises FormatError.

    An enveloped signature does not cover itself, so in it is nothing but what it needs.
    """
    signatures = root.findall(f"{_DSIG}Signature")
    if len(signatures) != 1:
        raise _bad("one signature", f"{len(signatures)}")
    *_, key_info = _children(signatures[0], ["SignedInfo", "SignatureValue", "KeyInfo"])
    (data,) = _children(key_info, ["X509Data"])
    if not 1 <= len(data) <= MAX_CERTIFICATES:
        raise _bad(f"1 to {MAX_CERTIFICATES} certificates", f"{len(data)}")
    texts = [element.text or "" for element in _children(data, ["X509Certificate"] * len(data))]
    try:
        return tuple(base64.b64decode("".join(text.split()), validate=True) for text in texts)
    except (binascii.Error, ValueError) as error:
        raise _bad("certificates in base64", "something else") from error


def _children(element: etree._Element, names: list[str]) -> list[etree._Element]:
    """The element's children, which must be these of XML Signature, and nothing more."""
    children = list(element)
    if [child.tag for child in children] != [_DSIG + name for name in names]:
        raise _bad(" ".join(names) or "nothing", "other elements in the signature")
    return children


def _resource(element: etree._Element) -> tuple[int, bool, tuple[bytes, ...]]:
    """Index, whether it counts, and the digests Hash0, Hash1, ... that are accepted."""
    if element.tag != f"{_SWID}Resource" or len(element):
        raise _bad("resources", ascii(element.tag)[:80])
    if _attribute(element, "type") != "Measurement":
        # Another kind could restrict what this one allows: not to be ignored.
        raise _bad("resources of type Measurement", _attribute(element, "type"))
    count = _number(element, "alternatives", MAX_ALTERNATIVES)
    names = [f"{_HASH}{number}" for number in range(count)]
    if not count or set(element.attrib) != _RESOURCE_ATTRIBUTES | set(names):
        raise _bad(f"Hash0 to Hash{count - 1}", "other attributes")
    index = _number(element, "index", MAX_RESOURCES)
    if _number(element, "size", DIGEST_SIZE) != DIGEST_SIZE:
        raise _bad(f"digests of {DIGEST_SIZE} bytes", f"another size at index {index}")
    active = _attribute(element, "active")
    if active not in ("True", "False"):
        raise _bad("active as True or False", active)
    digests = [_attribute(element, name) for name in names]
    for digest in digests:
        if not re.fullmatch(r"[0-9a-fA-F]{96}", digest):
            raise _bad("digests as 96 hex digits", digest)
    return index, active == "True", tuple(bytes.fromhex(digest) for digest in digests)


def _only(root: etree._Element, name: str) -> etree._Element:
    found = root.findall(f"{_SWID}{name}")
    if len(found) != 1:
        raise _bad(f"one {name} element", f"{len(found)}")
    return found[0]


def _attribute(element: etree._Element, name: str) -> str:
    value = element.get(name)
    if value is None or not (0 < len(value) <= 128 and value.isascii() and value.isprintable()):
        raise _bad(f"a {name.rpartition('}')[2]} attribute", ascii(value)[:80])
    return value


def _number(element: etree._Element, name: str, maximum: int) -> int:
    text = _attribute(element, name)
    if not re.fullmatch(r"0|[1-9][0-9]{0,5}", text) or int(text) > maximum:
        raise _bad(f"{name} from 0 to {maximum}", text)
    return int(text)


def _bad(expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-rim",
        "the reference values (RIM) are malformed",
        expected=expected,
        seen=ascii(seen)[1:-1][:120],
    )
