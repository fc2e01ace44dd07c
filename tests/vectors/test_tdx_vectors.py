"""Real TDX quotes: each with the verdict that its index states, and what else is known of it.

Data: dcap-qvl, go-tdx-guest, dstack, trustee (quotes and Intel's collateral), intel-qvl (a sample
under a private test root), guest-components (a TDREPORT). What `expected.json` states is in CASES.
"""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from confide.encoding.pem import read_chain, write_chain
from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.evidence import Evidence
from confide.protocol.launch import UNBOUND
from confide.vendors.intel.collateral import QeIdentity, TcbInfo, TdxCollateral
from confide.vendors.intel.pck import PckExtension
from confide.vendors.intel.quote import Quote
from confide.vendors.intel.tdreport import LocalReport
from confide.verify import roots
from confide.verify.verdict import Verdict
from confide.verify.x509 import spki_sha256
from tests.support.judged import judge_tdx
from tests.support.simulated_intel import SimulatedIntel, event_log
from tests.support.tdx_vectors import (
    ACCEPTED,
    COLLATERAL,
    QUOTES,
    STATUS,
    Pair,
    at,
    binding_of,
    policy_of,
    read_collateral,
    read_quote,
    reference_of,
    seen,
    verify_recorded,
)
from tests.support.verdicts import failed

B0C06F, NEWER_90C06F, OLDER_50806F, OLDER_90C06F = COLLATERAL
BELOW_SGX = "the platform's SGX versions are below every level"
BELOW_TDX = "the platform's TDX versions are below every level"
MARCH_2026, JULY_2023 = at(2026, 3, 1), at(2023, 7, 1)

# quote, collateral, time, TCB status (or why there is none), the other checks that fail
CASES = [
    ("dcap-qvl/tdx_quote", B0C06F, 1752919234, "UpToDate", []),
    ("dcap-qvl/tdx-quote.hex", B0C06F, 1752919234, BELOW_SGX, []),
    ("dstack/tdx_quote", B0C06F, 1752919234, BELOW_SGX, []),
    ("dcap-qvl/tdx_quote_outdated", NEWER_90C06F, MARCH_2026, BELOW_SGX, []),
    ("go-tdx-guest/quote_v5_sample.dat", NEWER_90C06F, MARCH_2026, "UpToDate", []),
    ("dstack/quote-report.json", NEWER_90C06F, MARCH_2026, "UpToDate", []),
    ("trustee/tdx_quote_5.dat", NEWER_90C06F, MARCH_2026, BELOW_SGX, ["MRSERVICETD"]),
    (
        "go-tdx-guest/tdx_prod_quote_SPR_E4.dat",
        OLDER_50806F,
        JULY_2023,
        BELOW_SGX,
        ["TD attributes: SEPT_VE_DISABLE"],
    ),
    ("trustee/tdx_quote_4.dat", OLDER_50806F, JULY_2023, "UpToDate", ["TD attributes: DEBUG"]),
]

AUTHENTICITY = (
    "root key",
    "PCK certificate: chain",
    "QE report signature",
    "QE report: attestation key",
    "quote signature",
)


@pytest.mark.parametrize(("name", "collateral", "now", "status", "others"), CASES)
def test_stated_verdict(
    vectors: Path, name: str, collateral: str, now: int, status: str, others: list[str]
) -> None:
    verdict = verify_recorded(read_quote(vectors, name), read_collateral(vectors, collateral), now)
    assert seen(verdict, STATUS) == status
    assert failed(verdict) == [*([] if status == "UpToDate" else [STATUS]), *others]


def test_every_stated_case_is_here(vectors: Path) -> None:
    stated = json.loads((vectors / "dcap-qvl/expected.json").read_text())["cases"]
    names = {
        (vectors / "dcap-qvl" / case["quote"]).resolve().relative_to(vectors.resolve())
        for case in stated
    }
    elsewhere = {Path("dcap-qvl/sgx_quote"), Path("intel-qvl/tdx/quote.dat")}
    assert names - elsewhere <= {Path(case[0]) for case in CASES}
    assert {pair.quote for pair in ACCEPTED} == {
        case[0] for case in CASES if case[3] == "UpToDate" and not case[4]
    }


