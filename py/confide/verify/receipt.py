"""Verifying a worker's receipt against what the client itself sent and received."""

from __future__ import annotations

from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import VerificationError
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.receipt import SIGNATURE_LABEL, Receipt, Statement
from confide.protocol.usage import Usage
from confide.verify.mesh import verify_leaf


def verify_receipt(
    receipt: bytes,
    *,
    mesh_ca: bytes,
    root_ca: bytes,
    roles: Collection[str],
    worker: bytes | None,
    request_sha256: bytes,
    response_sha256: bytes,
    manifest_sha256: bytes,
    model: str,
    model_root_hash: bytes,
    usage: Usage | None,
    now: int,
) -> Statement:
    """Verifies signature, certificate chain, role, model and every hash.

    Args:
        receipt: the receipt as it came.
        mesh_ca: the attested mesh CA (DER).
        root_ca: the attested root CA (DER).
        roles: the worker roles that the manifest lets serve the model.
        worker: whom the request was sealed for (`worker_id_of`, 32 bytes); None if nobody knows.
        request_sha256: of the request that was sent (32 bytes).
        response_sha256: of the answer that came (32 bytes).
        manifest_sha256: of the pinned manifest (32 bytes).
        model: the model's name.
        model_root_hash: the root hash of its disk (32 bytes).
        usage: the usage record in the clear, if there was one.
        now: unix seconds.

    Raises:
        FormatError: the receipt or its certificate is malformed.
        VerificationError: a check failed.
    """
    parsed = Receipt.parse(receipt)
    statement = Statement.parse(parsed.statement)
    identity = verify_leaf(parsed.certificate, mesh_ca, root_ca, role=roles, now=now)
    try:
        identity.public_key.verify(
            parsed.signature, SIGNATURE_LABEL + parsed.statement, ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature as error:
        raise VerificationError("bad-receipt", "the receipt's signature is wrong") from error
    if model not in identity.models:
        raise VerificationError(
            "bad-receipt",
            "the receipt's signer does not serve this model",
            expected=model,
            seen=" ".join(identity.models) or "no model",
        )
    worker_id = worker_id_of(identity.public_key)
    for name, expected, seen in (
        ("worker", worker_id if worker is None else worker, worker_id),
        ("request", request_sha256, statement.request_sha256),
        ("response", response_sha256, statement.response_sha256),
        ("manifest", manifest_sha256, statement.manifest_sha256),
        ("model root", model_root_hash, statement.model_root_hash),
        ("model name", model.encode(), statement.model.encode()),
    ):
        if expected != seen:
            raise VerificationError(
                "bad-receipt",
                f"the receipt is for another {name}",
                expected=expected.hex(),
                seen=seen.hex(),
            )
    if usage is not None and usage != statement.usage:
        raise VerificationError(
            "bad-usage",
            "the token counts in the clear were changed",
            expected=str(statement.usage),
            seen=str(usage),
        )
    return statement
