"""Time is the host's: a coordinator or node with another time than the judge's is not believed.

The clocks are injected. No machine's clock is turned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NoReturn

import pytest

from confide.errors import ConfideError
from confide.guest.clock import WallClock
from confide.guest.coordinator.domain import Coordinator
from confide.guest.ending import MachineEndsError
from confide.guest.mesh.join import Membership, Node
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation
from confide.protocol.manifest import Manifest
from confide.protocol.secret_service import KeyExchangeReply, KeyOffer
from confide.protocol.validity import CLOCK_TOLERANCE, DAY
from confide.verify.nodes import verify_key_exchange
from confide.verify.service import verify_coordinator, verify_unset_coordinator
from confide.verify.verdict import Verdict
from tests.support.local_coordinator import LocalCoordinator
from tests.support.simulated_machine import NOW, Clock, SimulatedMachine, manifest_bytes

MANIFEST = manifest_bytes()
NONCE = bytes(range(32))
WEEKS = 21 * DAY
CLOCK = "coordinator's clock"


def ended(error: MachineEndsError) -> NoReturn:
    raise error


@dataclass
class Host:
    """Of a coordinator and of a secret service. It sets the clock of both."""

    now: Clock = field(default_factory=Clock)
    monotonic: Clock = field(default_factory=lambda: Clock(100))

    def __post_init__(self) -> None:
        machine = SimulatedMachine("coordinator", manifest=MANIFEST)
        clock = WallClock(now=self.now, monotonic=self.monotonic, end=ended)
        self.coordinator = Coordinator(machine, binding=machine.binding, now=clock)

    def turn(self, seconds: float) -> None:
        """Set the time of day, which the machines can see."""
        self.now.now += seconds

    def run(self, seconds: float, *, speed: float = 1.0) -> None:
        """Let time pass. At another speed both clocks run wrong: the machines see nothing."""
        self.now.now += seconds * speed
        self.monotonic.now += seconds * speed

    def join(self) -> Membership:
        machine = SimulatedMachine("secret-service", manifest=MANIFEST)
        client = LocalCoordinator(self.coordinator)
        return Node("secret-service", machine, client, binding=machine.binding, now=self.now).join()

    def reply(self, member: Membership) -> KeyExchangeReply:
        return KeyExchangeReply((KeyOffer(member.certificate, member.kem_public_key),))


@pytest.fixture
def host() -> Host:
    host = Host()
    host.coordinator.set_manifest(MANIFEST)
    return host


def judge(attestation: Attestation, now: float = NOW) -> Verdict:
    """A client's verdict, by the client's own clock."""
    return verify_coordinator(
        attestation, manifest_pinned=MANIFEST, nonce=NONCE, collateral=Bundle(), now=int(now)
    )


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


@pytest.mark.parametrize("skew", [-CLOCK_TOLERANCE, -1, 0, 1, CLOCK_TOLERANCE])
def test_clocks_differ_a_little(host: Host, skew: int) -> None:
    host.run(1000)
    judge(host.coordinator.attest(NONCE), NOW + 1000 + skew).require()


@pytest.mark.parametrize("skew", [-CLOCK_TOLERANCE - 1, CLOCK_TOLERANCE + 1, WEEKS])
def test_clocks_that_are_apart(host: Host, skew: int) -> None:
    """Everything else of this coordinator is genuine."""
    host.run(3600 + skew)
    verdict = judge(host.coordinator.attest(NONCE), NOW + 3600)
    assert failed(verdict) == {CLOCK}
    (check,) = [check for check in verdict.checks if check.name == CLOCK]
    assert f"{abs(skew)} s" in check.seen


def test_a_coordinator_without_a_manifest_states_its_time_as_well() -> None:
    host = Host()

    def unset(attestation: Attestation) -> set[str]:
        return failed(
            verify_unset_coordinator(
                attestation,
                manifest=Manifest.parse(MANIFEST),
                nonce=NONCE,
                collateral=Bundle(),
                now=NOW,
            )
        )

    assert unset(host.coordinator.attest(NONCE)) == set()
    assert unset(replace(host.coordinator.attest(NONCE), time=NOW + 1)) == {"quote binding"}
    host.run(301)
    assert unset(host.coordinator.attest(NONCE)) == {CLOCK}


@pytest.mark.parametrize("seconds", [-1, 1, 300])
def test_a_time_that_was_changed_on_the_way(host: Host, seconds: int) -> None:
    """Near enough for the check of the clock: the evidence binds another one."""
    host.run(1000)
    attestation = host.coordinator.attest(NONCE)
    forged = replace(attestation, time=attestation.time + seconds)
    assert failed(judge(forged, NOW + 1000)) == {"quote binding"}


def test_a_far_time_cannot_be_mended_on_the_way(host: Host) -> None:
    host.run(WEEKS)
    attestation = replace(host.coordinator.attest(NONCE), time=NOW)
    assert failed(judge(attestation)) == {"quote binding"}


@pytest.mark.parametrize(
    ("index", "path"), [(1, (bytes(32),)), (0, (bytes(32),)), (3, (bytes(32), bytes(32)))]
)
def test_another_place_in_the_tree(host: Host, index: int, path: tuple[bytes, ...]) -> None:
    attestation = replace(host.coordinator.attest(NONCE), index=index, path=path)
    assert failed(judge(attestation)) == {"quote binding"}


def shown_later(host: Host, member: Membership) -> set[str]:
    """What a client says in three weeks of a leaf that was issued today, and of its issuer."""
    coordinator = judge(host.coordinator.attest(NONCE), NOW + WEEKS)
    return failed(
        coordinator
        + verify_key_exchange(
            host.reply(member),
            mesh_ca=member.mesh_ca,
            root_ca=member.root_ca,
            now=NOW + WEEKS,
        )
    )


def test_a_leaf_of_today_is_believed_today_only(host: Host) -> None:
    member = host.join()
    host.run(WEEKS)
    assert shown_later(host, member) == {"secret services"}


def test_a_coordinator_whose_clock_is_turned_ahead_issues_nothing(host: Host) -> None:
    """Its host wants a leaf that is believed in three weeks, and then turns the clock back.

    A coordinator that did not look issued it, and every check passed three weeks later.
    """
    host.turn(WEEKS)
    with pytest.raises(MachineEndsError, match=r"has gone \+1814400 s"):
        host.join()


def test_a_coordinator_whose_clock_is_turned_back_ends(host: Host) -> None:
    """Whatever it had issued before, and however little it is turned."""
    host.turn(CLOCK_TOLERANCE - 1)
    host.join()
    host.turn(-1)
    with pytest.raises(MachineEndsError, match="turned back"):
        host.coordinator.attest(NONCE)


def test_a_coordinator_that_runs_fast_is_seen_by_all_who_verify_it(host: Host) -> None:
    """On SEV-SNP the host can do this, and the coordinator sees nothing. Its nodes run fast, too.

    A leaf of the time to come is issued. Clients turn away from that coordinator now; until its
    time has come, it has to run slowly, and nobody may verify it.
    """
    host.run(60, speed=WEEKS / 60)
    host.join()
    assert failed(judge(host.coordinator.attest(NONCE), NOW + 60)) == {CLOCK}


def test_a_node_of_another_time_than_its_coordinator_does_not_join(host: Host) -> None:
    """One of two hosts is wrong. The node says so by a name of its own, and shows no evidence."""
    machine = SimulatedMachine("secret-service", manifest=MANIFEST)
    node = Node(
        "secret-service",
        machine,
        LocalCoordinator(host.coordinator),
        binding=machine.binding,
        now=Clock(NOW + CLOCK_TOLERANCE + 1),
    )
    with pytest.raises(ConfideError) as error:
        node.join()
    assert (error.value.code, machine.quotes) == ("clocks-apart", 0)
    node.step()
    assert (node.state, node.reason) == ("starting", "clocks-apart")
