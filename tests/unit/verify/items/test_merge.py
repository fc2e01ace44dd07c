"""What a holder of collateral keeps: the newest of each, what is in use, and never too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography.x509 import ocsp

from confide.encoding.pem import write_chain
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item
from confide.protocol.policy.gpu import OptOut
from confide.verify.items import merge as module
from confide.verify.items.merge import MAX_FAULTS, SHARES, USED_SECONDS, Collateral, Merged
from confide.verify.items.needs import Kind
from tests.support import collateral_items as items
from tests.support import intel_certificates
from tests.support.collateral_items import ASK, CRL, DRIVER_RIM, HOUR, PLATFORM_CRL, TCB_INFO
from tests.support.production import Production, manifest, manifest_value
from tests.support.simulated_amd import NOW
from tests.support.simulated_gpu import issue
from tests.support.simulated_machine import Clock

INTEL_NOW = intel_certificates.NOW


class Holder(Collateral):
    """Collateral by the simulated manifest; a test turns both clocks."""

    def __init__(self, made: Production, now: int = NOW) -> None:
        self.monotonic = Clock(0)
        self.now = now
        super().__init__(self.monotonic)
        self.give(dict(made.bundle().items))

    def give(self, given: dict[str, Item]) -> Merged:
        return self.merge(Bundle(given), manifest(), self.now)

    def uses(self, names: list[str]) -> None:
        self.use(names, self.bundle)

    def data(self, name: str) -> bytes:
        return self.bundle.items[name].data


@pytest.fixture
def holder(made: Production) -> Holder:
    return Holder(made)


@pytest.fixture
def of_intel(made: Production) -> Holder:
    return Holder(made, INTEL_NOW)


def test_an_empty_bundle_takes_nothing_away(holder: Holder) -> None:
    before = holder.bundle
    assert holder.give({}) == Merged((), (), {})
    assert holder.bundle is before
    assert Bundle.parse(holder.encoded) == before


def test_the_same_again_is_ignored_with_any_time_of_fetching(holder: Holder) -> None:
    again = replace(holder.bundle.items[CRL], fetched=2**60)
    assert holder.give({CRL: again}).ignored == (CRL,)
    assert holder.bundle.items[CRL].fetched != 2**60


def test_older_and_newer_lists(holder: Holder) -> None:
    newer, newest = items.amd_list(hours=1), items.amd_list(hours=2)
    assert holder.give({CRL: newest}).added == (CRL,)
    assert holder.give({CRL: newer}).ignored == (CRL,)
    assert holder.data(CRL) == newest.data
    assert Bundle.parse(holder.encoded) == holder.bundle


def test_a_list_of_the_same_second_with_a_higher_number(made: Production) -> None:
    holder = Holder(made, INTEL_NOW)
    second, third = (items.platform_list(made, number=number) for number in (2, 3))
    assert holder.give({PLATFORM_CRL: third}).added == (PLATFORM_CRL,)
    assert holder.give({PLATFORM_CRL: second}).ignored == (PLATFORM_CRL,)


def test_what_has_expired_stays_and_nothing_older_takes_its_place(holder: Holder) -> None:
    """Not even an older one that was good for longer."""
    newest, older = items.amd_list(hours=2, days=1), items.amd_list(hours=1, days=300)
    holder.give({CRL: newest})
    holder.now += 40 * 24 * HOUR
    assert holder.give({CRL: older}).ignored == (CRL,)
    assert holder.data(CRL) == newest.data
    # A clock that was turned ahead and back does not bring the old one either.
    holder.now = NOW
    assert holder.give({CRL: older}).ignored == (CRL,)
    holder.now += 40 * 24 * HOUR
    assert holder.give({CRL: items.amd_list(hours=24 * 40)}).added == (CRL,)


@pytest.mark.parametrize("name", [TCB_INFO, items.QE_IDENTITY])
def test_intels_earlier_evaluation_with_a_later_date(
    made: Production, of_intel: Holder, name: str
) -> None:
    """Intel dates both of its evaluations anew."""
    earlier = items.document(made.intel, name, hours=48, tcbEvaluationDataNumber=17)
    same, later = (
        items.document(made.intel, name, hours=hours, tcbEvaluationDataNumber=number)
        for hours, number in ((24, 18), (0, 19))
    )
    assert of_intel.give({name: earlier}).ignored == (name,)
    assert of_intel.give({name: same}).added == (name,)
    assert of_intel.give({name: earlier}).ignored == (name,)
    assert of_intel.give({name: later}).added == (name,)
    assert of_intel.give({name: same}).ignored == (name,)


def test_the_same_document_with_a_chain_that_lasts_longer(
    made: Production, of_intel: Holder
) -> None:
    held = of_intel.bundle.items[TCB_INFO]
    until = datetime.fromtimestamp(INTEL_NOW) + timedelta(hours=1)
    short = intel_certificates.issue(
        "Intel SGX TCB Signing", made.intel.root, key=made.intel.tcb_signer.key, not_after=until
    )
    brief = replace(held, chain=write_chain((short.der, made.intel.root.der)))
    assert of_intel.give({TCB_INFO: brief}).ignored == (TCB_INFO,)
    fresh = Collateral()
    assert fresh.merge(Bundle({TCB_INFO: brief}), manifest(), INTEL_NOW).added == (TCB_INFO,)
    assert fresh.merge(Bundle({TCB_INFO: held}), manifest(), INTEL_NOW).added == (TCB_INFO,)


def test_what_no_signature_vouches_for_is_not_kept(made: Production) -> None:
    """Else a stranger fills the space with it."""
    whole = made.bundle()
    junk = {
        name: replace(item, nonce=item.nonce or bytes(64), chain=item.chain or bytes(65536))
        for name, item in whole.items.items()
    }
    kept, clean = Collateral(), Collateral()
    kept.merge(Bundle(junk), manifest(), NOW)
    clean.merge(whole, manifest(), NOW)
    assert kept.bundle == clean.bundle


def test_that_a_responder_knows_nothing_does_not_take_back_what_it_said(made: Production) -> None:
    """Also where the manifest accepts such an answer: it would hide a revocation."""
    value = manifest_value()
    opt_outs = sorted(map(str, (OptOut.OCSP_UNKNOWN, OptOut.OCSP_WITHOUT_NONCE)))
    value["roles"]["worker-gpu"]["gpus"]["opt_outs"] = opt_outs
    lax = manifest(roles=value["roles"])
    chain = made.gpu.chain[1:]
    name, held = items.answer_name(chain[0]), Collateral()
    unknown = ocsp.OCSPCertStatus.UNKNOWN
    for status, hours, taken in (
        (unknown, 0, True),
        (ocsp.OCSPCertStatus.GOOD, -1, True),
        (unknown, 0, False),
        (ocsp.OCSPCertStatus.GOOD, 0, True),
    ):
        item = items.answer(chain, status=status, this_update=NOW + hours * HOUR, nonce=None)
        assert held.merge(Bundle({name: item}), lax, NOW).added == ((name,) if taken else ())


def test_a_certificate_that_is_in_use_stays(made: Production, holder: Holder) -> None:
    """AMD has one issuer for each product. If it had two, a stranger would bring the other one."""
    ours, other = holder.bundle.items[ASK], items.other_ask()
    assert holder.give({ASK: other}).added == (ASK,)
    assert holder.give({ASK: ours}).added == (ASK,)
    holder.uses([ASK])
    assert holder.give({ASK: other}).ignored == (ASK,)
    holder.monotonic.now += USED_SECONDS
    assert holder.give({ASK: other}).added == (ASK,)


def test_reference_values_that_are_in_use_stay(made: Production, holder: Holder) -> None:
    """Those of two boards may have one VBIOS version, and no RIM names its board."""
    other = items.rim(made, made.gpu.with_measurement(7, bytes(48)), DRIVER_RIM)
    holder.uses([DRIVER_RIM])
    assert holder.give({DRIVER_RIM: other}).ignored == (DRIVER_RIM,)
    holder.monotonic.now += USED_SECONDS
    assert holder.give({DRIVER_RIM: other}).added == (DRIVER_RIM,)


def room_for(monkeypatch: pytest.MonkeyPatch, held: Holder, more: int) -> None:
    """The certificates of chips may take up this much more."""
    size = sum(
        len(name) + len(item.data) + 64
        for name, item in held.bundle.items.items()
        if name.startswith("amd/vcek/")
    )
    monkeypatch.setattr(module, "SHARES", {**SHARES, Kind.VCEK: size + more})


def versions(made: Production, *first: int) -> dict[str, Item]:
    return dict(items.vcek(made.chip, bytes([n, 2, 0, 0, 0, 0, 3, 4])) for n in first)


def test_genuine_items_that_nobody_uses_make_room(
    made: Production, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AMD certifies a chip at any TCB version that somebody asks for."""
    ours = items.vcek_name(made.chip)
    holder.uses([ours])
    more = versions(made, 5, 6, 7, 8)
    one, _, three, four = more
    room_for(monkeypatch, holder, 2 * (len(one) + len(more[one].data) + 80))
    for name in more:
        assert holder.give({name: more[name]}).added == (name,)
    kept = [name for name in holder.bundle.items if name.startswith("amd/vcek/")]
    assert kept == [ours, three, four]
    # The rest of the bundle has a share of its own.
    assert len(holder.bundle.items) == len(made.bundle().items) - 4 + 2


