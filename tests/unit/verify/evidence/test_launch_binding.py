"""A machine is launched for one manifest: on every platform, one check of one value says so.

SIMULATED hardware of each kind. The values are written out here, not taken from the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256, sha384

import pytest

from confide.errors import PolicyError
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import Evidence
from confide.protocol.launch import UNBOUND
from confide.protocol.manifest import Manifest
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.verdict import Check, Verdict
from tests.support import intel_certificates, production, simulated_amd, simulated_machine
from tests.support.production import Production
from tests.support.simulated_intel import EVENT_LOG, REPORT
from tests.support.simulated_machine import SimulatedMachine, manifest_bytes
from tests.support.verdicts import failed

CHECK = "launch binding"
REPORT_DATA = bytes(range(32)) + bytes(32)


@dataclass(frozen=True)
class Platform:
    """`evidence` makes evidence with this value in the place of the binding, None to leave it out.

    `value` is what stands there for the bytes of a manifest, `unbound` what stands there for none.
    """

    place: str
    manifest: Manifest
    evidence: Callable[[bytes | None], Evidence]
    value: Callable[[bytes], bytes]
    unbound: bytes
    collateral: Bundle
    now: int

    @property
    def good(self) -> bytes:
        return self.value(self.manifest.encode())

    def verify(self, value: bytes | None, binding: bytes | None = None) -> Verdict:
        return verify_evidence(
            ParsedEvidence(self.evidence(value)),
            report_data=REPORT_DATA,
            manifest=self.manifest,
            role="coordinator",
            collateral=self.collateral,
            now=self.now,
            binding=binding,
        )


def extended(digest: bytes) -> bytes:
    return sha256(bytes(32) + digest).digest()


def sev_snp(simulated: Production) -> Platform:
    return Platform(
        "HOST_DATA",
        production.manifest(),
        lambda value: simulated.chip.but(host_data=value).evidence(REPORT_DATA),
        lambda data: sha256(data).digest(),
        bytes(32),
        simulated.bundle(),
        simulated_amd.NOW,
    )


def tdx(simulated: Production) -> Platform:
    def evidence(value: bytes | None) -> Evidence:
        assert value is not None
        report = replace(REPORT, report_data=REPORT_DATA, mrconfigid=value)
        return Evidence("tdx", simulated.intel.quote(report), (), EVENT_LOG)

    return Platform(
        "MRCONFIGID",
        production.manifest(),
        evidence,
        lambda data: sha256(data).digest() + bytes(16),
        bytes(48),
        simulated.bundle(),
        intel_certificates.NOW,
    )


def vtpm(_: Production) -> Platform:
    def evidence(value: bytes | None) -> Evidence:
        machine = SimulatedMachine("coordinator")
        del machine.pcrs[15]
        machine.pcrs |= {} if value is None else {15: value}
        return machine.evidence(REPORT_DATA)

    return Platform(
        "PCR 15",
        Manifest.parse(manifest_bytes()),
        evidence,
        lambda data: extended(sha256(data).digest()),
        extended(bytes(32)),
        Bundle(),
        simulated_machine.NOW,
    )


@pytest.fixture(params=[sev_snp, tdx, vtpm], ids=lambda make: make.__name__)
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Platform:
    simulated = Production()
    simulated.pin(monkeypatch)
    made: Platform = request.param(simulated)
    return made


def check_of(verdict: Verdict) -> Check:
    (check,) = (check for check in verdict.checks if check.name == CHECK)
    return check


def test_the_manifest_s_own_hash(platform: Platform) -> None:
    verdict = platform.verify(platform.good)
    verdict.require()
    check = check_of(verdict)
    assert check.expected == f"{platform.place} {platform.good.hex()}"
    assert (check.seen, check.source) == (platform.good.hex(), "SHA-256 of the manifest")


def test_another_manifest(platform: Platform) -> None:
    data = platform.manifest.encode()
    for other in (b"", data + b"\n", data[:-1], data.replace(b"simulated", b"simulates")):
        assert failed(platform.verify(platform.value(other))) == [CHECK]


def test_no_manifest(platform: Platform) -> None:
    verdict = platform.verify(platform.unbound)
    assert failed(verdict) == [CHECK]
    assert check_of(verdict).seen == f"{platform.unbound.hex()} (launched for no manifest)"
    assert failed(platform.verify(bytes(len(platform.good)))) == [CHECK]


def test_every_byte_counts(platform: Platform) -> None:
    good = platform.good
    for at in range(len(good)):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        assert failed(platform.verify(changed)) == [CHECK], at


def test_the_hash_in_another_form(platform: Platform) -> None:
    """Cut, padded at the other end or with other bytes, of another algorithm, not extended."""
    data = platform.manifest.encode()
    digest, size = sha256(data).digest(), len(platform.good)
    forms = {
        digest[:31].ljust(size, b"\0"),
        digest[:16].ljust(size, b"\0"),
        digest.rjust(size, b"\0"),
        digest.ljust(size, b"\xff"),
        (digest + digest)[:size],
        digest[::-1].ljust(size, b"\0"),
        sha384(data).digest()[:size],
        sha256(digest).digest().ljust(size, b"\0"),
        extended(extended(digest)).ljust(size, b"\0"),
        extended(digest + bytes(16)).ljust(size, b"\0"),
        extended(digest).ljust(size, b"\0"),
    } - {platform.good}
    assert len(forms) >= 8
    for form in forms:
        assert failed(platform.verify(form)) == [CHECK], form.hex()


def test_a_quote_that_leaves_the_register_out() -> None:
    verdict = vtpm(Production()).verify(None)
    assert failed(verdict) == [CHECK]
    assert check_of(verdict).seen == "not quoted"


def test_the_register_is_not_in_the_firmware_s_log() -> None:
    """The machine extends it after boot, so the log need not replay to it, whatever it says."""
    platform = vtpm(Production())
    evidence = platform.evidence(platform.good)
    for logged in ({}, {15: bytes(range(32))}):
        events = simulated_machine.measurements("coordinator") | logged
        log = simulated_machine.event_log(events)
        verdict = verify_evidence(
            ParsedEvidence(replace(evidence, event_log=log)),
            report_data=REPORT_DATA,
            manifest=platform.manifest,
            role="coordinator",
            collateral=platform.collateral,
            now=platform.now,
        )
        verdict.require()


def test_a_machine_that_is_to_have_no_manifest_yet(platform: Platform) -> None:
    verdict = platform.verify(platform.unbound, UNBOUND)
    verdict.require()
    assert check_of(verdict).source == "launch for no manifest"
    assert failed(platform.verify(platform.good, UNBOUND)) == [CHECK]


@pytest.mark.parametrize("binding", [b"", bytes(31), bytes(33), bytes(48)])
def test_a_caller_who_does_not_say_which(platform: Platform, binding: bytes) -> None:
    with pytest.raises(PolicyError, match="which manifest"):
        platform.verify(platform.unbound, binding)
