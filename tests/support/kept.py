"""A service in this process whose attestations and receipts a client keeps (machine SIMULATED)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.client.receipts import Attested, ReceiptFolder
from confide.client.service import Record
from confide.guest.attest.service import Attester
from confide.guest.coordinator.ca import issue_leaf
from confide.guest.coordinator.domain import Coordinator
from confide.protocol.collateral import Bundle
from confide.protocol.manifest import Manifest
from confide.protocol.receipt import Statement, sign_receipt
from confide.protocol.usage import TOKEN, Usage
from confide.verify.service import verify_coordinator
from confide.verify.verdict import Verdict
from tests.support.simulated_machine import Clock

NONCE = bytes(range(32))
ANSWER = b'{"answer": 42}'
# For a proxy whose handshake a test stands in for.
NOTHING_ATTESTED = Attested(Record(bytes(32), 0, b"", b"", Bundle()), Verdict(()))


class KeptService:
    """A coordinator, and one worker that serves the manifest's first model."""

    def __init__(
        self, attester: Attester, manifest: bytes, *, now: int, collateral: Bundle | None = None
    ) -> None:
        self.manifest, self.now, self.collateral = manifest, now, collateral or Bundle()
        self.model = Manifest.parse(manifest).models[0]
        self.clock = Clock(now)
        self.coordinator = Coordinator(attester, binding=sha256(manifest).digest(), now=self.clock)
        self.coordinator.set_manifest(manifest)
        self.key = ec.generate_private_key(ec.SECP256R1())

    def leaf(self, *, role: str = "", models: Sequence[str] = ()) -> bytes:
        """A certificate of this moment for the worker's key."""
        mesh = self.coordinator._mesh
        assert mesh is not None
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return issue_leaf(
            mesh.authority,
            role=role or self.model.roles[0],
            models=models or [self.model.name],
            public_key=spki,
            kem_public_key=b"",
            now=int(self.clock()),
        )

    def attested(self) -> Attested:
        """What a client found at `now`."""
        attestation = self.coordinator.attest(NONCE)
        record = Record(NONCE, self.now, attestation.encode(), b"", self.collateral)
        verdict = verify_coordinator(
            attestation,
            manifest_pinned=self.manifest,
            nonce=NONCE,
            collateral=self.collateral,
            now=self.now,
        )
        return Attested(record, verdict)

    def statement(self, **changes: Any) -> Statement:
        """What the worker says of an answer, ten minutes after the attestation."""
        made = Statement(
            request_sha256=sha256(b"the sealed request").digest(),
            response_sha256=sha256(ANSWER).digest(),
            manifest_sha256=sha256(self.manifest).digest(),
            model=self.model.name,
            model_root_hash=self.model.root_hash,
            time=self.now + 600,
            usage=Usage(TOKEN, 7, 3),
        )
        return replace(made, **changes)

    def receipt(self, leaf: bytes = b"", **changes: Any) -> bytes:
        """A receipt that the worker signed."""
        return sign_receipt(self.statement(**changes), self.key, leaf or self.leaf())


def keep(folder: Path, attested: Attested, receipt: bytes) -> Path:
    """Keep a receipt as the proxy does; the file."""
    digest = sha256(receipt).digest()
    with ReceiptFolder(folder).reserve(attested) as kept:
        kept(digest, receipt)
    (path,) = (folder / attested.name).glob(f"*-{digest.hex()}.cbor")
    return path