def test_items_in_use_leave_no_room(
    made: Production, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(monkeypatch, holder, 0)
    more = versions(made, 5)
    (name,) = more
    holder.uses([items.vcek_name(made.chip)])
    before = holder.bundle
    assert holder.give(more).refused[name].code == "collateral-full"
    assert holder.bundle == before
    holder.monotonic.now += USED_SECONDS
    assert holder.give(more).added == (name,)


def test_the_shares_fit_into_one_bundle() -> None:
    assert set(SHARES) == set(Kind)
    assert sum(SHARES.values()) < MAX_BUNDLE - 4096


def test_many_wrong_items_cost_little(made: Production, holder: Holder) -> None:
    """Each one is a few signatures, and the next upload waits."""
    wrong = {f"nvidia/ocsp/{number:064x}": Item(b"", 0) for number in range(MAX_FAULTS + 3)}
    codes = [error.code for error in holder.give(wrong).refused.values()]
    assert codes.count("collateral-not-read") == 3
    name, item = items.answer_name(made.gpu.chain[1]), items.answer(made.gpu.chain[1:], nonce=None)
    genuine = dict.fromkeys((*list(wrong)[: MAX_FAULTS - 1], name, CRL), item)
    codes = [error.code for error in holder.give(genuine).refused.values()]
    assert codes.count("collateral-not-read") == 1, "what was read and is of no use counts, too"


def test_wrong_names_cost_nothing(holder: Holder) -> None:
    strangers = {f"other/{number}": Item(b"", 0) for number in range(MAX_FAULTS + 3)}
    merged = holder.give({**strangers, CRL: items.amd_list(hours=1)})
    assert merged.added == (CRL,)
    assert {error.code for error in merged.refused.values()} == {"collateral-not-needed"}


def test_blanks_behind_a_document_of_intels_are_not_kept(made: Production) -> None:
    """Lists and issuers share 1 MiB, which a document with blanks would take for good."""
    whole = made.bundle()
    named = [TCB_INFO, items.QE_IDENTITY]
    blanks = {
        name: replace(whole.items[name], data=whole.items[name].data + b"\n" * 1_040_000)
        for name in named
    }
    held = Collateral()
    assert held.merge(Bundle(blanks), manifest(), INTEL_NOW).added == tuple(blanks)
    assert {name: held.bundle.items[name].data for name in named} == {
        name: whole.items[name].data for name in named
    }
    assert set(held.merge(whole, manifest(), INTEL_NOW).ignored) >= set(named)


@pytest.mark.parametrize("name", [ASK, DRIVER_RIM])
def test_what_was_brought_while_a_verification_ran(
    made: Production, holder: Holder, name: str
) -> None:
    """A stranger brings his own before it is known which one is used."""
    rim = items.rim(made, made.gpu.with_measurement(7, bytes(48)), DRIVER_RIM)
    other = items.other_ask() if name == ASK else rim
    verified = holder.bundle
    assert holder.give({name: other}).added == (name,)
    holder.use([name], verified)
    assert holder.bundle.items[name] == verified.items[name]
    assert Bundle.parse(holder.encoded) == holder.bundle
    assert holder.give({name: other}).ignored == (name,)


def test_a_newer_list_that_was_brought_while_a_verification_ran(holder: Holder) -> None:
    verified, newer = holder.bundle, items.amd_list(hours=1)
    holder.give({CRL: newer})
    holder.use([CRL], verified)
    assert holder.data(CRL) == newer.data


def test_reference_values_that_are_signed_anew(made: Production, holder: Holder) -> None:
    """NVIDIA's signers last two years. Operators need not wait for the hour in which one ends."""
    early, late, last = (items.rim_chain(made, days) for days in (1, 2, 3))
    old, new, newest = (
        items.rim(made, made.gpu, DRIVER_RIM, chain=chain) for chain in (early, late, last)
    )
    other = items.rim(made, made.gpu.with_measurement(7, bytes(48)), DRIVER_RIM, chain=late)
    answers = [(items.answer_name(chain[0]), items.answer(chain)) for chain in (late, last)]
    holder.give({DRIVER_RIM: old})
    holder.uses([DRIVER_RIM])
    assert holder.give({DRIVER_RIM: new}).ignored == (DRIVER_RIM,), "nobody vouches for the signer"
    assert holder.give(dict(answers[:1])).refused == {}
    assert holder.give({DRIVER_RIM: other}).ignored == (DRIVER_RIM,)
    assert holder.give({DRIVER_RIM: new}).added == (DRIVER_RIM,)
    # It is in use as the old one was, and the old one does not come back.
    for brought in (old, other):
        assert holder.give({DRIVER_RIM: brought}).ignored == (DRIVER_RIM,)
    assert holder.data(DRIVER_RIM) == new.data
    both = {DRIVER_RIM: newest, **dict(answers[1:])}
    assert holder.give(both).added == (*dict(answers[1:]), DRIVER_RIM)


def test_a_signer_that_nvidia_has_revoked(made: Production, holder: Holder) -> None:
    early, late = items.rim_chain(made, 1), items.rim_chain(made, 2)
    holder.give({DRIVER_RIM: items.rim(made, made.gpu, DRIVER_RIM, chain=early)})
    holder.uses([DRIVER_RIM])
    revoked = items.answer(late, status=ocsp.OCSPCertStatus.REVOKED, revoked_at=NOW - HOUR)
    new = items.rim(made, made.gpu, DRIVER_RIM, chain=late)
    given = {DRIVER_RIM: new, items.answer_name(late[0]): revoked}
    assert holder.give(given).ignored == (DRIVER_RIM,)


def test_reference_values_whose_signer_has_expired_do_not_stay(
    made: Production, holder: Holder
) -> None:
    holder.give({DRIVER_RIM: items.rim(made, made.gpu, DRIVER_RIM, chain=items.rim_chain(made, 1))})
    holder.uses([DRIVER_RIM])
    new = items.rim(made, made.gpu.with_measurement(7, bytes(48)), DRIVER_RIM)
    assert holder.give({DRIVER_RIM: new}).ignored == (DRIVER_RIM,)
    holder.now += 24 * HOUR + 1
    assert holder.give({DRIVER_RIM: new}).added == (DRIVER_RIM,)


def test_what_has_expired_keeps_no_node_from_the_rest(made: Production) -> None:
    """A coordinator keeps expired answers, also about GPUs of strangers. Nodes get them all."""
    whole, provisioner = made.bundle(), made.gpu.chain[2:]
    expired: dict[str, Item] = {}
    for _ in range(MAX_FAULTS + 1):
        chain = (issue("GH100 A01 GSP BROM", provisioner[0]), *provisioner)
        expired[items.answer_name(chain[0])] = items.answer(chain, next_update=NOW - 1)
    node, clean = Collateral(), Collateral()
    merged = node.merge(Bundle({**expired, **whole.items}), manifest(), NOW)
    clean.merge(whole, manifest(), NOW)
    assert {merged.refused[name].code for name in expired} == {"collateral-expired"}
    assert node.bundle == clean.bundle
