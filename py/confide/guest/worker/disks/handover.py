"""The manifest on its way from the role program, which has joined, to the disk mounter.

The role program has the network and no rights. The mounter has rights and no network. This file is
the only thing that goes from one to the other, and the mounter believes nothing of it: it takes the
one content that this machine was launched for.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

from confide.errors import VerificationError
from confide.protocol.manifest import MAX_MANIFEST, Manifest

HANDED_OVER = Path("/run/confide-role/manifest.json")
"""In the runtime directory of the role's unit, whose user owns it."""


def hand_over(manifest: Manifest, path: Path = HANDED_OVER) -> None:
    """Write the manifest's bytes. A reader sees all of them or no file."""
    new = path.with_suffix(".new")
    new.write_bytes(manifest.encode())
    # The mounter is root without the right to read what it may not.
    new.chmod(0o644)
    new.replace(path)


def take_over(binding: bytes, path: Path = HANDED_OVER) -> Manifest | None:
    """The manifest whose SHA-256 is `binding` (32 bytes), or None while there is no file.

    The owner of the file may be hostile. So a link is not followed, a pipe or a lease does not make
    this wait, and what is parsed are the very bytes that were hashed.

    Raises VerificationError "other-manifest" for anything else than a file with that content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(binding, error.strerror or type(error).__name__) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(binding, "no regular file")
        # One call is enough: the file is in memory, or it is not the one that was handed over.
        data = os.read(descriptor, MAX_MANIFEST + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_MANIFEST:
        raise _refused(binding, f"more than {MAX_MANIFEST} bytes")
    if sha256(data).digest() != binding:
        raise _refused(binding, f"SHA-256 {sha256(data).hexdigest()}")
    return Manifest.parse(data)


def _refused(binding: bytes, seen: str) -> VerificationError:
    return VerificationError(
        "other-manifest",
        "the role program handed over something else than this machine's manifest",
        expected=f"a file with SHA-256 {binding.hex()}",
        seen=seen,
        next="start this machine again",
    )
