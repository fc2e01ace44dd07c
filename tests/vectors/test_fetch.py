"""The program behind `make vectors`, against a server on this machine and with a copy at hand."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.vectors import derive, fetch, sources

COMMIT = "0123456789" * 4
CONTENT = {"a/one": b"first", "a/two words": b"second", "b": b""}
MADE, INPUT = b"made of an input", b"an input"


@dataclass
class Server:
    """Answers with `files`, by their path; counts what it is asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            if self.path not in state.files:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client has read enough
                self.wfile.write(state.files[self.path])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    yield state
    listener.shutdown()
    listener.server_close()
    thread.join()


def entry(path: str, data: bytes) -> sources.Entry:
    return sources.Entry(path, len(data), hashlib.sha256(data).hexdigest())


def published(path: str, data: bytes) -> sources.Published:
    of = entry(path, data)
    origin = f"tests/{path}"
    return sources.Published(of.path, of.size, of.sha256, "owner/name", COMMIT, origin, "MIT")


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> sources.Sources:
    """A list with three published files, one that is made, and one that is not published."""
    monkeypatch.setitem(derive.MAKERS, "made", lambda folder: b"made of " + read(folder, "given"))
    secret = sources.Unpublished("secret", 3, hashlib.sha256(b"our").hexdigest(), "ours")
    value = sources.Sources(
        tuple(published(path, data) for path, data in CONTENT.items()),
        (published("given", INPUT),),
        (entry("made", MADE),),
        (secret,),
        "ab" * 32,
    )
    monkeypatch.setattr(sources, "read", lambda: value)
    return value


@pytest.fixture
def full(server: Server) -> Server:
    """The server with every file where the list says."""
    for path, data in {**CONTENT, "given": INPUT}.items():
        server.files[f"/owner/name/{COMMIT}/tests/{path}".replace(" ", "%20")] = data
    return server


def read(folder: Path, path: str) -> bytes:
    return (folder / path).read_bytes()


def address(path: str) -> str:
    return f"/owner/name/{COMMIT}/tests/{path}"


def test_everything_is_fetched_checked_and_made(
    listed: sources.Sources, full: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main(["--to", str(tmp_path), "--base-url", f"{full.url}/", "--json"]) == 0
    assert {path: read(tmp_path, path) for path in CONTENT} == CONTENT
    assert read(tmp_path, "made") == MADE
    assert listed.is_complete(tmp_path) and not list(tmp_path.rglob("*.part"))
    out = capsys.readouterr()
    assert json.loads(out.out) == {
        "folder": str(tmp_path),
        "files": 4,
        "fetched": 4,
        "made": 1,
        "unpublished": 1,
        "problems": [],
    }
    assert "[3/3] b" in out.err


def test_what_is_there_and_right_is_not_fetched_again(
    listed: sources.Sources, full: Server, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(CONTENT["a/one"])
    (tmp_path / "a/two words").write_bytes(b"only half")
    (tmp_path / "b.part").write_bytes(b"of a run that was interrupted")
    result = fetch.fill(listed, tmp_path, None, full.url)
    assert (result.fetched, result.problems) == (3, [])
    assert address("a/one") not in full.asked
    assert read(tmp_path, "a/two words") == CONTENT["a/two words"]
    assert not list(tmp_path.rglob("*.part"))
    full.asked.clear()
    assert fetch.fill(listed, tmp_path, None, full.url).files == 4
    assert full.asked == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"fIrst", "its SHA-256 is"),
        (b"firs", "it has 4 bytes, 5 expected"),
        (b"first and more", "it has more than the 5 bytes expected"),
    ],
)
def test_a_wrong_file_is_not_kept(
    listed: sources.Sources, full: Server, tmp_path: Path, data: bytes, problem: str
) -> None:
    full.files[address("a/one")] = data
    result = fetch.fill(listed, tmp_path, None, full.url)
    assert len(result.problems) == 1 and result.problems[0].startswith(f"a/one: {problem}")
    assert not (tmp_path / "a/one").exists() and not listed.is_complete(tmp_path)
    full.files[address("a/one")] = CONTENT["a/one"]
    assert fetch.fill(listed, tmp_path, None, full.url).problems == []


def test_reading_stops_one_byte_after_the_size(full: Server, tmp_path: Path) -> None:
    """An answer without an end does not fill the memory."""
    full.files[address("b")] = bytes(64 << 20)
    assert fetch._download(full.url, published("b", b"xy")) == bytes(3)


