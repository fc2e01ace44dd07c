"""The folder of receipts: what lies where, and a full disk that is named before it costs."""

from __future__ import annotations

import json
import resource
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.receipts import Attested, ReceiptFolder, keep_nothing
from confide.client.service import Record
from confide.errors import ConfigError, UnavailableError
from confide.protocol.receipt import MAX_RECEIPT
from tests.support.kept import KeptService, keep
from tests.support.simulated_machine import NOW, SimulatedMachine, manifest_bytes


@pytest.fixture(scope="module")
def service() -> KeptService:
    return KeptService(SimulatedMachine("coordinator"), manifest_bytes(), now=NOW)


@pytest.fixture(scope="module")
def attested(service: KeptService) -> Attested:
    return service.attested()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes: the kernel refuses, as if full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_lies_where(tmp_path: Path, service: KeptService, attested: Attested) -> None:
    folder = tmp_path / "a" / "receipts"
    receipts = [service.receipt(), service.receipt()]
    paths = [keep(folder, attested, receipt) for receipt in receipts]
    record = (folder / attested.name / "attestation.cbor").read_bytes()
    assert sha256(record).hexdigest() == attested.name
    assert Record.parse(record) == attested.record
    assert (folder / attested.name / "manifest.json").read_bytes() == service.manifest
    verdict = json.loads((folder / attested.name / "verdict.json").read_text())
    assert verdict == {**attested.verdict.to_dict(), "time": NOW}
    assert [path.read_bytes() for path in paths] == receipts
    assert len(names(folder)) == 1 + 3 + len(receipts)
    assert {path.stat().st_mode & 0o077 for path in (folder, folder / attested.name)} == {0}


def test_an_attestation_is_stored_once_by_many_at_the_same_time(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    receipts = [service.receipt() for _ in range(16)]
    threads = [threading.Thread(target=keep, args=(tmp_path, attested, r)) for r in receipts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(tmp_path)) == 1 + 3 + len(receipts)


def test_space_that_is_not_used_is_given_back(tmp_path: Path, attested: Attested) -> None:
    with ReceiptFolder(tmp_path).reserve(attested):
        (reserved,) = (tmp_path / attested.name).glob(".*")
        assert reserved.stat().st_size == MAX_RECEIPT
    with (
        pytest.raises(ZeroDivisionError),
        ReceiptFolder(tmp_path).reserve(attested),
    ):
        raise ZeroDivisionError
    assert len(names(tmp_path)) == 1 + 3


def test_nothing_is_kept_unless_asked(attested: Attested) -> None:
    with keep_nothing(attested) as kept:
        kept(bytes(32), b"receipt")


@pytest.mark.parametrize("size", [0, 1000, MAX_RECEIPT - 1])
def test_a_disk_that_is_full_before_the_question(
    size: int, tmp_path: Path, attested: Attested
) -> None:
    """Whether it is full for the attestation already, or only for the receipt."""
    folder = ReceiptFolder(tmp_path)
    assert 1000 < len(attested.encoded) < MAX_RECEIPT
    with (
        files_of_at_most(size),
        pytest.raises(UnavailableError, match="so nothing was sent") as caught,
        folder.reserve(attested),
    ):
        pytest.fail("the question would be sent")
    assert caught.value.code == "receipt-not-kept"
    assert str(tmp_path) in caught.value.expected
    assert caught.value.seen == "File too large"
    # No part of an attestation, and no space without a receipt.
    assert len(names(tmp_path)) == (4 if size == MAX_RECEIPT - 1 else 0)


def test_a_folder_that_goes_away(tmp_path: Path, service: KeptService, attested: Attested) -> None:
    folder = ReceiptFolder(tmp_path / "receipts")
    with folder.reserve(attested) as kept:
        shutil.rmtree(tmp_path / "receipts")
        with pytest.raises(UnavailableError, match="the answer is not given out") as caught:
            kept(bytes(32), service.receipt())
    assert caught.value.code == "receipt-not-kept"
    with pytest.raises(UnavailableError, match="so nothing was sent"), folder.reserve(attested):
        pytest.fail("the question would be sent")


def test_an_attestation_that_was_taken_away(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    """No receipt is kept beside nothing."""
    path = keep(tmp_path, attested, service.receipt())
    path.with_name("attestation.cbor").unlink()
    with (
        pytest.raises(UnavailableError, match="Directory not empty"),
        ReceiptFolder(tmp_path).reserve(attested),
    ):
        pytest.fail("the question would be sent")


def test_a_disk_that_fills_up_meanwhile_has_the_space(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    with ReceiptFolder(tmp_path).reserve(attested) as kept, files_of_at_most(MAX_RECEIPT):
        kept(bytes(32), service.receipt())


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "receipts"):
        with pytest.raises(ConfigError) as caught:
            ReceiptFolder(folder)
        assert caught.value.code == "bad-receipts"
    with files_of_at_most(MAX_RECEIPT - 1), pytest.raises(ConfigError, match="File too large"):
        ReceiptFolder(tmp_path)