@pytest.mark.parametrize("name", QUOTES)
def test_every_quote_is_authentic(vectors: Path, name: str) -> None:
    """Whatever else is missing, such as collateral for its platform."""
    verdict = verify_recorded(
        read_quote(vectors, name), read_collateral(vectors, B0C06F), 1752919234
    )
    passed = [check.name for check in verdict.checks if check.passed]
    assert set(AUTHENTICITY) <= set(passed)


@pytest.mark.parametrize(
    ("name", "trailing"),
    [("go-tdx-guest/tdx_prod_quote_SPR_E4.dat", 39), ("go-tdx-guest/cos-113-tdx-quote.dat", 3065)],
)
def test_bytes_after_the_end(vectors: Path, name: str, trailing: int) -> None:
    data = read_quote(vectors, name)
    quote = Quote.parse(data)
    assert quote.trailing == trailing
    cut = Quote.parse(data[: len(data) - trailing])
    assert (cut.trailing, cut.signed, cut.pck_chain) == (0, quote.signed, quote.pck_chain)
    with pytest.raises(FormatError):
        Quote.parse(data[: len(data) - trailing - 1])


@pytest.mark.parametrize("pair", ACCEPTED, ids=lambda pair: pair.quote)
def test_accepted_quote_of_a_machine_that_was_launched_for_no_manifest(
    vectors: Path, pair: Pair
) -> None:
    data, collateral = read_quote(vectors, pair.quote), read_collateral(vectors, pair.collateral)
    for binding, names in ((UNBOUND, []), (sha256(b"a manifest").digest(), ["launch binding"])):
        assert failed(verify_recorded(data, collateral, pair.now, binding=binding)) == names


@pytest.mark.parametrize("pair", ACCEPTED, ids=lambda pair: pair.quote)
def test_accepted_quote_after_its_collateral_has_ended(vectors: Path, pair: Pair) -> None:
    data, collateral = read_quote(vectors, pair.quote), read_collateral(vectors, pair.collateral)
    names = failed(verify_recorded(data, collateral, at(2026, 4, 4)))
    assert {"root CA's revocation list", "PCK CA's revocation list"} <= set(names)
    assert {"TCB info: time", "QE identity: time"} <= set(names)


def test_mixture_of_collateral(vectors: Path) -> None:
    """TCB info for this platform, QE identity and lists of 2023: all signed, not all current."""
    data = read_quote(vectors, "go-tdx-guest/quote_v5_sample.dat")
    collateral = read_collateral(vectors, OLDER_90C06F)
    names = failed(verify_recorded(data, collateral, MARCH_2026))
    assert {"QE identity: time", "PCK CA's revocation list"} <= set(names)


def test_quote_and_event_log_of_one_machine(vectors: Path) -> None:
    quote = read_quote(vectors, "go-tdx-guest/cos-113-tdx-quote.dat")
    log = (vectors / "go-tdx-guest/ccel_data.dat").read_bytes()
    nonce = (vectors / "go-tdx-guest/nonce.dat").read_bytes()
    assert Quote.parse(quote).report.report_data == nonce
    assert "event log" not in failed(verify_with_log(vectors, quote, log))
    other = (vectors / "trustee/CCEL_data").read_bytes()
    assert "event log" in failed(verify_with_log(vectors, quote, other))


def test_quote_and_recorded_events_of_one_machine(vectors: Path) -> None:
    """The events are recorded as JSON; here they make a log like the firmware's."""
    recorded = json.loads((vectors / "dstack/quote-report.json").read_text())
    events = [
        (event["imr"], bytes.fromhex(event["digest"]))
        for event in json.loads(recorded["event_log"])
    ]
    quote = bytes.fromhex(recorded["quote"])
    assert failed(verify_with_log(vectors, quote, event_log(events))) == []
    assert failed(verify_with_log(vectors, quote, event_log(events[:-1]))) == ["event log"]


def verify_with_log(vectors: Path, quote: bytes, log: bytes) -> Verdict:
    report = Quote.parse(quote).report
    return judge_tdx(
        Evidence("tdx", quote, (), log),
        report_data=report.report_data,
        references=[reference_of(report)],
        policy=policy_of(report),
        binding=binding_of(report),
        collateral=read_collateral(vectors, NEWER_90C06F),
        now=MARCH_2026,
    )


