"""The GPUs as a small service of their own, because only root may let them take work.

`python -m confide.guest.attest.gpus` runs as root behind `SOCKET`, with CAP_SYS_ADMIN and no other
capability. NVIDIA's driver asks for it before it sets the ready state (RMCTRL_FLAGS_PRIVILEGED of
NV_CONF_COMPUTE_CTRL_CMD_SYSTEM_SET_GPUS_STATE; NV_IS_SUSER in nv-linux.h). Operations:

* "devices": one encoded `GpuDevice` per GPU.
* "evidence", data: the nonce: one encoded `GpuEvidence` per GPU.
* "ready", "not-ready": no items.

What speaks against the GPUs goes to the console, once per reason, already when the service starts.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from confide.errors import ConfideError
from confide.guest.attest.local import LocalService, Operation, passed_socket, serve
from confide.guest.attest.nvidia import NvidiaGpus
from confide.protocol.gpu import GpuDevice, GpuEvidence

SOCKET = Path("/run/confide/gpus.socket")


class RemoteGpus:
    """All GPUs of the machine, through the service at `path`; any thread may ask.

    Every method raises UnavailableError, whose code is what speaks against the GPUs ("gpu-service"
    if the service cannot be reached), and FormatError if what it answers is not its format.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self._service = LocalService(path, "gpu-service")

    def devices(self) -> tuple[GpuDevice, ...]:
        """Every GPU with its certificates, in a fixed order."""
        return tuple(map(GpuDevice.parse, self._service.ask("devices")))

    def evidence(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        """Every GPU's signed report over this nonce of 32 bytes, in the order of `devices`."""
        return tuple(map(GpuEvidence.parse, self._service.ask("evidence", nonce)))

    def set_ready(self, ready: bool) -> None:
        """Let the GPUs take work, or take that back."""
        self._service.ask("ready" if ready else "not-ready")


def operations(gpus: NvidiaGpus) -> dict[str, Operation]:
    """What the service does, for `local.serve`."""

    def set_ready(ready: bool) -> list[bytes]:
        gpus.set_ready(ready)
        return []

    every: dict[str, Operation] = {
        "devices": lambda _: [device.encode() for device in gpus.devices()],
        "evidence": lambda nonce: [item.encode() for item in gpus.evidence(nonce)],
        "ready": lambda _: set_ready(True),
        "not-ready": lambda _: set_ready(False),
    }
    said: set[str] = set()
    return {name: _said_once(operation, said) for name, operation in every.items()}


def _said_once(operation: Operation, said: set[str]) -> Operation:
    """The operation, whose errors also go to the console, each code once."""

    def call(data: bytes) -> list[bytes]:
        try:
            return list(operation(data))
        except ConfideError as error:
            if error.code not in said:
                said.add(error.code)
                print(f"confide: {error}", file=sys.stderr, flush=True)
            raise

    return call


def main() -> None:
    """Serves until stopped."""
    every = operations(NvidiaGpus())
    with suppress(ConfideError):  # it has been said
        every["devices"](b"")
    with passed_socket() as listener:
        serve(listener, every)


if __name__ == "__main__":
    main()
