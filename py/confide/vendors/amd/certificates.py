"""What AMD's certificates say about a chip: VCEK and VLEK, and a host's table of them.

A VCEK certifies the key of one chip at one TCB version, a VLEK the key that AMD has leased to one
cloud, again at one TCB version. Both say so in extensions of AMD's own.

Source: AMD 57230 "VCEK Certificate and KDS Interface Specification", table 8 and 9 (extensions);
AMD 56421 "SEV-ES Guest-Hypervisor Communication Block Standardization", 4.1.8.1 (the table).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning

from confide.encoding.reader import Reader
from confide.encoding.x509 import MAX_DER, load_certificate
from confide.errors import FormatError
from confide.vendors.amd.report import CHIP_ID_SIZE, Product, SigningKey, Tcb

_ARC = "1.3.6.1.4.1.3704.1."
_PRODUCT_NAME = _ARC + "2"
_HARDWARE_ID = _ARC + "4"
_CSP_ID = _ARC + "5"
# The extension with each byte of the TCB version, by that byte's place in it.
_SPL = {
    Product.MILAN: ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"),
    Product.GENOA: ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8"),
    Product.TURIN: ("3.9", "3.1", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8"),
}
# "Milan-B0": a VCEK's product name may have the stepping behind it.
_PRODUCT_NAMES = {"Milan": Product.MILAN, "Genoa": Product.GENOA, "Turin": Product.TURIN}
_HARDWARE_ID_SIZES = {Product.MILAN: CHIP_ID_SIZE, Product.GENOA: CHIP_ID_SIZE, Product.TURIN: 8}

_OCTET_STRING, _INTEGER, _IA5_STRING = 0x04, 0x02, 0x16
MAX_TABLE = 1 << 17  # bytes; the kernel gives at most 16 KiB
_ENTRY_SIZE = 24

# AMD gives its VCEKs the serial number 0, against RFC 5280. Nothing here depends on the number.
warnings.filterwarnings(
    "ignore", "Parsed a serial number which wasn't positive", CryptographyDeprecationWarning
)


@dataclass(frozen=True)
class EndorsementKey:
    """A VCEK or VLEK certificate (`kind`) and what it says. Says, not proves: see verify/snp.

    `chip_id` is a VCEK's hardware id as reports have it: 64 bytes, Turin's 8 filled up with zeros.
    `csp_id` is the name of the cloud that a VLEK is leased to.
    """

    certificate: x509.Certificate
    public_key: ec.EllipticCurvePublicKey
    kind: SigningKey
    product: Product
    tcb: Tcb
    chip_id: bytes | None
    csp_id: str | None

    @classmethod
    def parse(cls, der: bytes) -> EndorsementKey:
        """Read one DER certificate. Raises FormatError for anything but a VCEK or VLEK."""
        certificate = load_certificate(der, "endorsement key")
        extensions = _extensions(certificate)
        product = _product(_ia5(extensions, _PRODUCT_NAME))
        tcb = bytes(_spl(extensions, _ARC + oid) for oid in _SPL[product])
        chip_id, csp_id = None, None
        if (_HARDWARE_ID in extensions) == (_CSP_ID in extensions):
            raise _malformed(
                "the kind of a key is not stated",
                "a hardware id (VCEK) or a cloud's id (VLEK)",
                "both or neither",
            )
        if _HARDWARE_ID in extensions:
            kind = SigningKey.VCEK
            size = _HARDWARE_ID_SIZES[product]
            chip_id = _hardware_id(extensions[_HARDWARE_ID], size).ljust(CHIP_ID_SIZE, b"\0")
        else:
            kind = SigningKey.VLEK
            csp_id = _ia5(extensions, _CSP_ID)
        return cls(
            certificate=certificate,
            public_key=_p384(certificate),
            kind=kind,
            product=product,
            tcb=Tcb.parse(tcb, product),
            chip_id=chip_id,
            csp_id=csp_id,
        )


# How the entries of a certificate table are known; an ASVK stands where an ASK would.
VCEK_GUID = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK_GUID = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK_GUID = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK_GUID = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")


def parse_certificate_table(data: bytes) -> dict[UUID, bytes]:
    """Read the table that a host gives with a report: GUID to the bytes of its entry.

    Entries are {GUID in text order, u32 offset, u32 length}, the last of them zeros; offsets count
    from the table's start. An empty table, or nothing at all, is allowed: a host need not give
    any. Entries under GUIDs that are not known here are returned too. Raises FormatError if an
    entry comes twice or points outside the data or into the entries, or if there is no last one.
    """
    if len(data) > MAX_TABLE:
        raise _malformed(
            "the table is too large", f"at most {MAX_TABLE} bytes", f"{len(data)} bytes"
        )
    if not data:
        return {}
    entries: list[tuple[UUID, int, int]] = []
    reader = Reader(data, _malformed)
    while any(entry := reader.take(_ENTRY_SIZE, "the table")):
        fields = Reader(entry, _malformed)
        guid = UUID(bytes=fields.take(16, "a GUID"))
        entries.append((guid, fields.number(4, "an offset"), fields.number(4, "a length")))
    header_size = reader.offset
    table: dict[UUID, bytes] = {}
    for guid, offset, length in entries:
        if guid in table:
            raise _malformed(
                "an entry of the table comes twice", "each entry once", f"{guid} twice"
            )
        if offset < header_size or offset + length > len(data) or length > MAX_DER:
            raise _malformed(
                "an entry of the table is out of range",
                f"{guid} between byte {header_size} and {len(data)}, at most {MAX_DER} long",
                f"{length} bytes at {offset}",
            )
        table[guid] = data[offset : offset + length]
    return table


def _extensions(certificate: x509.Certificate) -> Mapping[str, bytes]:
    """AMD's own extensions; any other must not be critical (RFC 5280, 4.2)."""
    extensions = {}
    for extension in certificate.extensions:
        oid = extension.oid.dotted_string
        if oid.startswith(_ARC) and isinstance(extension.value, x509.UnrecognizedExtension):
            extensions[oid] = extension.value.value
        elif extension.critical:
            raise _malformed("a critical extension is not known", "no unknown critical one", oid)
    return extensions


