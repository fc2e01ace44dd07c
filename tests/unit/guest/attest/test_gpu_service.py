"""The GPU service over a real socket, with a FAKE NVML and SIMULATED GPUs behind it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pynvml
import pytest

from confide.encoding.canonical import cbor_encode
from confide.errors import FormatError, UnavailableError
from confide.guest.attest import gpus as program
from confide.guest.attest import local
from confide.guest.attest.gpus import RemoteGpus, operations
from confide.guest.attest.nvidia import NvidiaGpus
from confide.protocol.gpu import REFUSALS, GpuDevice
from tests.support.fake_nvml import FakeNvml, install_driver
from tests.support.local_socket import listening, start
from tests.support.simulated_gpu import NONCE, SimulatedGpu, SimulatedNvidia

READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
NOT_READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE


@dataclass
class Service:
    """A service that runs, its client, and the driver behind it."""

    nvml: FakeNvml
    direct: NvidiaGpus
    client: RemoteGpus


@pytest.fixture(scope="module")
def simulated() -> list[SimulatedGpu]:
    nvidia = SimulatedNvidia()
    return [nvidia.gpu("GPU-0"), nvidia.gpu("GPU-1")]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with listening(tmp_path / "socket") as opened:
        yield opened


@pytest.fixture
def service(tmp_path: Path, simulated: list[SimulatedGpu], listener: socket.socket) -> Service:
    nvml = FakeNvml(simulated)
    direct = NvidiaGpus(nvml, install_driver(tmp_path))
    return Service(nvml, direct, RemoteGpus(start(listener, operations(direct))))


def test_devices_and_evidence(service: Service) -> None:
    assert service.client.devices() == service.direct.devices()
    evidence = service.client.evidence(NONCE)
    assert [item.device for item in evidence] == list(service.direct.devices())


def test_sixteen_gpus_fit_into_an_answer(service: Service, simulated: list[SimulatedGpu]) -> None:
    service.nvml.gpus = simulated * 8
    assert len(service.client.evidence(NONCE)) == 16


def test_the_ready_state(service: Service) -> None:
    assert service.nvml.ready == NOT_READY
    service.client.set_ready()
    assert service.nvml.ready == READY


def test_a_refusal_arrives_with_its_code(service: Service) -> None:
    service.nvml.settings["devToolsMode"] = pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_ON
    for ask in (service.client.devices, lambda: service.client.evidence(NONCE)):
        with pytest.raises(UnavailableError) as caught:
            ask()
        assert (caught.value.code, caught.value.seen) == ("gpu-devtools-on", "on")


def test_each_reason_is_on_the_console_once(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask() -> None:
        with pytest.raises(UnavailableError):
            service.client.devices()

    service.client.devices()
    service.nvml.gpus.clear()
    ask()
    ask()
    service.nvml.failing["nvmlInit"] = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    ask()
    ask()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("confide: there is no usable NVIDIA GPU; expected")
    assert lines[1].startswith("confide: the GPU driver's library and kernel module have")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_nonce_of_another_size(service: Service, size: int) -> None:
    with pytest.raises(UnavailableError) as caught:
        service.client.evidence(bytes(size))
    assert caught.value.code == "bad-nonce"
    assert service.nvml.calls == []


def test_no_service(tmp_path: Path) -> None:
    client = RemoteGpus(tmp_path / "nothing")
    for ask in (client.devices, lambda: client.evidence(NONCE), client.set_ready):
        with pytest.raises(UnavailableError) as caught:
            ask()
        assert caught.value.code == "gpu-service"
        assert caught.value.code in REFUSALS


@pytest.mark.parametrize("item", [b"", GpuDevice("hopper", "GPU-0", (b"x",)).encode()])
def test_an_answer_that_is_no_gpu(listener: socket.socket, item: bytes) -> None:
    def reply() -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(100):
                pass
            connection.sendall(cbor_encode({"items": [item]}))

    threading.Thread(target=reply, daemon=True).start()
    with pytest.raises(FormatError):
        RemoteGpus(Path(listener.getsockname())).devices()


def test_program_says_at_once_what_is_wrong_and_serves(
    listener: socket.socket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gpus = NvidiaGpus(FakeNvml(), tmp_path)
    monkeypatch.setattr(program, "NvidiaGpus", lambda: gpus)
    monkeypatch.setattr(local, "_LISTEN_FD", listener.dup().detach())
    threading.Thread(target=program.main, daemon=True).start()
    with pytest.raises(UnavailableError) as caught:
        RemoteGpus(Path(listener.getsockname())).devices()
    assert caught.value.code == "no-gpu"
    assert capsys.readouterr().err == f"confide: {caught.value}\n"
