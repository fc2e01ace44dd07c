"""A production manifest's machines: each platform by its verifier, GPUs bound to the machine."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from confide.encoding.canonical import json_encode
from confide.errors import FormatError
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Manifest
from confide.verify.collateral import missing_for
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.verdict import Verdict
from tests.support import intel_certificates, simulated_amd
from tests.support.production import Production, manifest, manifest_value
from tests.support.schemas import MANIFEST_SCHEMA as SCHEMA
from tests.support.verdicts import failed

REPORT_DATA = bytes(range(32)) + bytes(32)
Call = Callable[..., Verdict]


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> Production:
    made = Production()
    made.pin(monkeypatch)
    return made


@pytest.fixture
def verify(production: Production) -> Call:
    def call(evidence: Evidence, role: str = "coordinator", **changes: Any) -> Verdict:
        tdx = evidence.platform == "tdx"
        arguments: dict[str, Any] = {
            "report_data": REPORT_DATA,
            "manifest": manifest(),
            "role": role,
            "collateral": production.bundle(),
            "now": intel_certificates.NOW if tdx else simulated_amd.NOW,
        }
        return verify_evidence(ParsedEvidence(evidence), **(arguments | changes))

    return call


def without(bundle: Bundle, *prefixes: str) -> Bundle:
    return Bundle({k: v for k, v in bundle.items.items() if not k.startswith(prefixes)})


@pytest.mark.parametrize("certificates", [0, 1, 2, 3])
def test_sev_snp_with_certificates_from_the_host_or_from_collateral(
    production: Production, verify: Call, certificates: int
) -> None:
    verdict = verify(production.snp(REPORT_DATA, certificates=certificates))
    assert failed(verdict) == []
    assert verdict.checks[0].name == "platform"


def test_tdx(production: Production, verify: Call) -> None:
    assert failed(verify(production.tdx(REPORT_DATA))) == []


def test_a_worker_with_gpus(production: Production, verify: Call) -> None:
    evidence = production.with_gpu(production.snp(REPORT_DATA), REPORT_DATA)
    verdict = verify(evidence, "worker-gpu")
    assert failed(verdict) == []
    assert any(check.name.startswith("GPU 0") for check in verdict.checks)


@pytest.mark.parametrize("make", ["snp", "tdx"])
def test_evidence_for_another_nonce(production: Production, verify: Call, make: str) -> None:
    evidence = getattr(production, make)(REPORT_DATA)
    verdict = verify(evidence, report_data=bytes(64))
    assert failed(verdict) == ["report data"]


def test_gpus_of_another_machine(production: Production, verify: Call) -> None:
    """Each half is genuine, but the GPU signed what another machine's report binds."""
    evidence = production.with_gpu(production.snp(REPORT_DATA), bytes(64))
    assert failed(verify(evidence, "worker-gpu")) == ["GPU 0 nonce"]


def test_zero_gpus_where_some_are_wanted(production: Production, verify: Call) -> None:
    verdict = verify(production.snp(REPORT_DATA), "worker-gpu")
    assert failed(verdict) == ["number of GPUs"]


