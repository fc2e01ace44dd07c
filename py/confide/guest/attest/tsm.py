"""Reports of SEV-SNP and TDX through Linux's configfs-tsm, the same for both.

A report instance is a directory: one writes `inblob` (64 bytes to bind) and reads `outblob` (the
report), `auxblob` (what the host hands over with it) and `provider` (whose format that is). Each
attempt has an instance of its own, and `generation`, which the kernel counts up at every write,
tells whether another process wrote into it. The privilege level stays the kernel's.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from confide.errors import FormatError, UnavailableError
from confide.protocol.binding import REPORT_DATA_SIZE

REPORTS = Path("/sys/kernel/config/tsm/report")
SNP_PROVIDER = "sev_guest"
TDX_PROVIDER = "tdx_guest"
ATTEMPTS = 5
RETRY_SECONDS = 0.5
# The device is busy with another report, or the host is busy.
_TRY_AGAIN = (errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT)


@dataclass(frozen=True)
class TsmReport:
    """What one instance gave; `auxblob` is empty if the provider has none."""

    provider: str
    outblob: bytes
    auxblob: bytes


class ReportFolder(Protocol):
    """The operations of configfs-tsm. Every method may raise the kernel's OSError."""

    def make(self, name: str) -> None:
        """Make a report instance."""
        ...

    def remove(self, name: str) -> None:
        """Remove it."""
        ...

    def read(self, name: str, attribute: str) -> bytes:
        """All of one of its attributes."""
        ...

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Set one of its attributes, in one write."""
        ...


class ConfigFs:
    """The kernel's folder of report instances."""

    def __init__(self, folder: Path = REPORTS) -> None:
        self._folder = folder

    def make(self, name: str) -> None:
        """Make an instance; the kernel adds its attributes."""
        (self._folder / name).mkdir()

    def remove(self, name: str) -> None:
        """Remove an instance and its attributes."""
        (self._folder / name).rmdir()

    def read(self, name: str, attribute: str) -> bytes:
        """All of one of its attributes."""
        return (self._folder / name / attribute).read_bytes()

    def write(self, name: str, attribute: str, data: bytes) -> None:
        """Write an attribute, without creating or truncating the kernel's file."""
        descriptor = os.open(self._folder / name / attribute, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


class TsmReports:
    """Makes reports, also several at a time."""

    def __init__(self, folder: ReportFolder) -> None:
        self._folder = folder

    def provider(self) -> str | None:
        """The provider of reports; None if the kernel has the interface but no provider.

        Raises UnavailableError if the kernel gives no answer.
        """
        try:
            with self._instance() as name:
                return self._text(name, "provider")
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise _unavailable(error) from error

    def report(self, data: bytes) -> TsmReport:
        """A report that binds these 64 bytes.

        Raises UnavailableError if the kernel gives none; it is asked again while it is busy.
        """
        if len(data) != REPORT_DATA_SIZE:
            raise FormatError(
                "bad-report-data",
                "the data to attest has the wrong size",
                expected=f"{REPORT_DATA_SIZE} bytes",
                seen=f"{len(data)} bytes",
            )
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(RETRY_SECONDS)
            try:
                report = self._attempt(data)
            except OSError as error:
                if error.errno not in _TRY_AGAIN:
                    raise _unavailable(error) from error
                continue
            if report is not None:
                return report
        raise UnavailableError(
            "tsm-busy",
            "the kernel gave no attestation report in time",
            expected="a report that no other process interfered with",
            seen=f"{ATTEMPTS} attempts that failed",
            next="try again later",
        )

    def _attempt(self, data: bytes) -> TsmReport | None:
        """None if another process wrote into the instance meanwhile."""
        with self._instance() as name:
            before = int(self._text(name, "generation"))
            self._folder.write(name, "inblob", data)
            report = TsmReport(
                provider=self._text(name, "provider"),
                outblob=self._folder.read(name, "outblob"),
                auxblob=self._optional(name, "auxblob"),
            )
            after = int(self._text(name, "generation"))
        return report if after == before + 1 else None

    @contextmanager
    def _instance(self) -> Iterator[str]:
        name = f"confide-{os.getpid()}-{secrets.token_hex(8)}"
        self._folder.make(name)
        try:
            yield name
        finally:
            self._folder.remove(name)

    def _text(self, name: str, attribute: str) -> str:
        return self._folder.read(name, attribute).decode("ascii", "replace").strip()

    def _optional(self, name: str, attribute: str) -> bytes:
        try:
            return self._folder.read(name, attribute)
        except FileNotFoundError:
            return b""


def report_of(reports: TsmReports, provider: str, report_data: bytes) -> TsmReport:
    """A report of this provider that binds these 64 bytes. Raises UnavailableError."""
    report = reports.report(report_data)
    if report.provider != provider:
        raise UnavailableError(
            "tsm-provider",
            "the kernel's attestation reports are of another kind than before",
            expected=provider,
            seen=ascii(report.provider[:80]),
        )
    return report


def _unavailable(error: OSError) -> UnavailableError:
    return UnavailableError(
        "no-tsm-report",
        "the kernel gives no attestation report",
        expected=f"a report instance in {REPORTS}",
        seen=error.strerror or type(error).__name__,
        next="check that configfs is mounted and that this process may write to it",
    )
