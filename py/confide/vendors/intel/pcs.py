"""What to ask Intel's Provisioning Certification Service for, and how to read its answers.

Nothing here does I/O and nothing is verified: a quote says which collateral it needs, the answers
say what they hold. Intel's service and a cache of it answer in the same way.

Source: Intel's Provisioning Certification Service API, version 4: "Get TCB Info", "Get Quoting
Enclave Identity", "Get Revocation List"; Intel SGX PCK Certificate and CRL Profile Specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.x509.oid import NameOID

from confide.encoding.pem import read_chain
from confide.errors import FormatError
from confide.vendors.intel.collateral import SIGNING_CHAIN_LENGTH, TdxCollateral
from confide.vendors.intel.pck import FMSPC_SIZE, PckExtension

SERVICE = "https://api.trustedservices.intel.com"
ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

_DOCUMENT = re.compile(rb'\{"(\w+)":(\{.*\}),"signature":"([0-9a-fA-F]{128})"\}\s*', re.DOTALL)


class PckCa(StrEnum):
    """The CA that issued a PCK certificate, as the service names it."""

    PLATFORM = "platform"
    PROCESSOR = "processor"


class Item(StrEnum):
    """The four answers that make a TDX platform's collateral."""

    TCB_INFO = "TCB info"
    QE_IDENTITY = "QE identity"
    PCK_CRL = "PCK CA's revocation list"
    ROOT_CRL = "root CA's revocation list"


# The header that holds the signer's chain, URL-encoded PEM. A verifier of a quote has the CA that
# signed the lists in the quote's own chain; who keeps a list without a quote needs the header.
CHAIN_HEADERS = {
    Item.TCB_INFO: "TCB-Info-Issuer-Chain",
    Item.QE_IDENTITY: "SGX-Enclave-Identity-Issuer-Chain",
    Item.PCK_CRL: "SGX-PCK-CRL-Issuer-Chain",
}
_KEYS = {Item.TCB_INFO: b"tcbInfo", Item.QE_IDENTITY: b"enclaveIdentity"}


@dataclass(frozen=True)
class Platform:
    """What collateral is kept under: the kind of platform (6 bytes) and the CA of its PCK."""

    fmspc: bytes
    ca: PckCa

    @classmethod
    def of(cls, certificate: x509.Certificate, pck: PckExtension) -> Platform:
        """The platform of a PCK certificate, which holds `pck`; neither is verified.

        Raises:
            FormatError: the issuer is not a CA that Intel's service knows.
        """
        names = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        issuer = str(names[0].value) if names else ""
        for ca in PckCa:
            if issuer == f"Intel SGX PCK {ca.capitalize()} CA":
                return cls(pck.fmspc, ca)
        raise FormatError(
            "bad-pck-certificate",
            "the PCK certificate is from a CA that Intel's service does not know",
            expected="Intel SGX PCK Platform CA or Intel SGX PCK Processor CA",
            seen=ascii(issuer)[:80],
        )


@dataclass(frozen=True)
class Answer:
    """The body of an answer and, where `CHAIN_HEADERS` names one, the value of that header.

    The value may be decoded already: there is no per cent sign in PEM.
    """

    body: bytes
    chain: str = ""


def urls(platform: Platform, service: str = SERVICE, root_crl: str = ROOT_CRL) -> dict[Item, str]:
    """Where each item is; `service` is Intel's, or the base URL of a cache with the same paths.

    Intel gives two TCB evaluations, and these URLs ask for the newest: the other one becomes the
    newest only months later, and a manifest that demands the newest could not be fulfilled by it.
    """
    tdx, sgx = f"{service}/tdx/certification/v4", f"{service}/sgx/certification/v4"
    if len(platform.fmspc) != FMSPC_SIZE:
        raise FormatError("bad-fmspc", "the FMSPC has another size", expected=f"{FMSPC_SIZE} bytes")
    return {
        Item.TCB_INFO: f"{tdx}/tcb?fmspc={platform.fmspc.hex().upper()}&update=early",
        Item.QE_IDENTITY: f"{tdx}/qe/identity?update=early",
        Item.PCK_CRL: f"{sgx}/pckcrl?ca={platform.ca}&encoding=der",
        Item.ROOT_CRL: root_crl,
    }


def collateral(answers: Mapping[Item, Answer]) -> TdxCollateral:
    """The collateral that four answers hold. Raises FormatError if one is missing or malformed."""
    missing = [item for item in Item if item not in answers]
    if missing:
        raise FormatError("missing-collateral", f"the collateral lacks the {missing[0]}")
    info, info_signature, info_chain = read_signed(Item.TCB_INFO, answers[Item.TCB_INFO])
    identity, identity_signature, identity_chain = read_signed(
        Item.QE_IDENTITY, answers[Item.QE_IDENTITY]
    )
    return TdxCollateral(
        tcb_info=info,
        tcb_info_signature=info_signature,
        tcb_info_chain=info_chain,
        qe_identity=identity,
        qe_identity_signature=identity_signature,
        qe_identity_chain=identity_chain,
        root_ca_crl=answers[Item.ROOT_CRL].body,
        pck_crl=answers[Item.PCK_CRL].body,
    )


def read_signed(item: Item, answer: Answer) -> tuple[bytes, bytes, tuple[bytes, ...]]:
    """Document, signature and signer's chain: {"tcbInfo": document, "signature": hex}.

    The document is cut out as it stands, because the signature is over its very bytes. Raises
    FormatError.
    """
    key = _KEYS[item]
    found = _DOCUMENT.fullmatch(answer.body)
    if found is None or found[1] != key:
        raise FormatError(
            "bad-collateral",
            f"the answer of Intel's service is malformed: {item}",
            expected=f'{{"{key.decode()}":{{…}},"signature":"128 hex digits"}}',
            seen=ascii(answer.body[:40]),
        )
    chain = read_chain(
        unquote_to_bytes(answer.chain),
        f"chain of the {item}",
        max_certificates=SIGNING_CHAIN_LENGTH,
    )
    return found[2], bytes.fromhex(found[3].decode()), chain
