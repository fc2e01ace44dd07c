"""What a GPU's leaf certificate says of the firmware that its key was derived for.

The boot ROM makes the leaf at every boot and writes the measurement of the firmware (FWID, SHA-384)
into it, in one of two encodings: Hopper a RIoT composite device id under 2.23.133.5.4.1, Blackwell
a DICE TcbInfo under 2.23.133.5.4.1.1.

Source: TCG DICE Attestation Architecture 1.1, 6.1 (DiceTcbInfo, OperationalFlags); Microsoft RIoT,
"Device Identity with DICE and RIoT", 7.3 (CompositeDeviceID).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1

from confide.errors import FormatError

COMPOSITE_OID = x509.ObjectIdentifier("2.23.133.5.4.1")
TCB_INFO_OID = x509.ObjectIdentifier("2.23.133.5.4.1.1")
FWID_SIZE = 48

_SHA384_OID = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.2")
# Bits of OperationalFlags, the first bit being the most significant.
_NOT_SECURE, _RECOVERY, _DEBUG = 1 << 30, 1 << 29, 1 << 28
_FLAG_NAMES = {_NOT_SECURE: "not secure", _RECOVERY: "recovery", _DEBUG: "debug"}


@dataclass(frozen=True)
class FirmwareIdentity:
    """`fwids`: 48 bytes each, in order; `states`: bad operational states that the device admits."""

    fwids: tuple[bytes, ...]
    states: tuple[str, ...]

    @property
    def used(self) -> tuple[bytes, ...]:
        """The entries that measure something: Blackwell pads its list with one of all zeros."""
        return tuple(fwid for fwid in self.fwids if any(fwid))


@asn1.sequence
class _Fwid:
    algorithm: x509.ObjectIdentifier
    digest: bytes


@asn1.sequence
class _Composite:
    version: int
    key: asn1.TLV
    fwid: _Fwid


@asn1.sequence
class _TcbInfo:
    vendor: Annotated[str | None, asn1.Implicit(0)]
    model: Annotated[str | None, asn1.Implicit(1)]
    version: Annotated[str | None, asn1.Implicit(2)]
    svn: Annotated[int | None, asn1.Implicit(3)]
    layer: Annotated[int | None, asn1.Implicit(4)]
    index: Annotated[int | None, asn1.Implicit(5)]
    fwids: Annotated[list[_Fwid] | None, asn1.Implicit(6)]
    flags: Annotated[asn1.BitString | None, asn1.Implicit(7)]
    vendor_info: Annotated[bytes | None, asn1.Implicit(8)]
    type: Annotated[bytes | None, asn1.Implicit(9)]


def firmware_identity(leaf: x509.Certificate) -> FirmwareIdentity:
    """What the leaf says. Raises FormatError unless it has exactly one encoding, well formed."""
    found = [e for e in leaf.extensions if e.oid in (COMPOSITE_OID, TCB_INFO_OID)]
    if len(found) != 1 or not isinstance(found[0].value, x509.UnrecognizedExtension):
        raise _bad("one extension with a firmware id", f"{len(found)}")
    data = found[0].value.value
    try:
        if found[0].oid == COMPOSITE_OID:
            entries, flags = [asn1.decode_der(_Composite, data).fwid], None
        else:
            info = asn1.decode_der(_TcbInfo, data)
            entries, flags = info.fwids or [], info.flags
    except (ValueError, TypeError, OverflowError) as error:
        raise _bad("a DER firmware id", data[:32].hex()) from error
    for entry in entries:
        if entry.algorithm != _SHA384_OID or len(entry.digest) != FWID_SIZE:
            raise _bad("SHA-384 firmware ids", entry.algorithm.dotted_string)
    return FirmwareIdentity(tuple(bytes(entry.digest) for entry in entries), _states(flags))


def _states(flags: asn1.BitString | None) -> tuple[str, ...]:
    bits = int.from_bytes((flags.as_bytes() if flags else b"").ljust(4, b"\0")[:4], "big")
    return tuple(name for bit, name in _FLAG_NAMES.items() if bits & bit)


def _bad(expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-firmware-id",
        "a GPU's leaf certificate does not say which firmware it is for",
        expected=expected,
        seen=seen,
    )
