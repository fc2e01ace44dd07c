"""Many clients of the proxies, each with one request at a time, and what each request came to.

The fake engine's answer follows from its name and the prompt, so an answer to another prompt shows.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from tests.support.fake_engine import digest_words
from tests.support.simulated_machine import MODEL

PATH = "/v1/chat/completions"
SECRET = "prompt-of-client"
"""Begins the secret part of each prompt. No log may have it, nor the engine's word "said-"."""

PATIENCE_SECONDS = 90.0
"""How long a client waits for the next byte."""

THINK_SECONDS = 4.0
"""At most between two requests of a client."""


class Result(Enum):
    """What a client got."""

    ANSWERED = "the right answer"
    REFUSED = "an error"
    BROKEN = "the beginning of the right answer, and an error"
    CUT = "the end of the connection, without an error"
    SILENT = "nothing for a long time"
    WRONG = "something else"


@dataclass(frozen=True)
class Request:
    """One request and its outcome. Times are monotonic seconds."""

    prompt: str
    proxy: str
    streams: bool
    began: float
    ended: float
    result: Result
    status: int = 0
    code: str = ""
    engine: str = ""
    said: str = ""

    def shown(self, start: float) -> str:
        """One line about it; times are seconds since `start`."""
        kind = "stream" if self.streams else "whole"
        times = f"{self.began - start:.1f} to {self.ended - start:.1f} s"
        outcome = f"{self.result.value}, HTTP {self.status} {self.code} {self.engine} {self.said}"
        return f"{self.prompt.split()[-1]} ({kind}, {self.proxy}, {times}): {outcome}"


class Clients:
    """`count` clients, spread over the proxies. They ask until `stop`."""

    def __init__(self, proxies: dict[str, str], count: int, seed: int) -> None:
        """`proxies` are their URLs by name."""
        self._proxies = list(proxies.items())
        self.count = count
        self._seed = seed
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.requests: list[Request] = []
        self._threads = [
            threading.Thread(target=self._ask_always, args=(number,), daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Request]:
        """End all clients, each after its present request; returns all requests."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return list(self.requests)

    def wait_for(self, more: int, seconds: float) -> None:
        """Wait until so many more requests have ended, or this time is over."""
        with self._changed:
            wanted = len(self.requests) + more
            self._changed.wait_for(lambda: len(self.requests) >= wanted, seconds)

    def wait_for_everyone(self, since: float, seconds: float) -> list[int]:
        """Wait until each client has an answer to a request that began after `since`.

        Returns the clients that had none in time.
        """

        def missing() -> list[int]:
            answered = {
                client_of(request)
                for request in self.requests
                if request.began >= since and request.result is Result.ANSWERED
            }
            return [number for number in range(self.count) if number not in answered]

        with self._changed:
            self._changed.wait_for(lambda: not missing(), seconds)
            return missing()

    def _ask_always(self, client: int) -> None:
        chance = random.Random(f"{self._seed} {client}")
        proxy, url = self._proxies[client % len(self._proxies)]
        number = 0
        while not self._stop.wait(chance.uniform(0, THINK_SECONDS)):
            number += 1
            streams = chance.random() < 0.6
            pace = f"late={chance.uniform(0, 0.3):.2f} gap={chance.uniform(0, 0.3):.2f}"
            prompt = f"digest events=6 {pace} {SECRET}-{client}-{number}"
            request = ask(proxy, url, prompt, streams=streams)
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()


def client_of(request: Request) -> int:
    """The number of the client that made it."""
    return int(request.prompt.rsplit("-", 2)[1])


def ask(proxy: str, url: str, prompt: str, *, streams: bool) -> Request:
    """Ask once, and judge the bytes that come."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, PATIENCE_SECONDS)
    began = time.monotonic()
    status = 0
    words: list[str] = []

    def result(what: Result, code: str = "", said: str = "") -> Request:
        engine = words[0].strip() if words else ""
        return Request(
            prompt, proxy, streams, began, time.monotonic(), what, status, code, engine, said
        )

    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "stream": streams,
    }
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", PATH, body=json.dumps(body), headers=headers)
        response = connection.getresponse()
        status = response.status
        if status != 200:
            error = json.loads(response.read())["error"]
            return result(Result.REFUSED, str(error["code"]), str(error["message"]))
        if not streams:
            text = json.loads(response.read())["choices"][0]["message"]["content"]
            words += [f"{word} " for word in text.split()]
            whole = _is_right(words, prompt, whole=True)
            return result(Result.ANSWERED if whole else Result.WRONG, said="" if whole else text)
        for event in _events(response):
            if event == "[DONE]":
                whole = _is_right(words, prompt, whole=True)
                return result(Result.ANSWERED if whole else Result.WRONG, said="".join(words))
            value = json.loads(event)
            if "error" in value:
                right = _is_right(words, prompt, whole=False)
                what = Result.BROKEN if right else Result.WRONG
                return result(what, str(value["error"]["code"]), str(value["error"]["message"]))
            words.append(value["choices"][0]["delta"]["content"])
        return result(Result.CUT, said="the stream has no end")
    except TimeoutError:
        return result(Result.SILENT)
    except (OSError, http.client.HTTPException) as error:
        return result(Result.CUT, said=type(error).__name__)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return result(Result.WRONG, said=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[str]:
    while line := response.readline():
        if line.startswith(b"data: "):
            yield line[6:].decode().strip()


def _is_right(words: Sequence[str], prompt: str, *, whole: bool) -> bool:
    """Whether these are the words of an engine for this prompt, or its first words."""
    if not words:
        return not whole
    expected = digest_words(words[0].strip(), prompt, 5)
    return list(words) == (expected if whole else expected[: len(words)])
