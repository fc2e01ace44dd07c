"""A TPM in Python: signs what it is told to, so that each check can be shown to fail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from confide.host.development_ca import (
    development_ca_certificate,
    issue_ak_certificate,
)
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.policy.vtpm import REQUIRED_PCRS, VtpmReference
from confide.vendors.tpm.structures import encode_pcr_selection, pcr_digest

NOW = 1_800_000_000
REPORT_DATA = b"\x5a" * 32 + bytes(32)
BINDING = bytes(range(100, 132))  # SHA-256 of some manifest
MEASURED = {n: hashlib.sha256(bytes([n])).digest() for n in (0, 4, 5, 7, 9, 11)}


def event_log(measured: Mapping[int, bytes]) -> bytes:
    """A crypto-agile log (TCG PC Client PFP, section 10) with one event a register."""
    spec = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + b"\1\0\0\0" + b"\x0b\0\x20\0" + b"\0"
    log = bytes(4) + b"\3\0\0\0" + bytes(20) + len(spec).to_bytes(4, "little") + spec
    for pcr, digest in measured.items():
        log += pcr.to_bytes(4, "little") + b"\x0d\0\0\0" + b"\1\0\0\0" + b"\x0b\0" + digest
        log += b"\4\0\0\0test"
    return log


def extended(digest: bytes) -> bytes:
    """A register of zeros after one extension."""
    return hashlib.sha256(bytes(32) + digest).digest()


@dataclass
class FakeTpm:
    """Evidence whose parts a test may change before it is signed."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    measured: dict[int, bytes] = field(default_factory=lambda: dict(MEASURED))
    pcrs: dict[int, bytes] = field(init=False)
    magic: bytes = b"\xffTCG"
    kind: bytes = b"\x80\x18"
    certified: datetime = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)

    def __post_init__(self) -> None:
        self.pcrs = {n: bytes(32) for n in range(16)}
        self.pcrs |= {n: extended(digest) for n, digest in self.measured.items()}
        self.pcrs[15] = extended(BINDING)

    def launch_for(self, manifest: bytes) -> None:
        """The machine is launched for this manifest. It extends PCR 15 itself, so no log of the
        firmware's has the event.
        """
        self.pcrs[15] = extended(hashlib.sha256(manifest).digest())

    def quote(self, extra_data: bytes) -> bytes:
        return (
            self.magic
            + self.kind
            + b"\0\x22\0\x0b"
            + bytes(32)
            + len(extra_data).to_bytes(2)
            + extra_data
            + bytes(8 + 4 + 4)
            + b"\1"
            + bytes(8)
            + encode_pcr_selection(self.pcrs)
            + b"\0\x20"
            + pcr_digest(self.pcrs)
        )

    def sign(self, quote: bytes) -> bytes:
        r, s = decode_dss_signature(self.key.sign(quote, ec.ECDSA(hashes.SHA256())))
        return b"\0\x18\0\x0b\0\x20" + r.to_bytes(32) + b"\0\x20" + s.to_bytes(32)

    def report(self, report_data: bytes = REPORT_DATA) -> VtpmReport:
        quote = self.quote(report_data[:32])
        return VtpmReport(quote, self.sign(quote), dict(self.pcrs))

    def certificate(self) -> bytes:
        return issue_ak_certificate(self.key.public_key(), self.certified)

    def evidence(self, report: VtpmReport | None = None) -> Evidence:
        chain = (self.certificate(), development_ca_certificate())
        return Evidence("vtpm", (report or self.report()).encode(), chain, event_log(self.measured))

    def reference(self, shape: str = "test") -> VtpmReference:
        return VtpmReference(shape, {n: self.pcrs[n] for n in REQUIRED_PCRS})
