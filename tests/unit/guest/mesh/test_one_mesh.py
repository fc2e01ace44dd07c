"""When a machine ends: its mesh is gone, or its certificate has ended. Nothing else ends it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from confide.errors import UnavailableError, VerificationError
from confide.guest import ending
from confide.guest.ending import MachineEndsError, end_machine
from confide.guest.mesh import join as join_module
from confide.guest.mesh.join import LOOK_AFTER, RENEW_AFTER, Node
from confide.guest.mesh.one_mesh import GONE_AFTER, OneMesh
from confide.protocol.certificates import LEAF_LIFETIME
from tests.support.local_coordinator import LocalCoordinator
from tests.support.mesh_nodes import new_coordinator
from tests.support.simulated_machine import Clock

OURS, OTHER, THIRD = b"ours", b"other", b"third"


def see(mesh: OneMesh, *moments: float, ca: bytes = OTHER) -> None:
    """Another mesh is shown at these times, and the machine does not end."""
    for moment in moments:
        with pytest.raises(VerificationError) as caught:
            mesh.verified(ca, asked=moment, answered=moment)
        assert caught.value.code == "mesh-changed"


@pytest.fixture
def mesh() -> OneMesh:
    mesh = OneMesh()
    mesh.verified(OURS, asked=0, answered=0)
    return mesh


def ends(mesh: OneMesh, moment: float, ca: bytes = OTHER) -> None:
    with pytest.raises(MachineEndsError, match="the mesh is gone"):
        mesh.verified(ca, asked=moment, answered=moment)


def test_the_first_mesh_is_ours(mesh: OneMesh) -> None:
    see(mesh, 1)
    assert (mesh.mesh_ca, mesh.in_doubt) == (OURS, True)


def test_another_mesh_for_a_minute(mesh: OneMesh) -> None:
    see(mesh, 100, 120, 100 + GONE_AFTER - 0.1)
    ends(mesh, 100 + GONE_AFTER)


def test_time_alone_ends_nothing(mesh: OneMesh) -> None:
    """One coordinator of another mesh, and then none for an hour: the next one that is ours."""
    see(mesh, 100)
    mesh.verified(OURS, asked=3700, answered=3700)
    assert not mesh.in_doubt


def test_an_address_that_leads_to_two_coordinators_in_turn(mesh: OneMesh) -> None:
    """Our mesh is there and renews certificates, so nothing ends, however long it goes on."""
    for moment in range(0, 3600, 40):
        see(mesh, moment)
        mesh.verified(OURS, asked=moment + 20, answered=moment + 20)
    see(mesh, 3600, 3600 + GONE_AFTER - 1)
    ends(mesh, 3600 + GONE_AFTER)


def test_several_other_meshes_are_other_meshes(mesh: OneMesh) -> None:
    see(mesh, 100)
    see(mesh, 130, ca=THIRD)
    ends(mesh, 100 + GONE_AFTER, ca=THIRD)


def test_only_the_time_between_two_proofs_counts(mesh: OneMesh) -> None:
    """A slow answer may be as old as its question: a host that delays it gains no seconds."""
    with pytest.raises(VerificationError):
        mesh.verified(OTHER, asked=0, answered=170)
    see(mesh, 171, 170 + GONE_AFTER - 0.1)
    with pytest.raises(VerificationError):
        mesh.verified(OTHER, asked=170 + GONE_AFTER - 0.1, answered=400)
    ends(mesh, 170 + GONE_AFTER)


# With a node around it.


@pytest.fixture
def member(node: Node) -> Node:
    node.join()
    return node


def steps(node: Node, monotonic: Clock, seconds: float) -> None:
    """Let the node live for this long. Its questions take no time."""
    end = monotonic.now + seconds
    while monotonic.now < end:
        monotonic.now += min(node.step(), end - monotonic.now)


def test_a_coordinator_that_was_started_anew(
    member: Node, relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    steps(member, monotonic, 100)
    relay.only_carries(new_coordinator(clock))
    steps(member, monotonic, GONE_AFTER)
    assert (member.state, member.reason) == ("ready", "mesh-changed")
    with pytest.raises(MachineEndsError, match="the mesh is gone"):
        steps(member, monotonic, 2 * LOOK_AFTER)


def test_a_node_that_never_joined_ends_too(
    node: Node, relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    """It verified a mesh and showed evidence for it, so it cannot join another one."""

    def lost(_: object) -> bytes:
        raise UnavailableError("lost", "lost")

    relay.on_challenge = lost
    steps(node, monotonic, 10)
    relay.only_carries(new_coordinator(clock))
    with pytest.raises(MachineEndsError, match="the mesh is gone"):
        steps(node, monotonic, GONE_AFTER + 10)


def test_a_claim_that_is_not_verified_ends_nothing(
    member: Node, relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    """Another mesh CA in the answers that nobody signs, and forged proofs for it."""
    false = new_coordinator(clock)
    genuine = relay.coordinator
    relay.on_mesh = lambda _: false.mesh()
    steps(member, monotonic, RENEW_AFTER - 60)
    assert (member.state, member.reason) == ("ready", "")
    relay.on_attestation = lambda proof: replace(proof, mesh_ca=false.mesh().mesh_ca)
    steps(member, monotonic, 600)
    assert (member.state, member.reason) == ("ready", "coordinator-not-verified")
    relay.only_carries(genuine)
    steps(member, monotonic, LEAF_LIFETIME)
    assert member.state == "ready"


def test_looking_costs_the_coordinator_no_evidence(
    member: Node, relay: LocalCoordinator, monotonic: Clock
) -> None:
    asked: list[bytes] = []

    def count(nonce: bytes) -> bytes:
        asked.append(nonce)
        return nonce

    relay.on_nonce = count
    steps(member, monotonic, RENEW_AFTER - 1)
    assert asked == []
    steps(member, monotonic, 10)
    assert len(asked) == 1


def test_an_unverified_answer_ends_no_doubt(
    member: Node, relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    """Only one look shows the other mesh openly; while in doubt, each look is verified."""
    ours = relay.mesh()
    relay.only_carries(new_coordinator(clock))
    steps(member, monotonic, 1)
    relay.on_mesh = lambda _: ours
    with pytest.raises(MachineEndsError, match="the mesh is gone"):
        steps(member, monotonic, GONE_AFTER + 2 * LOOK_AFTER)


def test_an_unreachable_coordinator_ends_the_machine_with_its_certificate_only(
    member: Node, relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    def gone(_: object) -> bytes:
        raise UnavailableError("peer-unreachable", "gone")

    relay.on_mesh = gone  # type: ignore[assignment]
    steps(member, monotonic, LEAF_LIFETIME - 10)
    assert (member.state, member.reason) == ("ready", "peer-unreachable")
    with pytest.raises(MachineEndsError, match="ended, last error: peer-unreachable"):
        steps(member, monotonic, 20)


@pytest.mark.parametrize("which", ["wall clock", "monotonic clock"])
def test_a_certificate_that_has_ended(
    member: Node, clock: Clock, monotonic: Clock, which: str
) -> None:
    """Also by a clock that the host turned ahead: it can end the machine, as by its power."""
    late = clock if which == "wall clock" else monotonic
    late.now += LEAF_LIFETIME
    with pytest.raises(MachineEndsError, match="its certificate has ended"):
        member.step()


def test_a_certificate_that_ends_while_it_is_renewed(
    member: Node, relay: LocalCoordinator, clock: Clock
) -> None:
    """A coordinator that answers late does not bring an ended membership back."""

    def slowly(reply: object) -> object:
        clock.now += LEAF_LIFETIME
        return reply

    relay.on_reply = slowly  # type: ignore[assignment]
    with pytest.raises(MachineEndsError, match="its certificate has ended"):
        member.join()
    assert member.state == "expired"


def test_a_clock_that_was_turned_back_keeps_no_certificate(
    member: Node, clock: Clock, monotonic: Clock
) -> None:
    clock.now -= 100
    monotonic.now += LEAF_LIFETIME
    with pytest.raises(MachineEndsError, match="its certificate has ended"):
        member.step()


class Ended(Exception):
    pass


def end(error: MachineEndsError) -> NoReturn:
    raise Ended(str(error))


class Loops(dict[str, tuple[Callable[[], float], Callable[[BaseException], object] | None]]):
    """The loops that a node starts, by name, which nobody runs."""

    def start(self, name: str, step: Callable[[], float], **options: Any) -> None:
        self[name] = step, options.get("end")

    def run(self, name: str) -> None:
        """One round."""
        step, end = self[name]
        try:
            step()
        except Ended:
            raise
        except BaseException as error:
            assert end is not None
            end(error)


@pytest.fixture
def loops(member: Node, monkeypatch: pytest.MonkeyPatch) -> Loops:
    loops = Loops()
    monkeypatch.setattr(join_module, "start_loop", loops.start)
    monkeypatch.setattr(join_module, "end_machine", end)
    monkeypatch.setattr(ending, "end_machine", end)
    member.start()
    return loops


LEAF_WATCH = "the watch of its certificate"


@pytest.mark.parametrize("name", ["staying in the mesh", LEAF_WATCH])
def test_both_threads_end_the_process(loops: Loops, monotonic: Clock, name: str) -> None:
    """One of them may wait for a slow coordinator."""
    assert len(loops) == 2
    loops.run(name)
    monotonic.now += LEAF_LIFETIME
    with pytest.raises(Ended, match="its certificate has ended"):
        loops.run(name)


def test_a_certificate_that_nobody_watches_ends_the_machine(loops: Loops) -> None:
    """It would stay a member for ever, with keys that nobody forgets."""
    end = loops[LEAF_WATCH][1]
    assert end is not None
    with pytest.raises(Ended, match=f"^{LEAF_WATCH} failed: RecursionError$"):
        end(RecursionError("the key is 1234"))


def test_ending_is_said_and_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(signal, "alarm", lambda _: None)
    with pytest.raises(SystemExit, match="1"):
        end_machine(MachineEndsError("the mesh is gone"))
    assert capsys.readouterr().err == "confide: this machine ends: the mesh is gone\n"
