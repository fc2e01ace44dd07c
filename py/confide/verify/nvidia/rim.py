"""Who says what the right measurements are: a RIM's XML signature, up to NVIDIA's root.

Signature wrapping, the classic attack, shows a checker one element and its caller another. Here the
only values that come out are read from the element that the signature library returns: the one it
computed the digest of. Of the file as it came, only the certificates are used, to check with.

Source: W3C XML Signature 1.1, 3.2 (core validation), 6.6.4 (enveloped signature).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from confide.errors import FormatError
from confide.vendors.nvidia.rim import Rim, load_rim_xml, signing_certificates
from confide.verify.nvidia.chain import Chain, check_chain, load_chain
from confide.verify.roots import NVIDIA_RIM, Root
from confide.verify.verdict import COLLATERAL, Check

if TYPE_CHECKING:
    from lxml import etree

_FORMAT = "reference values"


@dataclass(frozen=True)
class SignedRim:
    """A RIM whose own signature is right, and the chain of the signer, leaf first.

    Whether the chain is NVIDIA's and current is what the checks beside it say.
    """

    rim: Rim
    chain: Chain


def verify_rim(
    rim_id: str, xml: bytes | None, *, now: int, root: Root = NVIDIA_RIM
) -> tuple[list[Check], SignedRim | None]:
    """The checks of one RIM file, and the RIM, None if its signature is wrong or it is missing."""
    if xml is None:
        seen = "no such file in the collateral"
        return [Check(rim_id, "a signed RIM", seen, False, COLLATERAL)], None
    try:
        document = load_rim_xml(xml)
        chain = load_chain(signing_certificates(document), "RIM signer's")
        signed = SignedRim(Rim.read(_signed_element(document, chain)), chain)
    except FormatError as error:
        return [Check(rim_id, "a signed RIM", str(error), False, _FORMAT)], None
    read = Check(
        f"{rim_id} signature",
        "valid, over the values that are used",
        f"valid, over {signed.rim.product} {signed.rim.version}",
        True,
        _FORMAT,
    )
    return [read, *check_chain(f"{rim_id} signer", chain, root, now)], signed


def rim_signers(xml: bytes) -> Chain:
    """The certificates in a RIM, leaf first, unverified; none if it cannot be read."""
    try:
        return load_chain(signing_certificates(load_rim_xml(xml)), "RIM signer's")
    except FormatError:
        return ()


def _signed_element(document: etree._Element, chain: Chain) -> etree._Element:
    """The element that the leaf's key signed. Raises FormatError if it signed none."""
    # Imported here, as lxml is in vendors: XML is for GPUs only, and each machine imports this.
    from signxml.algorithms import DigestAlgorithm, SignatureMethod
    from signxml.verifier import SignatureConfiguration, XMLVerifier

    config = SignatureConfiguration(
        location="./",
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
        # The chain's checks are about the time; the library is not to take the computer's clock.
        verification_time=chain[0].not_valid_before_utc,
    )
    try:
        result = XMLVerifier().verify(document, x509_cert=chain[0], expect_config=config)
    except Exception as error:
        # The library documents some of what it raises; whatever it is, nothing was found signed.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise _bad(f"{type(error).__name__}: {reason}") from error
    if isinstance(result, list) or result.signed_xml is None:
        raise _bad("a signature over something else")
    return result.signed_xml


def _bad(seen: str) -> FormatError:
    return FormatError(
        "bad-rim-signature", "the XML signature is not valid", expected="a valid one", seen=seen
    )
