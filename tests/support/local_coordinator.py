"""A coordinator that a node reaches without a network; a test may alter what passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from confide.guest.coordinator.domain import Coordinator
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation, JoinReply, JoinRequest, MeshReply


@dataclass
class LocalCoordinator:
    """A JoinClient (guest.mesh.join): each question and answer goes through a function."""

    coordinator: Coordinator
    on_mesh: Callable[[MeshReply], MeshReply] = lambda reply: reply
    on_nonce: Callable[[bytes], bytes] = lambda nonce: nonce
    on_attestation: Callable[[Attestation], Attestation] = lambda attestation: attestation
    on_bytes: Callable[[bytes], bytes] = lambda data: data
    on_collateral: Callable[[Bundle], Bundle] = lambda bundle: bundle
    on_challenge: Callable[[bytes], bytes] = lambda challenge: challenge
    on_request: Callable[[JoinRequest], JoinRequest] = lambda request: request
    on_reply: Callable[[JoinReply], JoinReply] = lambda reply: reply

    def only_carries(self, coordinator: Coordinator) -> None:
        """From now on, nothing is altered."""
        vars(self).update(vars(LocalCoordinator(coordinator)))

    def mesh(self) -> MeshReply:
        return self.on_mesh(self.coordinator.mesh())

    def attest(self, nonce: bytes) -> bytes:
        attestation = self.coordinator.attest(self.on_nonce(nonce))
        return self.on_bytes(self.on_attestation(attestation).encode())

    def collateral(self) -> Bundle:
        return self.on_collateral(Bundle.parse(self.coordinator.collateral()))

    def challenge(self) -> bytes:
        return self.on_challenge(self.coordinator.challenge())

    def join(self, request: JoinRequest) -> JoinReply:
        return self.on_reply(self.coordinator.join(self.on_request(request)))
