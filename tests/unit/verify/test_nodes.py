"""Secret services and workers as a gateway shows them: what passes, what counts, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.errors import ConfideError, VerificationError
from confide.guest.coordinator.ca import Authority, create_mesh_ca, create_root_ca, issue_leaf
from confide.protocol.kem import KemPrivateKey
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.manifest import Manifest
from confide.protocol.secret_service import KeyExchangeReply, KeyOffer
from confide.protocol.workers import ListedWorker, WorkerList
from confide.verify.nodes import (
    verified_offers,
    verify_key_exchange,
    verify_offer,
    verify_worker,
    verify_workers,
)
from confide.verify.verdict import Check
from tests.support.simulated_machine import MODEL, NOW, manifest_bytes, manifest_value

TINY = manifest_value()["models"][0]
MANIFEST = Manifest.parse(manifest_bytes(models=[TINY, TINY | {"name": "other"}]))
KEM = KemPrivateKey.generate().public_bytes


@dataclass
class Mesh:
    """A coordinator's CAs, and leaves as it would issue them."""

    root: Authority
    mesh: Authority

    @classmethod
    def make(cls) -> Mesh:
        root = create_root_ca(now=NOW)
        return cls(root, create_mesh_ca(root, manifest_sha256=MANIFEST.sha256, now=NOW))

    @property
    def cas(self) -> dict[str, bytes]:
        return {"mesh_ca": self.mesh.der, "root_ca": self.root.der}

    def leaf(
        self, key: ec.EllipticCurvePrivateKey, role: str, models: tuple[str, ...], kem: bytes
    ) -> bytes:
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return issue_leaf(
            self.mesh, role=role, models=models, public_key=spki, kem_public_key=kem, now=NOW
        )

    def offer(self, *, role: str = "secret-service", kem: bytes = KEM) -> KeyOffer:
        key = ec.generate_private_key(ec.SECP256R1())
        models = (MODEL,) if role.startswith("worker") else ()
        return KeyOffer(self.leaf(key, role, models, kem), KEM)

    def worker(
        self,
        *,
        role: str = "worker-cpu",
        models: tuple[str, ...] = (MODEL,),
        kem: bytes = KEM,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> ListedWorker:
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = worker_id_of(key.public_key())
        return ListedWorker(name, self.leaf(key, role, models, kem), KEM, (MODEL,), 0)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh.make()


@pytest.fixture(scope="module")
def other() -> Mesh:
    return Mesh.make()


def checked(mesh: Mesh, *offers: KeyOffer) -> Check:
    (check,) = verify_key_exchange(KeyExchangeReply(offers), **mesh.cas, now=NOW).checks
    return check


def test_good_secret_services(mesh: Mesh) -> None:
    check = checked(mesh, mesh.offer(), mesh.offer(), mesh.offer())
    assert check.passed and check.seen == "3 of the 3 that the gateway showed"
    assert verify_offer(mesh.offer(), **mesh.cas, now=NOW).role == "secret-service"


def bad_offers(mesh: Mesh, other: Mesh) -> dict[str, tuple[KeyOffer, str]]:
    good = mesh.offer()
    return {
        "another mesh": (other.offer(), "not signed by its issuer"),
        "a worker": (mesh.offer(role="worker-cpu"), "another role"),
        "a KEM key of somebody else": (
            replace(good, kem_public_key=KemPrivateKey.generate().public_bytes),
            "not the one that the certificate names",
        ),
        "a certificate without a KEM key": (
            mesh.offer(kem=b""),
            "not the one that the certificate names",
        ),
        "garbage": (replace(good, certificate=b""), "cannot be read"),
        "a cut certificate": (replace(good, certificate=good.certificate[:-1]), "cannot be read"),
    }


BAD_OFFERS = list(bad_offers(Mesh.make(), Mesh.make()))


@pytest.mark.parametrize("name", BAD_OFFERS)
def test_a_secret_service_that_does_not_pass_gets_no_key(
    mesh: Mesh, other: Mesh, name: str
) -> None:
    """The others still count, and the verdict says how many and why."""
    offer, why = bad_offers(mesh, other)[name]
    good = mesh.offer()
    passed, errors = verified_offers(KeyExchangeReply((offer, good)), **mesh.cas, now=NOW)
    assert passed == [good] and len(errors) == 1
    check = checked(mesh, offer, good)
    assert check.passed and check.seen.startswith("1 of the 2 that the gateway showed")
    assert why in check.seen
    alone = checked(mesh, offer)
    assert not alone.passed and alone.seen.startswith("0 of the 1")


def test_no_secret_service(mesh: Mesh) -> None:
    assert not checked(mesh).passed


def test_a_secret_service_twice_counts_once(mesh: Mesh) -> None:
    offer = mesh.offer()
    passed, errors = verified_offers(KeyExchangeReply((offer, offer)), **mesh.cas, now=NOW)
    assert passed == [offer] and not errors


@pytest.mark.parametrize("now", [NOW + 3601, NOW - 301])
def test_another_time(mesh: Mesh, now: int) -> None:
    for verify in (
        lambda: verify_offer(mesh.offer(), **mesh.cas, now=now),
        lambda: worker_passes(mesh, mesh.worker(), now=now),
    ):
        with pytest.raises(VerificationError) as caught:
            verify()
        assert caught.value.code == "not-valid-now"


def worker_passes(
    mesh: Mesh, worker: ListedWorker, *, models: tuple[str, ...] = (MODEL,), now: int = NOW
) -> None:
    identity = verify_worker(worker, models=models, manifest=MANIFEST, **mesh.cas, now=now)
    assert worker_id_of(identity.public_key) == worker.worker


def test_good_worker(mesh: Mesh) -> None:
    worker_passes(mesh, mesh.worker())
    both = mesh.worker(models=(MODEL, "other"))
    worker_passes(mesh, both, models=(MODEL, "other"))


WorkerOf = Callable[[Mesh, Mesh], ListedWorker]
BAD_WORKERS: list[tuple[str, WorkerOf, str]] = [
    ("another mesh", lambda mesh, other: other.worker(), "bad-chain"),
    ("a secret service", lambda mesh, other: mesh.worker(role="secret-service"), "wrong-role"),
    ("a role that may not serve it", lambda mesh, other: mesh.worker(role="worker-gpu"),
     "wrong-role"),
    ("another model", lambda mesh, other: mesh.worker(models=("other",)), "wrong-model"),
    ("another name", lambda mesh, other: replace(mesh.worker(), worker=bytes(32)), "wrong-worker"),
    ("the name of another worker",
     lambda mesh, other: replace(mesh.worker(), worker=mesh.worker().worker), "wrong-worker"),
    ("a KEM key of somebody else",
     lambda mesh, other: replace(
         mesh.worker(), kem_public_key=KemPrivateKey.generate().public_bytes), "wrong-kem-key"),
    ("a certificate without a KEM key", lambda mesh, other: mesh.worker(kem=b""), "wrong-kem-key"),
    ("garbage", lambda mesh, other: replace(mesh.worker(), certificate=b"x"), "bad-certificate"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "code"), [case[1:] for case in BAD_WORKERS], ids=[case[0] for case in BAD_WORKERS]
)
def test_a_worker_that_does_not_pass(mesh: Mesh, other: Mesh, make: WorkerOf, code: str) -> None:
    with pytest.raises(ConfideError) as caught:
        worker_passes(mesh, make(mesh, other))
    assert caught.value.code == code


def counted(mesh: Mesh, minimum: int, *workers: ListedWorker, **changes: Any) -> Check:
    options = {"manifest": MANIFEST, **mesh.cas, "now": NOW, **changes}
    (check,) = verify_workers(WorkerList(workers), minimum=minimum, **options).checks
    return check


def test_workers_are_counted(mesh: Mesh, other: Mesh) -> None:
    good = [mesh.worker(), mesh.worker()]
    check = counted(mesh, 2, *good, other.worker())
    assert check.passed and check.seen.startswith("2 of the 3 that the gateway showed")
    assert not counted(mesh, 3, *good, other.worker()).passed
    assert counted(mesh, 0).passed


def test_one_machine_counts_once(mesh: Mesh) -> None:
    """A gateway cannot make two of one: not by its entry, nor by another certificate of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    one, renewed = mesh.worker(key=key), mesh.worker(key=key)
    assert one.certificate != renewed.certificate
    check = counted(mesh, 2, one, one, renewed)
    assert not check.passed and check.seen == "1 of the 3 that the gateway showed"


def test_a_worker_that_is_listed_for_nothing(mesh: Mesh) -> None:
    assert not counted(mesh, 1, replace(mesh.worker(), models=())).passed
    assert not counted(mesh, 1, replace(mesh.worker(), models=("huge",))).passed