def _take(extensions: Mapping[str, bytes], oid: str) -> bytes:
    if oid not in extensions:
        raise _malformed("an extension is missing", f"an extension {oid}", "none")
    return extensions[oid]


def _spl(extensions: Mapping[str, bytes], oid: str) -> int:
    """One byte of the TCB version: a DER INTEGER from 0 to 255."""
    value = _take(extensions, oid)
    number = value[-1] if value else 0
    # DER knows one encoding of each number; from 128 on it has a zero in front, for the sign.
    shortest = bytes([number]) if number < 0x80 else bytes([0, number])
    if value != bytes([_INTEGER, len(shortest)]) + shortest:
        raise _malformed(
            f"the extension {oid} is wrong", "an INTEGER from 0 to 255", value.hex()[:80]
        )
    return number


def _ia5(extensions: Mapping[str, bytes], oid: str) -> str:
    value = _take(extensions, oid)
    text = value[2:]
    if value[:2] != bytes([_IA5_STRING, len(text) & 0x7F]) or not text.isascii():
        raise _malformed(f"the extension {oid} is wrong", "a short IA5String", value.hex()[:80])
    return text.decode("ascii")


def _product(name: str) -> Product:
    product = _PRODUCT_NAMES.get(name.partition("-")[0])
    if product is None:
        raise _malformed(
            "the product name is not known", " or ".join(_PRODUCT_NAMES), ascii(name[:80])
        )
    return product


def _hardware_id(value: bytes, size: int) -> bytes:
    """The id's bytes, which AMD has put there as they are, and later in an OCTET STRING."""
    wrapped = bytes([_OCTET_STRING, size])
    if len(value) == size:
        return value
    if len(value) == len(wrapped) + size and value.startswith(wrapped):
        return value[len(wrapped) :]
    raise _malformed("the hardware id is wrong", f"{size} bytes", value.hex()[:160])


def _p384(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _malformed("a key is of another kind", "a P-384 key", type(key).__name__)
    return key


def _malformed(problem: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-snp-certificate",
        f"AMD's certificates for this machine are malformed: {problem}",
        expected=expected,
        seen=seen,
    )