def test_an_absent_file_is_named_with_its_address(
    listed: sources.Sources, full: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del full.files[address("b")]
    assert fetch.main(["--to", str(tmp_path), "--base-url", full.url]) == 1
    out = capsys.readouterr()
    assert f"vectors: b: {full.url}{address('b')}: HTTP Error 404" in out.err
    assert "nobody has proven" not in out.err
    assert read(tmp_path, "a/one") == CONTENT["a/one"]  # the others are kept


def test_an_origin_that_was_not_proven_is_said_to_be(full: Server) -> None:
    with pytest.raises(fetch.FetchError, match="nobody has proven"):
        fetch._download(full.url, replace(published("gone", b""), proven=False))


def test_it_stops_after_three_problems(listed: sources.Sources, tmp_path: Path) -> None:
    """A server that cannot be reached is not asked for three hundred files."""
    many = tuple(published(f"{number:03}", b"x") for number in range(300))
    result = fetch.fill(replace(listed, published=many), tmp_path, None, "http://127.0.0.1:9")
    assert fetch.ENOUGH <= len(result.problems) < fetch.ENOUGH + fetch.PARALLEL


def test_a_copy_at_hand(listed: sources.Sources, tmp_path: Path) -> None:
    """What it has of our own files is taken too, so that no input is needed to make them."""
    copy, folder = tmp_path / "copy", tmp_path / "folder"
    for path, data in {**CONTENT, "made": MADE, "secret": b"our", "more": b"ignored"}.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(data)
    result = fetch.fill(listed, folder, copy, fetch.GITHUB)
    assert (result.files, result.fetched, result.made, result.unpublished) == (5, 5, 0, 0)
    assert listed.is_complete(folder) and not (folder / "more").exists()


@pytest.mark.parametrize("path", ["a/one", "made", "secret"])
def test_a_wrong_file_in_a_copy(listed: sources.Sources, tmp_path: Path, path: str) -> None:
    copy, folder = tmp_path / "copy", tmp_path / "folder"
    for name, data in {**CONTENT, "made": MADE, "secret": b"our", path: b"wrong"}.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(data)
    result = fetch.fill(listed, folder, copy, fetch.GITHUB)
    assert [problem.split(":")[0] for problem in result.problems] == [path]
    assert not (folder / path).exists() and not listed.is_complete(folder)


def test_an_incomplete_copy(listed: sources.Sources, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    result = fetch.fill(listed, tmp_path / "folder", copy, fetch.GITHUB)
    assert {problem.split(": [")[0] for problem in result.problems} == {
        f"{path}: not in the copy at hand" for path in CONTENT
    }


def test_a_derived_file_that_comes_out_wrong(
    listed: sources.Sources, full: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(derive.MAKERS, "made", lambda folder: b"made of another ")
    (problem,) = fetch.fill(listed, tmp_path, None, full.url).problems
    assert problem.startswith("made: made here, but its SHA-256 is")
    monkeypatch.delitem(derive.MAKERS, "made")
    (problem,) = fetch.fill(listed, tmp_path, None, full.url).problems
    assert "cannot make it" in problem and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--base-url", "file:///etc"],
        ["--from", "/nonexistent"],
        ["--from", ".", "--base-url", "http://127.0.0.1"],
    ],
)
def test_wrong_usage(listed: sources.Sources, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        fetch.main(arguments)
    assert raised.value.code == 2


def test_a_folder_that_cannot_be_written(
    listed: sources.Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main(["--to", "/dev/null/folder", "--from", "."]) == 1
    assert "/dev/null/folder cannot be filled: " in capsys.readouterr().err


def test_a_list_that_leads_out_of_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {**vars(published("a", b"x")), "path": "../escape"}
    value = {"published": [bad], "inputs": [], "derived": [], "unpublished": []}
    path = tmp_path / "sources.json"
    path.write_text(json.dumps(value))
    monkeypatch.setattr(sources.read, "__defaults__", (path,))
    with pytest.raises(SystemExit) as raised:
        fetch.main(["--to", str(tmp_path / "in"), "--from", str(tmp_path)])
    assert raised.value.code == 2 and "'../escape'" in capsys.readouterr().err
    assert not (tmp_path / "in").exists()
