"""The connection to the TPM, apart from the attester: the first program of a boot needs no more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confide.errors import UnavailableError
from confide.vendors.tpm.commands import MAX_RESPONSE, Exchange


@contextmanager
def open_device(device: Path) -> Iterator[Exchange]:
    """Open a TPM device for one caller. Raises UnavailableError if that fails."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(
            "no-tpm",
            "the TPM cannot be opened",
            expected=str(device),
            seen=error.strerror or type(error).__name__,
            next="use a machine with a TPM, as a user of its group",
        ) from error

    def exchange(command: bytes) -> bytes:
        # The kernel takes a command in one write and gives its answer in one read.
        os.write(descriptor, command)
        return os.read(descriptor, MAX_RESPONSE)

    try:
        yield exchange
    finally:
        os.close(descriptor)