def test_gpus_of_a_machine_that_failed_are_not_looked_at(
    production: Production, verify: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing vouches for what its report binds, so nobody spends time on what hangs from that."""
    monkeypatch.setattr("confide.verify.evidence.gpu_collateral", pytest.fail)
    evidence = production.with_gpu(production.snp(REPORT_DATA), REPORT_DATA)
    verdict = verify(evidence, "worker-gpu", report_data=bytes(64))
    assert failed(verdict) == ["report data", "GPUs"]


def test_gpus_where_none_are_wanted(production: Production, verify: Call) -> None:
    evidence = production.with_gpu(production.snp(REPORT_DATA), REPORT_DATA)
    assert failed(verify(evidence)) == ["GPUs"]


def test_a_refusal_of_gpus_where_none_are_wanted(production: Production, verify: Call) -> None:
    evidence = replace(production.snp(REPORT_DATA), gpu_refusal="no-gpu")
    assert failed(verify(evidence)) == ["GPU refusal"]


def test_a_platform_that_the_role_does_not_accept(production: Production, verify: Call) -> None:
    value = manifest_value()
    del value["roles"]["coordinator"]["tdx"]
    only_snp = Manifest.parse(json_encode(value))
    assert (
        failed(verify(production.tdx(REPORT_DATA), manifest=only_snp)) == ["platform", "GPUs"][:1]
    )
    # The other way round: a development machine is never good enough
    vtpm = replace(production.tdx(REPORT_DATA), platform="vtpm")
    assert "platform" in failed(verify(vtpm))


def test_real_roots_believe_nothing_that_is_simulated() -> None:
    production = Production()
    for evidence, now in (
        (production.snp(REPORT_DATA), simulated_amd.NOW),
        (production.tdx(REPORT_DATA), intel_certificates.NOW),
    ):
        verdict = verify_evidence(
            ParsedEvidence(evidence),
            report_data=REPORT_DATA,
            manifest=manifest(),
            role="coordinator",
            collateral=production.bundle(),
            now=now,
        )
        assert not verdict.passed


# --- collateral ---------------------------------------------------------------------------------


def test_nothing_is_missing_from_the_whole_bundle(production: Production) -> None:
    role = manifest().role("worker-gpu")
    for evidence in (production.snp(REPORT_DATA, certificates=0), production.tdx(REPORT_DATA)):
        whole = production.with_gpu(evidence, REPORT_DATA)
        assert missing_for(ParsedEvidence(whole), role, manifest(), production.bundle()) == {}


def test_what_is_missing_is_named(production: Production, verify: Call) -> None:
    empty = missing_for(
        ParsedEvidence(production.snp(REPORT_DATA, certificates=0)),
        manifest().role("coordinator"),
        manifest(),
        Bundle(),
    )
    assert [name.split("/")[:2] for name in empty] == [
        ["amd", "vcek"], ["amd", "milan"], ["amd", "milan"], ["amd", "milan"],
    ]  # fmt: skip
    verdict = verify(production.snp(REPORT_DATA), collateral=Bundle())
    assert verdict.first_failed is not None
    assert verdict.first_failed.name == "collateral"
    assert "amd/milan/crl" in verdict.first_failed.seen


def test_reference_values_name_their_signers_once_they_are_there(production: Production) -> None:
    evidence = ParsedEvidence(production.with_gpu(production.snp(REPORT_DATA), REPORT_DATA))
    role = manifest().role("worker-gpu")
    without_rims = without(production.bundle(), "nvidia/")
    first = missing_for(evidence, role, manifest(), without_rims)
    assert sum(name.startswith("nvidia/rim/") for name in first) == 2
    found = {k: v for k, v in production.bundle().items.items() if k.startswith("nvidia/rim/")}
    second = missing_for(evidence, role, manifest(), Bundle({**without_rims.items, **found}))
    assert len(second) > len([n for n in first if n.startswith("nvidia/ocsp/")])
    assert all(name.startswith("nvidia/ocsp/") for name in second)


@pytest.mark.parametrize(
    "prefix",
    ["intel/tcb-info", "intel/qe-identity", "intel/crl/root", "intel/crl/platform"],
)
def test_tdx_without_one_statement_of_intels(
    production: Production, verify: Call, prefix: str
) -> None:
    bundle = without(production.bundle(), prefix)
    verdict = verify(production.tdx(REPORT_DATA), collateral=bundle)
    assert verdict.first_failed is not None
    assert verdict.first_failed.name == "collateral"
    assert prefix in verdict.first_failed.seen


@pytest.mark.parametrize(
    "prefix", ["nvidia/rim/NV_GPU_DRIVER", "nvidia/rim/NV_GPU_VBIOS", "nvidia/ocsp"]
)
def test_gpus_without_nvidias_statements(production: Production, verify: Call, prefix: str) -> None:
    evidence = production.with_gpu(production.snp(REPORT_DATA), REPORT_DATA)
    verdict = verify(evidence, "worker-gpu", collateral=without(production.bundle(), prefix))
    assert verdict.first_failed is not None
    assert verdict.first_failed.name == "collateral"


def test_a_bundle_from_somebody_else(production: Production, verify: Call) -> None:
    """The carrier of collateral is trusted with nothing: only the pinned vendor key counts."""
    other = Production().bundle()
    assert not verify(production.tdx(REPORT_DATA), collateral=other).passed


# --- the manifest -------------------------------------------------------------------------------


def test_a_production_manifest_round_trips() -> None:
    value = manifest_value()
    data = json_encode(value)
    assert Manifest.parse(data).encode() == data
    jsonschema.validate(value, SCHEMA)


def _drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for step in path[:-1]:
            value = value[step]
        del value[path[-1]]

    return change


def _set(to: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for step in path[:-1]:
            value = value[step]
        value[path[-1]] = to

    return change


SNP = ("platforms", "sev-snp")
TDX = ("platforms", "tdx")
GPUS = ("roles", "worker-gpu", "gpus")
BROKEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "development with hardware": _set("development", "mode"),
    "a platform without its policy": _drop(*SNP),
    "a development CA beside hardware": _set({"development_ca": "ab" * 32}, "platforms", "vtpm"),
    "an unknown platform": _set({}, "platforms", "sgx"),
    "a cloud's vTPM": _set({"insecure_cloud": "google"}, "platforms", "vtpm"),
    "no GPU policy": _drop(*GPUS),
    "a GPU policy of a role without GPUs": lambda value: value["roles"]["coordinator"].update(
        gpus=value["roles"]["worker-gpu"]["gpus"]
    ),
    "an empty list of measurements": _set([], "roles", "coordinator", "tdx"),
    "no measurement at all": _set({}, "roles", "coordinator"),
    **{f"no {field} (SEV-SNP)": _drop(*SNP, field) for field in manifest_value()[SNP[0]][SNP[1]]},
    **{f"no {field} (TDX)": _drop(*TDX, field) for field in manifest_value()[TDX[0]][TDX[1]]},
    **{f"no {field} (GPUs)": _drop(*GPUS, field)
        for field in manifest_value()["roles"]["worker-gpu"]["gpus"]},
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_production_manifest_that_leaves_something_open(name: str) -> None:
    value = copy.deepcopy(manifest_value())
    BROKEN[name](value)
    with pytest.raises(FormatError):
        Manifest.parse(json_encode(value))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, SCHEMA)


# --- the first check that failed names the cause ------------------------------------------------


def first_failed(verdict: Verdict) -> str:
    return verdict.first_failed.name if verdict.first_failed else ""


def without_revocation() -> Manifest:
    value = manifest_value()
    value["platforms"]["sev-snp"]["opt_outs"] = ["insecure_without_revocation"]
    return Manifest.parse(json_encode(value))


def test_a_revocation_list_that_the_policy_does_without_is_not_missed(
    production: Production, verify: Call
) -> None:
    """Evidence for another nonce, without a list: the nonce is what is wrong."""
    by, bundle = without_revocation(), without(production.bundle(), "amd/milan/crl")
    production.launch_for(by.encode())
    evidence = production.snp(REPORT_DATA)
    assert missing_for(ParsedEvidence(evidence), by.role("coordinator"), by, Bundle()) == {}
    verdict = verify(evidence, manifest=by, collateral=bundle, report_data=bytes(64))
    assert failed(verdict) == ["report data"]
    assert failed(verify(evidence, manifest=by, collateral=bundle)) == []


@pytest.mark.parametrize("what", ["driver", "vbios"])
def test_reference_values_that_the_policy_does_without_are_not_missed(
    production: Production, verify: Call, what: str
) -> None:
    value = manifest_value()
    value["roles"]["worker-gpu"]["gpus"]["opt_outs"] = [f"insecure_without_{what}_rim"]
    by = Manifest.parse(json_encode(value))
    production.launch_for(by.encode())
    evidence = production.with_gpu(production.snp(REPORT_DATA), REPORT_DATA)
    bundle = without(production.bundle(), f"nvidia/rim/NV_GPU_{what.upper()}")
    assert missing_for(ParsedEvidence(evidence), by.role("worker-gpu"), by, bundle) == {}
    assert failed(verify(evidence, "worker-gpu", manifest=by, collateral=bundle)) == []


def test_a_platform_that_is_refused_needs_nothing(production: Production, verify: Call) -> None:
    value = manifest_value()
    del value["roles"]["coordinator"]["tdx"]
    by = Manifest.parse(json_encode(value))
    evidence = production.tdx(REPORT_DATA)
    assert missing_for(ParsedEvidence(evidence), by.role("coordinator"), by, Bundle()) == {}
    assert first_failed(verify(evidence, manifest=by, collateral=Bundle())) == "platform"


@pytest.mark.parametrize("make", ["snp", "tdx"])
def test_malformed_evidence_is_called_that(production: Production, verify: Call, make: str) -> None:
    """Whatever collateral is there: nothing could be looked up for it."""
    evidence = replace(getattr(production, make)(REPORT_DATA), report=b"no report")
    verdict = verify(evidence, collateral=Bundle())
    assert failed(verdict) == ["evidence"]


def test_what_failed_before_collateral_was_needed_is_shown_first(
    production: Production, verify: Call
) -> None:
    evidence = replace(production.snp(REPORT_DATA), event_log=b"a log that SEV-SNP does not have")
    names = failed(verify(evidence, collateral=Bundle()))
    assert names == ["event log", "collateral", "revocation list"]


def narrowed(field: str, own: str, listed: str) -> Manifest:
    """A manifest whose coordinator runs on one of two listed machines."""
    value = copy.deepcopy(manifest_value())
    platform = "sev-snp" if field == "chip_ids" else "tdx"
    value["platforms"][platform][field] = sorted((own, listed))
    value["roles"]["coordinator"] = value["roles"]["coordinator"] | {field: [own]}
    return Manifest.parse(json_encode(value))


@pytest.mark.parametrize("field", ["chip_ids", "platform_instances"])
def test_a_role_on_machines_of_its_own(production: Production, verify: Call, field: str) -> None:
    make: Callable[[bytes], Evidence]
    if field == "chip_ids":
        make, name = production.snp, "chip"
        this, other = production.chip.hardware_id.hex(), "ee" * 64
    else:
        make, name = production.tdx, "platform instance"
        this, other = intel_certificates.INSTANCE.hex(), "ee" * 16
    right = narrowed(field, own=this, listed=other)
    production.launch_for(right.encode())
    assert failed(verify(make(REPORT_DATA), manifest=right)) == []
    wrong = narrowed(field, own=other, listed=this)
    production.launch_for(wrong.encode())
    assert failed(verify(make(REPORT_DATA), manifest=wrong)) == [name]
    assert failed(verify(make(REPORT_DATA), "secret-service", manifest=wrong)) == []
