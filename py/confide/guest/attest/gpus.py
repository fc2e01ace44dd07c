"""A small service for the GPUs, because only root may let them take work.

`python -m confide.guest.attest.gpus` runs as root behind `SOCKET`, with CAP_SYS_ADMIN and no other
capability. NVIDIA's driver asks for it before it sets the ready state (RMCTRL_FLAGS_PRIVILEGED of
NV_CONF_COMPUTE_CTRL_CMD_SYSTEM_SET_GPUS_STATE; NV_IS_SUSER in nv-linux.h). Operations:

* "devices": one encoded `GpuDevice` per GPU.
* "evidence", data: the nonce: one encoded `GpuEvidence` per GPU.
* "ready": no items. Nothing takes it back but the end of the machine.

Each reason to refuse the GPUs goes to the console once, the first when the service starts.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from confide.encoding.console import say
from confide.errors import ConfideError
from confide.guest.attest.local import LocalService, Operation, passed_socket, serve
from confide.guest.attest.nvidia import NvidiaGpus
from confide.protocol.gpu import GpuDevice, GpuEvidence

SOCKET = Path("/run/confide/gpus.socket")


class RemoteGpus:
    """All GPUs of the machine, through the service at `path`. Thread-safe.

    Every method raises UnavailableError, whose code is the reason to refuse the GPUs ("gpu-service"
    if the service is unreachable), and FormatError for a malformed answer.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self._service = LocalService(path, "gpu-service")

    def devices(self) -> tuple[GpuDevice, ...]:
        """Every GPU with its certificates, in a fixed order."""
        return tuple(map(GpuDevice.parse, self._service.ask("devices")))

    def evidence(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        """Every GPU's signed report over this nonce of 32 bytes, in the order of `devices`."""
        return tuple(map(GpuEvidence.parse, self._service.ask("evidence", nonce)))

    def set_ready(self) -> None:
        """Allow the GPUs to take work."""
        self._service.ask("ready")


def operations(gpus: NvidiaGpus) -> dict[str, Operation]:
    """The operations of the service, for `local.serve`."""

    def set_ready(_: bytes) -> list[bytes]:
        gpus.set_ready()
        return []

    every: dict[str, Operation] = {
        "devices": lambda _: [device.encode() for device in gpus.devices()],
        "evidence": lambda nonce: [item.encode() for item in gpus.evidence(nonce)],
        "ready": set_ready,
    }
    said: set[str] = set()
    return {name: _said_once(operation, said) for name, operation in every.items()}


def _said_once(operation: Operation, said: set[str]) -> Operation:
    """The operation; its errors also go to the console, each code once."""

    def call(data: bytes) -> list[bytes]:
        try:
            return list(operation(data))
        except ConfideError as error:
            if error.code not in said:
                said.add(error.code)
                say(str(error))
            raise

    return call


def main() -> None:
    """Serve until stopped."""
    every = operations(NvidiaGpus())
    with suppress(ConfideError):  # it is on the console
        every["devices"](b"")
    with passed_socket() as listener:
        serve(listener, every)


if __name__ == "__main__":
    main()
