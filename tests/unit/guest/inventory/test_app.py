"""A machine in inventory: a nonce in, evidence out, and no other door."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from flask.testing import FlaskClient

from confide.encoding.canonical import cbor_encode
from confide.errors import UnavailableError
from confide.guest.coordinator.app import create_app as coordinator_app
from confide.guest.coordinator.domain import Coordinator
from confide.guest.inventory.app import MAX_BODY, create_app
from confide.protocol.binding import coordinator_report_data, inventory_report_data, report_data
from confide.protocol.coordinator import Nonce
from confide.protocol.evidence import Evidence
from confide.vendors.amd.report import Report
from tests.support.simulated_amd import SimulatedChip
from tests.support.simulated_machine import SimulatedMachine

NONCE = bytes(range(32))


@pytest.fixture
def client() -> FlaskClient:
    return create_app(SimulatedChip()).test_client()


def test_health(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"state": "inventory"}


def test_evidence_binds_the_nonce_alone(client: FlaskClient) -> None:
    answer = client.post("/v1/attest", data=Nonce(NONCE).encode())
    assert (answer.status_code, answer.content_type) == (200, "application/cbor")
    evidence = Evidence.parse(answer.data)
    assert Report.parse(evidence.report).report_data == inventory_report_data(NONCE)
    assert evidence == replace(evidence, gpus=(), gpu_refusal="")


def test_a_vtpm_machine_attests_as_well() -> None:
    client = create_app(SimulatedMachine("coordinator")).test_client()
    answer = client.post("/v1/attest", data=Nonce(NONCE).encode())
    assert Evidence.parse(answer.data).platform == "vtpm"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (NONCE, 400),
        (Nonce(NONCE).encode()[:-1], 400),
        (cbor_encode({"nonce": NONCE[:-1]}), 400),
        (cbor_encode({"nonce": NONCE, "label": "confide/join/2"}), 400),
        (cbor_encode({"nonce": NONCE, "report_data": bytes(64)}), 400),
        (bytes(MAX_BODY + 1), 413),
    ],
)
def test_anything_but_a_nonce_is_refused(client: FlaskClient, body: bytes, status: int) -> None:
    """Above all a label or report data of the caller's choice."""
    answer = client.post("/v1/attest", data=body)
    assert answer.status_code == status
    assert answer.get_json()["error"]["code"]


def test_no_other_door(client: FlaskClient) -> None:
    """None of a coordinator's, which has the most."""
    coordinator = coordinator_app(cast(Coordinator, None))  # which no rule of its app needs
    paths = {rule.rule for rule in coordinator.url_map.iter_rules()}
    doors = {rule.rule for rule in client.application.url_map.iter_rules()}
    assert doors == {"/healthz", "/v1/attest"}
    for path in (paths | {"/v1/keys", "/v1/key-exchange", "/v1/chat/completions"}) - doors:
        for answer in (client.get(path), client.post(path, data=b"")):
            assert answer.status_code == 404, path


def test_the_label_separates_it_from_every_other_purpose() -> None:
    assert inventory_report_data(NONCE) == report_data("confide/inventory/1", NONCE, [])
    assert inventory_report_data(NONCE) != coordinator_report_data(
        NONCE, manifest=b"", root_ca=b"", mesh_ca=b"", history=b"", time=0
    )
    assert inventory_report_data(NONCE) != report_data("confide/join/2", NONCE, [])


def test_an_attester_that_cannot(client: FlaskClient) -> None:
    class Busy:
        def evidence(self, _report_data: bytes) -> Evidence:
            raise UnavailableError("tsm-busy", "the kernel gave no report in time")

    answer = create_app(Busy()).test_client().post("/v1/attest", data=Nonce(NONCE).encode())
    assert answer.status_code == 503
    assert answer.get_json()["error"]["code"] == "tsm-busy"
