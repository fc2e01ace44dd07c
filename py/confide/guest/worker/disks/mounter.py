"""The disk mounter: opens the model disks that a manifest names.

It is the program `python -m confide.guest.worker.disks.mounter`.

Rules:

* The root hash identifies a disk. Serial numbers only say where to look. The host may swap or
  change disks at any time, so the kernel checks each block whenever it reads it.
* Nothing is mounted before the role program has joined the mesh and handed the manifest over, and
  only what the manifest names that this machine was launched for (handover.py).
* The program is ready once every configured model is open. Then the engines' unit starts. When the
  program ends, the machine powers off: after a wrong disk, or a wrong block while it serves.

It runs as root, because it makes devices and mounts. It has no network and listens on no socket.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from confide.encoding import console
from confide.errors import ConfideError, ConfigError, PolicyError, VerificationError
from confide.guest.binding import read_binding
from confide.guest.mesh.config import read_config
from confide.guest.worker.disks import verity
from confide.guest.worker.disks.handover import take_over
from confide.guest.worker.engine.models_file import MODELS_FILE, ServedModel, encode_models
from confide.guest.worker.engine.place import FOLDERS
from confide.guest.worker.role import read_role
from confide.protocol.hash_tree import BLOCK, root_hash
from confide.protocol.manifest import Manifest
from confide.protocol.model import Model

SERIAL_PREFIX = "confide-model-"
MOUNTS = Path("/run/confide/models")
"""The first model's disk is mounted at MOUNTS/1. An engine's unit shows it its own disk only."""

POLL_SECONDS = 2.0
"""Seconds between two checks for a wrong block."""

WAIT_SECONDS = 0.2
"""Seconds between two looks for the manifest."""

_SMALL = b"mode=0755,size=64k,nr_inodes=16"
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MNT_DETACH = 1, 2, 4, 8, 2


class System(Protocol):
    """What opening a disk needs from the machine. Tests have their own."""

    def model_disks(self) -> Sequence[Path]:
        """Devices whose serial number starts with SERIAL_PREFIX."""

    def size(self, device: Path) -> int:
        """Size of a device in bytes."""

    def read(self, device: Path, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer at the end of the device."""

    def open_verity(self, name: str, table: str) -> Path:
        """Make a read-only device-mapper device. Returns its path."""

    def close_verity(self, name: str) -> None:
        """Remove such a device as soon as it is unused."""

    def verity_status(self, name: str) -> str:
        """The status line of such a device."""

    def mount(self, device: Path, target: Path) -> None:
        """Mount erofs read-only. Raises OSError."""

    def mount_small(self, target: Path) -> None:
        """Mount an empty file system in memory, for a few small files. Raises OSError."""

    def unmount(self, target: Path) -> None:
        """Unmount, also while the mount is in use."""


@dataclass(frozen=True)
class OpenModel:
    """A model whose files are at `path`, under the device-mapper name `device_name`."""

    model: Model
    path: Path
    device_name: str

    def served(self) -> ServedModel:
        """What the engine needs to know about it."""
        model = self.model
        return ServedModel(model.name, self.path, model.root_hash, model.tasks, model.engine)


def choose_models(manifest: Manifest, names: Sequence[str], role: str) -> list[Model]:
    """The manifest's entries for `names`, in that order.

    Raises PolicyError for a model that the manifest does not have or that `role` may not serve,
    ConfigError if `names` is empty.
    """
    if not names:
        raise ConfigError(
            "no-models",
            "the config disk names no model for this worker",
            expected="at least one of the manifest's models",
        )
    models = [manifest.model(name) for name in names]
    for model in models:
        if role not in model.roles:
            raise PolicyError(
                "model-not-for-role",
                f"the manifest does not let a {role} serve the model {model.name}",
                expected=" or ".join(model.roles),
                seen=role,
            )
    return models


def find_disk(model: Model, system: System) -> Path:
    """The disk whose hash tree has the model's root hash.

    Raises VerificationError if no disk has it. The error lists the root hash of each disk.
    """
    seen = []
    need = verity.disk_size(model)
    for device in system.model_disks():
        size = system.size(device)
        if size < need:
            seen.append(f"{device.name}: {size} bytes, truncated or another disk")
            continue
        found = root_hash(system.read(device, model.hash_offset, BLOCK))
        if found == model.root_hash:
            return device
        seen.append(f"{device.name}: root hash {found.hex()}")
    raise VerificationError(
        "wrong-model-disk",
        f"no disk holds the model {model.name} of the manifest",
        expected=f"root hash {model.root_hash.hex()}, at least {need} bytes",
        seen=", ".join(seen) or f"no disk with a serial number {SERIAL_PREFIX}N",
        next="attach the disk that the manifest names",
    )


def open_model(model: Model, system: System, cleanup: ExitStack, target: Path) -> OpenModel:
    """Find, open and mount one model at `target`. `cleanup` undoes it.

    Raises VerificationError if the disk is not the manifest's or its first blocks are corrupt.
    """
    device = find_disk(model, system)
    name = f"model-{model.name}"
    mapped = system.open_verity(name, verity.table(model, str(device)))
    cleanup.callback(system.close_verity, name)
    target.mkdir(parents=True, exist_ok=True)
    try:
        system.mount(mapped, target)
    except OSError as error:
        raise VerificationError(
            "corrupt-model-disk",
            f"the disk of the model {model.name} cannot be mounted",
            expected=f"an erofs file system under root hash {model.root_hash.hex()}",
            seen=error.strerror or type(error).__name__,
            next="replace the disk: it does not hold the bytes that the manifest names",
        ) from error
    cleanup.callback(system.unmount, target)
    return OpenModel(model, target, name)


