"""Verifies a kept receipt later, from nothing but its folder and a manifest that the caller pins.

No peer and no vendor is asked. The attestation is judged as of its own time by the collateral that
was kept with it, as it was then. The receipt is judged as of the time that its worker signed. Both
times have to fit each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from confide.client.receipts import RECORD
from confide.client.service import MAX_RECORD, Record, verify_record
from confide.encoding.files import read_file
from confide.errors import ConfideError
from confide.net.sse import WAITING
from confide.protocol.certificates import BACKDATE
from confide.protocol.coordinator import Attestation
from confide.protocol.keyexchange import KEY_LIFETIME
from confide.protocol.manifest import Manifest
from confide.protocol.receipt import MAX_RECEIPT, Receipt, Statement
from confide.verify.receipt import verify_receipt
from confide.verify.verdict import Check, Verdict, check_equal
from confide.verify.x509 import utc

LATEST = 2 * KEY_LIFETIME
"""Seconds from an attestation to a receipt: a client asks for an hour, and may read for one."""

CLOCKS = BACKDATE
"""Seconds by which the clocks of client and worker may differ."""


@dataclass(frozen=True)
class KeptReceipt:
    """What one kept file and its folder hold; nothing of it is verified yet."""

    receipt: bytes
    statement: Statement
    record: Record
    record_sha256: str
    folder: str


def read_kept(path: Path) -> KeptReceipt:
    """Read a receipt, and the attestation record in its folder.

    Raises:
        ConfigError: One of the two files cannot be read.
        FormatError: One of them is malformed.
    """
    receipt = read_file(path, "receipt", MAX_RECEIPT)
    folder = path.resolve().parent
    record = read_file(folder / RECORD, "attestation beside the receipt", MAX_RECORD)
    return KeptReceipt(
        receipt,
        Statement.parse(Receipt.parse(receipt).statement),
        Record.parse(record),
        sha256(record).hexdigest(),
        folder.name,
    )


def verify_kept(kept: KeptReceipt, manifest: bytes, *, answer: bytes | None = None) -> Verdict:
    """Every check of a kept receipt, those of its attestation first.

    Args:
        kept: What was read.
        manifest: The pinned bytes.
        answer: The answer's body as the app got it, to compare; None does without.

    Raises:
        FormatError: The pinned manifest or the record is malformed.
    """
    record, statement = kept.record, kept.statement
    attested = verify_record(record, manifest, now=record.time)
    verdict = Verdict((_check_record(kept), *attested.checks, _check_times(kept)))
    if not attested.passed:
        # Without an attested mesh CA, nothing vouches for the worker.
        return verdict
    verdict += Verdict((_check_receipt(kept, manifest),))
    if answer is not None:
        seen = sha256(answer).digest()
        if seen != statement.response_sha256:
            # The proxy's own comments in a stream. They are no part of the worker's answer.
            seen = sha256(answer.replace(WAITING, b"")).digest()
        verdict += Verdict((check_equal("answer", statement.response_sha256, seen, "receipt"),))
    return verdict


def _check_record(kept: KeptReceipt) -> Check:
    return Check(
        "attestation record",
        f"a folder with the name {kept.record_sha256}",
        # It may come from somebody else, and a terminal shows it.
        ascii(kept.folder)[1:-1][:80],
        kept.folder == kept.record_sha256,
        "SHA-256 of attestation.cbor",
    )


def _check_times(kept: KeptReceipt) -> Check:
    attested, signed = kept.record.time, kept.statement.time
    return Check(
        "time of the attestation",
        f"at most {LATEST // 3600} hours before the receipt, at {utc(signed)}",
        utc(attested),
        attested - CLOCKS <= signed <= attested + LATEST + CLOCKS,
        "receipt",
    )


def _check_receipt(kept: KeptReceipt, manifest: bytes) -> Check:
    pinned, statement = Manifest.parse(manifest), kept.statement
    attestation = Attestation.parse(kept.record.attestation)
    expected = "signed by a worker of this mesh that may serve its model"
    try:
        pinned.require_current(statement.time)
        model = pinned.model(statement.model)
        verify_receipt(
            kept.receipt,
            mesh_ca=attestation.mesh_ca,
            root_ca=attestation.root_ca,
            roles=model.roles,
            # Nobody has the sealed request any more: the statement is all that is known of it.
            worker=None,
            request_sha256=statement.request_sha256,
            response_sha256=statement.response_sha256,
            manifest_sha256=pinned.sha256,
            model=model.name,
            model_root_hash=model.root_hash,
            usage=None,
            now=statement.time,
        )
    except ConfideError as error:
        return Check("receipt", expected, f"{error.code}: {error}", False, "attested coordinator")
    return Check("receipt", expected, expected, True, "attested coordinator")
