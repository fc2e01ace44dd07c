"""guest/binding.py: only 32 bytes are a binding."""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.guest.binding import read_binding


def test_binding_is_read(tmp_path: Path) -> None:
    (tmp_path / "binding").write_bytes(b"\1" * 32)
    assert read_binding(tmp_path / "binding") == b"\1" * 32


@pytest.mark.parametrize("size", [None, 0, 31, 33])
def test_anything_else_is_no_binding(tmp_path: Path, size: int | None) -> None:
    if size is not None:
        (tmp_path / "binding").write_bytes(bytes(size))
    with pytest.raises(ConfigError, match="does not know the manifest") as caught:
        read_binding(tmp_path / "binding")
    assert caught.value.code == "no-binding"
