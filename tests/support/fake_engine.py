"""A FAKE engine for tests and measurements: fixed answers in OpenAI's shape, no model behind them.

One asyncio process, as little work per event as possible, so that what is measured is what stands
before it. The prompt's words are orders: "events=N" (how many), "gap=SECONDS" (between two),
"stamp" (each event's id is the time it left, CLOCK_MONOTONIC nanoseconds), "fail" (HTTP 400),
"late=SECONDS" (begins later), "break" (hangs up in the middle), "half" (ends within an event),
"hang" (never answers), "digest" (the answer is the engine's name, then words that follow from name
and prompt).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

WORDS = ("It ", "was ", "a ", "fake ", "engine ", "that ", "said ", "so. ")
_USAGE = {"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15}


def _event(word: str, number: int = 0) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "text": word, "finish_reason": None}
    event = {
        "id": f"chatcmpl-{number:032d}",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "tiny",
        "choices": [choice],
    }
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def digest_words(name: str, prompt: str, count: int) -> list[str]:
    """What an engine of this name answers to "digest"."""
    said = (
        sha256(f"{name} {number} {prompt}".encode()).hexdigest()[:12] for number in range(count)
    )
    return [f"{name} ", *(f"said-{digest} " for digest in said)]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_EVENTS = [_chunk(_event(word)) for word in WORDS]
_DONE = _chunk(b"data: [DONE]\n\n")


class Engine:
    """Counts what it sees; GET /stats tells."""

    def __init__(self, name: str = "engine", *, tells: bool = False) -> None:
        """With `tells` it prints the prompt of each "digest"."""
        self._name, self._tells = name, tells
        self.stats = {"connections": 0, "requests": 0, "finished": 0, "hung_up": 0}
        self.last_body = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        self.stats["connections"] += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(found[1])) if found else b""
                await self._answer(head.split(b" ", 2)[1], body, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        path: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if path == b"/health":
            return _plain(writer, b"{}")
        if path == b"/stats":
            return _plain(writer, json.dumps(self.stats | {"last": self.last_body}).encode())
        self.stats["requests"] += 1
        self.last_body = body.decode()
        request = json.loads(body)
        orders = json.dumps(request.get("messages", request.get("prompt")))
        try:
            await self._complete(request, orders, reader, writer)
            self.stats["finished"] += 1
        except (ConnectionError, asyncio.CancelledError):
            self.stats["hung_up"] += 1
            raise
        return None

    async def _complete(
        self,
        request: dict[str, Any],
        orders: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        late = "600" if "hang" in orders else _order(orders, r"late=([0-9.]+)", "0")
        await self._wait(reader, float(late))
        if "fail" in orders:
            error = {"message": "the engine says no", "type": "BadRequestError", "code": 400}
            return _plain(writer, json.dumps({"error": error}).encode(), b"400 Bad Request")
        count = int(_order(orders, r"events=(\d+)", "8"))
        gap = float(_order(orders, r"gap=([0-9.]+)", "0"))
        events, words = _EVENTS, list(WORDS)
        if "digest" in orders:
            prompt = request["messages"][-1]["content"]
            if self._tells:
                print(prompt, flush=True)
            words = digest_words(self._name, prompt, count - 1)
            events = [_chunk(_event(word)) for word in words]
        if not request.get("stream"):
            return _plain(writer, _whole(words))
        stamp = "stamp" in orders
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(count):
            if "break" in orders and number == count // 2:
                writer.transport.abort()
                raise ConnectionResetError
            word = number % len(words)
            if stamp:
                writer.write(_chunk(_event(words[word], time.monotonic_ns())))
            else:
                writer.write(events[word])
            if gap:
                await writer.drain()
                await self._wait(reader, gap)
            elif number % 16 == 15:
                await writer.drain()
                await asyncio.sleep(0)
        if "half" in orders:
            return writer.write(_chunk(b'data: {"id"') + b"0\r\n\r\n")
        options = request.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            usage = {"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
            writer.write(_chunk(b"data: " + json.dumps(usage).encode() + b"\n\n"))
        writer.write(_DONE + b"0\r\n\r\n")
        return None

    async def _wait(self, reader: asyncio.StreamReader, seconds: float) -> None:
        # Not longer than the client stays.
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            if reader.at_eof():
                raise ConnectionResetError
            await asyncio.sleep(min(left, 0.02))


def _order(orders: str, pattern: str, default: str) -> str:
    found = re.search(pattern, orders)
    return found[1] if found else default


def _whole(words: Sequence[str]) -> bytes:
    text = "".join(words)
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "text": text, "finish_reason": "stop"}
    return json.dumps(
        {
            "id": "chatcmpl-0123456789abcdef0123456789abcdef",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "tiny",
            "choices": [choice],
            "usage": _USAGE,
        }
    ).encode()


def _plain(writer: asyncio.StreamWriter, body: bytes, status: bytes = b"200 OK") -> None:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (status, len(body)) + body)


async def run(engine: Engine, host: str, port: int) -> None:
    """Serve on host:port for ever."""
    server = await asyncio.start_server(engine.serve, host, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="engine")
    parser.add_argument("--tells", action="store_true", help="print each prompt that says digest")
    arguments = parser.parse_args()
    engine = Engine(arguments.name, tells=arguments.tells)
    asyncio.run(run(engine, arguments.host, arguments.port))