def test_fields_as_another_verifier_reads_them(vectors: Path) -> None:
    expected = json.loads((vectors / "trustee/parse_tdx_claims_expected.json").read_text())
    quote = Quote.parse(read_quote(vectors, "trustee/tdx_quote_4.dat"))
    report, body = quote.report, expected["quote"]["body"]
    assert {
        "mr_config_id": report.mrconfigid.hex(),
        "mr_owner": report.mrowner.hex(),
        "mr_owner_config": report.mrownerconfig.hex(),
        "mr_seam": report.mrseam.hex(),
        "mr_td": report.mrtd.hex(),
        "mrsigner_seam": report.mrsignerseam.hex(),
        "report_data": report.report_data.hex(),
        **{f"rtmr_{number}": value.hex() for number, value in enumerate(report.rtmrs)},
        "seam_attributes": report.seam_attributes.hex(),
        "tcb_svn": report.tee_tcb_svn.hex(),
        "td_attributes": report.attributes.to_bytes(8, "little").hex(),
        "xfam": report.xfam.to_bytes(8, "little").hex(),
    } == body
    pck = PckExtension.read(load_certificate(quote.pck_chain[0], "PCK"))
    assert pck.platform_instance_id is not None
    assert pck.platform_instance_id[::-1].hex() == expected["platform_instance_id"]


def test_pinned_root_is_the_published_one(vectors: Path) -> None:
    published = x509.load_der_x509_certificate(
        (vectors / "dcap-qvl/TrustedRootCA.der").read_bytes()
    )
    same = x509.load_pem_x509_certificate((vectors / "go-tdx-guest/trusted_root.pem").read_bytes())
    assert roots.INTEL_SGX.spki_sha256 == spki_sha256(published) == spki_sha256(same)


@pytest.mark.parametrize(
    "name",
    [
        "go-tdx-guest/sample_tcbInfo_response",
        "go-tdx-guest/sample_tcbinfo_response_v5",
        "trustee/tcbInfo.json",
    ],
)
def test_published_tcb_info_is_read(vectors: Path, name: str) -> None:
    inner = json.loads((vectors / name).read_text())["tcbInfo"]
    info = TcbInfo.parse(json.dumps(inner).encode())
    assert len(info.levels) == len(inner["tcbLevels"]) > 0
    ordered = [level.sgx_svns + level.tdx_svns for level in info.levels]
    assert ordered == sorted(ordered, reverse=True)  # the first that is reached is the newest


def test_a_tdreport_that_a_machine_made_for_itself(vectors: Path) -> None:
    """Of version 1. Its own hash of TDINFO says that MRCONFIGID is read at the right place."""
    data = (vectors / "guest-components/tdx_report_1.bin").read_bytes()
    assert LocalReport.parse(data) == LocalReport(bytes(64), bytes(48))


def test_sgx_quote_is_refused_clearly(vectors: Path) -> None:
    with pytest.raises(FormatError, match="the quote of an SGX enclave, not of a TDX machine"):
        Quote.parse(read_quote(vectors, "dcap-qvl/sgx_quote"))
    with pytest.raises(FormatError, match="the quote of an SGX enclave, not of a TDX machine"):
        Quote.parse(read_quote(vectors, "intel-qvl/sgx/quote.dat"))


# --- Intel's own sample, under a private test root -----------------------------------------------


def test_intels_sample_is_refused_as_it_is(vectors: Path) -> None:
    with pytest.raises(FormatError, match="not a chain of certificates in PEM"):
        Quote.parse(read_quote(vectors, "intel-qvl/tdx/quote.dat"))


def test_intels_sample_has_security_versions_that_are_no_bytes(vectors: Path) -> None:
    value = json.loads((vectors / "intel-qvl/tdx/tcbInfo.json").read_text())["tcbInfo"]
    with pytest.raises(FormatError, match="seen 65473"):
        TcbInfo.parse(json.dumps(value).encode())


