"""What a worker shows while it works: its load, and that it is there."""

from __future__ import annotations

from confide.encoding.x509 import load_certificate
from confide.protocol.certificates import parse_leaf
from confide.protocol.frames import Wait
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.workers import WorkerOffer
from tests.support.sealed_worker import CHAT, HELLO, STREAM, Client, Worker


def test_what_clients_need_to_choose_it(worker: Worker) -> None:
    answer = worker.http.get("/v1/worker")
    offer = WorkerOffer.parse(answer.data)
    identity = parse_leaf(load_certificate(offer.certificate, "worker"))
    assert worker_id_of(identity.public_key) == worker.membership.worker_id
    assert offer.kem_public_key == worker.membership.kem_public_key
    assert offer.load == 0
    worker.joined = False
    assert worker.http.get("/v1/worker").status_code == 503


def test_load_counts_until_the_answer_has_ended(worker: Worker, client: Client) -> None:
    def load() -> int:
        return WorkerOffer.parse(worker.http.get("/v1/worker").data).load

    streams = []
    for expected in (1, 2, 4):
        sealed, _ = client.seal(STREAM.replace(b"hello", b"events=4 gap=0.01"))
        streams.append(worker.http.post(CHAT, data=sealed, headers=client.headers()))
        assert load() == expected, "rounded up to a power of two"
    for stream in streams:
        stream.close()
    assert load() == 0


def test_wait_frames_before_the_head_and_between_events(worker: Worker) -> None:
    patient = Worker(worker.engine, worker.node, wait_seconds=0.05)
    client = Client(patient)
    opened = client.ask(STREAM.replace(b"hello", b"events=2 gap=0.3"))
    assert opened.waits >= 4
    assert opened.body.endswith(b"data: [DONE]\n\n") and opened.receipt


def test_wait_frames_while_nothing_comes(worker: Worker) -> None:
    """The engine never answers: the client sees that the worker is there."""
    patient = Worker(worker.engine, worker.node, wait_seconds=0.05)
    client = Client(patient)
    sealed, sealer = client.seal(HELLO.replace(b"hello", b"hang"))
    response = patient.http.post(CHAT, data=sealed, headers=client.headers(), buffered=False)
    opener, pieces = sealer.response_opener(), response.iter_encoded()
    events = [event for _ in range(3) for event in opener.feed(next(pieces))]
    response.close()
    assert events == [Wait()] * 3
