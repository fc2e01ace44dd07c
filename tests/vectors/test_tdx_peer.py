"""The same quotes and collateral, by dcap-qvl (Rust, from PyPI): same verdict, same TCB status.

Both are asked at the same times about every recorded quote with every recorded collateral, and
about simulated ones that upstream's list of mutations describes (`expected.json`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from confide.errors import FormatError
from confide.vendors.intel.collateral import TdxCollateral
from confide.vendors.intel.quote import Quote, TdReport
from confide.verify import roots
from tests.support.intel_certificates import NOW
from tests.support.simulated_intel import (
    PLATFORM_STATUSES,
    REPORT,
    REPORT_15,
    QuotingEnclave,
    SimulatedIntel,
    level,
    module,
    qe_identity,
    software,
    tcb_info,
)
from tests.support.tdx_vectors import (
    COLLATERAL,
    QUOTES,
    STATUS,
    at,
    peer_collateral,
    read_collateral,
    read_quote,
    seen,
    verify_recorded,
)
from tests.support.verdicts import failed

try:
    import dcap_qvl
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("dcap-qvl is not installed", allow_module_level=True)

REFUSED = "refused"
TIMES = [at(2023, 7, 1), at(2025, 7, 1), 1752919234, at(2026, 3, 1), at(2026, 4, 4), at(2027, 1, 1)]


def ours(
    quote: bytes, collateral: TdxCollateral, now: int, advisories: tuple[str, ...] = ()
) -> tuple[str, list[str]]:
    """TCB status, or `REFUSED` with the checks that failed."""
    try:
        verdict = verify_recorded(quote, collateral, now, advisories=advisories)
    except FormatError:
        return REFUSED, ["evidence"]
    return (seen(verdict, STATUS) if verdict.passed else REFUSED), failed(verdict)


def theirs(quote: bytes, collateral: str, now: int, root: bytes | None = None) -> tuple[str, str]:
    """TCB status, or `REFUSED` with the reason."""
    parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral)
    try:
        if root is None:
            return dcap_qvl.verify(quote, parsed, now).status, ""
        return dcap_qvl.verify_with_root_ca(quote, parsed, root, now).status, ""
    except ValueError as error:
        return REFUSED, str(error)


@pytest.mark.parametrize("collateral", COLLATERAL)
@pytest.mark.parametrize("name", [*QUOTES, "dcap-qvl/sgx_quote", "intel-qvl/tdx/quote.dat"])
def test_every_quote_with_every_collateral(vectors: Path, name: str, collateral: str) -> None:
    quote, parsed = read_quote(vectors, name), read_collateral(vectors, collateral)
    text = (vectors / collateral).read_text()
    for now in TIMES:
        assert ours(quote, parsed, now)[0] == theirs(quote, text, now)[0], now


def test_both_accept_some_and_refuse_some(vectors: Path) -> None:
    """The test above would pass with two verifiers that refuse everything."""
    parsed = read_collateral(vectors, COLLATERAL[1])
    text = (vectors / COLLATERAL[1]).read_text()
    statuses = [
        (ours(quote, parsed, at(2026, 3, 1))[0], theirs(quote, text, at(2026, 3, 1))[0])
        for quote in (read_quote(vectors, name) for name in QUOTES)
    ]
    assert statuses.count(("UpToDate", "UpToDate")) == 2
    assert statuses.count((REFUSED, REFUSED)) == len(QUOTES) - 2


def test_advisories_are_the_same(intel: SimulatedIntel) -> None:
    identifiers = ("INTEL-SA-00001", "INTEL-SA-00002", "INTEL-SA-00003")
    info = tcb_info(
        level("SWHardeningNeeded", advisories=identifiers[:2]),
        tdxModuleIdentities=[module("TDX_01", software(5, advisories=identifiers[1:]))],
    )
    collateral = intel.collateral(info, qe_identity(software(4, advisories=identifiers[2:])))
    text = peer_collateral(collateral, intel.pck_chain[1:])
    parsed = dcap_qvl.QuoteCollateralV3.from_json(text)
    report = dcap_qvl.verify_with_root_ca(intel.quote(), parsed, intel.root.der, NOW)
    verdict = verify_recorded(intel.quote(), collateral, NOW, advisories=identifiers)
    verdict.require()
    assert sorted(seen(verdict, "TCB advisories").split()) == sorted(report.advisory_ids)


# --- upstream's mutations ------------------------------------------------------------------------


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> SimulatedIntel:
    simulated = SimulatedIntel()
    monkeypatch.setattr(roots, "INTEL_SGX", simulated.pinned)
    return simulated


@dataclass(frozen=True)
class Recipe:
    """How to spoil a simulated platform, and the check of ours that fails (none: accepted)."""

    check: str | None
    quote: Callable[[SimulatedIntel], bytes] = SimulatedIntel.quote
    collateral: Callable[[SimulatedIntel], TdxCollateral] = SimulatedIntel.collateral


def of_report(**changes: Any) -> Callable[[SimulatedIntel], bytes]:
    return lambda intel: intel.quote(replace(REPORT, **changes))


def of_enclave(**changes: Any) -> Callable[[SimulatedIntel], bytes]:
    return lambda intel: intel.quote(qe=QuotingEnclave(**changes))


def of_bytes(change: Callable[[bytearray], object]) -> Callable[[SimulatedIntel], bytes]:
    def quote(intel: SimulatedIntel) -> bytes:
        data = bytearray(intel.quote())
        change(data)
        return bytes(data)

    return quote


def of_info(*levels: dict[str, Any], **changes: Any) -> Callable[[SimulatedIntel], TdxCollateral]:
    return lambda intel: intel.collateral(tcb_info(*levels, **changes))


def of_identity(
    *levels: dict[str, Any], **changes: Any
) -> Callable[[SimulatedIntel], TdxCollateral]:
    return lambda intel: intel.collateral(identity=qe_identity(*levels, **changes))


def of_fields(**changes: Any) -> Callable[[SimulatedIntel], TdxCollateral]:
    return lambda intel: replace(intel.collateral(), **changes)


def set_bytes(at: int, new: bytes) -> Callable[[bytearray], object]:
    return lambda data: data.__setitem__(slice(at, at + len(new)), new)


def without_tdx_components() -> dict[str, Any]:
    value = level()
    del value["tcb"]["tdxtcbcomponents"]
    return value


def ca_as_signer(intel: SimulatedIntel) -> TdxCollateral:
    intel.tcb_signer = intel.platform_ca
    return intel.collateral()


def signed_garbage(intel: SimulatedIntel) -> TdxCollateral:
    data = b"not JSON"
    return replace(
        intel.collateral(), tcb_info=data, tcb_info_signature=intel.tcb_signer.sign(data)
    )


def identity_garbage(intel: SimulatedIntel) -> TdxCollateral:
    data = b"not JSON"
    return replace(
        intel.collateral(), qe_identity=data, qe_identity_signature=intel.tcb_signer.sign(data)
    )


UNREADABLE = "certificates and collateral"
SEPT = REPORT.attributes
RECIPES = {
    "valid_tdx_v4": Recipe(None),
    "tdx_pks_enabled": Recipe(None, of_report(attributes=SEPT | 1 << 30)),
    "tdx_kl_enabled": Recipe(None, of_report(attributes=SEPT | 1 << 31)),
    "component_svn_all_higher": Recipe(None, collateral=of_info(level(sgx=[0] * 16, tdx=[0]))),
    "cert_type_5_with_pck_chain": Recipe(None),
    "tdx_missing_components": Recipe(UNREADABLE, collateral=of_info(without_tdx_components())),
    "tdx_qe_identity_id_mismatch": Recipe(UNREADABLE, collateral=of_identity(id="QE")),
    "tdx_debug_enabled": Recipe("TD attributes: DEBUG", of_report(attributes=SEPT | 1)),
    "tdx_sept_ve_disabled": Recipe("TD attributes: SEPT_VE_DISABLE", of_report(attributes=1 << 30)),
    "tdx_reserved_bits_set": Recipe(
        "TD attributes: no others", of_report(attributes=SEPT | 1 << 9)
    ),
    "invalid_quote_format": Recipe("evidence", lambda intel: b"\xff" * 100),
    "truncated_quote": Recipe("evidence", lambda intel: intel.quote()[:700]),
    "unsupported_version_{}": Recipe("evidence", of_bytes(set_bytes(0, b"\6\0"))),
    "unsupported_key_type_{}": Recipe("evidence", of_bytes(set_bytes(2, b"\3\0"))),
    "tcb_expired": Recipe("TCB info: time", collateral=of_info(nextUpdate="2026-05-31T00:00:00Z")),
    "tcb_issue_date_future": Recipe(
        "TCB info: time", collateral=of_info(issueDate="2026-06-02T00:00:00Z")
    ),
    "invalid_tcb_json": Recipe(UNREADABLE, collateral=signed_garbage),
    "tdx_component_svn_mismatch": Recipe(
        STATUS,
        of_report(tee_tcb_svn=bytes([5, 1, 9, 0] + [0] * 12)),
        of_info(level(tdx=[5, 0, 3, 1])),
    ),
    "short_tcb_chain": Recipe(UNREADABLE, collateral=of_fields(tcb_info_chain=())),
    "invalid_cert_format": Recipe(
        UNREADABLE,
        collateral=lambda intel: replace(
            intel.collateral(), tcb_info_chain=(b"INVALID", intel.root.der)
        ),
    ),
    "invalid_tcb_signature": Recipe(
        "TCB info: signature", collateral=of_fields(tcb_info_signature=bytes(64))
    ),
    "fmspc_mismatch": Recipe("TCB info: FMSPC", collateral=of_info(fmspc="000000000001")),
    "qe_report_hash_mismatch": Recipe("QE report: attestation key", of_enclave(bound=bytes(64))),
    "invalid_qe_report_signature": Recipe(
        "QE report signature", of_bytes(set_bytes(770 + 384, bytes(64)))
    ),
    "invalid_quote_signature": Recipe("quote signature", of_bytes(set_bytes(636, bytes(64)))),
    "qe_identity_expired": Recipe(
        "QE identity: time", collateral=of_identity(nextUpdate="2026-05-31T00:00:00Z")
    ),
    "qe_identity_issue_date_future": Recipe(
        "QE identity: time", collateral=of_identity(issueDate="2026-06-02T00:00:00Z")
    ),
    "invalid_qe_identity_json": Recipe(UNREADABLE, collateral=identity_garbage),
    "short_qe_identity_chain": Recipe(UNREADABLE, collateral=of_fields(qe_identity_chain=())),
    "invalid_qe_identity_signature": Recipe(
        "QE identity: signature", collateral=of_fields(qe_identity_signature=bytes(64))
    ),
    "qe_mrsigner_mismatch": Recipe("QE report: MRSIGNER", of_enclave(mrsigner=bytes(32))),
    "qe_isvprodid_mismatch": Recipe("QE report: ISVPRODID", of_enclave(isv_prod_id=3)),
    "qe_miscselect_mismatch": Recipe("QE report: MISCSELECT", of_enclave(miscselect=b"\1\0\0\0")),
    "qe_attributes_mismatch": Recipe("QE report: ATTRIBUTES", of_enclave(attributes=bytes(16))),
    "qe_debug_enabled": Recipe("QE report: DEBUG", of_enclave(attributes=b"\x17" + bytes(15))),
    "unknown_tcb_status": Recipe(STATUS, collateral=of_info(tcbLevels=[])),
    "revoked_platform_tcb": Recipe(STATUS, collateral=of_info(level("Revoked"))),
    "revoked_qe_tcb": Recipe(STATUS, collateral=of_identity(software(4, "Revoked"))),
    "cert_type_3_without_pck_chain": Recipe(
        "evidence", of_bytes(set_bytes(770 + 384 + 64 + 2 + 32, b"\3\0"))
    ),
    "ca_used_as_end_entity_tcb": Recipe("TCB info signer: chain", collateral=ca_as_signer),
    "ca_used_as_end_entity_qe": Recipe("QE identity signer: chain", collateral=ca_as_signer),
}
# Of enclaves' quotes, which are refused as such; and a form of quote that brings no PCK chain,
# which dcap-qvl takes from the collateral and this verifier never.
NOT_FOR_TDX = {
    "valid_sgx_v3",
    "invalid_sgx_v4",
    "invalid_quote_v5",
    "debug_sgx_v3",
    "sgx_tcb_id_mismatch",
    "sgx_component_svn_mismatch",
    "cert_type_3_with_pck_chain",
}


def test_every_mutation_of_upstream_has_a_recipe(vectors: Path) -> None:
    expected = json.loads((vectors / "dcap-qvl/expected.json").read_text())
    (cases,) = (value for key, value in expected.items() if key.startswith("upstream_mutation"))
    upstream = {case["name"]: case["should_succeed"] for case in cases}
    assert upstream.keys() == RECIPES.keys() | NOT_FOR_TDX
    for name, recipe in RECIPES.items():
        assert upstream[name] == (recipe.check is None), name


@pytest.mark.parametrize("name", RECIPES)
def test_mutation_of_upstream(intel: SimulatedIntel, name: str) -> None:
    recipe = RECIPES[name]
    collateral = recipe.collateral(intel)
    quote = recipe.quote(intel)
    status, checks = ours(quote, collateral, NOW)
    text = peer_collateral(collateral, intel.pck_chain[1:])
    assert status == theirs(quote, text, NOW, intel.root.der)[0]
    if recipe.check is None:
        assert (status, checks) == ("UpToDate", [])
    else:
        assert recipe.check in checks


# --- statuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("enclave", ["UpToDate", "OutOfDate", "Revoked"])
@pytest.mark.parametrize("tdx_module", ["UpToDate", "OutOfDate", "Revoked"])
@pytest.mark.parametrize("platform", PLATFORM_STATUSES)
@pytest.mark.parametrize("report", [REPORT, REPORT_15], ids=["1.0", "1.5"])
def test_status_of_three_parts(
    intel: SimulatedIntel, report: TdReport, platform: str, tdx_module: str, enclave: str
) -> None:
    collateral = intel.collateral(
        tcb_info(
            level(platform),
            tdxModuleIdentities=[module("TDX_01", software(6), software(5, tdx_module))],
        ),
        qe_identity(software(7), software(6, enclave)),
    )
    text = peer_collateral(collateral, intel.pck_chain[1:])
    quote = intel.quote(report)
    assert ours(quote, collateral, NOW)[0] == theirs(quote, text, NOW, intel.root.der)[0]


@pytest.mark.parametrize(
    ("launched", "running"),
    [((5, 1), (7, 1)), ((5, 1), (6, 1)), ((7, 1), (7, 1)), ((5, 1), (5, 0))],
)
@pytest.mark.parametrize("platform", PLATFORM_STATUSES)
def test_status_after_the_module_was_updated(
    intel: SimulatedIntel, platform: str, launched: tuple[int, int], running: tuple[int, int]
) -> None:
    modules = [module("TDX_01", software(7), software(5, "OutOfDate"))]
    collateral = intel.collateral(tcb_info(level(platform), tdxModuleIdentities=modules))
    text = peer_collateral(collateral, intel.pck_chain[1:])
    rest = [3, *[0] * 13]
    report = replace(
        REPORT_15, tee_tcb_svn=bytes([*launched, *rest]), tee_tcb_svn2=bytes([*running, *rest])
    )
    quote = intel.quote(report)
    assert ours(quote, collateral, NOW)[0] == theirs(quote, text, NOW, intel.root.der)[0]


# --- where the two differ, each for a reason -----------------------------------------------------

STRICTER = {
    # Intel's library compares the PCE-ID, too.
    "TCB info: PCE-ID": Recipe("TCB info: PCE-ID", collateral=of_info(pceId="0001")),
    # What is signed and not understood might change what is understood.
    "unknown field": Recipe(UNREADABLE, collateral=of_info(new="1")),
    # Only zeros may follow the hash that binds the attestation key.
    "QE report data": Recipe(
        "QE report: attestation key",
        lambda intel: intel.quote(
            qe=QuotingEnclave(
                bound=Quote.parse(intel.quote()).qe_report.report_data[:32] + b"\1" * 32
            )
        ),
    ),
    # A chain has its root in it, whose key is compared with the pinned one.
    "chain without root": Recipe(
        "TCB info signer: chain",
        collateral=lambda intel: replace(
            intel.collateral(), tcb_info_chain=(intel.tcb_signer.der,)
        ),
    ),
}


@pytest.mark.parametrize("name", STRICTER)
def test_refused_here_and_accepted_by_the_peer(intel: SimulatedIntel, name: str) -> None:
    recipe = STRICTER[name]
    collateral, quote = recipe.collateral(intel), recipe.quote(intel)
    assert recipe.check in ours(quote, collateral, NOW)[1]
    text = peer_collateral(collateral, intel.pck_chain[1:])
    assert theirs(quote, text, NOW, intel.root.der) == ("UpToDate", "")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_authentication_data_need_not_be_32_bytes(intel: SimulatedIntel, size: int) -> None:
    """Its size is a field of the quote (none in Intel's own sample); the peer wants 32 bytes."""
    quote, collateral = intel.quote(qe=QuotingEnclave(auth_data=bytes(size))), intel.collateral()
    assert ours(quote, collateral, NOW) == ("UpToDate", [])
    text = peer_collateral(collateral, intel.pck_chain[1:])
    assert theirs(quote, text, NOW, intel.root.der)[0] == REFUSED
