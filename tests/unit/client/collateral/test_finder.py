"""From nothing to a verdict that passes: bundle, cache, SIMULATED vendors, and what goes wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from confide.client.collateral.finder import Finder, read_bundle
from confide.client.collateral.freshness import RENEW_AFTER, end_of
from confide.errors import ConfigError
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Manifest
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from tests.support import intel_certificates
from tests.support.collateral_items import DRIVER_RIM, rim
from tests.support.production import Production, manifest
from tests.support.simulated_amd import MADE, NOW, make_crl, root
from tests.support.simulated_gpu import issue
from tests.support.simulated_machine import SimulatedMachine, manifest_bytes
from tests.support.simulated_vendors import (
    KDS,
    OCSP,
    PCS,
    RIMS,
    MakeFinder,
    Reply,
    SimulatedVendors,
    always,
)

REPORT_DATA = bytes(range(32)) + bytes(32)
CRL = "amd/milan/crl"

Machine = tuple[Evidence, str, int]


def machine(production: Production, kind: str) -> Machine:
    """Evidence that brings no certificate which could be fetched, its role, and when it was."""
    snp = production.snp(REPORT_DATA, certificates=0)
    return {
        "SEV-SNP": (snp, "coordinator", NOW),
        "TDX": (production.tdx(REPORT_DATA), "coordinator", intel_certificates.NOW),
        "GPU": (production.with_gpu(snp, REPORT_DATA), "worker-gpu", NOW),
    }[kind]


def failed(found: Bundle, machine: Machine, by: Manifest | None = None) -> list[str]:
    evidence, role, now = machine
    verdict = verify_evidence(
        ParsedEvidence(evidence),
        report_data=REPORT_DATA,
        manifest=by or manifest(),
        role=role,
        collateral=found,
        now=now,
    )
    return [check.name for check in verdict.checks if not check.passed]


def find(finder: Finder, machine: Machine, by: Manifest | None = None) -> Bundle:
    evidence, role, _ = machine
    by = by or manifest()
    return finder.find(ParsedEvidence(evidence), by.role(role), by)


@pytest.mark.parametrize(("kind", "requests"), [("SEV-SNP", 3), ("TDX", 4), ("GPU", 11)])
def test_from_nothing_to_a_verdict(
    production: Production,
    vendors: SimulatedVendors,
    make_finder: MakeFinder,
    problems: list[str],
    kind: str,
    requests: int,
) -> None:
    asked = machine(production, kind)
    assert "collateral" in failed(Bundle(), asked)
    found = find(make_finder(asked[2]), asked)
    assert failed(found, asked) == []
    assert len(vendors.asked) == len(set(vendors.asked)) + (5 if kind == "GPU" else 0) == requests
    # Again, as another process: nobody is asked, and the same comes out.
    assert find(make_finder(asked[2]), asked) == found
    assert len(vendors.asked) == requests
    # And from the file that a client may be given, with nothing else at hand.
    carried = Bundle.parse(found.encode())
    assert failed(find(make_finder(asked[2], carried, online=False), asked), asked) == []
    assert problems == []


def test_a_development_machine_needs_nothing(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    class Untouchable:
        get = put = refusal = drop = fail

    finder = Finder(Bundle(), cache=Untouchable(), fetcher=Untouchable(), report=fail)  # type: ignore[arg-type]
    evidence = SimulatedMachine("coordinator").evidence(REPORT_DATA).encode()
    assert finder(evidence, Manifest.parse(manifest_bytes())) == Bundle()


def test_evidence_that_is_none_needs_nothing(make_finder: MakeFinder, folder: Path) -> None:
    assert make_finder()(b"no evidence", manifest()) == Bundle()
    assert not folder.exists()


# --- what ends ----------------------------------------------------------------------------------


def test_what_has_ended_is_fetched_anew(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder, problems: list[str]
) -> None:
    asked = machine(production, "SEV-SNP")
    first = find(make_finder(), asked)
    end = MADE + timedelta(days=30)
    last = int(end.timestamp())
    # At its very end it is good, one second later it is not; the vendor has the next one.
    assert find(make_finder(last, online=False), asked).get(CRL) == first.get(CRL)
    page = f"{KDS}/vcek/v1/Milan/crl"
    following = make_crl(issuer=root(), start=end, end=end + timedelta(days=30))
    vendors.pages[page] = always(following)
    found = find(make_finder(last + 1), asked)
    assert found.get(CRL) == Item(following, last + 1)
    assert [found.get(n) == first.get(n) for n in first.items].count(False) == 1
    assert problems == [f"the cache's {CRL} is not used: it expired at 2027-02-13 08:00:00 UTC"]


def test_what_has_ended_is_neither_used_nor_kept(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder, folder: Path
) -> None:
    asked = machine(production, "SEV-SNP")
    whole = find(make_finder(), asked)
    files = set(folder.iterdir())
    later = NOW + 40 * 86400
    found = find(make_finder(later, whole, online=False), asked)
    assert set(whole.items) - set(found.items) == {CRL}
    assert len(files - set(folder.iterdir())) == 1
    # A vendor that still has the old one is not believed either, and not asked all the time.
    assert find(make_finder(later), asked).get(CRL) is None
    count = len(vendors.asked)
    assert find(make_finder(later + 1), asked).get(CRL) is None
    assert len(vendors.asked) == count


def test_revocation_is_noticed_within_a_day_not_at_the_end(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder, problems: list[str]
) -> None:
    asked = machine(production, "SEV-SNP")
    find(make_finder(), asked)
    newer = make_crl(issuer=root(), end=MADE + timedelta(days=31))
    vendors.pages[f"{KDS}/vcek/v1/Milan/crl"] = always(newer)
    count = len(vendors.asked)
    assert find(make_finder(NOW + RENEW_AFTER - 1), asked).items[CRL].data != newer
    assert len(vendors.asked) == count
    assert find(make_finder(NOW + RENEW_AFTER), asked).items[CRL].data == newer
    assert len(vendors.asked) == count + 1
    assert problems == []


def test_the_old_one_is_good_while_the_vendor_is_down(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder, problems: list[str]
) -> None:
    asked = machine(production, "SEV-SNP")
    whole = find(make_finder(), asked)
    vendors.faults[KDS] = Reply(503)
    assert find(make_finder(NOW + 2 * RENEW_AFTER), asked) == whole
    assert len(problems) == 1


def test_a_bundle_from_the_future_does_not_stop_renewal(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder
) -> None:
    """The maker of a bundle chose the times of fetching that it states."""
    asked = machine(production, "SEV-SNP")
    whole = find(make_finder(), asked)
    ahead = Bundle({name: replace(item, fetched=2**60) for name, item in whole.items.items()})
    vendors.asked.clear()
    found = find(make_finder(NOW + 2 * RENEW_AFTER, ahead), asked)
    assert [at.rsplit("/")[-1] for at in vendors.asked] == ["crl"]
    assert found.items[CRL].fetched == NOW + 2 * RENEW_AFTER


def test_the_cache_stands_in_for_an_old_bundle(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder, problems: list[str]
) -> None:
    asked = machine(production, "SEV-SNP")
    whole = find(make_finder(), asked)
    ended = make_crl(issuer=root(), end=MADE + timedelta(hours=1))
    old = Bundle({**whole.items, CRL: Item(ended, NOW - 1)})
    assert find(make_finder(bundle=old, online=False), asked) == whole
    assert problems == [f"the bundle's {CRL} is not used: it expired at 2027-01-14 09:00:00 UTC"]
    # Of two that are good, the one that was fetched later.
    newer = make_crl(issuer=root(), end=MADE + timedelta(days=31))
    new = Bundle({CRL: Item(newer, NOW + 1)})
    assert find(make_finder(bundle=new, online=False), asked).items[CRL].data == newer
    assert len(vendors.asked) == 3


def test_reference_values_whose_signer_has_expired(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder
) -> None:
    """NVIDIA signs them anew, under the same name: the old ones must not stay in a cache."""
    asked = machine(production, "GPU")
    above = production.nvidia.rim_chain[1:]
    signer = issue("HCC RIM L4 Signer", above[0], ca=False, end=NOW + 3600)
    old = rim(production, production.gpu, DRIVER_RIM, chain=(signer, *above))
    given = Bundle({DRIVER_RIM: old})
    offline = make_finder(NOW + 3600, given, online=False)
    assert find(offline, asked).items[DRIVER_RIM] == old
    found = find(make_finder(NOW + 3601, given), asked).items[DRIVER_RIM]
    assert end_of(DRIVER_RIM, found) == NOW + 300 * 86400


# --- vendors that fail --------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "kind"), [(KDS, "SEV-SNP"), (PCS, "TDX"), (RIMS, "GPU")])
def test_a_vendor_that_is_down(
    production: Production,
    vendors: SimulatedVendors,
    make_finder: MakeFinder,
    problems: list[str],
    host: str,
    kind: str,
) -> None:
    asked = machine(production, kind)
    vendors.faults[host] = Reply(503)
    found = find(make_finder(asked[2]), asked)
    # One line, that says what still works, and no request beyond the attempts of the first.
    assert len(problems) == 1
    assert "HTTP status 503" in problems[0]
    assert "not asked again before" in problems[0]
    assert "need" in problems[0].split("; ")[1]
    assert sum(host in at for at in vendors.asked) == 3
    assert failed(found, asked)[0] == "collateral"
    # Another process knows it, and after a while asks again.
    find(make_finder(asked[2] + 1), asked)
    assert sum(host in at for at in vendors.asked) == 3
    vendors.faults.clear()
    assert failed(find(make_finder(asked[2] + 61), asked), asked) == []


def test_other_vendors_are_asked_while_one_is_down(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder
) -> None:
    asked = machine(production, "GPU")
    vendors.faults[OCSP] = Reply(500)
    found = find(make_finder(), asked)
    assert {name.split("/")[1] for name in found.items} == {"vcek", "milan", "rim"}


def test_an_item_that_a_vendor_does_not_have(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder, problems: list[str]
) -> None:
    asked = machine(production, "SEV-SNP")
    del vendors.pages[f"{KDS}/vcek/v1/Milan/crl"]
    for later in (0, 1, 3599):
        found = find(make_finder(NOW + later), asked)
        assert len(found.items) == 3
        assert CRL not in found.items
    assert sum("crl" in at for at in vendors.asked) == 1
    assert problems == 3 * [
        "AMD's key distribution service does not have it (HTTP status 404) for amd/milan/crl: not "
        "asked again before 2027-01-15 09:00:00 UTC"
    ]
    find(make_finder(NOW + 3600), asked)
    assert sum("crl" in at for at in vendors.asked) == 2


@pytest.mark.parametrize(
    ("host", "kind", "body"),
    [
        (KDS, "SEV-SNP", b"<html>Sign in to the network</html>"),
        (PCS, "TDX", b"{}"),
        (RIMS, "GPU", b'{"rim": 7}'),
        (RIMS, "GPU", b'{"rim": "PHg+"}'),
        (RIMS, "GPU", b"[" * 5000),
        (OCSP, "GPU", b"\x30\x03\x0a\x01\x06"),
        (OCSP, "GPU", b""),
    ],
)
def test_answers_that_are_something_else(
    production: Production,
    vendors: SimulatedVendors,
    make_finder: MakeFinder,
    problems: list[str],
    host: str,
    kind: str,
    body: bytes,
) -> None:
    asked = machine(production, kind)
    vendors.faults[host] = Reply(body=body)
    found = find(make_finder(asked[2]), asked)
    assert problems
    assert all(len(line) < 600 and "\n" not in line for line in problems)
    assert failed(found, asked)[0] == "collateral"
    # Nothing of it was kept.
    vendors.faults.clear()
    assert failed(find(make_finder(asked[2] + 61), asked), asked) == []


def test_the_certificate_of_another_chip_is_not_kept(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder, problems: list[str]
) -> None:
    asked = machine(production, "SEV-SNP")
    (page,) = (at for at in vendors.pages if "blSPL" in at)
    vendors.pages[page] = always(production.chip.but(hardware_id=bytes(64)).certificate())
    assert not any("vcek" in name for name in find(make_finder(), asked).items)
    assert "that of another" in problems[0]


def test_evidence_cannot_make_us_ask_forever(
    production: Production,
    vendors: SimulatedVendors,
    make_finder: MakeFinder,
    problems: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("confide.client.collateral.finder.MAX_REQUESTS", 5)
    find(make_finder(), machine(production, "GPU"))
    assert len(vendors.asked) == 5
    assert problems == ["more than 5 requests for one evidence: the rest is not sent"]


def test_refusals_of_another_clock_do_not_count(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder
) -> None:
    asked = machine(production, "SEV-SNP")
    vendors.faults[KDS] = Reply(503)
    find(make_finder(NOW + 10**6), asked)
    vendors.faults.clear()
    assert failed(find(make_finder(), asked), asked) == []


def test_offline_nobody_is_asked(
    production: Production, vendors: SimulatedVendors, make_finder: MakeFinder
) -> None:
    asked = machine(production, "SEV-SNP")
    assert find(make_finder(online=False), asked) == Bundle()
    assert vendors.asked == []


def test_only_what_is_needed_comes_out(production: Production, make_finder: MakeFinder) -> None:
    asked = machine(production, "SEV-SNP")
    found = find(make_finder(bundle=production.bundle(), online=False), asked)
    assert {name.split("/")[0] for name in found.items} == {"amd"}


def test_a_cache_that_cannot_be_written(
    production: Production,
    vendors: SimulatedVendors,
    make_finder: MakeFinder,
    problems: list[str],
    folder: Path,
) -> None:
    folder.write_bytes(b"a file where the folder should be")
    asked = machine(production, "SEV-SNP")
    finder = make_finder()
    for _ in range(2):
        assert failed(find(finder, asked), asked) == []
    # Root and intermediate came in one answer all the same, and it was remembered.
    assert len(vendors.asked) == 3
    (problem,) = problems
    assert "cannot be written" in problem


def test_a_bundle_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bundle(tmp_path / "nothing")
