"""Whether NVIDIA has revoked a certificate: OCSP answers, each checked by itself.

An answer counts if the certificate's issuer signed it, or a responder that this issuer certified
for the purpose; if it is about exactly this certificate; if it carries the nonce that was asked
with; and from thisUpdate to nextUpdate, never later, and never if it names no end. "Good" passes.
All else fails, unless the policy has the opt-out for it.

The leaf of a GPU's chain is made by the GPU at boot: no authority knows it and none is asked.

Source: RFC 6960, 3.2 (acceptance), 4.2.2.2 (authorized responders); RFC 8954 (nonce).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.policy.gpu import GpuPolicy, OptOut
from confide.verify.nvidia.chain import ALGORITHM, public_key
from confide.verify.nvidia.collateral import MAX_ANSWER, OcspAnswer
from confide.verify.verdict import COLLATERAL, Check
from confide.verify.x509 import check_validity, extension, is_signed_by, subject, utc

CLOCK_SKEW = 300  # seconds that an answer may be from the future: clocks differ a little
MAX_RESPONDERS = 4
UNKNOWN = ocsp.OCSPCertStatus.UNKNOWN

_CERT_ID_HASHES = ("sha1", "sha256", "sha384")  # only to name an issuer, whose key then signs
_EXPECTED = "good, as its issuer states"
_SOURCE = "OCSP"
_COMPROMISES = (
    x509.ReasonFlags.key_compromise,
    x509.ReasonFlags.ca_compromise,
    x509.ReasonFlags.aa_compromise,
)


class Revocation:
    """All answers that there are, and what the policy makes of them at one time."""

    def __init__(self, answers: Sequence[OcspAnswer], policy: GpuPolicy, now: int) -> None:
        self._policy = policy
        self._now = now
        self._by_serial: dict[int, list[tuple[ocsp.OCSPResponse, bytes]]] = {}
        for answer in answers:
            response = _load(answer.response)
            if response is not None:
                found = self._by_serial.setdefault(response.serial_number, [])
                found.append((response, answer.nonce))

    def check(self, certificate: x509.Certificate, issuer: x509.Certificate) -> Check:
        """Passes if there is an answer about the certificate, and all that there are are good.

        The caller has checked that `issuer` issued `certificate`.
        """
        name = f"revocation of {subject(certificate)}"
        checks = [
            self._check_answer(name, response, nonce, issuer)
            for response, nonce in self._by_serial.get(certificate.serial_number, ())
            if _is_about(response, issuer)
        ]
        missing = Check(name, _EXPECTED, "no answer in the collateral", False, COLLATERAL)
        failed = (check for check in checks if not check.passed)
        return next(failed, checks[0] if checks else missing)

    def _check_answer(
        self, name: str, response: ocsp.OCSPResponse, nonce: bytes, issuer: x509.Certificate
    ) -> Check:
        fault = self._fault(response, nonce, issuer)
        accepted, seen = (False, fault) if fault else self._status(response)
        return Check(name, _EXPECTED, seen, accepted, _SOURCE)

    def _fault(self, response: ocsp.OCSPResponse, nonce: bytes, issuer: x509.Certificate) -> str:
        """Why the answer does not count, empty if it does."""
        if not _is_signed(response, issuer, self._now):
            return "an answer that neither the issuer nor its responder signed"
        seen_nonce = _nonce(response)
        if seen_nonce is None and OptOut.OCSP_WITHOUT_NONCE not in self._policy.opt_outs:
            return "an answer without a nonce"
        if seen_nonce is not None and seen_nonce != nonce:
            return _other_question(seen_nonce, nonce)
        start, end = response.this_update_utc, response.next_update_utc
        if end is None:
            return "an answer that does not say when it expires"
        if not start.timestamp() - CLOCK_SKEW <= self._now <= end.timestamp():
            times = f"{utc(start.timestamp())} to {utc(end.timestamp())}"
            return f"an answer from {times}, at {utc(self._now)}"
        return ""

    def _status(self, response: ocsp.OCSPResponse) -> tuple[bool, str]:
        """Whether the policy accepts the status, and how a verdict shows it."""
        status = response.certificate_status
        if status == ocsp.OCSPCertStatus.GOOD:
            return True, "good"
        if status == UNKNOWN:
            return self._opt_out(OptOut.OCSP_UNKNOWN, "unknown")
        revoked, reason = response.revocation_time_utc, response.revocation_reason
        if reason == x509.ReasonFlags.certificate_hold:
            return self._opt_out(OptOut.CERTIFICATE_HOLD, "on hold (certificateHold)")
        seen = f"revoked ({reason.value if reason else 'no reason given'})"
        grace = self._policy.insecure_revoked_grace_hours
        if grace and revoked and reason not in _COMPROMISES:
            seen += f" at {utc(revoked.timestamp())}"
            if self._now < revoked.timestamp() + grace * 3600:
                return True, f"{seen}, accepted because of insecure_revoked_grace_hours"
        return False, seen

    def _opt_out(self, option: OptOut, seen: str) -> tuple[bool, str]:
        if option in self._policy.opt_outs:
            return True, f"{seen}, accepted because of {option}"
        return False, seen


def read_answer(
    answer: OcspAnswer, certificate: x509.Certificate, issuer: x509.Certificate, now: int
) -> tuple[ocsp.OCSPResponse, bytes | None] | str:
    """A signed answer about this certificate, and its nonce if it has one; or why it is refused.

    For a program that keeps answers: the answer's own times and status are the caller's to judge.
    The caller has checked that `issuer` issued `certificate`; `now` (Unix seconds) is for the
    certificate of a responder.
    """
    response = _load(answer.response)
    if response is None:
        return "an answer that cannot be read"
    if response.serial_number != certificate.serial_number or not _is_about(response, issuer):
        return "an answer about another certificate"
    if not _is_signed(response, issuer, now):
        return "an answer that neither the issuer nor its responder signed"
    nonce = _nonce(response)
    if nonce is not None and nonce != answer.nonce:
        return _other_question(nonce, answer.nonce)
    return response, nonce


def _other_question(seen: bytes, nonce: bytes) -> str:
    return f"an answer to another question: nonce {seen.hex()}, not {nonce.hex()}"


def _load(der: bytes) -> ocsp.OCSPResponse | None:
    """A response about one certificate, encoded canonically; None for anything else."""
    if len(der) > MAX_ANSWER:
        return None
    try:
        response = ocsp.load_der_ocsp_response(der)
        # These are parsed when they are first asked for; malformed ones raise here.
        _ = (response.serial_number, response.certificate_status, response.next_update_utc)
        _ = (response.revocation_time_utc, response.revocation_reason)
        extensions = [*response.extensions, *response.single_extensions]
        # The parser keeps the signature's count of unused bits, which nothing signs: it must be 0.
        before_signature = der.partition(response.tbs_response_bytes)[2].partition(
            response.signature
        )[0]
        usable = (
            response.public_bytes(Encoding.DER) == der
            and before_signature.endswith(b"\0")
            and len(response.certificates) <= MAX_RESPONDERS
            and response.hash_algorithm.name in _CERT_ID_HASHES
            and not any(e.critical and e.oid != x509.OCSPNonce.oid for e in extensions)
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return None
    return response if usable else None


def _is_about(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> bool:
    """Whether the answer names this issuer: its name and its key, by the hash it chose."""
    point = public_key(issuer, "issuer's").public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )
    algorithm = response.hash_algorithm.name
    return (
        response.issuer_key_hash == hashlib.new(algorithm, point).digest()
        and response.issuer_name_hash
        == hashlib.new(algorithm, issuer.subject.public_bytes()).digest()
    )


def _is_signed(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: int) -> bool:
    signers = [c for c in response.certificates if _is_responder(c, issuer, now)] or [issuer]
    return any(_verify(response, signer) for signer in signers)


def _is_responder(certificate: x509.Certificate, issuer: x509.Certificate, now: int) -> bool:
    """Whether the issuer itself certified this key for signing answers, and still does."""
    try:
        # It came inside the answer: not read as strictly as a chain's certificates yet.
        load_certificate(certificate.public_bytes(Encoding.DER), "responder's")
        usage = extension(certificate, x509.ExtendedKeyUsage)
    except FormatError:
        return False
    return (
        usage is not None
        and ExtendedKeyUsageOID.OCSP_SIGNING in usage
        and check_validity("responder", certificate, now).passed
        and is_signed_by(certificate, issuer, ALGORITHM)
    )


def _verify(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    if response.signature_algorithm_oid != ALGORITHM:
        return False
    try:
        key = public_key(signer, "responder's")
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, FormatError):
        return False
    return True


def _nonce(response: ocsp.OCSPResponse) -> bytes | None:
    try:
        return response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return None
