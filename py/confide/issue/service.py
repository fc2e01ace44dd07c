"""Attestation as a small service of its own, because only root may make the kernel's reports.

`python -m confide.issue` runs as root, without capabilities, behind a Unix socket that systemd
opens for the role's program alone. Who connects sends the 64 bytes to bind and gets a CBOR
map, {evidence} or {error}. The service decides nothing: what evidence is worth, a verifier says.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol

from confide.errors import ConfideError, FormatError, UnavailableError, error_from_dict
from confide.formats.binding import REPORT_DATA_SIZE
from confide.formats.canonical import Cbor, cbor_decode, cbor_encode
from confide.formats.evidence import MAX_EVIDENCE, Evidence
from confide.formats.fields import Fields

SOCKET = Path("/run/confide/attester.socket")
MAX_ANSWER = MAX_EVIDENCE + 4096
REQUEST_SECONDS = 10.0
# Above what the kernel itself waits for a host that asks to come back later.
ANSWER_SECONDS = 120.0


class Attester(Protocol):
    """Makes evidence of this machine."""

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds these 64 bytes (see `confide.formats.binding`)."""
        ...


class SocketAttester:
    """Asks the service at `path` for evidence; one connection each, so any thread may."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds these 64 bytes.

        Raises UnavailableError if the service is not there or could not make any, FormatError if
        what it answers is not its format.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(self._path))
                connection.sendall(report_data)
                connection.shutdown(socket.SHUT_WR)
                answer = _receive(connection, MAX_ANSWER)
        except OSError as error:
            raise UnavailableError(
                "no-attester",
                "this machine's attestation service cannot be reached",
                expected=f"an answer at {self._path}",
                seen=error.strerror or type(error).__name__,
                next="look for the service's own message on the console",
            ) from error
        return _read_answer(answer)


def serve(listener: socket.socket, attester: Attester) -> None:
    """Answers connections, one after the other, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                connection.settimeout(REQUEST_SECONDS)
                request = _receive(connection, REPORT_DATA_SIZE)
                connection.settimeout(ANSWER_SECONDS)
                connection.sendall(_answer(attester, request))
            except OSError:
                continue  # who asked has gone, or did not ask: the next one is not to wait


def _answer(attester: Attester, request: bytes) -> bytes:
    try:
        if len(request) != REPORT_DATA_SIZE:
            raise FormatError(
                "bad-report-data",
                "the data to attest has the wrong size",
                expected=f"{REPORT_DATA_SIZE} bytes",
                seen=f"{len(request)} bytes",
            )
        return cbor_encode({"evidence": attester.evidence(request).encode()})
    except ConfideError as error:
        fields: dict[str, Cbor] = {**error.to_dict()}
        return cbor_encode({"error": fields})


def _read_answer(answer: bytes) -> Evidence:
    fields = Fields(cbor_decode(answer, what="the answer", limit=MAX_ANSWER), "the answer")
    if not fields.has("error"):
        evidence = Evidence.parse(fields.blob("evidence", max_length=MAX_EVIDENCE))
        fields.done()
        return evidence
    error = fields.map("error")
    parts = {name: error.text(name) for name in ("code", "message", "expected", "seen", "next")}
    error.done()
    fields.done()
    raise error_from_dict(parts, UnavailableError)


def _receive(connection: socket.socket, limit: int) -> bytes:
    """All until the other side has no more, or one byte more than `limit`."""
    received = bytearray()
    while len(received) <= limit:
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        received += chunk
    return bytes(received[: limit + 1])
