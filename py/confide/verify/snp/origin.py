"""Whether a report comes from the chip that the endorsement key certifies, in that state."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import Product, Report, SigningKey, Tcb
from confide.verify.claims import Equals
from confide.verify.verdict import Check
from confide.verify.x509 import SHA384

_CERTIFICATE = "endorsement key certificate"


@dataclass(frozen=True)
class Tcbs:
    """The report's four TCB versions: the machine's now, its floor, at launch, and the signer's."""

    reported: Tcb
    committed: Tcb
    current: Tcb
    launch: Tcb

    @classmethod
    def parse(cls, report: Report, product: Product) -> Tcbs:
        """In the product's layout. Raises FormatError if one does not have it."""
        return cls(
            reported=Tcb.parse(report.reported_tcb, product),
            committed=Tcb.parse(report.committed_tcb, product),
            current=Tcb.parse(report.current_tcb, product),
            launch=Tcb.parse(report.launch_tcb, product),
        )


def check_origin(report: Report, key: EndorsementKey, tcbs: Tcbs) -> list[Check]:
    """The key signed the report, and the report agrees with what the key's certificate says."""
    signed = signature_is_valid(report, key.public_key)
    checks = [
        Equals("signing key", key.kind.name, _CERTIFICATE).check(report.signing_key.name),
        Check(
            "signature",
            "valid, by the endorsement key",
            "valid" if signed else "not valid",
            signed,
            _CERTIFICATE,
        ),
        Equals("TCB of the endorsement key", str(key.tcb), _CERTIFICATE).check(str(tcbs.reported)),
    ]
    if report.product is not None:
        claim = Equals("processor", key.product.value, _CERTIFICATE)
        checks.append(claim.check(report.product.value))
    if key.kind is SigningKey.VCEK:
        # With a masked chip key the firmware signs nothing: a report that says both is not genuine.
        masked = "masked" if report.chip_key_masked else "not masked"
        checks.append(Equals("chip key", "not masked", _CERTIFICATE).check(masked))
        checks.append(Equals("chip id", key.chip_id, _CERTIFICATE).check(report.chip_id))
    return checks


def signature_is_valid(report: Report, key: ec.EllipticCurvePublicKey) -> bool:
    """Whether the report's ECDSA signature with SHA-384 is over its first 672 bytes, by `key`."""
    der = encode_dss_signature(report.signature_r, report.signature_s)
    try:
        key.verify(der, report.signed, ec.ECDSA(SHA384))
    except InvalidSignature:
        return False
    return True
