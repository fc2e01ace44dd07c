"""An application: the unmodified openai package in front of a proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai

from confide.net.http_client import Upstream
from tests.support.native_service import NativeService

ANSWER = "It was a fake engine that said so. "


class App:
    """Asks the fake engine (its words are orders); it does not try again by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = openai.OpenAI(
            base_url=f"{url}/v1", api_key="sk-private", max_retries=0, timeout=30
        )

    def ask(self, orders: str = "hello", **options: Any) -> str:
        reply = self.client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": orders}], **options
        )
        return str(reply.choices[0].message.content)

    def stream(self, orders: str = "hello", **options: Any) -> Iterator[str]:
        with self.client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": orders}], stream=True, **options
        ) as stream:
            for chunk in stream:
                assert chunk.choices, "an event that the app did not ask for"
                yield str(chunk.choices[0].delta.content)


def engine_stats(service: NativeService) -> dict[str, Any]:
    """What the fake engine has counted."""
    answer = Upstream(service.urls["engine"]).call("GET", "/stats")[2]
    return dict(json.loads(answer))
