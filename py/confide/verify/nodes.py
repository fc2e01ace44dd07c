"""What a client checks of secret services and workers, by the CAs of an attested coordinator.

A gateway shows them, and it may show anything. Whatever does not pass is left out, and the verdict
says how many passed: one that is hostile or ill must not stop a service that has others.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from confide.errors import ConfideError, VerificationError
from confide.protocol.certificates import MeshIdentity
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role
from confide.protocol.secret_service import KeyExchangeReply, KeyOffer
from confide.protocol.workers import ListedWorker, WorkerList
from confide.verify.mesh import verify_leaf
from confide.verify.verdict import Check, Verdict

_ATTESTED = "attested coordinator"


def verify_offer(offer: KeyOffer, *, mesh_ca: bytes, root_ca: bytes, now: int) -> MeshIdentity:
    """Verify a secret service; then keys may be sealed to `offer.kem_public_key`.

    `mesh_ca` and `root_ca` are those of the attested coordinator (DER), `now` is in unix seconds.
    Raises VerificationError or FormatError.
    """
    identity = verify_leaf(offer.certificate, mesh_ca, root_ca, role=Role.SECRET_SERVICE, now=now)
    _require_kem_key(identity, offer.kem_public_key)
    return identity


def verified_offers(
    reply: KeyExchangeReply, *, mesh_ca: bytes, root_ca: bytes, now: int
) -> tuple[list[KeyOffer], list[ConfideError]]:
    """The secret services that pass, each once, and why the others do not. As `verify_offer`."""
    passed: dict[bytes, KeyOffer] = {}
    errors = []
    for offer in reply.services:
        try:
            identity = verify_offer(offer, mesh_ca=mesh_ca, root_ca=root_ca, now=now)
            passed[worker_id_of(identity.public_key)] = offer
        except ConfideError as error:
            errors.append(error)
    return list(passed.values()), errors


def verify_key_exchange(
    reply: KeyExchangeReply, *, mesh_ca: bytes, root_ca: bytes, now: int
) -> Verdict:
    """Whether there is a secret service to seal keys to. The arguments are as in `verify_offer`."""
    passed, errors = verified_offers(reply, mesh_ca=mesh_ca, root_ca=root_ca, now=now)
    shown = len(reply.services)
    return Verdict((_count("secret services", 1, len(passed), shown, errors),))


def verify_worker(
    listed: ListedWorker,
    *,
    models: Iterable[str],
    manifest: Manifest,
    mesh_ca: bytes,
    root_ca: bytes,
    now: int,
) -> MeshIdentity:
    """Verify a worker for these models; then requests may be sealed to it.

    The manifest is the pinned one; the rest is as in `verify_offer`. Raises VerificationError,
    FormatError, and PolicyError for a model that is not in the manifest.
    """
    wanted = [manifest.model(model) for model in models]
    roles = frozenset.intersection(*(frozenset(model.roles) for model in wanted))
    identity = verify_leaf(
        listed.certificate, mesh_ca, root_ca, role=sorted(map(str, roles)), now=now
    )
    for model in wanted:
        if model.name not in identity.models:
            raise VerificationError(
                "wrong-model",
                "the worker's certificate does not name the model",
                expected=model.name,
                seen=" ".join(identity.models) or "no model",
            )
    if worker_id_of(identity.public_key) != listed.worker:
        raise VerificationError(
            "wrong-worker",
            "the worker's name is not its certificate's",
            expected=worker_id_of(identity.public_key).hex(),
            seen=listed.worker.hex(),
        )
    _require_kem_key(identity, listed.kem_public_key)
    return identity


def verify_workers(
    shown: WorkerList,
    *,
    minimum: int,
    manifest: Manifest,
    mesh_ca: bytes,
    root_ca: bytes,
    now: int,
) -> Verdict:
    """Whether at least `minimum` workers pass, each for the models that it is listed with."""
    passed = set()
    errors = []
    for listed in shown.workers:
        try:
            if not listed.models:
                raise VerificationError("wrong-model", "the worker is listed without a model")
            verify_worker(
                listed,
                models=listed.models,
                manifest=manifest,
                mesh_ca=mesh_ca,
                root_ca=root_ca,
                now=now,
            )
            passed.add(listed.worker)
        except ConfideError as error:
            errors.append(error)
    return Verdict((_count("workers", minimum, len(passed), len(shown.workers), errors),))


def _require_kem_key(identity: MeshIdentity, kem_public_key: bytes) -> None:
    seen = sha256(kem_public_key).digest()
    if identity.kem_key_sha256 != seen:
        expected = identity.kem_key_sha256
        raise VerificationError(
            "wrong-kem-key",
            "the KEM key is not the one that the certificate names",
            expected=expected.hex() if expected else "none",
            seen=seen.hex(),
        )


def _count(name: str, minimum: int, passed: int, shown: int, errors: list[ConfideError]) -> Check:
    seen = f"{passed} of the {shown} that the gateway showed"
    if errors:
        seen += f"; the first that did not pass: {errors[0]}"
    return Check(
        name,
        f"{minimum} or more with a certificate of the coordinator",
        seen,
        passed >= minimum,
        _ATTESTED,
    )
