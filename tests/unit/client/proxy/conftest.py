"""One SIMULATED service for all tests of this folder, and ways to ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.app import ANSWER, App
from tests.support.hostile_gateway import HostileGateway, hostile_gateway
from tests.support.native_service import NativeService
from tests.support.simulated_machine import current_manifest, manifest_value


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeService]:
    tiny = manifest_value()["models"][0]
    models = [tiny, tiny | {"name": "second"}, tiny | {"name": "chat-only", "tasks": ["chat"]}]
    manifest = current_manifest(models=models)
    served = ("tiny", "second", "chat-only")
    folder = tmp_path_factory.mktemp("service")
    with NativeService(folder, manifest=manifest, models=served) as native:
        native.start_gateway()
        yield native


@pytest.fixture(scope="session")
def hostile_session(service: NativeService) -> Iterator[HostileGateway]:
    with hostile_gateway(service.urls["gateway"]) as gateway:
        yield gateway


@pytest.fixture
def hostile(hostile_session: HostileGateway) -> Iterator[HostileGateway]:
    yield from hostile_session.fresh()


@pytest.fixture(scope="session")
def receipts(service: NativeService) -> Path:
    return service.folder / "receipts"


@pytest.fixture(scope="session")
def app_session(service: NativeService, hostile_session: HostileGateway, receipts: Path) -> App:
    return App(service.start_proxy(hostile_session.url, options=["--receipts", str(receipts)]))


@pytest.fixture
def app(app_session: App, hostile: HostileGateway) -> Iterator[App]:
    """An app at a proxy whose gateway is hostile if the test says so; it must work afterwards."""
    yield app_session
    hostile.reset()
    assert app_session.ask() == ANSWER


@pytest.fixture(scope="session")
def direct_app(service: NativeService) -> App:
    """An app at a proxy with the honest gateway and nothing between them."""
    return App(service.start_proxy(service.urls["gateway"], name="direct-proxy"))
