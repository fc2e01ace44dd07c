"""Small calls: every answer is bounded in bytes and in time."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from confide.errors import ConfigError, FormatError, UnavailableError, VerificationError
from confide.net.calls import Caller
from tests.support.peer import Peer
from tests.support.programs import free_port

Talk = Callable[[socket.socket], None]
MINUTE = timedelta(minutes=1)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n"


def code_of(caller: Caller, limit: int = 1 << 20) -> str:
    with pytest.raises((UnavailableError, FormatError)) as caught:
        caller.call("GET", "/", limit=limit)
    return caught.value.code


@contextmanager
def raw_peer(talk: Talk) -> Iterator[str]:
    """The URL of a peer that reads one request and then talks as `talk` does."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError), server.accept()[0] as connection:
            connection.recv(65536)
            talk(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
        thread.join()


def forever(
    piece: bytes, *, pause: float = 0.0, first: bytes = b""
) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return talk


def test_an_exchange(peer: Peer) -> None:
    peer.says("/a?b=c", b"answer", status=404, content_type="x/y")
    caller = Caller(peer.url + "/")
    answer = caller.call("POST", "/a?b=c", body=b"x", headers={"A": "b"})
    assert answer[:3] == (404, "x/y", b"answer")
    assert (answer.header("content-type"), answer.header("Other")) == ("x/y", "")
    method, path, headers, body = peer.seen[0]
    assert (method, path, body) == ("POST", "/a?b=c", b"x")
    assert headers["A"] == "b"
    assert headers["Accept-Encoding"] == "identity"


def test_chunks_and_bodies_until_the_end_of_the_connection(peer: Peer) -> None:
    peer.sends("/", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
    assert Caller(peer.url).call("GET", "/")[2] == b"ab"
    peer.sends("/", OK + b"\r\nbody")
    assert Caller(peer.url).call("GET", "/")[2] == b"body"


@pytest.mark.parametrize("url", ["", "ftp://h", "http://h/p", "http://u:p@h", "http://h:x"])
def test_bad_addresses(url: str) -> None:
    with pytest.raises(ConfigError):
        Caller(url)


def test_the_limit(peer: Peer) -> None:
    peer.says("/", b"x" * 100)
    assert len(Caller(peer.url).call("GET", "/", limit=100)[2]) == 100
    assert code_of(Caller(peer.url), limit=99) == "answer-too-large"


def test_an_endless_body_is_not_read_to_its_end() -> None:
    with raw_peer(forever(b"x" * 65536, first=OK + b"\r\n")) as url:
        assert code_of(Caller(url), limit=1000) == "answer-too-large"


def test_compression_is_not_undone(peer: Peer) -> None:
    """A small answer would become a large one."""
    peer.sends("/", OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
    assert Caller(peer.url).call("GET", "/")[2] == b"abc"


def test_an_unreachable_peer() -> None:
    assert code_of(Caller(f"http://127.0.0.1:{free_port()}")) == "peer-unreachable"


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\r\n",
        b"garbage\r\n\r\n",
        OK + b"Content-Length: 10\r\n\r\nshort",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_broken_answers(peer: Peer, wire: bytes) -> None:
    peer.sends("/", wire)
    assert code_of(Caller(peer.url)) == "peer-lost"
    assert len(peer.seen) == 1


def test_endless_header_lines() -> None:
    with raw_peer(forever(b"X: y\r\n", first=OK)) as url:
        assert code_of(Caller(url)) == "peer-lost"


@pytest.mark.parametrize(
    "talk",
    [
        forever(b"HTTP/1.1 100 Continue\r\n\r\n"),
        forever(b"x", pause=0.02, first=b"HTTP/1.1 200 OK\r\nX: "),
        forever(b"x", pause=0.02, first=OK + b"Content-Length: 100000\r\n\r\n"),
        forever(b"1\r\nx\r\n", pause=0.02, first=OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        forever(b"x", pause=0.02, first=OK + b"\r\n"),
    ],
    ids=["100-continue", "header", "body", "chunks", "until-the-end"],
)
def test_a_peer_that_never_comes_to_an_end(talk: Talk) -> None:
    with raw_peer(talk) as url:
        started = time.monotonic()
        assert code_of(Caller(url, read_seconds=5, total_seconds=0.4)) == "peer-timeout"
        assert time.monotonic() - started < 3


def test_a_tls_handshake_that_never_comes_to_an_end() -> None:
    with raw_peer(forever(b"\x16\x03\x03\x40\x00" + b"x", pause=0.02)) as url:
        caller = Caller(url.replace("http", "https"), read_seconds=5, total_seconds=0.4)
        assert code_of(caller) in ("peer-timeout", "peer-unreachable")


def test_a_peer_that_does_not_answer(peer: Peer) -> None:
    peer.answers["/"] = lambda _: time.sleep(0.5)
    assert code_of(Caller(peer.url, read_seconds=0.1)) == "peer-timeout"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_answers_like_others(peer: Peer, status: int) -> None:
    peer.sends("/", b"HTTP/1.1 %d M\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n" % status)
    assert Caller(peer.url).call("GET", "/")[0] == status
    assert len(peer.seen) == 1


def test_the_body_of_a_redirect_has_a_limit_too() -> None:
    head = b"HTTP/1.1 302 M\r\nLocation: /other\r\n\r\n"
    with raw_peer(forever(b"x" * 65536, first=head)) as url:
        assert code_of(Caller(url), limit=1000) == "answer-too-large"


def test_cookies_are_not_kept(peer: Peer) -> None:
    peer.sends("/", OK + b"Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    caller = Caller(peer.url)
    caller.call("GET", "/")
    caller.call("GET", "/")
    assert "Cookie" not in peer.seen[1][2]


def test_the_environment_plays_no_part(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.says("/", b"answer")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    for name, value in {
        "HOME": str(tmp_path),
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    assert Caller(peer.url).call("GET", "/")[2] == b"answer"
    assert "Authorization" not in peer.seen[0][2]


def test_headers_cannot_be_split(peer: Peer) -> None:
    with pytest.raises(ValueError):
        Caller(peer.url).call("GET", "/", headers={"A": "b\r\nC: d"})


def test_calls_side_by_side(peer: Peer) -> None:
    asked = threading.Barrier(4, timeout=5)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.wait()
        handler.wfile.write(OK + b"Content-Length: 1\r\n\r\na")

    peer.answers["/"] = answer
    caller = Caller(peer.url)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(caller.call("GET", "/")[2]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"a"] * 4


def test_nothing_is_left_behind(peer: Peer) -> None:
    peer.says("/", b"answer")
    caller = Caller(peer.url)
    caller.call("GET", "/")
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(10):
        caller.call("GET", "/")
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 2  # the server's ends


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - MINUTE)
        .not_valid_after(now + MINUTE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + made.public_bytes(Encoding.PEM))
    return file


@contextmanager
def tls_peer(certificate: Path, seen: list[bytes]) -> Iterator[int]:
    """The port of a TLS peer on loopback that answers once, and notes what it was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with (
            suppress(OSError),
            server.accept()[0] as plain,
            context.wrap_socket(plain, server_side=True) as connection,
        ):
            seen.append(connection.recv(65536))
            connection.sendall(OK + b"Content-Length: 1\r\n\r\na")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()
        thread.join()


def trusting(certificate: Path, *, names: bool) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = names
        return context

    return make


def test_the_context_alone_decides_whom_to_trust(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    seen: list[bytes] = []
    with tls_peer(certificate, seen) as port:
        assert code_of(Caller(f"https://localhost:{port}")) == "peer-unreachable"
    with tls_peer(certificate, seen) as port:
        caller = Caller(f"https://localhost:{port}", tls=trusting(certificate, names=True))
        assert caller.call("GET", "/")[2] == b"a"
    assert len(seen) == 1


def test_names_are_checked_if_the_context_says_so(certificate: Path) -> None:
    seen: list[bytes] = []
    with tls_peer(certificate, seen) as port:
        caller = Caller(f"https://127.0.0.1:{port}", tls=trusting(certificate, names=True))
        assert code_of(caller) == "peer-unreachable"
    with tls_peer(certificate, seen) as port:
        caller = Caller(f"https://127.0.0.1:{port}", tls=trusting(certificate, names=False))
        assert caller.call("GET", "/")[2] == b"a"
    assert len(seen) == 1


def test_a_peer_is_refused_before_it_gets_the_request(certificate: Path) -> None:
    def refuse(connection: ssl.SSLSocket) -> None:
        assert connection.getpeercert(binary_form=True)
        raise VerificationError("wrong-role", "not this one")

    seen: list[bytes] = []
    with tls_peer(certificate, seen) as port, pytest.raises(VerificationError):
        Caller(
            f"https://localhost:{port}",
            tls=trusting(certificate, names=True),
            check_peer=refuse,
        ).call("GET", "/")
    assert seen in ([], [b""])
