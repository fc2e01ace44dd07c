"""Random hosts: each seed is a schedule of coordinators, lies, delays and clocks, hours of it.

After each step these hold, as an oracle beside the node counts them from what truly passed:

* evidence leaves the machine only after a genuine proof, in the same attempt, by a coordinator of
  the manifest that the machine was launched for; and it binds that coordinator's mesh;
* all evidence of one machine, and all its certificates, are of one mesh;
* the machine ends exactly when a rule says so: every coordinator that proved itself showed another
  mesh for a minute, or the machine's own certificate has ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from confide.encoding.x509 import load_certificate
from confide.errors import UnavailableError
from confide.guest.coordinator.domain import Coordinator
from confide.guest.ending import MachineEndsError
from confide.guest.mesh.one_mesh import GONE_AFTER
from confide.protocol.binding import join_report_data
from confide.protocol.certificates import LEAF_LIFETIME
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation, JoinReply, JoinRequest, MeshReply
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import gpu_binding
from confide.protocol.validity import CLOCK_TOLERANCE
from tests.support.mesh_nodes import MANIFEST, new_coordinator, new_node
from tests.support.simulated_machine import (
    NOW,
    Clock,
    SimulatedMachine,
    manifest_bytes,
    manifest_value,
)

HOURS = 2
GONE, ENDED = "the mesh is gone", "its certificate has ended"
OTHER = manifest_bytes(models=[manifest_value()["models"][0] | {"name": "other"}])

Answer = TypeVar("Answer")


class TurnedClock(Clock):
    """The host's time of day: true time, and what the host adds to it."""

    offset = 0.0

    def __init__(self, true: Clock) -> None:
        self._true = true

    def __call__(self) -> float:
        return self._true() + self.offset


class Oracle:
    """What truly happened to a machine, and the rules that follow from it. Times are true ones."""

    def __init__(self, time: Clock, wall: TurnedClock) -> None:
        self._time, self._wall = time, wall
        self._ours = b""
        self._other_since: float | None = None
        self._gone = False
        self._certificate: tuple[float, float] | None = None
        self.meshes: set[bytes] = set()

    def proved(self, mesh_ca: bytes, asked: float) -> None:
        """A genuine coordinator of the bound manifest has proved itself to the machine."""
        self._ours = self._ours or mesh_ca
        if mesh_ca == self._ours:
            self._other_since = None
        elif self._other_since is None:
            self._other_since = self._time()
        else:
            self._gone |= asked - self._other_since >= GONE_AFTER

    def certified(self, certificate: bytes, asked: float) -> None:
        """A certificate has reached the machine. It counts if it came in time."""
        leaf = load_certificate(certificate, "leaf")
        start, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        if start <= int(self._wall()) <= end and not self.rules():
            self._certificate = (asked + LEAF_LIFETIME, end)

    def rules(self) -> set[str]:
        """The rules by which the machine has to end."""
        rules = {GONE} if self._gone else set()
        if self._certificate is not None:
            monotonic_end, not_after = self._certificate
            if self._time() >= monotonic_end or self._wall() >= not_after:
                rules.add(ENDED)
        return rules