def test_intels_sample_with_its_chain_and_good_tcb_info(
    vectors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chain put where it belongs, its test root pinned, and still nothing to be accepted."""
    folder = vectors / "intel-qvl/tdx"
    ca_chain = x509.load_pem_x509_certificates((folder / "pckSignChain.pem").read_bytes())
    leaf = x509.load_pem_x509_certificate((folder / "pckCert.pem").read_bytes())
    root = next(c for c in ca_chain if c.subject == c.issuer)
    ca = next(c for c in ca_chain if c.subject != c.issuer)
    chain = tuple(c.public_bytes(Encoding.DER) for c in (leaf, ca, root))
    monkeypatch.setattr(roots, "INTEL_SGX", roots.Root("test", "TDX", spki_sha256(root)))
    quote = Quote.parse(with_chain((folder / "quote.dat").read_bytes(), chain))
    assert quote.pck_chain == chain

    signer, *_ = read_chain_reversed(folder / "tcbSignChain.pem")
    identity = json.loads((folder / "qeIdentity.json").read_text())
    inner = (folder / "qeIdentity.json").read_bytes()
    identity_bytes = inner[inner.index(b":") + 1 : inner.index(b',"signature"')]
    collateral = TdxCollateral(
        tcb_info=read_collateral(vectors, B0C06F).tcb_info,
        tcb_info_signature=bytes(64),
        tcb_info_chain=(signer, chain[2]),
        qe_identity=identity_bytes,
        qe_identity_signature=bytes.fromhex(identity["signature"]),
        qe_identity_chain=(signer, chain[2]),
        root_ca_crl=(folder / "rootCaCrl.der").read_bytes(),
        pck_crl=(folder / "intermediateCaCrl.der").read_bytes(),
    )
    assert QeIdentity.parse(identity_bytes).isv_prod_id == 29854
    verdict = verify_recorded(
        with_chain((folder / "quote.dat").read_bytes(), chain), collateral, at(2024, 1, 1)
    )
    names = failed(verdict)
    assert not set(AUTHENTICITY) & set(names)
    assert "QE identity: signature" not in names
    assert {"QE report: MRSIGNER", "TCB info: signature", "TCB info: FMSPC", STATUS} <= set(names)


def read_chain_reversed(path: Path) -> tuple[bytes, ...]:
    """Intel's sample has the root first."""
    return read_chain(path.read_bytes(), path.name, max_certificates=2)[::-1]


def with_chain(quote: bytes, chain: tuple[bytes, ...]) -> bytes:
    """The quote with another PCK chain; the authentication data is empty in this one."""
    at_chain = 636 + 128 + 6 + 384 + 64 + 2
    pem = write_chain(chain)
    inner = quote[at_chain : at_chain + 2] + struct.pack("<I", len(pem)) + pem
    certification = quote[770:at_chain] + inner
    signature = quote[636:764] + struct.pack("<HI", 6, len(certification)) + certification
    return quote[:632] + struct.pack("<I", len(signature)) + signature


# --- the same chains by cryptography's own verifier ----------------------------------------------


def library_accepts(chain: tuple[bytes, ...], now: int) -> bool:
    """Without what is particular to the web: names and extended usages."""
    leaf, *issuers = map(x509.load_der_x509_certificate, chain)
    any_extensions = ExtensionPolicy.permit_all()
    builder = PolicyBuilder().store(Store([issuers[-1]])).time(datetime.fromtimestamp(now, UTC))
    builder = builder.extension_policies(
        ca_policy=any_extensions.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None),
        ee_policy=any_extensions,
    )
    try:
        return len(builder.build_client_verifier().verify(leaf, issuers[:-1]).chain) == len(chain)
    except VerificationError:
        return False


@pytest.mark.parametrize("name", QUOTES)
def test_library_accepts_the_same_chains(vectors: Path, name: str) -> None:
    chain = Quote.parse(read_quote(vectors, name)).pck_chain
    stranger = Quote.parse(SimulatedIntel().quote()).pck_chain
    collateral = read_collateral(vectors, NEWER_90C06F)
    ours = "PCK certificate: chain", "validity of Intel SGX PCK Certificate"
    for now in (at(2022, 1, 1), MARCH_2026, at(2034, 1, 1)):
        names = failed(verify_recorded(read_quote(vectors, name), collateral, now))
        assert library_accepts(chain, now) == (not set(ours) & set(names))
        assert library_accepts(chain, now) == (now == MARCH_2026)
    assert not library_accepts((chain[0], *stranger[1:]), MARCH_2026)
    assert not library_accepts((chain[0], chain[2]), MARCH_2026)
