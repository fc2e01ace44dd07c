"""Clients of one service that is verified once: each has keys, shares and choices of its own."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from hashlib import sha256

from confide.client.collateral.finder import offline
from confide.client.proxy.completions import Completions
from confide.client.proxy.gateway import Gateway
from confide.client.proxy.handshake import Established, Handshake
from confide.client.proxy.session import Session
from confide.client.receipts import keep_nothing
from confide.client.service_verdict import ServiceVerdict
from confide.net.calls import Caller
from confide.net.disconnect import DisconnectWatch
from confide.net.http_client import Upstream

PATH = "/v1/chat/completions"
PATIENCE_SECONDS = 180.0
"""For some answers of emulated machines."""


class Clients:
    """What the proxy is made of, without its program: so that a new client costs no quote."""

    def __init__(self, gateway: str, manifest: bytes) -> None:
        self.verdict = ServiceVerdict()
        self._gateway = Gateway(
            Caller(gateway), api_key="", manifest_sha256=sha256(manifest).digest()
        )
        self._upstream = Upstream(gateway)
        self._handshake = Handshake(
            self._gateway, manifest=manifest, find_collateral=offline(), clock=time.time
        )
        self._session = Session(self.verify)

    def verify(self) -> Established:
        """One handshake; `verdict` then has its checks, also if one failed."""

        def report(found: ServiceVerdict) -> None:
            self.verdict = found

        return self._handshake.run(report)

    def new(self) -> Client:
        """A client that has never asked anything."""
        return Client(
            Completions(self._session, self._upstream, self._gateway, reserve_receipt=keep_nothing)
        )


class Client:
    """One client, which an app asks."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    def ask(self, model: str, text: str = "Who can read this?") -> str:
        """The answer, opened, with a receipt that was verified. Raises as `complete`."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        with ExitStack() as stack:
            reply = self._completions.complete(
                PATH, json.dumps(body).encode(), DisconnectWatch(), stack
            )
            whole = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
        answer = json.loads(whole)
        assert reply.status == 200, answer
        return str(answer["choices"][0]["message"]["content"])


class Asking:
    """Two apps that ask all the time, each request by a client, and so with a key, of its own."""

    def __init__(self, clients: Clients, model: str) -> None:
        self._clients, self._model = clients, model
        self._lock, self._stop = threading.Lock(), threading.Event()
        self.answers: list[str] = []
        self.errors: list[Exception] = []

    def __enter__(self) -> Asking:
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._clients.new().ask(self._model)
                with self._lock:
                    self.answers.append(answer)
            except Exception as error:  # whatever it is, it is a lost request
                self.errors.append(error)
                return

    def more(self, count: int) -> None:
        """Wait for some more answers."""
        wanted, deadline = len(self.answers) + count, time.monotonic() + PATIENCE_SECONDS
        while len(self.answers) < wanted and not self.errors:
            assert time.monotonic() < deadline, f"{len(self.answers)} of {wanted} answers"
            time.sleep(0.1)
