"""`confide site add`: a machine that fails one check leaves the site file as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.commands.status import ExitStatus
from confide.protocol.binding import inventory_report_data, join_report_data
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.protocol.launch import mrconfigid
from confide.vendors.amd.report import Product
from confide.verify.roots import AMD_MILAN
from tests.support import intel_certificates
from tests.support.production import Production
from tests.support.registering import (
    DATA,
    NONCE,
    OTHER,
    add,
    at,
    failed_names,
    site_bytes,
    td,
    write_policy,
    write_site,
)
from tests.support.simulated_amd import (
    DAY,
    MADE,
    NOW,
    intermediate,
    make_crl,
    revoked_entry,
    root,
)
from tests.support.simulated_intel import EVENT_LOG, REPORT
from tests.support.simulated_machine import SimulatedMachine

PASSED, FAILED, USAGE, _ = ExitStatus
BOUND = bytes(range(1, 33))
"""SHA-256 of some manifest."""
JOIN = join_report_data(
    NONCE,
    role="worker-cpu",
    public_key=b"key",
    kem_public_key=b"",
    manifest=b"{}",
    models=(),
    mesh_ca=b"ca",
    gpus=b"",
)


def bound(machines: Production) -> Evidence:
    return machines.chip.but(host_data=BOUND).evidence(DATA)


FAILS: dict[str, tuple[Callable[[Production], Evidence], list[str]]] = {
    "a bound machine": (bound, ["launch binding"]),
    "another nonce": (lambda p: p.snp(inventory_report_data(bytes(32))), ["report data"]),
    "a join": (lambda p: p.snp(JOIN), ["report data"]),
    "no label": (lambda p: p.snp(NONCE + bytes(32)), ["report data"]),
    "another image": (
        lambda p: p.chip.but(measurement=bytes(48)).evidence(DATA), ["launch digest"],
    ),
    "a debug machine": (
        lambda p: p.chip.but(policy=p.chip.policy | 1 << 19).evidence(DATA),
        ["guest policy: debug"],
    ),
    "an old TCB": (lambda p: p.chip.but(launch_tcb=bytes(8)).evidence(DATA), ["launch TCB"]),
    "another chip's id": (lambda p: p.chip.but(chip_id=b"\1" * 64).evidence(DATA), ["chip id"]),
    "a leased key": (
        lambda p: p.chip.but(csp_id="CN=simulated.cloud").evidence(DATA), ["cloud"],
    ),
    "a GPU": (lambda p: p.with_gpu(p.snp(DATA), DATA), ["GPUs"]),
    "a refusal of GPUs": (
        lambda p: replace(p.snp(DATA), gpu_refusal="no-gpu"), ["GPU refusal"],
    ),
    "a bound TD": (lambda p: td(p, mrconfigid=mrconfigid(BOUND)), ["launch binding"]),
    "16 bytes after no binding": (
        lambda p: td(p, mrconfigid=bytes(47) + b"\1"), ["launch binding"],
    ),
    "another image of a TD": (lambda p: td(p, mrtd=bytes(48)), ["MRTD (firmware)"]),
    "another nonce of a TD": (lambda p: td(p, report_data=JOIN), ["report data"]),
    "another log of a TD": (lambda p: replace(td(p), event_log=b""), ["event log"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILS)
@pytest.mark.parametrize("exists", [True, False])
def test_each_check_alone(
    machines: Production,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    exists: bool,
) -> None:
    before = write_site(chip_ids=[OTHER]) if exists else None
    make, expected = FAILS[name]
    evidence = make(machines)
    if evidence.platform == "tdx":
        at(monkeypatch, intel_certificates.NOW)
    assert add(evidence, "--json") == FAILED
    answer = capsys.readouterr().out
    assert failed_names(answer) == expected
    assert json.loads(answer)["chip_ids"] == json.loads(answer)["platform_instances"] == []
    assert site_bytes() == before
    assert add(evidence) == FAILED
    shown = capsys.readouterr().out
    assert "NOT verified: not added" in shown and "site.json" not in shown
    assert site_bytes() == before


@pytest.mark.parametrize(
    ("end", "expected"), [(MADE, ["collateral", "revocation list"]), (MADE + 30 * DAY, [])]
)
def test_a_revocation_list_that_has_expired(
    machines: Production, capsys: pytest.CaptureFixture[str], end: Any, expected: list[str]
) -> None:
    before = write_site()
    crl = Item(make_crl(issuer=root(), start=MADE - DAY, end=end), NOW)
    items = {**machines.bundle().items, "amd/milan/crl": crl}
    Path("old").write_bytes(Bundle(items).encode())
    assert add(machines.snp(DATA), "--json", collateral="old") == (FAILED if expected else PASSED)
    assert failed_names(capsys.readouterr().out) == expected
    assert (site_bytes() == before) == bool(expected)


def test_a_revoked_chip(machines: Production, capsys: pytest.CaptureFixture[str]) -> None:

    entry = revoked_entry(machines.chip.serial, intermediate().certificate.subject)
    items = {**machines.bundle().items, "amd/milan/crl": Item(make_crl([entry]), NOW)}
    Path("revoked").write_bytes(Bundle(items).encode())
    assert add(machines.snp(DATA), "--json", collateral="revoked") == FAILED
    assert failed_names(capsys.readouterr().out) == ["revocation"]
    assert site_bytes() is None


def test_a_tcb_info_that_has_expired(
    machines: Production, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at(monkeypatch, intel_certificates.NOW + 90 * 86400)
    assert add(td(machines), "--json") == FAILED
    assert "collateral" in failed_names(capsys.readouterr().out)
    assert site_bytes() is None


def test_real_roots_believe_no_simulated_chip(
    machines: Production, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    monkeypatch.setattr("confide.verify.snp.chain.ROOTS", {Product.MILAN: AMD_MILAN})
    assert add(machines.snp(DATA), "--json") == FAILED
    assert failed_names(capsys.readouterr().out) == ["root"]
    assert site_bytes() is None


def test_a_platform_that_the_policy_does_not_have(
    machines: Production, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy("snp")
    assert add(machines.snp(DATA), "--json") == FAILED
    assert failed_names(capsys.readouterr().out) == ["platform"]
    assert site_bytes() is None


def unstated(machines: Production, instance: bytes = b"") -> Evidence:
    """A TD on a platform of which Intel's certificate states no instance, or zeros."""
    intel = machines.intel
    pck = intel.issue_pck(extension=intel_certificates.pck_extension(instance=instance))
    chain = (pck.der, *intel.pck_chain[1:])
    return Evidence("tdx", intel.quote(REPORT, chain=chain), (), EVENT_LOG)


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda p: p.chip.but(chip_id=bytes(64)).evidence(DATA), "masked chip id"),
        (lambda _: SimulatedMachine("coordinator").evidence(DATA), "a vTPM"),
        (unstated, "without a platform instance"),
        (lambda p: unstated(p, bytes(16)), "without a platform instance"),
    ],
)
def test_a_machine_that_does_not_name_itself(
    machines: Production,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Production], Evidence],
    seen: str,
) -> None:
    before = write_site()
    assert add(make(machines)) == FAILED
    shown = capsys.readouterr()
    assert "no-machine-identity" in shown.err and seen in shown.err
    assert site_bytes() == before