def make_folder(folder: Path, system: System, cleanup: ExitStack) -> None:
    """Mount the small file system of an engine: what it fills is its own. `cleanup` undoes it."""
    folder.mkdir(parents=True, exist_ok=True)
    system.mount_small(folder)
    cleanup.callback(system.unmount, folder)


def require_intact(models: Sequence[OpenModel], system: System) -> None:
    """Raise VerificationError if the kernel has seen a wrong block in one of the models."""
    for opened in models:
        if verity.is_corrupted(system.verity_status(opened.device_name)):
            raise VerificationError(
                "corrupt-model-disk",
                f"the disk of the model {opened.model.name} has a wrong block",
                expected=f"every block under root hash {opened.model.root_hash.hex()}",
                seen="dm-verity reports corruption",
                next="replace the disk and start this machine again",
            )


def wait_for_manifest(binding: bytes) -> Manifest:
    """The manifest of this machine, once it was handed over. Raises what `take_over` raises."""
    while (manifest := take_over(binding)) is None:
        time.sleep(WAIT_SECONDS)
    return manifest


class Linux:
    """The real System: sysfs, dmsetup and mount(2)."""

    def __init__(self, block: Path = Path("/sys/block"), devices: Path = Path("/dev")) -> None:
        self._block = block
        self._devices = devices

    def model_disks(self) -> Sequence[Path]:
        """See System. virtio disks have their serial number in /sys/block/*/serial."""
        found = []
        for serial in sorted(self._block.glob("*/serial")):
            # The host may put any bytes there.
            named = serial.read_text(errors="replace").strip()
            if re.fullmatch(re.escape(SERIAL_PREFIX) + "[0-9]{1,3}", named, re.ASCII):
                found.append(self._devices / serial.parent.name)
        return found

    def size(self, device: Path) -> int:
        """See System."""
        with device.open("rb") as file:
            return file.seek(0, os.SEEK_END)

    def read(self, device: Path, offset: int, length: int) -> bytes:
        """See System."""
        with device.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def open_verity(self, name: str, table: str) -> Path:
        """See System. Raises ConfigError with dmsetup's message."""
        _dmsetup("create", "--readonly", name, "--table", table)
        return Path("/dev/mapper", name)

    def close_verity(self, name: str) -> None:
        """See System."""
        _dmsetup("remove", "--deferred", name)

    def verity_status(self, name: str) -> str:
        """See System."""
        return _dmsetup("status", name)

    def mount(self, device: Path, target: Path) -> None:
        """See System."""
        flags = ctypes.c_ulong(_MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        _check(_libc().mount(bytes(device), bytes(target), b"erofs", flags, None))

    def mount_small(self, target: Path) -> None:
        """See System."""
        flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        _check(_libc().mount(b"engine", bytes(target), b"tmpfs", flags, _SMALL))

    def unmount(self, target: Path) -> None:
        """See System."""
        _check(_libc().umount2(bytes(target), _MNT_DETACH))


def _libc() -> ctypes.CDLL:
    # The image has no mount program.
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _dmsetup(*arguments: str) -> str:
    # There is no udev: dmsetup makes the node in /dev/mapper itself.
    done = subprocess.run(
        ["/usr/sbin/dmsetup", *arguments],
        env={"DM_DISABLE_UDEV": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise ConfigError(
            "device-mapper",
            f"dmsetup {arguments[0]} failed",
            expected="exit status 0",
            seen=f"{done.returncode}: {done.stderr.strip()[:200]}",
        )
    return done.stdout


def notify(message: str) -> None:
    """Tell systemd a state such as "READY=1", if it started this program (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)


def say(text: str) -> None:
    """One line on the console."""
    console.say(text, program="confide-disks")


def run(system: System) -> None:
    """Open every configured model, report ready, then watch. Ends by an exception only."""
    manifest = wait_for_manifest(read_binding())
    role, config = read_role(), read_config()
    with ExitStack() as cleanup:
        models = choose_models(manifest, config.models, role)
        opened = [
            open_model(model, system, cleanup, MOUNTS / str(number))
            for number, model in enumerate(models, 1)
        ]
        require_intact(opened, system)
        for number in range(1, len(opened) + 1):
            make_folder(FOLDERS / str(number), system, cleanup)
        MODELS_FILE.write_bytes(encode_models([m.served() for m in opened]))
        for model in opened:
            say(f"model {model.model.name} is at {model.path}; each read is verified")
        notify("READY=1")
        while True:
            time.sleep(POLL_SECONDS)
            require_intact(opened, system)


def main() -> int:
    """Run on this machine. Returns 1 after an error, which is printed."""
    try:
        run(Linux())
    except ConfideError as error:
        say(f"{error.code}: {error}")
    except (OSError, subprocess.SubprocessError) as error:
        # A disk of the host's that cannot be read, or that takes too long.
        say(f"{type(error).__name__}: {error}")
    say("the machine powers off")
    return 1


if __name__ == "__main__":
    sys.exit(main())
