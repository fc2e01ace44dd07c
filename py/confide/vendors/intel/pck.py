"""What a PCK certificate says of the platform: the SGX extension that Intel signs into it.

Source: Intel SGX PCK Certificate and CRL Profile Specification, revision 1.5, section 1.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat import asn1

from confide.errors import FormatError

FMSPC_SIZE = 6
INSTANCE_SIZE = 16
MAX_PCE_SVN = 0xFFFF

_SGX = "1.2.840.113741.1.13.1"
_SGX_OID = x509.ObjectIdentifier(_SGX)
_COMPONENTS = 16
# Below _SGX.2, in order: the 16 component SVNs, PCESVN, CPUSVN.
_TCB_OIDS = [f"{_SGX}.2.{number}" for number in range(1, _COMPONENTS + 3)]


@asn1.sequence
class _Item:
    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _Items:
    oid: x509.ObjectIdentifier
    values: list[_Item]


@asn1.sequence
class _Extension:
    ppid: _Item
    tcb: _Items
    pce_id: _Item
    fmspc: _Item
    sgx_type: _Item
    platform_instance_id: _Item | None
    configuration: _Items | None


@dataclass(frozen=True)
class PckExtension:
    """Platform identity and TCB: `fmspc` 6 bytes, `pce_id` 2, `sgx_svns` 16 (one per component).

    `platform_instance_id` (16 bytes) names the machine; it is None where Intel does not state it.
    """

    fmspc: bytes
    pce_id: bytes
    sgx_svns: bytes
    pce_svn: int
    platform_instance_id: bytes | None

    @classmethod
    def read(cls, certificate: x509.Certificate) -> PckExtension:
        """Raises FormatError if the certificate has no such extension, or another layout of it."""
        try:
            extension = certificate.extensions.get_extension_for_oid(_SGX_OID).value
            if not isinstance(extension, x509.UnrecognizedExtension):
                raise ValueError("not raw bytes")
            return _read(asn1.decode_der(_Extension, extension.value))
        except (ValueError, x509.ExtensionNotFound) as error:
            raise FormatError(
                "bad-pck-certificate",
                "the PCK certificate does not say which platform it is for",
                expected="Intel's SGX extension with PPID, TCB, PCE-ID, FMSPC and SGX type",
            ) from error


def _read(extension: _Extension) -> PckExtension:
    items = [extension.ppid, extension.pce_id, extension.fmspc, extension.sgx_type]
    oids = [extension.tcb.oid.dotted_string, *(item.oid.dotted_string for item in items)]
    if oids != [f"{_SGX}.{number}" for number in (2, 1, 3, 4, 5)]:
        raise ValueError("an unknown field")
    if [item.oid.dotted_string for item in extension.tcb.values] != _TCB_OIDS:
        raise ValueError("an unknown TCB field")
    numbers = [item.value.parse(int) for item in extension.tcb.values[:-1]]
    if not 0 <= numbers[_COMPONENTS] <= MAX_PCE_SVN:
        raise ValueError("PCESVN is not a 16-bit number")
    instance = extension.platform_instance_id
    for number, item in ((6, instance), (7, extension.configuration)):
        if item is not None and item.oid.dotted_string != f"{_SGX}.{number}":
            raise ValueError("an unknown field")
    return PckExtension(
        fmspc=_octets(extension.fmspc, FMSPC_SIZE),
        pce_id=_octets(extension.pce_id, 2),
        sgx_svns=bytes(numbers[:_COMPONENTS]),
        pce_svn=numbers[_COMPONENTS],
        platform_instance_id=None if instance is None else _octets(instance, INSTANCE_SIZE),
    )


def _octets(item: _Item, size: int) -> bytes:
    value = item.value.parse(bytes)
    if len(value) != size:
        raise ValueError("a wrong size")
    return bytes(value)
