"""Anybody reaches a coordinator's collateral over HTTP, and nobody can take any of it away.

SIMULATED SEV-SNP processor, GPU and vendors, a FAKE driver (see joining.py).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from confide.errors import VerificationError
from confide.guest.coordinator.app import create_app
from confide.protocol.collateral import Bundle, Item
from confide.protocol.coordinator import CollateralReply
from tests.support import collateral_items as items
from tests.support.collateral_items import ASK, CRL
from tests.support.joining import Setting
from tests.support.simulated_amd import DAY, MADE, NOW, make_crl, revoked_entry, root


@pytest.fixture
def anybody(setting: Setting) -> FlaskClient:
    return create_app(setting.coordinator).test_client()


def held(anybody: FlaskClient) -> dict[str, Item]:
    return dict(Bundle.parse(anybody.get("/v1/collateral").data).items)


def give(anybody: FlaskClient, given: dict[str, Item]) -> CollateralReply:
    answer = anybody.post("/v1/collateral", data=Bundle(given).encode())
    assert answer.status_code == 200
    return CollateralReply.parse(answer.data)


def test_anybodys_empty_bundle(setting: Setting, anybody: FlaskClient) -> None:
    """The review's demonstration: after it, nobody could join or stay."""
    before = held(anybody)
    assert CRL in before
    answer = anybody.post("/v1/collateral", data=Bundle().encode())
    assert held(anybody) == before
    assert CollateralReply.parse(answer.data) == CollateralReply((), (), ())
    setting.node().join()


def test_one_answer_says_what_became_of_each_item(setting: Setting, anybody: FlaskClient) -> None:
    before = held(anybody)
    newer, same = items.amd_list(hours=1), before[ASK]
    reply = give(anybody, {CRL: newer, ASK: same, "amd/milan/ark": Item(b"junk", NOW)})
    assert (reply.added, reply.ignored) == ((CRL,), (ASK,))
    assert [(item.name, item.code) for item in reply.refused] == [
        ("amd/milan/ark", "bad-certificate")
    ]
    assert held(anybody) == before | {CRL: replace(newer, chain=b"")}


def test_the_reason_is_short_and_ascii(anybody: FlaskClient) -> None:
    chip = "ab" * 64
    name = f"amd/vcek/milan/{chip}/{'ff' * 8}"
    (refused,) = give(anybody, {name: Item(b"", 0)}).refused
    assert refused.name == name
    assert len(refused.reason) == 200
    assert refused.reason.isascii()


def test_what_verifies_the_coordinator_itself_stays(setting: Setting) -> None:
    """Its nodes need it, whether one has joined already or not."""
    whole = setting.production.bundle()
    chip = setting.production.chip
    evidence = chip.evidence

    def without_certificates(report_data: bytes) -> object:
        return replace(evidence(report_data), endorsements=())

    setting.coordinator._attester.evidence = without_certificates  # type: ignore[method-assign, assignment]
    setting.coordinator.attest(bytes(32))
    other = Bundle({ASK: items.other_ask()})
    assert setting.coordinator.add_collateral(other.encode()).ignored == (ASK,)
    held_ask = Bundle.parse(setting.coordinator.collateral()).items[ASK]
    assert held_ask.data == whole.items[ASK].data


def test_what_verified_a_member_stays(setting: Setting) -> None:
    rim = items.DRIVER_RIM
    made = setting.production
    wrong = items.rim(made, made.gpu.with_measurement(7, bytes(48)), rim)
    assert setting.coordinator.add_collateral(Bundle({rim: wrong}).encode()).added == (rim,)
    with pytest.raises(VerificationError):
        setting.node().join()
    good = Bundle({rim: made.bundle().items[rim]})
    assert setting.coordinator.add_collateral(good.encode()).added == (rim,)
    node = setting.node()
    node.join()
    assert setting.coordinator.add_collateral(Bundle({rim: wrong}).encode()).ignored == (rim,)
    setting.relay.on_collateral = lambda _: Bundle({rim: wrong})
    node.join()


def test_a_newer_list_counts_from_anybody(setting: Setting) -> None:
    """That a machine is revoked cannot be taken back either."""
    node = setting.node()
    node.join()
    issuer = revoked_entry(2)  # the intermediate's serial number
    start = MADE + timedelta(hours=1)
    revoking = Item(make_crl([issuer], issuer=root(), start=start, end=start + 30 * DAY), 0)
    setting.coordinator.add_collateral(Bundle({CRL: revoking}).encode())
    setting.coordinator.add_collateral(setting.production.bundle().encode())
    with pytest.raises(VerificationError, match="'revocation'"):
        node.join()
    setting.relay.on_collateral = lambda _: setting.production.bundle()
    with pytest.raises(VerificationError, match="'revocation'"):
        node.join()