class HostileNetwork:
    """A JoinClient whose host decides at every question who answers, and how."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.time = Clock()
        self.wall = TurnedClock(self.time)
        self.oracle = Oracle(self.time, self.wall)
        self.proven: Coordinator | None = None
        self.shown = b""
        changed = SimulatedMachine("coordinator", events={4: bytes(32)})
        self._genuine = [new_coordinator(self.time) for _ in range(3)]
        self._hostile = [
            new_coordinator(self.time, manifest=OTHER),
            new_coordinator(self.time, machine=changed),
            new_coordinator(self.time, machine=SimulatedMachine("worker-cpu")),
        ]
        self._own = self._hostile[1].mesh()
        self._choose()

    def _choose(self) -> None:
        """A new phase: who answers for a while, how often something else happens, which time."""
        first, *others = self._genuine
        # The first one most of the time, so that machines join; then another mesh, or a liar.
        self._peer = self.random.choice([first] * 20 + others + self._hostile)
        self._faults = self.random.choice([0.0, 0.02, 0.1, 0.4, 1.0])
        self._until = self.time() + self.random.choice([10, 60, 90, 300, 2000])
        self.wall.offset = self.random.choice([0.0] * 20 + [-200.0, 100.0, 1500.0, 5000.0])

    def pass_time(self, seconds: float) -> None:
        self.time.now += seconds
        if self.time() >= self._until:
            self._choose()

    def _answer(
        self, ask: Callable[[Coordinator], Answer], *lies: Callable[[Answer], Answer]
    ) -> tuple[Answer, Coordinator | None]:
        """An answer, and whose it truly is, None if it was altered."""
        peer, what = self._peer, ""
        if self.random.random() < self._faults:
            what = self.random.choice(["lost", "slow", "late", "other", "lie"])
        if what == "lost":
            raise UnavailableError("peer-unreachable", "the answer was lost")
        if what == "slow":
            self.pass_time(self.random.uniform(0, 170))
        if what == "other":
            peer = self.random.choice(self._genuine + self._hostile)
        answer = ask(peer)
        if what == "late":
            self.pass_time(self.random.uniform(0, 170))
        if what == "lie":
            return self.random.choice(lies)(answer), None
        return answer, peer

    def mesh(self) -> MeshReply:
        self._asked, self.proven = self.time(), None
        self._now = int(self.wall())
        return self._answer(
            lambda peer: peer.mesh(), lambda true: replace(self._own, manifest=true.manifest)
        )[0]

    def attest(self, nonce: bytes) -> bytes:
        lies: list[Callable[[Attestation], Attestation]] = [
            lambda true: replace(true, mesh_ca=self._own.mesh_ca, root_ca=self._own.root_ca),
            lambda true: replace(true, evidence=true.evidence[:-1]),
            lambda _: self._genuine[0].attest(bytes(32)),
        ]
        answer, peer = self._answer(lambda peer: peer.attest(nonce), *lies)
        # A proof from another time than the machine's is refused.
        near = abs(answer.time - self._now) <= CLOCK_TOLERANCE
        self._answered = peer if near else None
        return answer.encode()

    def collateral(self) -> Bundle:
        answer, _ = self._answer(lambda peer: Bundle.parse(peer.collateral()), lambda _: Bundle())
        if self._answered in self._genuine:
            self.proven = self._answered
            self.oracle.proved(self.proven.mesh().mesh_ca, self._asked)
        return answer

    def challenge(self) -> bytes:
        self._nonce, _ = self._answer(lambda peer: peer.challenge(), lambda _: bytes(32))
        return self._nonce

    def join(self, request: JoinRequest) -> JoinReply:
        asked = self.time()
        bound = [peer for peer in self._genuine if self._binds(request, peer.mesh().mesh_ca)]
        assert bound == [self.proven], "the evidence is not for the mesh that proved itself"
        self.oracle.meshes.add(bound[0].mesh().mesh_ca)
        reply, peer = self._answer(
            lambda peer: peer.join(request),
            lambda true: replace(true, certificate=true.certificate[:-1]),
        )
        if peer is not None:
            assert peer is self.proven, "another mesh has certified this machine"
            self.oracle.certified(reply.certificate, asked)
        return reply

    def _binds(self, request: JoinRequest, mesh_ca: bytes) -> bool:
        return self.shown == join_report_data(
            self._nonce,
            role=request.role,
            public_key=request.public_key,
            kem_public_key=request.kem_public_key,
            manifest=MANIFEST,
            models=request.models,
            mesh_ca=mesh_ca,
            gpus=gpu_binding(()),
        )


class WatchedMachine(SimulatedMachine):
    """Notes what the machine shows, and that somebody proved itself before."""

    def __init__(self, network: HostileNetwork) -> None:
        super().__init__("worker-cpu")
        self._network = network

    def evidence(self, report_data: bytes) -> Evidence:
        assert self._network.proven is not None, "evidence for an unverified coordinator"
        self._network.shown = report_data
        return super().evidence(report_data)


def live(seed: int) -> str:
    """One machine under one schedule. Returns the rule that ended it, or its last state."""
    network = HostileNetwork(seed)
    node = new_node(network, network.wall, network.time, machine=WatchedMachine(network))
    oracle = network.oracle
    while network.time() < NOW + HOURS * 3600:
        before = oracle.rules()
        try:
            delay = node.step()
        except MachineEndsError as error:
            rules = [rule for rule in before | oracle.rules() if str(error).startswith(rule)]
            assert rules, f"no rule says that the machine ends: {error}"
            return rules[0]
        finally:
            assert len(oracle.meshes) <= 1
        assert not before, f"the machine goes on although {before}"
        assert GONE not in oracle.rules(), "the machine goes on although its mesh is gone"
        network.pass_time(delay)
    return node.state


def test_random_schedules() -> None:
    """Each way to end, and to live on, is reached by some seed."""
    ends = set()
    for seed in range(15):
        print("seed", seed)  # the last one shown is the one that failed
        ends.add(live(seed))
    assert ends == {GONE, ENDED, "ready"}
