"""Fetching locked files: what a mirror may do wrong, and what must come of it."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import pwd
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import download
import fetch
import pytest

CONTENT = bytes(range(256)) * 4000
PATH = "pool/main/t/thing/thing_1.0~rc1+b2_amd64.deb"


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves `files`; knows ranges; `cut` bytes are left out of the first answer."""

    files: dict[str, bytes]
    cut = 0
    requests: list[tuple[str, str]]

    def do_GET(self) -> None:
        cls = type(self)
        range_header = self.headers.get("Range", "")
        cls.requests.append((self.path, range_header))
        body = cls.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(range_header[6:-1]) if range_header else 0
        self.send_response(206 if range_header else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : len(body) - cls.cut])
        cls.cut = 0

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("download.time.sleep", lambda seconds: None)
    Mirror.files, Mirror.requests, Mirror.cut = {}, [], 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def locked(content: bytes = CONTENT) -> download.File:
    digest = hashlib.sha256(content).hexdigest()
    return download.File("deb", "thing", "1.0~rc1+b2", PATH, len(content), digest)


def get(file: download.File, url: str, target: Path) -> download.Progress:
    progress = download.Progress(file.size, 1, quiet=True)
    mirrors = download.Mirrors((url,), (url + "/security",))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    download.download_deb(file, target, mirrors, opener, progress)
    return progress


def test_a_file_arrives_whole(mirror: str, tmp_path: Path) -> None:
    Mirror.files["/" + PATH.replace("+", "%2B")] = CONTENT
    progress = get(locked(), mirror, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert (progress.done, progress.finished) == (len(CONTENT), 1)
    assert not list(tmp_path.glob("*.part"))


def test_a_broken_connection_is_resumed_where_it_broke(mirror: str, tmp_path: Path) -> None:
    Mirror.files["/" + PATH.replace("+", "%2B")] = CONTENT
    Mirror.cut = 1000
    progress = get(locked(), mirror, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert [asked for _, asked in Mirror.requests] == ["", f"bytes={len(CONTENT) - 1000}-"]
    assert progress.done == len(CONTENT)


def test_an_earlier_run_is_resumed(mirror: str, tmp_path: Path) -> None:
    Mirror.files["/" + PATH.replace("+", "%2B")] = CONTENT
    (tmp_path / "x.part").write_bytes(CONTENT[:5000])
    get(locked(), mirror, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert Mirror.requests == [("/" + PATH.replace("+", "%2B"), "bytes=5000-")]


@pytest.mark.parametrize(
    "served",
    [CONTENT[:-1] + b"\0", CONTENT + b"\0", b"?" + CONTENT[1:]],
    ids=["last byte", "one more", "first byte"],
)
def test_another_file_is_refused(mirror: str, tmp_path: Path, served: bytes) -> None:
    Mirror.files["/" + PATH.replace("+", "%2B")] = served
    with pytest.raises(download.DownloadError, match="is not the locked file"):
        get(locked(), mirror, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_part_does_not_stay(mirror: str, tmp_path: Path) -> None:
    Mirror.files["/" + PATH.replace("+", "%2B")] = CONTENT
    (tmp_path / "x.part").write_bytes(b"?" * 5000)
    get(locked(), mirror, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_version_that_left_the_mirror_is_named_with_what_to_do(
    mirror: str, tmp_path: Path
) -> None:
    with pytest.raises(download.DownloadError) as caught:
        get(locked(), mirror, tmp_path / "x")
    for part in ("thing 1.0~rc1+b2", "404", "--debian-mirror URL", "make lock"):
        assert part in str(caught.value)


def test_security_updates_are_asked_of_the_security_archive_first() -> None:
    mirrors = download.Mirrors(("http://a/debian",), ("http://a/debian-security",))
    assert mirrors.candidates("pool/updates/main/x.deb")[0].startswith("http://a/debian-security/")
    assert mirrors.candidates("pool/main/x.deb")[0].startswith("http://a/debian/")


def deb(program: bytes | None) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        if program is not None:
            member = tarfile.TarInfo("./usr/bin/busybox")
            member.size = len(program)
            archive.addfile(member, io.BytesIO(program))
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", data.getvalue()),
    ]
    return b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode()
        + body
        + b"\n" * (len(body) % 2)
        for name, body in members
    )


def test_the_seed_is_one_executable(tmp_path: Path) -> None:
    (tmp_path / "b.deb").write_bytes(deb(b"program"))
    seed = fetch.unpack_seed(tmp_path / "b.deb", tmp_path)
    assert [path.relative_to(seed).as_posix() for path in seed.rglob("*")] == ["bin", "bin/busybox"]
    assert (seed / "bin/busybox").read_bytes() == b"program"
    assert (seed / "bin/busybox").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "content",
    [deb(None), b"!<arch>\n", b"not a package"],
    ids=["no busybox", "empty", "no archive"],
)
def test_a_package_without_the_seed_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.deb").write_bytes(content)
    with pytest.raises(download.DownloadError, match=r"b\.deb"):
        fetch.unpack_seed(tmp_path / "b.deb", tmp_path)


def test_big_wheels_are_asked_for_alone_and_pythons_apart() -> None:
    def wheel(name: str, size: int, python: str) -> download.File:
        return download.File("wheel", name, "1", f"{name}.whl", size, name * 64, python)

    files = [wheel("a", 10, "3.13"), wheel("b", fetch.BIG, "3.13"), wheel("c", 1, "3.11")]
    sources = {fetch.Source(f"/nix/store/x-{f.name}", f.sha256, False): f for f in files}
    batches = [sorted(f.name for f in b.values()) for b in fetch.batches_of_wheels(sources)]
    assert sorted(batches) == [["a"], ["b"], ["c"]]


def test_a_source_that_is_not_locked_is_an_error() -> None:
    source = fetch.Source("/nix/store/x-y.deb", "0" * 64, False)
    with pytest.raises(download.DownloadError, match=r"y\.deb .* is not in"):
        fetch.Lock(fetch.LOCK).file(source)


def test_the_lock_names_no_place() -> None:
    for path in fetch.LOCK.glob("*.json"):
        text = path.read_text()
        assert "://" not in text, path
        json.loads(text)


def test_downloads_go_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/some body")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert fetch.cache_directory() == Path("/cache/confide")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.cache_directory() == Path("/home/some body/.cache/confide")


def test_without_home_the_system_s_list_of_users_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container's user is often in no list: then the error says what to set."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert fetch.cache_directory().parts[-2:] == (".cache", "confide")

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(download.DownloadError, match="set HOME or XDG_CACHE_HOME"):
        fetch.cache_directory()
