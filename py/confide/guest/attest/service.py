"""A small service for attestation, because only root may make the kernel's reports.

`python -m confide.guest.attest` runs as root, without capabilities, behind `SOCKET`. Its one
operation is "evidence": the data are the 64 bytes to bind, the only item is the evidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from confide.errors import FormatError
from confide.guest.attest.local import LocalService, Operation
from confide.protocol.binding import REPORT_DATA_SIZE
from confide.protocol.evidence import Evidence

SOCKET = Path("/run/confide/attester.socket")


class Attester(Protocol):
    """Makes evidence of this machine."""

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds these 64 bytes (see `confide.protocol.binding`)."""
        ...


class SocketAttester:
    """Asks the service at `path` for evidence. Thread-safe."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._service = LocalService(path, "no-attester")

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds these 64 bytes.

        Raises UnavailableError if the service is unreachable or cannot make evidence, FormatError
        for a malformed answer.
        """
        items = self._service.ask("evidence", report_data)
        if len(items) != 1:
            raise FormatError(
                "bad-answer",
                "the answer of the attestation service does not hold one evidence",
                seen=f"{len(items)} items",
            )
        return Evidence.parse(items[0])


def operations(attester: Attester) -> dict[str, Operation]:
    """The operations of the service, for `local.serve`."""

    def evidence(data: bytes) -> list[bytes]:
        if len(data) != REPORT_DATA_SIZE:
            raise FormatError(
                "bad-report-data",
                "the data to attest has the wrong size",
                expected=f"{REPORT_DATA_SIZE} bytes",
                seen=f"{len(data)} bytes",
            )
        return [attester.evidence(data).encode()]

    return {"evidence": evidence}
