"""The cache: shared by programs, bounded, private, and never believed."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from confide.client.collateral import cache as module
from confide.client.collateral.cache import MAX_REASON, Cache, Refusal, default_folder
from confide.protocol.collateral import Item

NAME = "amd/milan/crl"
ITEM = Item(b"data", 1, b"chain", b"nonce")


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "b"


def opened(folder: Path, reports: list[str]) -> Cache:
    """As another program opens it: nothing is in memory."""
    return Cache(folder, reports.append)


def test_what_is_kept(folder: Path, reports: list[str]) -> None:
    cache = opened(folder, reports)
    assert cache.get(NAME) is None
    assert not folder.exists()
    cache.put(NAME, ITEM)
    for reader in (cache, opened(folder, reports)):
        assert reader.get(NAME) == ITEM
        assert reader.get("amd/genoa/crl") is None
        assert reader.refusal(NAME) is None
    cache.drop(NAME)
    cache.drop(NAME)
    assert cache.get(NAME) is None
    assert opened(folder, reports).get(NAME) is None
    assert reports == []


def test_refusals(folder: Path, reports: list[str]) -> None:
    opened(folder, reports).refuse(NAME, Refusal(7, "x" * 2 * MAX_REASON))
    assert opened(folder, reports).refusal(NAME) == Refusal(7, "x" * MAX_REASON)
    assert opened(folder, reports).get(NAME) is None


def test_only_the_user_can_read_it(folder: Path, reports: list[str]) -> None:
    old = os.umask(0)
    try:
        opened(folder, reports).put(NAME, ITEM)
    finally:
        os.umask(old)
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_damage_counts_as_nothing(folder: Path, reports: list[str]) -> None:
    opened(folder, reports).put(NAME, ITEM)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    damaged = [whole[:n] for n in (0, 1, 31, 32, len(whole) - 1)] + [whole + b"\0", b"garbage" * 9]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for data in damaged:
        file.write_bytes(data)
        assert opened(folder, reports).get(NAME) is None
        assert opened(folder, reports).refusal(NAME) is None
    opened(folder, reports).put(NAME, ITEM)
    assert opened(folder, reports).get(NAME) == ITEM
    assert reports == []


def test_a_file_of_another_item_counts_as_nothing(folder: Path, reports: list[str]) -> None:
    cache = opened(folder, reports)
    cache.put(NAME, ITEM)
    (file,) = folder.iterdir()
    cache.put("amd/genoa/crl", ITEM)
    (other,) = set(folder.iterdir()) - {file}
    other.write_bytes(file.read_bytes())
    assert opened(folder, reports).get("amd/genoa/crl") is None


def test_a_folder_in_the_place_of_a_file(folder: Path, reports: list[str]) -> None:
    opened(folder, reports).put(NAME, ITEM)
    (file,) = folder.iterdir()
    file.unlink()
    file.mkdir()
    cache = opened(folder, reports)
    assert cache.get(NAME) is None
    for _ in range(2):
        cache.put(NAME, ITEM)
    assert cache.get(NAME) == ITEM
    assert len(reports) == 1


def test_the_oldest_go_first(
    folder: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 4)
    cache = opened(folder, reports)
    for number in range(8):
        cache.put(f"nvidia/rim/{number}", ITEM)
        for file in folder.iterdir():
            os.utime(file, (file.stat().st_mtime - 10,) * 2)
    kept = [n for n in range(8) if opened(folder, reports).get(f"nvidia/rim/{n}")]
    assert kept == [4, 5, 6, 7]
    assert len(list(folder.iterdir())) == 4


def test_bytes_are_bounded(
    folder: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 5000)
    cache = opened(folder, reports)
    for number in range(8):
        cache.put(f"nvidia/rim/{number}", Item(bytes(1000), 0))
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 5000
    assert opened(folder, reports).get("nvidia/rim/7") is not None


def test_many_writers_and_readers(folder: Path, reports: list[str]) -> None:
    """A reader gets one of the values that were written, whole, while others replace and remove."""
    items = [Item(bytes([n]) * 20_000, n) for n in range(8)]

    def write(number: int) -> None:
        cache = opened(folder, reports)
        for turn in range(15):
            cache.put(NAME, items[number])
            cache.put(f"nvidia/rim/{number}-{turn}", items[number])

    def read(_: int) -> None:
        for _turn in range(40):
            assert opened(folder, reports).get(NAME) in items

    write(0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: (write if n % 2 else read)(n), range(8)))
    assert reports == []
    assert all(len(path.name) == 64 for path in folder.iterdir())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/confide/collateral"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/confide/collateral"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/confide/collateral"),
        ({}, "/nonexistent/.cache/confide/collateral"),
    ],
)
def test_where_it_is(environment: dict[str, str], expected: str) -> None:
    assert default_folder(environment) == Path(expected)
