"""The coordinator's rules, each with what it must refuse."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.guest.coordinator.challenges import LIFETIME, Challenges
from confide.guest.coordinator.domain import Coordinator
from confide.protocol.binding import join_report_data
from confide.protocol.coordinator import JoinRequest, RefusedJoin
from confide.protocol.gpu import gpu_binding
from confide.protocol.history import parse_history
from confide.protocol.kem import KemPrivateKey
from confide.protocol.manifest import Manifest
from confide.verify.mesh import verify_leaf, verify_mesh_ca
from tests.support.simulated_machine import (
    MODEL,
    NOW,
    Clock,
    SimulatedMachine,
    manifest_bytes,
    manifest_value,
)

MANIFEST = manifest_bytes()
KEM = KemPrivateKey.generate().public_bytes
OTHER_MODEL = manifest_value()["models"][0] | {"name": "other"}


@dataclass
class Setting:
    coordinator: Coordinator
    now: Clock
    monotonic: Clock

    def request(self, machine: SimulatedMachine, **changes: Any) -> JoinRequest:
        """A good join request, with fields changed before the evidence is made for them."""
        mesh = self.coordinator.mesh()
        fields: dict[str, Any] = {
            "role": "worker-cpu",
            "nonce": self.coordinator.challenge(),
            "public_key": spki(),
            "kem_public_key": KEM,
            "models": (MODEL,),
            "manifest_sha256": Manifest.parse(mesh.manifest).sha256,
        } | changes
        report_data = join_report_data(
            fields["nonce"],
            role=fields["role"],
            public_key=fields["public_key"],
            kem_public_key=fields["kem_public_key"],
            manifest=mesh.manifest,
            models=fields["models"],
            mesh_ca=mesh.mesh_ca,
            gpus=gpu_binding([]),
        )
        return JoinRequest(**fields, evidence=machine.evidence(report_data).encode())


def spki() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def new_coordinator(now: Clock, monotonic: Clock) -> Coordinator:
    """A coordinator that does not have its manifest yet."""
    machine = SimulatedMachine("coordinator", manifest=MANIFEST)
    return Coordinator(machine, binding=machine.binding, now=now, monotonic=monotonic)


@pytest.fixture
def empty() -> Setting:
    now, monotonic = Clock(), Clock(1000)
    return Setting(new_coordinator(now, monotonic), now, monotonic)


@pytest.fixture
def setting(empty: Setting) -> Setting:
    empty.coordinator.set_manifest(MANIFEST)
    return empty


@pytest.fixture
def worker() -> SimulatedMachine:
    return SimulatedMachine("worker-cpu")


def test_nothing_is_served_without_manifest(empty: Setting) -> None:
    with pytest.raises(UnavailableError, match="no manifest"):
        empty.coordinator.mesh()
    with pytest.raises(UnavailableError, match="no manifest"):
        empty.coordinator.join(JoinRequest("worker-cpu", bytes(32), b"", b"", (), bytes(32), b""))


def test_attestation_before_and_after(empty: Setting) -> None:
    before = empty.coordinator.attest(bytes(32))
    assert (before.manifest, before.mesh_ca) == (b"", b"")
    assert parse_history(before.history) == ()
    empty.coordinator.set_manifest(MANIFEST)
    after = empty.coordinator.attest(bytes(32))
    assert after.manifest == MANIFEST
    assert after.root_ca == before.root_ca
    (entry,) = parse_history(after.history)
    assert entry.manifest_sha256 == Manifest.parse(MANIFEST).sha256
    verify_mesh_ca(after.mesh_ca, after.root_ca, manifest_sha256=entry.manifest_sha256, now=NOW)


def test_worker_joins(setting: Setting, worker: SimulatedMachine) -> None:
    request = setting.request(worker)
    reply = setting.coordinator.join(request)
    mesh = setting.coordinator.mesh()
    assert (reply.mesh_ca, reply.root_ca) == (mesh.mesh_ca, mesh.root_ca)
    identity = verify_leaf(
        reply.certificate, mesh.mesh_ca, mesh.root_ca, role="worker-cpu", now=NOW
    )
    assert identity.models == (MODEL,)
    assert identity.kem_key_sha256 == sha256(KEM).digest()
    assert identity.not_after == NOW + 3600
    public = identity.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public == request.public_key


def test_secret_service_joins(setting: Setting) -> None:
    machine = SimulatedMachine("secret-service")
    request = setting.request(machine, role="secret-service", models=())
    reply = setting.coordinator.join(request)
    identity = verify_leaf(
        reply.certificate, reply.mesh_ca, reply.root_ca, role="secret-service", now=NOW
    )
    assert identity.kem_key_sha256 == sha256(KEM).digest()
    assert identity.models == ()


REFUSED: list[tuple[str, dict[str, Any], type[ConfideError], str]] = [
    ("machine of another role", {"role": "secret-service", "models": ()},
     VerificationError, "not-verified"),
    ("role that is not in the manifest", {"role": "worker-gpu"}, PolicyError, "unknown-role"),
    ("role that does not join", {"role": "coordinator", "models": ()}, PolicyError,
     "role-not-allowed"),
    ("model that is not in the manifest", {"models": (MODEL, "huge")}, PolicyError,
     "unknown-model"),
    ("another manifest", {"manifest_sha256": bytes(32)}, PolicyError, "wrong-manifest"),
    ("no KEM key", {"kem_public_key": b""}, FormatError, "bad-key"),
    ("a KEM key that is too short", {"kem_public_key": KEM[:-1]}, FormatError, "bad-key"),
    ("a KEM key that is none", {"kem_public_key": b"\xff" * 1216}, FormatError, "bad-key"),
    ("secret service with a model", {"role": "secret-service"}, PolicyError,
     "model-not-allowed"),
    ("key that is none", {"public_key": b"\x30\x00"}, FormatError, "bad-key"),
    ("nonce of somebody else", {"nonce": bytes(32)}, VerificationError, "stale-nonce"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kind", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_join_refused(
    setting: Setting,
    worker: SimulatedMachine,
    changes: dict[str, Any],
    kind: type[ConfideError],
    code: str,
) -> None:
    with pytest.raises(kind) as caught:
        setting.coordinator.join(setting.request(worker, **changes))
    assert caught.value.code == code


def test_replayed_nonce(setting: Setting, worker: SimulatedMachine) -> None:
    request = setting.request(worker)
    setting.coordinator.join(request)
    with pytest.raises(VerificationError) as caught:
        setting.coordinator.join(request)
    assert caught.value.code == "stale-nonce"


def test_a_refused_join_uses_up_nothing(setting: Setting, worker: SimulatedMachine) -> None:
    """The evidence stays as fresh as it was, and whatever it binds; so nothing has to be kept."""
    request = setting.request(worker)
    with pytest.raises(PolicyError):
        setting.coordinator.join(replace(request, role="worker-gpu"))
    with pytest.raises(VerificationError, match="quote binding"):
        setting.coordinator.join(replace(request, models=()))
    setting.coordinator.join(request)


def test_joins_that_race_for_one_challenge(setting: Setting, worker: SimulatedMachine) -> None:
    request = setting.request(worker)

    def attempt(_: int) -> str:
        try:
            setting.coordinator.join(request)
        except VerificationError as error:
            return error.code
        return "admitted"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    assert sorted(outcomes) == ["admitted"] + ["stale-nonce"] * 7


def test_stale_nonce(setting: Setting, worker: SimulatedMachine) -> None:
    request = setting.request(worker)
    setting.monotonic.now += LIFETIME
    with pytest.raises(VerificationError, match="not answer an open challenge"):
        setting.coordinator.join(request)


@pytest.mark.parametrize(
    "changes",
    [
        {"public_key": spki()},
        {"models": ()},
        {"nonce": None},
    ],
    ids=["another key", "other models", "another nonce"],
)
def test_what_was_bound_cannot_be_swapped(
    setting: Setting, worker: SimulatedMachine, changes: dict[str, Any]
) -> None:
    request = setting.request(worker)
    if "nonce" in changes:
        changes = {"nonce": setting.coordinator.challenge()}
    with pytest.raises(VerificationError) as caught:
        setting.coordinator.join(replace(request, **changes))
    assert "quote binding" in str(caught.value)


def test_relayed_join_of_another_mesh(setting: Setting, worker: SimulatedMachine) -> None:
    """A man in the middle shows a node his own mesh CA, and relays challenge and join to us."""
    attacker = new_coordinator(setting.now, setting.monotonic)
    attacker.set_manifest(MANIFEST)
    node_view = Setting(attacker, setting.now, setting.monotonic)
    relayed = node_view.request(worker, nonce=setting.coordinator.challenge())
    with pytest.raises(VerificationError) as caught:
        setting.coordinator.join(relayed)
    assert "quote binding" in str(caught.value)


@pytest.mark.parametrize("pcr", [4, 9, 11, 12])
def test_altered_machine(setting: Setting, pcr: int) -> None:
    altered = SimulatedMachine("worker-cpu", events={pcr: bytes(32)})
    with pytest.raises(VerificationError) as caught:
        setting.coordinator.join(setting.request(altered))
    assert f"PCR {pcr}" in str(caught.value)


@pytest.mark.parametrize("evidence", [b"", b"\xa0", b"\xff" * 100])
def test_garbage_evidence(setting: Setting, worker: SimulatedMachine, evidence: bytes) -> None:
    with pytest.raises(FormatError):
        setting.coordinator.join(replace(setting.request(worker), evidence=evidence))


def test_the_latest_refused_evidence_is_kept(setting: Setting) -> None:
    """A person who looks for collateral sees what was refused; what was not judged is not kept."""
    with pytest.raises(UnavailableError) as error:
        setting.coordinator.refused()
    assert error.value.code == "none-refused"
    for role in ("coordinator", "secret-service"):
        request = setting.request(SimulatedMachine(role))
        with pytest.raises(VerificationError):
            setting.coordinator.join(request)
        assert setting.coordinator.refused() == RefusedJoin("worker-cpu", request.evidence)
        with pytest.raises(FormatError):
            setting.coordinator.join(replace(request, evidence=b"other"))
        assert setting.coordinator.refused().evidence == request.evidence


def test_model_of_another_role(empty: Setting, worker: SimulatedMachine) -> None:
    # The only other worker role that there could be is not in this format, so the manifest cannot
    # name it: a model without our role is one of no role, which it refuses itself.
    with pytest.raises(FormatError, match="role"):
        empty.coordinator.set_manifest(manifest_bytes(models=[OTHER_MODEL | {"roles": []}]))


def stale(challenges: Challenges, challenge: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        challenges.check(challenge)
    assert caught.value.code == "stale-nonce"


def test_a_challenge_is_good_for_its_lifetime() -> None:
    clock = Clock(1000.5)
    challenges = Challenges(clock)
    challenge = challenges.issue()
    assert len(challenge) == 32
    for age in (0, 1, LIFETIME - 0.01):
        clock.now = 1000.5 + age
        challenges.check(challenge)
    clock.now = 1000.5 + LIFETIME
    stale(challenges, challenge)


def test_a_challenge_of_nobody() -> None:
    """Neither another process's, nor one with another time, chance or MAC, nor a piece of one."""
    challenges = Challenges(Clock(0))
    challenge = challenges.issue()
    stale(challenges, Challenges(Clock(0)).issue())
    for at in range(32):
        stale(challenges, challenge[:at] + bytes([challenge[at] ^ 1]) + challenge[at + 1 :])
    for piece in (b"", challenge[:31], challenge + b"\0", bytes(32)):
        stale(challenges, piece)


def test_asking_leaves_nothing_behind() -> None:
    clock = Clock(0)
    challenges = Challenges(clock)
    asked = {challenges.issue() for _ in range(5000)}
    assert len(asked) == 5000
    assert not challenges._used
    for challenge in asked:
        challenges.check(challenge)
        challenges.use(challenge)
    with pytest.raises(VerificationError):
        challenges.use(challenge)
    clock.now = LIFETIME
    last = challenges.issue()
    challenges.use(last)
    assert list(challenges._used) == [last]


def test_a_challenge_that_became_stale_since_it_was_checked_admits_nobody() -> None:
    """Whether it was used before is forgotten by then, and a host can pause a machine."""
    clock = Clock(0)
    challenges = Challenges(clock)
    challenge = challenges.issue()
    clock.now = LIFETIME - 0.1
    for _ in range(2):
        challenges.check(challenge)
    challenges.use(challenge)
    clock.now = LIFETIME + 0.1
    with pytest.raises(VerificationError, match="not answer an open challenge"):
        challenges.use(challenge)
