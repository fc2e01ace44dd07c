"""What vendors said, and when they refused to, on disk.

One file per entry, replaced as a whole, so that programs which share the folder never see half of
one; a digest in front, so that a damaged file counts as none. The cache is trusted with nothing,
and it is not needed: where it cannot be read or written, vendors are asked more often.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from confide.encoding.messages import CborMessage
from confide.errors import FormatError
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item
from measure.kinds import Integer, Text

MAX_FILES = 1024
MAX_BYTES = 64 << 20
MAX_REASON = 500
_DIGEST_SIZE = hashlib.sha256().digest_size


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """$XDG_CACHE_HOME/confide/collateral (XDG Base Directory Specification 0.8).

    A variable that does not hold an absolute path counts as unset.
    """
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path(environment.get("HOME") or "/nonexistent") / ".cache"
    return base / "confide" / "collateral"


@dataclass(frozen=True)
class Refusal(CborMessage, what="the refusal"):
    """Why a vendor was not to be asked again before `until` (unix seconds)."""

    until: Annotated[int, Integer()]
    reason: Annotated[str, Text(MAX_REASON)]


class Cache:
    """Items by name, and refusals by name or vendor, in a folder that only the user can read.

    What was put in is also remembered by the object itself. `report` gets one line if the folder is
    of no use. Nothing is touched before the first call, and nothing raises.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        self._folder = folder
        self._report = report
        self._works = True
        self._memory: dict[str, bytes] = {}

    def get(self, name: str) -> Item | None:
        """The item of this name, however old; None if there is none that can be read."""
        data = self._read(f"item {name}")
        try:
            return Bundle.parse(data).get(name) if data else None
        except FormatError:
            return None

    def put(self, name: str, item: Item) -> None:
        """Keep the item, in the place of the one before."""
        self._write(f"item {name}", Bundle({name: item}).encode())

    def drop(self, name: str) -> None:
        """Forget the item of this name."""
        self._memory.pop(f"item {name}", None)
        with contextlib.suppress(OSError):
            self._path(f"item {name}").unlink()

    def refusal(self, what: str) -> Refusal | None:
        """The last refusal of an item or vendor, however long ago."""
        data = self._read(f"refusal {what}")
        try:
            return Refusal.parse(data or b"")
        except FormatError:
            return None

    def refuse(self, what: str, refusal: Refusal) -> None:
        """Remember a refusal."""
        short = Refusal(refusal.until, refusal.reason[:MAX_REASON])
        self._write(f"refusal {what}", short.encode())

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _read(self, key: str) -> bytes | None:
        if key in self._memory:
            return self._memory[key]
        try:
            with self._path(key).open("rb") as file:
                data = file.read(_DIGEST_SIZE + MAX_BUNDLE)
        except OSError:
            return None
        digest, content = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
        return content if hashlib.sha256(content).digest() == digest else None

    def _write(self, key: str, content: bytes) -> None:
        if len(self._memory) >= MAX_FILES:
            self._memory.clear()
        self._memory[key] = content
        if not self._works:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(file.name).replace(self._path(key))
            self._prune()
        except OSError as error:
            self._works = False
            self._report(
                f"collateral is not kept: {self._folder} cannot be written ({error.strerror})"
            )

    def _prune(self) -> None:
        """Remove the oldest files, halves that a killed program left among them."""
        files = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another program prunes too
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        files.sort(reverse=True)
        size = 0
        for number, (_, length, path) in enumerate(files, 1):
            size += length
            if number > MAX_FILES or size > MAX_BYTES:
                path.unlink(missing_ok=True)
