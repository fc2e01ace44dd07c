"""Workers as a gateway lists them, for clients to choose from. Nothing in a list is believed.

The client verifies each certificate (client/proxy/workers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from confide.encoding.messages import CborMessage
from confide.encoding.x509 import MAX_DER
from confide.protocol.kem import KEM_PUBLIC_SIZE
from confide.protocol.keyexchange import WORKER_ID_SIZE
from measure.declare import Nested
from measure.kinds import Blob, Integer, ListOf, Name

MAX_WORKERS = 256
MAX_LIST = 2 << 20
"""Bytes: room for 256 workers with 16 models each, whose names are as long as can be."""
LIST_HEADER = "Confide-Workers"
"""SHA-256 (hex) of the list for a request's model, in its answer."""

WRONG_WORKER = 421
"""HTTP status of a gateway that cannot use the worker. The body is a new list."""

_LOAD = Integer(maximum=1 << 20)


@dataclass(frozen=True)
class WorkerOffer(CborMessage, what="the worker's offer", limit=2 * MAX_DER):
    """GET /v1/worker: a worker's certificate, the KEM key that it names, and the rounded load."""

    certificate: Annotated[bytes, Blob(max_size=MAX_DER)]
    kem_public_key: Annotated[bytes, Blob(KEM_PUBLIC_SIZE)]
    load: Annotated[int, _LOAD]


@dataclass(frozen=True)
class ListedWorker(CborMessage, what="the listed worker", limit=2 * MAX_DER):
    """One worker. `worker` is its id (32 bytes), `models` were asked for and are ready."""

    worker: Annotated[bytes, Blob(WORKER_ID_SIZE)]
    certificate: Annotated[bytes, Blob(max_size=MAX_DER)]
    kem_public_key: Annotated[bytes, Blob(KEM_PUBLIC_SIZE)]
    models: Annotated[tuple[str, ...], ListOf(Name(), unique=True)]
    load: Annotated[int, _LOAD]


@dataclass(frozen=True)
class WorkerList(CborMessage, what="the list of workers", limit=MAX_LIST):
    """GET /confide/v1/workers, and the body of a 421."""

    workers: Annotated[tuple[ListedWorker, ...], ListOf(Nested(ListedWorker), MAX_WORKERS)]


def rounded_load(requests: int) -> int:
    """The number of requests, rounded up to a power of two: everybody sees it."""
    return 1 << (requests - 1).bit_length() if requests > 0 else 0


def workers_query(models: Sequence[str]) -> str:
    """The path of the list for these models. Names need no quoting."""
    return "/confide/v1/workers?" + "&".join(f"model={model}" for model in models)
