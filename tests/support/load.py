"""What measurements send: kept-alive connections that do as little as they can, many at once."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

PATH = "/v1/chat/completions"
HEADERS = {"Content-Type": "application/json"}


def body_of(words: str, *, stream: bool, **options: object) -> bytes:
    messages = [{"role": "user", "content": words}]
    request = {"model": "tiny", "messages": messages, "stream": stream, **options}
    return json.dumps(request).encode()


class Client:
    """One connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def call(self, body: bytes) -> tuple[float, bytes]:
        """Seconds from the first byte sent to the last byte read, and the answer."""
        start = time.perf_counter()
        response = self._request(body)
        answer = response.read()
        return time.perf_counter() - start, answer

    def stream(self, body: bytes, seen: Callable[[bytes], None]) -> None:
        """Hand over what each read brings."""
        response = self._request(body)
        while piece := response.read1(65536):
            seen(piece)

    def _request(self, body: bytes) -> http.client.HTTPResponse:
        self._connection.request("POST", PATH, body=body, headers=HEADERS)
        response = self._connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {response.read()[:500]!r}")
        return response

    def close(self) -> None:
        self._connection.close()


def at_once(count: int, run: Callable[[int], None]) -> float:
    """Run `run(number)` in `count` threads; seconds until all have ended."""
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start
