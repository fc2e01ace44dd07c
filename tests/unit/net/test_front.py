"""What strangers may do with their connections while honest requests are answered.

Over real sockets, with gunicorn in a process of its own.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from tests.support.front_server import SECONDS, SOON, THREADS, Server, read_until
from tests.support.small_server import MAX_BODY, MAX_WAITING


def ended(sock: socket.socket, seconds: float) -> bytes:
    """What the server says until it hangs up. Fails if it does not within this time."""
    sock.settimeout(seconds)
    said = b""
    while data := sock.recv(65536):
        said += data
    return said


BEGUN = {
    "silent": b"",
    "half a head": b"POST /length HTTP/1.1\r\nHost: a\r\nX-A: ",
    "half a small body": b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx",
    "only an empty line": b"\r\n\r\n",
}


@pytest.mark.parametrize("begun", ["silent", "half a head", "half a small body"])
def test_one_byte_now_and_then_holds_nothing(server: Server, begun: str) -> None:
    """Ten times as many as there are threads; each sends a byte twice a second."""
    server.require_answers()
    before = server.threads()
    stop = threading.Event()
    with ExitStack() as stack:
        slow = [stack.enter_context(server.connect(BEGUN[begun])) for _ in range(10 * THREADS)]

        def drip() -> None:
            while not stop.wait(0.5):
                for sock in slow:
                    with suppress(OSError):
                        sock.sendall(b"a")

        start = time.monotonic()
        dripping = threading.Thread(target=drip)
        if begun != "silent":
            dripping.start()
        try:
            while time.monotonic() < start + 1:
                server.require_answers()
                assert server.threads() <= before + 2
            # As a whole, not from byte to byte.
            for sock in slow:
                said = ended(sock, start + SECONDS + 6 - time.monotonic())
                assert (b" 408 " in said and b"incomplete-body" in said) == ("body" in begun)
        finally:
            stop.set()
            if begun != "silent":
                dripping.join()


def test_an_empty_line_holds_nothing(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(10 * THREADS):
            stack.enter_context(server.connect(BEGUN["only an empty line"]))
        server.require_answers()


def test_a_large_body_that_drips_is_cut_off(server: Server) -> None:
    head = f"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_BODY}\r\n\r\n".encode()
    start = time.monotonic()
    with server.connect(head) as slow:
        said = b""
        slow.settimeout(0.5)
        while time.monotonic() < start + SECONDS + 6 and not said:
            try:
                slow.sendall(b"x")
                said = slow.recv(65536)
            except TimeoutError:
                pass
        assert b" 408 " in said
        assert time.monotonic() - start >= SECONDS


def test_a_body_that_comes_steadily_has_time(server: Server) -> None:
    """Longer in all than the time for one that drips: each byte that came counts."""
    size = 512 * 1024
    with server.connect() as sock:
        start = time.monotonic()
        sock.sendall(f"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(8):
            time.sleep((SECONDS + 1) / 8)
            sock.sendall(bytes(size // 8))
        assert b" 200 " in read_until(sock, b'"length":%d' % size)
        assert time.monotonic() - start > SECONDS


def test_what_is_over_is_refused_at_once_and_the_others_run_on(server: Server) -> None:
    server.wait_for_places()
    begin = b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n30"
    with ExitStack() as stack:
        streams = [stack.enter_context(server.connect(begin)) for _ in range(THREADS)]
        for sock in streams:
            assert b" 200 " in sock.recv(65536)
        for _ in range(5):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            start = time.monotonic()
            connection.request("POST", "/length", body=b"1234")
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("Retry-After")) == (503, "2")
            assert json.loads(answer.read())["error"]["code"] == "busy"
            assert time.monotonic() - start < 1
            connection.close()
            # What is apart has threads of its own.
            for method, path in (("GET", "/healthz"), ("GET", "/list"), ("POST", "/hold")):
                status, _, seconds = server.call(method, path, b"0" if path == "/hold" else None)
                assert status == 200 and seconds < SOON
        for sock in streams:
            assert b"0\r\n\r\n" in read_until(sock, b"0\r\n\r\n")
    server.require_answers()


def test_large_bodies_have_room_for_so_many_bytes(server: Server) -> None:
    head = f"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_BODY}\r\n\r\n".encode()
    with server.connect(head) as first:
        first.sendall(bytes(MAX_BODY - 1))
        time.sleep(0.5)
        # By what it announces: none of this one is read.
        with server.connect(head) as second:
            answer = read_until(second, b'"busy"')
            assert b" 503 " in answer and b"Retry-After: 2" in answer
        server.require_answers()
        first.sendall(b"x")
        assert b" 200 " in first.recv(65536)
    status, _, _ = server.call("POST", "/length", bytes(MAX_BODY))
    assert status == 200


@pytest.mark.parametrize(("path", "status"), [("/length", 413), ("/unread", 403)])
def test_a_refusal_before_the_body_arrives(server: Server, path: str, status: int) -> None:
    """Nothing of the body is awaited, and the answer is not destroyed by what is still sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {2 * MAX_BODY}\r\n\r\n".encode()
    with server.connect(head) as sock:
        end = b"not wanted" if status == 403 else b"at most"
        assert f" {status} ".encode() in read_until(sock, end)
        sock.sendall(bytes(MAX_BODY))
        sock.sendall(bytes(MAX_BODY // 2))
        assert ended(sock, 10).count(b"HTTP/1.1") == 0


def test_two_requests_at_once_get_two_answers(server: Server) -> None:
    one = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    two = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd"
    with server.connect(one + two + two[:30]) as sock:
        said = read_until(sock, b'"length":4')
        assert said.count(b"HTTP/1.1 200") == 2 and b'"length":3' in said
        sock.sendall(two[30:])
        assert b'"length":4' in read_until(sock, b'"length":4')


def test_the_rest_of_an_unread_body_is_no_request(server: Server) -> None:
    """Else a body could hold a request that nobody in front has seen."""
    hidden = b"GET /list HTTP/1.1\r\nHost: a\r\n\r\n"
    body = hidden * 4000
    head = f"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server.connect(head + body[: len(hidden) * 40]) as sock:
        time.sleep(0.2)
        sock.sendall(body[len(hidden) * 40 :])
        said = ended(sock, 10)
    assert said.count(b"HTTP/1.1") == 1 and b" 403 " in said


def test_a_client_that_waits_for_leave_to_send(server: Server) -> None:
    head = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with server.connect(head) as sock:
        assert sock.recv(65536).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"abc")
        assert b'"length":3' in read_until(sock, b'"length":3')


def test_a_head_without_end(server: Server) -> None:
    with server.connect(b"GET /list HTTP/1.1\r\nX-A: " + b"a" * 40000) as sock:
        assert ended(sock, 10).startswith(b"HTTP/1.1 431 ")


def test_the_oldest_waiting_connection_goes_first(server: Server) -> None:
    with ExitStack() as stack:
        oldest = stack.enter_context(server.connect())
        time.sleep(0.1)
        for _ in range(MAX_WAITING + 10):
            newest = stack.enter_context(server.connect())
        assert ended(oldest, SOON) == b""
        newest.sendall(b"GET /list HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in read_until(newest, b"a list")


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_stalled_handshakes_hold_up_nobody(server: Server) -> None:
    """More than there are threads for TLS, each at another point of the handshake."""
    outgoing = ssl.MemoryBIO()
    hello = unverified().wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    whole = outgoing.read()
    address = ("127.0.0.1", server.tls_port)
    start = time.monotonic()
    with ExitStack() as stack:
        stalled = []
        for sent in (b"", whole[:1], whole[: len(whole) // 2], whole) * (MAX_WAITING // 4):
            stalled.append(stack.enter_context(socket.create_connection(address, timeout=20)))
            stalled[-1].sendall(sent)
        honest = http.client.HTTPSConnection(*address, timeout=20, context=unverified())
        for _ in range(2):  # the connection is kept
            honest.request("GET", "/list")
            assert honest.getresponse().read() == b"a list"
        honest.close()
        server.require_answers()
        assert time.monotonic() - start < SECONDS, "none of the others has ended yet"
        for sock in stalled[3:8]:
            with suppress(ConnectionResetError):
                ended(sock, SECONDS + 6)


def test_what_is_no_handshake_ends(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.tls_port), timeout=20) as sock:
        sock.sendall(b"GET /list HTTP/1.1\r\nHost: a\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"HTTP" not in ended(sock, SOON)
    server.require_answers()
