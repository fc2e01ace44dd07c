"""Each rule by which an item is refused, with an item that breaks this rule only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from confide.encoding.pem import write_chain
from confide.guest.coordinator.ca import Authority
from confide.protocol.collateral import Bundle, Item
from confide.verify.items.merge import Collateral, Merged
from tests.support import collateral_items as items
from tests.support import intel_certificates, simulated_gpu
from tests.support.collateral_items import (
    ARK,
    ASK,
    ASVK,
    CRL,
    DRIVER_RIM,
    HOUR,
    PLATFORM_CRL,
    QE_IDENTITY,
    ROOT_CRL,
    TCB_INFO,
    VBIOS_RIM,
)
from tests.support.production import Production, manifest
from tests.support.simulated_amd import MADE, NOW, make_authority, root, rsa_key
from tests.support.simulated_intel import SimulatedIntel

Make = Callable[[Production], tuple[str, Item]]

GENUINE, SIGNER = "collateral-not-genuine", "collateral-without-signer"
EXPIRED, EARLY, NEEDED = "collateral-expired", "collateral-not-valid-yet", "collateral-not-needed"


def merge(made: Production, name: str, item: Item) -> Merged:
    """What becomes of the item at a holder that has everything else."""
    now = intel_certificates.NOW if name.startswith("intel/") else NOW
    held = Collateral()
    rest = {n: i for n, i in made.bundle().items.items() if n != name}
    held.merge(Bundle(rest), manifest(), now)
    return held.merge(Bundle({name: item}), manifest(), now)


def chain_of(made: Production) -> tuple[Authority, ...]:
    """The certificates of the GPU, from the first one that NVIDIA is asked about."""
    return made.gpu.chain[1:]


def answer(made: Production, **changes: object) -> tuple[str, Item]:
    chain = chain_of(made)
    return items.answer_name(chain[0]), items.answer(chain, **changes)


def answer_of_stranger(made: Production) -> tuple[str, Item]:
    chain = simulated_gpu.SimulatedNvidia().gpu().chain[1:]
    return items.answer_name(chain[0]), items.answer(chain)


def answer_of_root(made: Production) -> tuple[str, Item]:
    root_only = (made.nvidia.device_root,)
    item = items.answer((*root_only, *root_only))
    return items.answer_name(root_only[0]), replace(item, chain=write_chain((root_only[0].der,)))


def answer_by(made: Production, responder: Authority) -> tuple[str, Item]:
    return answer(made, responder=responder)


def with_chain(made: Production, chain: tuple[Authority, ...]) -> tuple[str, Item]:
    name, item = answer(made)
    return name, replace(item, chain=write_chain(tuple(a.der for a in chain)))


def answer_about_gpu(made: Production) -> tuple[str, Item]:
    return items.answer_name(made.gpu.chain[0]), items.answer(made.gpu.chain)


def vcek_of_stranger(made: Production) -> tuple[str, Item]:
    signer = make_authority("SIMULATED SEV milan", rsa_key("stranger"), root())
    return items.vcek_name(made.chip), Item(made.chip.but(signer=signer).certificate(), 0)


def signature_of_another(made: Production) -> tuple[str, Item]:
    item = made.bundle().items[QE_IDENTITY]
    at = item.data.rindex(b'"signature":"') + len(b'"signature":"')
    digit = b"0" if item.data[at : at + 1] != b"0" else b"1"
    return QE_IDENTITY, replace(item, data=item.data[:at] + digit + item.data[at + 1 :])


def processor_list_as_platform(made: Production) -> tuple[str, Item]:
    ca = intel_certificates.issue("Intel SGX PCK Processor CA", made.intel.root, ca=True)
    data = items.intel_list(ca)
    return PLATFORM_CRL, Item(data, 0, chain=write_chain((ca.der, made.intel.root.der)))


def platform_list_of_stranger(made: Production) -> tuple[str, Item]:
    other = SimulatedIntel()
    data = items.intel_list(other.platform_ca)
    return PLATFORM_CRL, Item(data, 0, chain=write_chain(other.pck_chain[1:]))


def rim_of_stranger(made: Production) -> tuple[str, Item]:
    digests = {1: [bytes(48)]}
    return DRIVER_RIM, Item(simulated_gpu.SimulatedNvidia().rim("550.127.05", digests), 0)


def expired_rim(made: Production) -> tuple[str, Item]:
    l3 = made.nvidia.rim_l3
    signer = simulated_gpu.issue("HCC RIM L4 Signer", l3, ca=False, end=NOW - 1)
    chain = (signer, *made.nvidia.rim_chain[1:])
    return DRIVER_RIM, Item(made.nvidia.rim("550.127.05", {7: [bytes(48)]}, chain=chain), 0)


REFUSED: dict[str, tuple[Make, str]] = {
    "ark of a stranger": (lambda _: (ARK, Item(items.stranger().der, 0)), GENUINE),
    "ask of a stranger": (lambda _: (ASK, items.second_ask_of_stranger()), GENUINE),
    "asvk as ask": (lambda _: (ASK, Item(items.asvk().der, 0)), GENUINE),
    "ask as asvk": (lambda made: (ASVK, made.bundle().items[ASK]), GENUINE),
    "ask that may not sign": (
        lambda _: (
            ASK,
            Item(make_authority("SIMULATED SEV milan", rsa_key("ask"), root(), ca=False).der, 0),
        ),
        GENUINE,
    ),
    "expired ask": (
        lambda _: (
            ASK,
            Item(
                make_authority(
                    "SIMULATED SEV milan",
                    rsa_key("ask"),
                    root(),
                    made=MADE - timedelta(days=4000),
                ).der,
                0,
            ),
        ),
        EXPIRED,
    ),
    "vcek of a stranger": (vcek_of_stranger, GENUINE),
    "vcek of another chip": (
        lambda made: (
            items.vcek_name(made.chip),
            Item(made.chip.but(hardware_id=bytes(64)).certificate(), 0),
        ),
        "bad-collateral",
    ),
    "vcek of a chip that is not listed": (
        lambda made: items.vcek(made.chip.but(hardware_id=bytes(63) + b"\1"), b"\1\2\0\0\0\0\3\4"),
        NEEDED,
    ),
    "vcek below the least version": (
        lambda made: items.vcek(made.chip, bytes([0, 2, 0, 0, 0, 0, 3, 4])),
        NEEDED,
    ),
    "list of a stranger": (lambda _: (CRL, items.amd_list(issuer=items.stranger())), GENUINE),
    "expired list": (lambda _: (CRL, items.amd_list(days=0)), EXPIRED),
    "list from tomorrow": (lambda _: (CRL, items.amd_list(hours=25)), EARLY),
    "list of another product": (
        lambda made: ("amd/genoa/crl", made.bundle().items[CRL]),
        SIGNER,
    ),
    "no list": (lambda _: (CRL, Item(b"", 0)), "bad-crl"),
    "qe identity with another signature": (signature_of_another, GENUINE),
    "tcb info of a stranger": (lambda _: (TCB_INFO, items.document(SimulatedIntel())), GENUINE),
    "tcb info of another platform": (
        lambda made: (TCB_INFO, items.document(made.intel, fmspc="00" * 6)),
        GENUINE,
    ),
    "tcb info below the least number": (
        lambda made: (TCB_INFO, items.document(made.intel, tcbEvaluationDataNumber=16)),
        NEEDED,
    ),
    "expired tcb info": (lambda made: (TCB_INFO, items.document(made.intel, days=1)), EXPIRED),
    "tcb info from tomorrow": (
        lambda made: (TCB_INFO, items.document(made.intel, hours=13 * 24)),
        EARLY,
    ),
    "tcb info without its chain": (
        lambda made: (TCB_INFO, replace(items.document(made.intel), chain=b"")),
        "bad-pem",
    ),
    "root list of a stranger": (
        lambda _: (ROOT_CRL, Item(items.intel_list(SimulatedIntel().root), 0)),
        GENUINE,
    ),
    "expired root list": (
        lambda made: (ROOT_CRL, Item(items.intel_list(made.intel.root, days=1), 0)),
        EXPIRED,
    ),
    "platform list of a stranger": (platform_list_of_stranger, GENUINE),
    "platform list without its CA": (
        lambda made: (PLATFORM_CRL, replace(items.platform_list(made), chain=b"")),
        SIGNER,
    ),
    "platform list from tomorrow": (
        lambda made: (PLATFORM_CRL, items.platform_list(made, hours=11 * 24)),
        EARLY,
    ),
    "processor list as the platform's": (processor_list_as_platform, GENUINE),
    "processor list": (lambda made: ("intel/crl/processor", items.platform_list(made)), NEEDED),
    "rim of a stranger": (rim_of_stranger, GENUINE),
    "rim whose signer has expired": (expired_rim, EXPIRED),
    "rim of another driver": (
        lambda made: (DRIVER_RIM, items.rim(made, made.gpu, DRIVER_RIM, version="550.144.03")),
        GENUINE,
    ),
    "rim of another chip": (
        lambda made: (DRIVER_RIM, items.rim(made, made.gpu, DRIVER_RIM, product="GB100")),
        GENUINE,
    ),
    "rim of a chip that nobody knows": (
        lambda made: (VBIOS_RIM, items.rim(made, made.gpu, VBIOS_RIM, product="GX1")),
        NEEDED,
    ),
    "rim of an old driver": (
        lambda made: ("nvidia/rim/NV_GPU_DRIVER_GH100_535.1.1", made.bundle().items[DRIVER_RIM]),
        NEEDED,
    ),
    "answer without a chain": (lambda made: with_chain(made, ()), SIGNER),
    "answer with the chain of another": (
        lambda made: with_chain(made, chain_of(made)[1:]),
        GENUINE,
    ),
    "answer with half a chain": (lambda made: with_chain(made, chain_of(made)[:2]), GENUINE),
    "answer with a hole in its chain": (
        lambda made: with_chain(made, (chain_of(made)[0], *chain_of(made)[2:])),
        GENUINE,
    ),
    "answer of a stranger": (answer_of_stranger, GENUINE),
    "answer about a root": (answer_of_root, GENUINE),
    "answer about a GPU's own key": (answer_about_gpu, GENUINE),
    "answer of a responder that nobody certified": (
        lambda made: answer_by(made, simulated_gpu.issue("responder", None, ca=False)),
        GENUINE,
    ),
    "answer about another certificate": (
        lambda made: (
            items.answer_name(chain_of(made)[0]),
            replace(
                items.answer(chain_of(made)[1:]),
                chain=write_chain(tuple(a.der for a in chain_of(made))),
            ),
        ),
        GENUINE,
    ),
    "answer to another question": (
        lambda made: (answer(made)[0], replace(answer(made)[1], nonce=bytes(32))),
        GENUINE,
    ),
    "answer without a nonce": (lambda made: answer(made, nonce=None), NEEDED),
    "answer that knows nothing": (
        lambda made: answer(made, status=ocsp.OCSPCertStatus.UNKNOWN),
        NEEDED,
    ),
    "expired answer": (lambda made: answer(made, next_update=NOW - 1), EXPIRED),
    "answer from the future": (
        lambda made: answer(made, this_update=NOW + HOUR, next_update=NOW + 2 * HOUR),
        EARLY,
    ),
    "answer without an end": (lambda made: answer(made, next_update=None), "bad-collateral"),
    "a name of nobody": (lambda _: ("other/thing", Item(b"", 0)), NEEDED),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(made: Production, case: str) -> None:
    make, code = REFUSED[case]
    name, item = make(made)
    merged = merge(made, name, item)
    assert {n: error.code for n, error in merged.refused.items()} == {name: code}
    assert merged.added == merged.ignored == ()
    assert name in str(merged.refused[name]) or code.startswith("bad-")


def test_each_item_is_taken_by_itself(made: Production) -> None:
    """The same items without what the cases above change."""
    for name, item in made.bundle().items.items():
        assert merge(made, name, item).added == (name,), name


def test_more_that_is_taken(made: Production) -> None:
    revoked = answer(made, status=ocsp.OCSPCertStatus.REVOKED, revoked_at=NOW - HOUR)
    for name, item in (
        (ASVK, Item(items.asvk().der, 0)),
        items.vcek(made.chip, bytes([255, 2, 0, 0, 0, 0, 3, 4])),
        answer(made, cert_id=hashes.SHA256()),
        answer(made, this_update=NOW + 60, next_update=NOW + HOUR),
        revoked,
    ):
        assert merge(made, name, item).added == (name,), name


def test_without_any_signer(made: Production) -> None:
    """What would show that an item is genuine is another item, which is not there."""
    whole = made.bundle().items
    for name in (CRL, ASK, items.vcek_name(made.chip)):
        merged = Collateral().merge(Bundle({name: whole[name]}), manifest(), NOW)
        assert merged.refused[name].code == SIGNER
    merged = Collateral().merge(
        Bundle({ROOT_CRL: whole[ROOT_CRL]}), manifest(), intel_certificates.NOW
    )
    assert merged.refused[ROOT_CRL].code == SIGNER


def test_an_item_of_the_same_bundle_vouches_only_if_it_is_taken(made: Production) -> None:
    forged = Bundle(
        {ARK: Item(items.stranger().der, 0), CRL: items.amd_list(issuer=items.stranger())}
    )
    merged = Collateral().merge(forged, manifest(), NOW)
    assert {n: e.code for n, e in merged.refused.items()} == {ARK: GENUINE, CRL: SIGNER}
