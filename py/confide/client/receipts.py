"""The folder in which a client keeps receipts, each beside the attestation that it stands on.

    DIR/SHA256/attestation.cbor         what `Record` says; the folder has the name of its SHA-256
    DIR/SHA256/manifest.json            the manifest in it, for --manifest of a later verification
    DIR/SHA256/verdict.json             what the client found at the time, for people to read
    DIR/SHA256/TIME-REQUEST.cbor        a receipt; Unix seconds, SHA-256 of the sealed request

A folder of an attestation comes into place whole, with space for its first receipt. It holds no
prompt, no answer and no key. `kept_receipt` verifies what is here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from confide.client.service import Record
from confide.errors import ConfigError, UnavailableError
from confide.protocol.coordinator import Attestation
from confide.protocol.receipt import MAX_RECEIPT
from confide.verify.verdict import Verdict

RECORD = "attestation.cbor"
MANIFEST = "manifest.json"
VERDICT = "verdict.json"

Keep = Callable[[bytes, bytes], None]
"""Keeps a verified receipt: gets the SHA-256 of the request (32 bytes), and the receipt."""


@dataclass(frozen=True, repr=False)
class Attested:
    """An attestation that a client has verified, and the verdict on it, which passed."""

    record: Record
    verdict: Verdict

    @cached_property
    def encoded(self) -> bytes:
        """The record's bytes."""
        return self.record.encode()

    @cached_property
    def name(self) -> str:
        """The name of its folder."""
        return sha256(self.encoded).hexdigest()

    def files(self) -> dict[str, bytes]:
        """What is kept of it, by file name."""
        verdict = json.dumps({**self.verdict.to_dict(), "time": self.record.time}, indent=2)
        return {
            RECORD: self.encoded,
            MANIFEST: Attestation.parse(self.record.attestation).manifest,
            VERDICT: verdict.encode() + b"\n",
        }


ReserveReceipt = Callable[[Attested], AbstractContextManager[Keep]]
"""Makes sure, before a question is sent, that the receipt of its answer can be kept."""


def keep_nothing(_: Attested) -> AbstractContextManager[Keep]:
    """For a client that keeps no receipts."""
    return contextlib.nullcontext(lambda _request_sha256, _receipt: None)


class ReceiptFolder:
    """Safe to use from any thread, and for several programs at once."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if it is not there.

        Raises:
            ConfigError: It cannot be made or written.
        """
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(os.urandom(MAX_RECEIPT))
        except OSError as error:
            raise ConfigError(
                "bad-receipts",
                "the folder for receipts cannot be made or written",
                expected=str(folder),
                seen=_reason(error),
            ) from error

    @contextlib.contextmanager
    def reserve(self, attested: Attested) -> Iterator[Keep]:
        """Store the attestation, if it is not there yet, and the space of one receipt.

        What is not used of it is given back at the end.

        Raises:
            UnavailableError: "receipt-not-kept": the disk is full or the folder cannot be written.
                The `Keep` raises the same if that happens later.
        """
        with self._named("so nothing was sent"):
            place = self._store(attested)
            # Closed below: it outlives this block.
            file = tempfile.NamedTemporaryFile(dir=place, prefix=".", delete=False)  # noqa: SIM115
            reserved = Path(file.name)
        try:
            with self._named("so nothing was sent"):
                file.write(os.urandom(MAX_RECEIPT))  # a file system may store zeros as nothing
                file.flush()

            def keep(request_sha256: bytes, receipt: bytes) -> None:
                with self._named("so the answer is not given out"):
                    file.seek(0)
                    file.write(receipt)
                    file.truncate()
                    _sync(file.fileno(), file.flush)
                    reserved.rename(place / f"{int(time.time())}-{request_sha256.hex()}.cbor")

            yield keep
        finally:
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                reserved.unlink()

    def _store(self, attested: Attested) -> Path:
        place = self._folder / attested.name
        if (place / RECORD).exists():
            return place
        new = Path(tempfile.mkdtemp(dir=self._folder, prefix="."))
        try:
            for name, data in attested.files().items():
                with (new / name).open("xb") as file:
                    file.write(data)
                    _sync(file.fileno(), file.flush)
            new.rename(place)
        except OSError:
            # Another thread or program may have been faster.
            if not (place / RECORD).exists():
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return place

    @contextlib.contextmanager
    def _named(self, outcome: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                "receipt-not-kept",
                f"the receipt cannot be kept, {outcome}",
                expected=f"{self._folder} with space and permission to write",
                seen=_reason(error),
                next="correct that, or start the proxy without --receipts",
            ) from error


def _sync(descriptor: int, flush: Callable[[], None]) -> None:
    """To the disk, so that a file never has its name without its content."""
    flush()
    os.fsync(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
