"""One boot, one mesh: which mesh this machine belongs to, and when it has to end.

This is a small state machine without a clock, a network or a thread: its caller brings the times.
Only what was verified counts. An answer that was not verified pins nothing and ends nothing.
"""

from __future__ import annotations

from hashlib import sha256

from confide.errors import VerificationError
from confide.guest.ending import MachineEndsError

GONE_AFTER = 60.0
"""Seconds for which every verified coordinator shows another mesh before this machine ends."""


class OneMesh:
    """The first mesh that this machine verified. It never changes."""

    def __init__(self) -> None:
        self._mesh_ca = b""
        self._other_since: float | None = None

    @property
    def mesh_ca(self) -> bytes:
        """The mesh CA (DER), empty before there is one."""
        return self._mesh_ca

    @property
    def in_doubt(self) -> bool:
        """Whether the latest verified coordinator showed another mesh."""
        return self._other_since is not None

    def verified(self, mesh_ca: bytes, *, asked: float, answered: float) -> None:
        """Note what a verified coordinator shows.

        A verified coordinator of our own mesh ends all doubt: the mesh's key exists in its memory
        only, so the mesh is there and this machine can renew its certificate. So an address that
        leads to two coordinators in turn ends no machine.

        Args:
            mesh_ca: its mesh CA (DER).
            asked: when the question left, in monotonic seconds.
            answered: when the answer was verified. The evidence was made between the two.

        Raises:
            VerificationError: `mesh-changed`: it is another mesh than ours.
            MachineEndsError: and it has been for `GONE_AFTER` seconds.
        """
        if not self._mesh_ca:
            self._mesh_ca = mesh_ca
        if mesh_ca == self._mesh_ca:
            self._other_since = None
            return
        if self._other_since is None:
            self._other_since = answered
        elif asked - self._other_since >= GONE_AFTER:
            raise MachineEndsError(
                f"the mesh is gone: for {GONE_AFTER:.0f} s, every verified coordinator has shown "
                f"another one (mesh CA {_hash(mesh_ca)}, ours {_hash(self._mesh_ca)})"
            )
        raise VerificationError(
            "mesh-changed",
            "the coordinator has another mesh than this machine joined",
            expected=f"mesh CA {_hash(self._mesh_ca)}",
            seen=f"mesh CA {_hash(mesh_ca)}",
            next=f"wait: this machine ends if it stays so for {GONE_AFTER:.0f} s",
        )


def _hash(certificate: bytes) -> str:
    return sha256(certificate).hexdigest()
