"""A service in this process, behind a gateway that answers what a test wants.

Coordinator, secret services and the workers' nodes are real; their machines are SIMULATED.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from confide.client.proxy.gateway import Gateway
from confide.client.proxy.handshake import Established
from confide.errors import PolicyError
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.join import Membership, Node
from confide.guest.secret_service.domain import SecretService
from confide.net.calls import Answer
from confide.protocol.coordinator import Attestation, Nonce
from confide.protocol.keyexchange import SealedKeyMessage
from confide.protocol.manifest import Manifest
from confide.protocol.secret_service import KeyAccepted, KeyExchangeReply, KeyOffer
from confide.protocol.workers import ListedWorker, WorkerList
from tests.support.kept import NOTHING_ATTESTED
from tests.support.local_coordinator import LocalCoordinator
from tests.support.simulated_machine import MODEL, Clock, SimulatedMachine, manifest_bytes

MANIFEST = manifest_bytes()


def shown(node: Node) -> Membership:
    """What a gateway shows of a node: also when it has expired."""
    assert node._membership is not None
    return node._membership


class SmallService:
    """Stands for a `Caller` of the gateway. `lies` change an answer, by the path without query."""

    def __init__(
        self,
        *,
        manifest: bytes = MANIFEST,
        services: int = 1,
        workers: int = 1,
        models: tuple[str, ...] = (MODEL,),
    ) -> None:
        self.manifest = Manifest.parse(manifest)
        self.clock, self.monotonic = Clock(), Clock(100)
        self.start(services, workers, models)
        self.loads = [0] * workers
        self.lies: dict[str, Callable[[Any], Any]] = {}
        self.headers: list[dict[str, str]] = []
        self.seconds: list[float] = []
        self.asked: list[tuple[str, bytes]] = []
        self.status = 200
        self.url = "http://gateway"
        self.gateway = Gateway(
            self,  # type: ignore[arg-type]
            api_key="",
            manifest_sha256=self.manifest.sha256,
        )

    def start(self, services: int, workers: int, models: tuple[str, ...] = (MODEL,)) -> None:
        """Start a mesh; or another one, with all of its machines, in place of the one before."""
        manifest = self.manifest.encode()
        self.start_coordinator(SimulatedMachine("coordinator", manifest=manifest), manifest)
        self.nodes = [self.join("secret-service") for _ in range(services)]
        self.secrets = [
            SecretService(node.kem, now=self.clock, monotonic=self.monotonic) for node in self.nodes
        ]
        self.workers = [self.join("worker-cpu", models) for _ in range(workers)]

    def start_coordinator(self, machine: SimulatedMachine, manifest: bytes = MANIFEST) -> None:
        self.coordinator = Coordinator(machine, binding=machine.binding, now=self.clock)
        self.coordinator.set_manifest(manifest)

    def join(self, role: str, models: tuple[str, ...] = ()) -> Node:
        machine = SimulatedMachine(role, manifest=self.coordinator.mesh().manifest)
        node = Node(
            role,
            machine,
            LocalCoordinator(self.coordinator),
            binding=machine.binding,
            models=models,
            now=self.clock,
            monotonic=self.monotonic,
        )
        node.join()
        return node

    @property
    def established(self) -> Established:
        """What a handshake with this service gives."""
        mesh = self.coordinator.mesh()
        return Established(self.manifest, mesh.mesh_ca, mesh.root_ca, 3600, NOTHING_ATTESTED)

    def offers(self) -> tuple[KeyOffer, ...]:
        members = map(shown, self.nodes)
        return tuple(KeyOffer(member.certificate, member.kem_public_key) for member in members)

    def listed(self) -> tuple[ListedWorker, ...]:
        return tuple(
            ListedWorker(
                member.worker_id, member.certificate, member.kem_public_key, member.models, load
            )
            for member, load in zip(map(shown, self.workers), self.loads, strict=True)
        )

    def paths(self) -> list[str]:
        """The last part of the paths that were asked for so far; then forgets them."""
        paths = [path.rpartition("/")[2] for path, _ in self.asked]
        self.asked.clear()
        return paths

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None,
        headers: dict[str, str],
        limit: int,
        seconds: float,
    ) -> Answer:
        self.seconds.append(seconds)
        self.headers.append(headers)
        self.asked.append((path, body or b""))
        if self.status != 200:
            error = PolicyError("unauthorized", "no such key").to_dict()
            body = json.dumps({"error": error}).encode()
            return Answer(self.status, "application/json", body, {})
        path = path.partition("?")[0]
        honest: dict[tuple[str, str], Callable[[bytes], Any]] = {
            ("POST", "/confide/v1/attest"): self._attest,
            ("GET", "/confide/v1/key-exchange"): lambda _: KeyExchangeReply(self.offers()),
            ("POST", "/confide/v1/keys"): self._keys,
            ("GET", "/confide/v1/workers"): lambda _: WorkerList(self.listed()),
        }
        answer = self.lies.get(path, lambda answer: answer)(honest[method, path](body or b""))
        encoded = answer if isinstance(answer, bytes) else answer.encode()
        assert len(encoded) <= limit
        return Answer(200, "application/cbor", encoded, {})

    def _attest(self, body: bytes) -> Attestation:
        return self.coordinator.attest(Nonce.parse(body).nonce)

    def _keys(self, body: bytes) -> KeyAccepted:
        name = SealedKeyMessage.parse(body).kem_sha256
        (service,) = [
            service
            for service, node in zip(self.secrets, self.nodes, strict=True)
            if node.kem.find(name)
        ]
        return service.put(body, self.manifest, source="gateway")
