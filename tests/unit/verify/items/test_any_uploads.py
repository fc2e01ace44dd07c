"""Property: whatever is uploaded in whatever order, a genuine machine that passed passes again.

The uploads of a run come from a fixed seed: genuine items, older and newer ones, ones of other
machines, of strangers, under wrong names, with bits turned, and bundles that lack some or all.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from cryptography.x509 import ocsp

from confide.guest.coordinator.ca import Authority
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.verify.collateral import taken_by
from confide.verify.evidence import verify_evidence
from confide.verify.items.dates import read_dates
from confide.verify.items.merge import Collateral
from confide.verify.parsed import ParsedEvidence
from tests.support import collateral_items as items
from tests.support import intel_certificates
from tests.support.collateral_items import ARK, ASK, CRL, DRIVER_RIM, HOUR, VBIOS_RIM
from tests.support.production import Production, manifest
from tests.support.simulated_amd import NOW
from tests.support.simulated_gpu import DRIVER_INDEXES, SimulatedNvidia
from tests.support.simulated_intel import SimulatedIntel
from tests.support.simulated_machine import Clock

STEPS = 40
DATA = bytes(range(64))
UNKNOWN = ocsp.OCSPCertStatus.UNKNOWN
Named = tuple[str, Item]


def of_amd(made: Production) -> list[Named]:
    versions = (bytes([n, 2, 0, 0, 0, 0, 3, 4]) for n in (0, 1, 2, 9, 255))
    return [
        *(items.vcek(made.chip, tcb) for tcb in versions),
        items.vcek(made.chip.but(hardware_id=bytes(63) + b"\1"), bytes([9, 9, 0, 0, 0, 0, 9, 9])),
        *((CRL, items.amd_list(hours)) for hours in (-9, 1, 5, 12, 48)),
        (CRL, items.amd_list(13, days=0)),
        (CRL, items.amd_list(13, issuer=items.stranger())),
        (ASK, items.other_ask()),
        (ASK, items.second_ask_of_stranger()),
        (ASK, Item(items.asvk().der, 0)),
        (ARK, Item(items.stranger().der, 0)),
    ]


def of_nvidia(made: Production) -> list[Named]:
    pool: list[Named] = []
    for chain in (made.gpu.chain[1:], made.nvidia.rim_chain):
        for at in range(len(chain) - 1):
            name, above = items.answer_name(chain[at]), chain[at:]
            for minutes in (-90, -30, -10, 60):
                times = {
                    "this_update": NOW + 60 * minutes,
                    "next_update": NOW + 60 * minutes + 24 * HOUR,
                }
                pool.append((name, items.answer(above, **times)))
                pool.append((name, items.answer(above, **times, nonce=None)))
                pool.append((name, items.answer(above, **times, status=UNKNOWN)))
            pool.append((name, items.answer(above, next_update=NOW - 1)))
    other = made.gpu.with_measurement(7, bytes(48))
    stranger = SimulatedNvidia()
    return [
        *pool,
        *((name, items.rim(made, other, name)) for name in (DRIVER_RIM, VBIOS_RIM)),
        (DRIVER_RIM, items.rim(made, made.gpu, DRIVER_RIM, version="550.144.03")),
        (DRIVER_RIM, Item(stranger.rim("550.127.05", {7: [bytes(48)]}), 0)),
        (items.answer_name(stranger.rim_signer), items.answer(stranger.rim_chain)),
    ]


def signed_anew(made: Production) -> tuple[dict[str, Item], list[Named]]:
    """Reference values by a signer who ends soon, and what comes in their place."""
    digests = {index: [made.gpu.measurements[index]] for index in DRIVER_INDEXES}

    def rim(chain: tuple[Authority, ...]) -> Item:
        return Item(made.nvidia.rim("550.127.05", digests, chain=chain), 0)

    early = items.rim_chain(made, 1)
    held = {
        DRIVER_RIM: rim(early),
        items.answer_name(early[0]): items.answer(early),
    }
    pool: list[Named] = []
    for days in (2, 3, 4):
        chain = items.rim_chain(made, days)
        pool.append((DRIVER_RIM, rim(chain)))
        # One is revoked, and nobody is asked about another one.
        revoked = {"status": ocsp.OCSPCertStatus.REVOKED, "revoked_at": NOW} if days == 4 else {}
        if days != 3:
            pool.append((items.answer_name(chain[0]), items.answer(chain, **revoked)))
    return held, pool


def of_intel(made: Production) -> list[Named]:
    documents = [
        (name, items.document(made.intel, name, hours=hours, tcbEvaluationDataNumber=number))
        for name in (items.TCB_INFO, items.QE_IDENTITY)
        for hours, number in ((-48, 18), (24, 17), (24, 18), (48, 17), (0, 19), (240, 16))
    ]
    stranger = SimulatedIntel()
    return [
        *documents,
        (items.TCB_INFO, items.document(stranger, hours=48)),
        (items.TCB_INFO, items.document(made.intel, hours=48, fmspc="00" * 6)),
        (items.QE_IDENTITY, items.document(made.intel, items.QE_IDENTITY, hours=60, days=1)),
        *((items.PLATFORM_CRL, items.platform_list(made, hours)) for hours in (-24, 24, 24 * 11)),
        (items.PLATFORM_CRL, items.platform_list(made, 48, days=1)),
        (items.ROOT_CRL, Item(items.intel_list(stranger.root, 100), 0)),
        *((items.ROOT_CRL, Item(items.intel_list(made.intel.root, h), 0)) for h in (-24, 24)),
    ]


def an_upload(
    source: random.Random, genuine: dict[str, Item], pool: list[Named]
) -> Iterable[Named]:
    """Some items; the last one of a name counts."""
    whole = [*genuine.items(), *pool]
    for name, item in source.sample(whole, source.randrange(12)):
        match source.randrange(6):
            case 0:
                yield name, items.changed(item, source.randrange(10**6))
            case 1:
                yield source.choice(whole)[0], item
            case 2:
                yield name, replace(item, chain=source.choice(whole)[1].chain)
            case 3:
                yield name, replace(item, nonce=source.randbytes(32), fetched=2**60)
            case _:
                yield name, item


def editions(held: Collateral) -> dict[str, tuple[int, ...]]:
    return {name: read_dates(name, item).edition for name, item in held.bundle.items.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("platform", ["sev-snp", "tdx"])
def test_what_passed_passes_again(made: Production, platform: str, seed: int) -> None:
    source = random.Random(f"{platform} {seed}")
    genuine = dict(made.bundle().items)
    if platform == "sev-snp":
        evidence: Evidence = made.with_gpu(made.snp(DATA, certificates=0), DATA)
        held_rims, anew = signed_anew(made)
        genuine |= held_rims
        role, now, pool = "worker-gpu", NOW, of_amd(made) + of_nvidia(made) + 3 * anew
    else:
        evidence = made.tdx(DATA)
        role, now, pool = "secret-service", intel_certificates.NOW, of_intel(made)
    monotonic = Clock(0)
    held = Collateral(monotonic)
    held.merge(Bundle(genuine), manifest(), now)
    refused, changed = set[str](), 0
    for _ in range(STEPS):
        parsed, accepted = ParsedEvidence(evidence), manifest().role(role)
        verdict = verify_evidence(
            parsed,
            report_data=DATA,
            manifest=manifest(),
            role=role,
            collateral=held.bundle,
            now=now,
        )
        assert verdict.passed, verdict.first_failed
        held.use(taken_by(parsed, accepted, manifest(), held.bundle), held.bundle)
        before = editions(held)
        merged = held.merge(Bundle(dict(an_upload(source, genuine, pool))), manifest(), now)
        after = editions(held)
        assert all(after[name] >= edition for name, edition in before.items()), "went back"
        refused |= {error.code for error in merged.refused.values()}
        changed += len(merged.added)
        monotonic.now += 45 * 60
        now += 60
    # Else the uploads above were not what they are to be.
    assert changed >= 3
    assert {
        "collateral-not-genuine",
        "collateral-not-needed",
        "collateral-not-valid-yet",
    } <= refused
