"""Every role's program asks for the binding first: without a manifest there is no role."""

from __future__ import annotations

import runpy
from typing import Any, NoReturn

import pytest

from confide.errors import ConfigError
from confide.guest.inventory import program
from confide.net.server import Service
from confide.protocol.launch import UNBOUND
from tests.support.simulated_amd import SimulatedChip

ROLES = ("coordinator", "secret_service", "worker")
# What a role makes, opens or joins. Each is looked up by a program when it starts.
OF_A_ROLE = (
    "confide.guest.coordinator.ca.create_root_ca",
    "confide.guest.coordinator.domain.Coordinator",
    "confide.guest.secret_service.domain.SecretService",
    "confide.guest.mesh.join.Node",
    "confide.guest.mesh.config.read_config",
    "confide.net.coordinator_client.CoordinatorClient",
)


class Served:
    """Notes what would be served, and where."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any]]] = []

    def __call__(self, factory: Any, **options: Any) -> None:
        self.calls.append((factory, options))


@pytest.fixture
def inventory(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What the inventory serves, on a simulated chip."""
    served = Served()
    monkeypatch.setattr(program, "serve", served)
    monkeypatch.setattr(program, "detect_attester", SimulatedChip)
    return served


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What a role serves."""
    served = Served()
    monkeypatch.setattr("confide.net.server.serve", served)
    return served


def bind(monkeypatch: pytest.MonkeyPatch, binding: bytes | None) -> None:
    def read() -> bytes:
        if binding is None:
            raise ConfigError("no-binding", "this machine does not know its manifest")
        return binding

    monkeypatch.setattr(program, "read_binding", read)


def fail(*_: object, **__: object) -> NoReturn:
    pytest.fail("something of a role was made")


@pytest.mark.parametrize("name", ROLES)
def test_without_a_manifest_nothing_of_a_role_exists(
    monkeypatch: pytest.MonkeyPatch, inventory: Served, role: Served, name: str
) -> None:
    bind(monkeypatch, UNBOUND)
    for made in OF_A_ROLE:
        monkeypatch.setattr(made, fail)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"confide.guest.{name}", run_name="__main__")
    assert not ended.value.code
    assert role.calls == []
    [(factory, options)] = inventory.calls
    assert options == {"listen": "0.0.0.0:8000"}
    service: Service = factory()
    assert service.tls is None
    health = service.app.test_client().get("/healthz")  # type: ignore[attr-defined]
    assert health.get_json() == {"state": "inventory"}


@pytest.mark.parametrize("name", ROLES)
@pytest.mark.parametrize("binding", [b"\1" + bytes(31), bytes(31) + b"\1", b"\xff" * 32])
def test_with_a_manifest_there_is_no_inventory(
    monkeypatch: pytest.MonkeyPatch, inventory: Served, role: Served, name: str, binding: bytes
) -> None:
    bind(monkeypatch, binding)
    runpy.run_module(f"confide.guest.{name}", run_name="__main__")
    assert inventory.calls == []
    assert len(role.calls) == 1


@pytest.mark.parametrize("name", ROLES)
def test_a_machine_that_does_not_know_serves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    inventory: Served,
    role: Served,
    name: str,
) -> None:
    bind(monkeypatch, None)
    with pytest.raises(SystemExit, match="1"):
        runpy.run_module(f"confide.guest.{name}", run_name="__main__")
    assert "does not know its manifest" in capsys.readouterr().err
    assert inventory.calls == role.calls == []
