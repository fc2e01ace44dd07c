"""The list of recorded vectors: its form, and that the folder in use has what it says."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.support import vectors as recorded
from tests.support.nvidia_vectors import (
    FILES,
    INVALID_SIGNATURE,
    SERIALIZED,
    SERIALIZED_SWITCHES,
    SWITCHES,
)
from tests.support.tdx_vectors import COLLATERAL, QUOTES
from tests.vectors import sources

LISTED = sources.read()
ENTRIES = (*LISTED.published, *LISTED.inputs, *LISTED.derived, *LISTED.unpublished)
TESTS = Path(__file__).resolve().parents[1]
FOREIGN = {"INDEX.md", sources.COMPLETE}  # what a folder may have besides

GOOD = {
    "path": "project/file.bin",
    "size": 3,
    "sha256": "ab" * 32,
    "repository": "owner/project",
    "commit": "01" * 20,
    "origin": "tests/file.bin",
    "license": "MIT",
}


def written(tmp_path: Path, **parts: object) -> Path:
    """A list with these parts; the others are empty."""
    path = tmp_path / "sources.json"
    value = {"published": [], "inputs": [], "derived": [], "unpublished": [], **parts}
    path.write_text(json.dumps(value))
    return path


def test_every_file_has_an_origin_or_a_reason() -> None:
    assert len(LISTED.published) > 250
    assert all(entry.license for entry in (*LISTED.published, *LISTED.inputs))
    assert all(entry.reason for entry in LISTED.unpublished)
    assert not any(entry.path.split("/")[0] == "inputs" for entry in LISTED.published)
    assert all(entry.path.split("/")[0] == "inputs" for entry in LISTED.inputs)


def texts(tree: ast.AST) -> Iterator[str]:
    """Each string in a program, without the pieces of f-strings."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif not isinstance(node, ast.JoinedStr):
            yield from texts(node)


def test_files_that_tests_name_are_listed() -> None:
    """Each text in a test that starts with a folder of the list is a file or folder of it."""
    paths = {entry.path for entry in ENTRIES}
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents} - {"."}
    named = {text for file in TESTS.rglob("*.py") for text in texts(ast.parse(file.read_text()))}
    tables = (FILES, SWITCHES, INVALID_SIGNATURE)
    pairs = {file for table in tables for pair in table.values() for file in pair}
    named |= {*QUOTES, *COLLATERAL, *SERIALIZED, *SERIALIZED_SWITCHES, *pairs}
    found = {text for text in named if "/" in text and text.split("/")[0] in folders}
    assert len(found) > 80
    assert found - paths - folders == set()


def test_the_folder_has_what_the_list_says(vectors: Path) -> None:
    for entry in (*LISTED.published, *LISTED.derived):
        assert entry.problem(entry.read(vectors)) is None, entry.path
    for entry in (*LISTED.inputs, *LISTED.unpublished):
        if (vectors / entry.path).exists():
            assert entry.problem(entry.read(vectors)) is None, entry.path


def test_the_folder_has_nothing_else(vectors: Path) -> None:
    files = {p.relative_to(vectors).as_posix() for p in vectors.rglob("*") if p.is_file()}
    assert files - FOREIGN - {entry.path for entry in ENTRIES} == set()


def test_a_valid_list(tmp_path: Path) -> None:
    read = sources.read(
        written(tmp_path, published=[GOOD, {**GOOD, "path": "project/more", "proven": False}])
    )
    assert [entry.proven for entry in read.published] == [True, False]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "../file"),
        ("path", "project/../../file"),
        ("path", "/etc/passwd"),
        ("path", "project//file"),
        ("path", "./file"),
        ("path", "project\\file"),
        ("path", "C:file"),
        ("path", ""),
        ("origin", "../../other/project/main/file"),
        ("size", -1),
        ("size", sources.MAX_SIZE + 1),
        ("size", True),
        ("size", "3"),
        ("sha256", "AB" * 32),
        ("sha256", "ab" * 31),
        ("commit", "main"),
        ("repository", "owner/project/more"),
        ("repository", "project"),
        ("license", ""),
        ("proven", "no"),
    ],
)
def test_a_malformed_field_is_refused(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(sources.SourcesError, match=rf"published\[0\]: {field} is"):
        sources.read(written(tmp_path, published=[{**GOOD, field: value}]))


OURS = {"path": GOOD["path"], "size": 3, "sha256": GOOD["sha256"]}


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("expected an object", {"more": []}),
        ("expected a list", {"derived": {}}),
        ("wrong fields", {"published": [OURS]}),
        ("wrong fields", {"published": [{**GOOD, "more": 1}]}),
        ("wrong fields", {"published": ["file"]}),
        ("wrong fields", {"unpublished": [OURS]}),
        ("order of their paths", {"published": [GOOD, {**GOOD, "path": "another"}]}),
        ("listed twice", {"published": [GOOD, GOOD]}),
        ("listed twice", {"published": [GOOD], "derived": [OURS]}),
    ],
)
def test_a_malformed_list_is_refused(
    tmp_path: Path, message: str, parts: dict[str, object]
) -> None:
    with pytest.raises(sources.SourcesError, match=message):
        sources.read(written(tmp_path, **parts))


def test_a_list_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sources.json").write_text("[")
    with pytest.raises(sources.SourcesError, match="is not JSON"):
        sources.read(tmp_path / "sources.json")


# --- Where tests look ----------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any vectors; gives the folder that `make vectors` would fill."""
    monkeypatch.delenv("CONFIDE_VECTORS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(recorded, "BESIDE", tmp_path / "shared" / "vectors")
    return tmp_path / "cache" / "confide" / "vectors"


def test_without_vectors_the_message_says_the_command(nowhere: Path) -> None:
    with pytest.raises(recorded.NoVectorsError, match="run `make vectors`") as raised:
        recorded.folder()
    assert str(nowhere) in str(raised.value)


def test_the_order_in_which_tests_look(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.BESIDE.mkdir(parents=True)
    nowhere.mkdir(parents=True)
    assert recorded.folder() == recorded.BESIDE  # nothing has been fetched yet
    (nowhere / sources.COMPLETE).write_text("of an older list\n")
    assert recorded.folder() == recorded.BESIDE
    LISTED.mark_complete(nowhere)
    assert recorded.folder() == nowhere
    monkeypatch.setenv("CONFIDE_VECTORS", str(nowhere.parent))
    assert recorded.folder() == nowhere.parent
    monkeypatch.setenv("CONFIDE_VECTORS", str(nowhere / "gone"))
    with pytest.raises(recorded.NoVectorsError, match="not a folder"):
        recorded.folder()


def test_only_a_file_that_is_not_published_skips(tmp_path: Path, nowhere: Path) -> None:
    recorded.BESIDE.mkdir(parents=True)
    entry = LISTED.unpublished[0]
    with (
        pytest.raises(
            pytest.skip.Exception, match=f"{entry.path} is not published: {entry.reason}"
        ),
        recorded.skipped_if_unpublished(),
    ):
        entry.read(recorded.folder())
    for absent in (recorded.folder() / LISTED.published[0].path, tmp_path / "another"):
        with pytest.raises(FileNotFoundError), recorded.skipped_if_unpublished():
            absent.read_bytes()
