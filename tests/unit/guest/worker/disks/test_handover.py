"""The manifest's way to a root program, from a user that may be hostile."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from confide.errors import VerificationError
from confide.guest.worker.disks.handover import hand_over, take_over
from confide.protocol.launch import UNBOUND
from confide.protocol.manifest import MAX_MANIFEST, Manifest
from tests.support.simulated_machine import current_manifest

GENUINE = current_manifest()
BINDING = sha256(GENUINE).digest()


def test_manifest_arrives_and_no_file_is_no_manifest(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    assert take_over(BINDING, file) is None
    hand_over(Manifest.parse(GENUINE), file)
    taken = take_over(BINDING, file)
    assert taken is not None and taken.encode() == GENUINE
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def linked(file: Path) -> None:
    genuine = file.with_name("elsewhere")
    genuine.write_bytes(GENUINE)
    file.symlink_to(genuine)


def leased(file: Path) -> None:
    """Its owner is told before another one may open it, and could let that one wait."""
    file.write_bytes(GENUINE)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # how it is told
    fcntl.fcntl(os.open(file, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK)


def socket_there(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (linked, "symbolic links"),
        (os.mkfifo, "no regular file"),
        (Path.mkdir, "no regular file"),
        (socket_there, "No such device"),
        (leased, "unavailable"),
        (lambda file: file.write_bytes(b""), sha256().hexdigest()),
        (lambda file: file.write_bytes(GENUINE[:-1]), sha256(GENUINE[:-1]).hexdigest()),
        (lambda file: file.write_bytes(GENUINE + b"\n"), sha256(GENUINE + b"\n").hexdigest()),
        (lambda file: file.write_bytes(bytes(MAX_MANIFEST + 1)), "more than 1048576 bytes"),
    ],
    ids=["link", "pipe", "folder", "socket", "lease", "empty", "short", "long", "huge"],
)
def test_anything_else_than_the_manifest_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], seen: str
) -> None:
    file = tmp_path / "manifest.json"
    make(file)
    with pytest.raises(VerificationError) as caught:
        take_over(BINDING, file)
    assert caught.value.code == "other-manifest"
    assert BINDING.hex() in caught.value.expected
    assert seen in caught.value.seen


def test_machine_that_is_bound_to_nothing_takes_nothing_over(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_bytes(GENUINE)
    with pytest.raises(VerificationError):
        take_over(UNBOUND, file)


def test_file_that_changes_all_the_time_is_the_manifest_or_refused(tmp_path: Path) -> None:
    """What is parsed is what was hashed, whatever happens to the file meanwhile."""
    file, stop = tmp_path / "manifest.json", threading.Event()
    other = GENUINE.replace(b"tiny", b"evil")
    assert other != GENUINE
    file.write_bytes(GENUINE)

    def change() -> None:
        while not stop.is_set():
            for data in (other, GENUINE):
                with file.open("r+b") as written:
                    written.write(data)

    thread = threading.Thread(target=change)
    thread.start()
    taken = refused = 0
    try:
        while not (taken and refused) and taken + refused < 20_000:
            try:
                manifest = take_over(BINDING, file)
            except VerificationError:
                refused += 1
            else:
                assert manifest is not None and manifest.encode() == GENUINE
                taken += 1
    finally:
        stop.set()
        thread.join()
    assert taken and refused
