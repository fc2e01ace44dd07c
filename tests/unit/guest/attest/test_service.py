"""The attestation service over a real socket; the hardware behind it is SIMULATED."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.errors import ConfideError, FormatError, UnavailableError
from confide.guest.attest import __main__ as program
from confide.guest.attest import local
from confide.guest.attest.confidential import SnpAttester
from confide.guest.attest.hardware import detect_attester
from confide.guest.attest.local import LocalService
from confide.guest.attest.service import Attester, SocketAttester, operations
from confide.guest.attest.tsm import TsmReports
from confide.protocol.evidence import Evidence
from tests.support.local_socket import listening, start
from tests.support.simulated_amd import SimulatedChip
from tests.support.simulated_tsm import SimulatedTsm

REPORT_DATA = bytes(range(64))
EVIDENCE = Evidence("tdx", b"", (), b"").encode()
CHIP = SimulatedChip()


class Failing:
    def __init__(self, error: ConfideError) -> None:
        self.error = error

    def evidence(self, report_data: bytes) -> Evidence:
        raise self.error


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with listening(tmp_path / "socket") as opened:
        yield opened


def started(listener: socket.socket, attester: Attester) -> SocketAttester:
    return SocketAttester(start(listener, operations(attester)))


def test_evidence(listener: socket.socket) -> None:
    attester = started(listener, SnpAttester(TsmReports(SimulatedTsm(CHIP.report))))
    for data in (REPORT_DATA, bytes(64)):
        evidence = attester.evidence(data)
        assert evidence.platform == "sev-snp"
        assert evidence.report[0x50:0x90] == data


@pytest.mark.parametrize("kind", [UnavailableError, FormatError])
def test_errors_arrive(listener: socket.socket, kind: type[ConfideError]) -> None:
    error = kind("tsm-busy", "no report", expected="one", seen="none", next="wait")
    with pytest.raises(UnavailableError) as seen:
        started(listener, Failing(error)).evidence(REPORT_DATA)
    assert seen.value.to_dict() == error.to_dict()


@pytest.mark.parametrize("size", [0, 63, 65, 1 << 20])
def test_data_of_another_size(listener: socket.socket, size: int) -> None:
    attester = started(listener, SnpAttester(TsmReports(SimulatedTsm(CHIP.report))))
    with pytest.raises(UnavailableError):
        attester.evidence(bytes(size))
    assert attester.evidence(REPORT_DATA).platform == "sev-snp", "and it serves on"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"text",
        REPORT_DATA,
        cbor_encode({"operation": "other", "data": REPORT_DATA}),
        cbor_encode({"operation": "evidence"}),
        cbor_encode({"operation": "evidence", "data": "text"}),
        cbor_encode({"operation": "evidence", "data": REPORT_DATA, "more": 1}),
    ],
)
def test_request_that_is_none(listener: socket.socket, request_bytes: bytes) -> None:
    attester = started(listener, SnpAttester(TsmReports(SimulatedTsm(CHIP.report))))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(listener.getsockname())
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = cbor_decode(connection.recv(1 << 16), what="the answer")
    assert isinstance(answer, dict)
    assert list(answer) == ["error"]
    assert attester.evidence(REPORT_DATA).platform == "sev-snp", "and it serves on"


def test_no_operation_of_this_service(listener: socket.socket) -> None:
    started(listener, SnpAttester(TsmReports(SimulatedTsm(CHIP.report))))
    with pytest.raises(UnavailableError, match="expected evidence; seen 'ready'"):
        LocalService(Path(listener.getsockname()), "x").ask("ready")


def test_who_connects_and_says_nothing(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "REQUEST_SECONDS", 0.05)
    attester = started(listener, SnpAttester(TsmReports(SimulatedTsm(CHIP.report))))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(listener.getsockname())
        assert attester.evidence(REPORT_DATA).platform == "sev-snp"


def test_no_service(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as error:
        SocketAttester(tmp_path / "socket").evidence(REPORT_DATA)
    assert error.value.code == "no-attester"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xa0",
        b"text",
        cbor_encode({"items": []}),
        cbor_encode({"items": [EVIDENCE, EVIDENCE]}),
        cbor_encode({"items": [EVIDENCE] * 17}),
        cbor_encode({"items": EVIDENCE}),
        cbor_encode({"items": [b"\xa0"]}),
        cbor_encode({"items": ["text"]}),
        cbor_encode({"error": {"code": "x"}}),
        cbor_encode({"items": [EVIDENCE], "more": 1}),
        bytes((1 << 20) + 9000),
    ],
)
def test_answer_that_is_none(listener: socket.socket, answer: bytes) -> None:
    def reply() -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(100):
                pass
            connection.sendall(answer)

    threading.Thread(target=reply, daemon=True).start()
    with pytest.raises(FormatError):
        SocketAttester(Path(listener.getsockname())).evidence(REPORT_DATA)


def test_machine_with_the_service_uses_it(tmp_path: Path) -> None:
    (tmp_path / "run/confide").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/tpmrm0").touch()
    (tmp_path / "run/confide/attester.socket").touch()
    assert isinstance(detect_attester(tmp_path), SocketAttester)


def test_program_without_hardware_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> None:
        raise UnavailableError("no-platform", "nothing here can attest this machine")

    monkeypatch.setattr(program, "detect_hardware", nothing)
    with pytest.raises(SystemExit, match="nothing here can attest"):
        program.main()


def test_program_serves_the_socket_it_was_given(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    attester = SnpAttester(TsmReports(SimulatedTsm(CHIP.report)))
    monkeypatch.setattr(program, "detect_hardware", lambda: attester)
    monkeypatch.setattr(local, "_LISTEN_FD", listener.dup().detach())
    threading.Thread(target=program.main, daemon=True).start()
    client = SocketAttester(Path(listener.getsockname()))
    assert client.evidence(REPORT_DATA).report[0x50:0x90] == REPORT_DATA


@pytest.mark.parametrize("kind", [RecursionError, UnicodeDecodeError, KeyError, MemoryError])
def test_a_device_that_answers_oddly_does_not_end_the_service(
    listener: socket.socket, capfd: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    """Each certificate, each renewal and the GPUs hang on it."""
    odd = [kind("x", b"", 0, 1, "y") if kind is UnicodeDecodeError else kind("report 1234")]
    genuine = SnpAttester(TsmReports(SimulatedTsm(CHIP.report)))

    class Odd:
        def evidence(self, report_data: bytes) -> Evidence:
            if odd:
                raise odd.pop()
            return genuine.evidence(report_data)

    attester = started(listener, Odd())
    with pytest.raises(UnavailableError) as caught:
        attester.evidence(REPORT_DATA)
    assert caught.value.code == "internal"
    assert attester.evidence(REPORT_DATA).platform == "sev-snp", "and it serves on"
    said = capfd.readouterr().err
    assert said == f"confide: unexpected {kind.__name__} in a service of this machine\n"
