"""Files that are given for a saved proof and are not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.client.service import read_proof
from confide.encoding.canonical import cbor_encode
from confide.errors import FormatError


@pytest.mark.parametrize(
    "data",
    [b"", b"%PDF-1.7", b"a text\n", bytes(4096), cbor_encode({"name": "x"}), cbor_encode([])],
)
def test_a_foreign_file_is_called_that(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_proof(path)
    assert caught.value.message == f"the file {path} is neither a saved proof nor evidence"
    assert "confide verify --save" in caught.value.expected
    assert caught.value.seen
