"""`confide collateral`, and `confide verify` of files, on SIMULATED machines and vendors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from confide.client.collateral.finder import Finder
from confide.client.service import Record
from confide.commands.cli import main
from confide.commands.status import ExitStatus
from confide.guest.coordinator.domain import Coordinator
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.collateral import Bundle, Item
from confide.protocol.coordinator import RefusedJoin
from confide.protocol.evidence import Evidence
from confide.verify.collateral import missing_for
from confide.verify.parsed import ParsedEvidence
from tests.support.production import Production, manifest
from tests.support.programs import free_port, program
from tests.support.simulated_amd import MADE, NOW, make_crl, root
from tests.support.simulated_machine import current_manifest
from tests.support.simulated_vendors import KDS, Reply, SimulatedVendors

PASSED, FAILED, USAGE, _ = ExitStatus
REPORT_DATA = bytes(range(32)) + bytes(32)
FOR = ["--role", "worker-gpu", "--report-data", REPORT_DATA.hex()]
Run = Callable[..., int]
# The simulated machines are of no release.
FOREIGN = "--insecure-foreign-measurements"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def surroundings(
    vendors: SimulatedVendors, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The simulated vendors, the simulated time, an empty cache; the current folder is empty."""
    monkeypatch.setattr(
        "confide.client.collateral.finder.Fetcher", lambda: vendors.fetcher(time.time())
    )
    monkeypatch.setattr("confide.client.collateral.finder.Finder", partial(Finder, clock=at(NOW)))
    monkeypatch.setattr(time, "time", at(NOW))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)


def at(now: float) -> Callable[[], float]:
    return lambda: now


@pytest.fixture
def files(production: Production, tmp_path: Path) -> None:
    """A manifest, and a worker's evidence that brings no certificate of AMD's."""
    evidence = production.with_gpu(production.snp(REPORT_DATA, certificates=0), REPORT_DATA)
    (tmp_path / "evidence").write_bytes(evidence.encode())
    (tmp_path / "manifest.json").write_bytes(manifest().encode())
    (tmp_path / "all").write_bytes(production.bundle().encode())


def fetch(*options: str, role: str = "worker-gpu") -> int:
    return main(
        ["collateral", "fetch", "evidence", "--manifest", "manifest.json", "--role", role, *options]
    )


def verify(*options: str) -> int:
    return main(["verify", "evidence", "--manifest", "manifest.json", FOREIGN, *options])


def read(name: str) -> Bundle:
    return Bundle.parse(Path(name).read_bytes())


@pytest.mark.usefixtures("files")
def test_from_evidence_to_a_verdict(
    vendors: SimulatedVendors, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch("-o", "bundle") == PASSED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "asking AMD's key distribution service for amd/milan/crl" in shown.err
    assert "12 items in bundle" in shown.err
    assert len(vendors.asked) == 11

    assert main(["collateral", "show", "bundle"]) == PASSED
    shown = capsys.readouterr()
    assert "amd/milan/crl\n" in shown.out
    assert "valid until 2027-02-13 08:00:00 UTC" in shown.out
    assert main(["collateral", "show", "bundle", "--json"]) == PASSED
    listed = json.loads(capsys.readouterr().out)["items"]
    assert {item["name"] for item in listed} == set(read("bundle").items)
    assert all(item["fetched"] == NOW and item["fault"] == "" for item in listed)

    # With the two files one needs neither cache nor vendor, then or later.
    vendors.asked.clear()
    assert verify(*FOR, "--collateral", "bundle", "--at", str(NOW), "--json") == PASSED
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["passed"], verdict["time"], verdict["mode"]) == (True, NOW, "production")
    assert verify(*FOR, "--offline") == PASSED
    assert verify(*FOR) == PASSED
    assert vendors.asked == []
    # As of another time, only the bundle says what was so then.
    assert verify(*FOR, "--at", str(NOW)) == FAILED
    month = str(NOW + 40 * 86400)
    assert verify(*FOR, "--collateral", "bundle", "--at", month) == FAILED
    assert vendors.asked == []


@pytest.mark.usefixtures("files")
def test_evidence_that_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--collateral", "all", "--at", str(NOW)]
    other = ["--role", "worker-gpu", "--report-data", "00" * 64]
    assert verify(*other, *given) == FAILED
    assert "report data" in capsys.readouterr().out
    assert verify(*FOR[2:], "--role", "coordinator", *given) == FAILED
    assert "GPUs" in capsys.readouterr().out
    assert verify(*FOR[2:], "--role", "nobody", *given) == FAILED


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "options",
    [
        [],
        FOR[:2],
        FOR[2:],
        [*FOR[:2], "--report-data", "00" * 63],
        [*FOR[:2], "--report-data", ""],
        [*FOR, "--collateral", "nothing", "--at", "1"],
    ],
)
def test_evidence_needs_to_be_told_what_it_is(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(*options) == USAGE
    assert capsys.readouterr().err.startswith("confide: ")


def test_hex_that_is_none() -> None:
    with pytest.raises(SystemExit) as caught:
        verify("--report-data", "zz")
    assert caught.value.code == USAGE


class _Attester:
    def __init__(self, production: Production) -> None:
        self._production = production

    def evidence(self, report_data: bytes) -> Evidence:
        return self._production.snp(report_data, certificates=0)


@pytest.mark.usefixtures("files")
def test_a_saved_record_carries_its_collateral(
    production: Production, vendors: SimulatedVendors, cache: Path
) -> None:
    coordinator = Coordinator(_Attester(production), binding=production.binding, now=at(NOW))
    coordinator.set_manifest(manifest().encode())
    nonce = bytes(32)
    attestation = coordinator.attest(nonce).encode()
    record = Record(nonce, NOW, attestation, b"", production.bundle())
    Path("record").write_bytes(record.encode())
    arguments = ["verify", "record", "--manifest", "manifest.json", FOREIGN]
    stale = make_crl(issuer=root(), end=MADE + timedelta(hours=1))
    Path("stale").write_bytes(Bundle({"amd/milan/crl": Item(stale, NOW + 1)}).encode())
    assert main(arguments) == PASSED
    assert main([*arguments, "--collateral", "stale"]) == PASSED
    assert main([*arguments, "--role", "coordinator"]) == USAGE
    Path("record").write_bytes(replace(record, collateral=Bundle()).encode())
    assert main(arguments) == FAILED
    assert main([*arguments, "--collateral", "all"]) == PASSED
    assert vendors.asked == []
    assert not cache.exists()
    # And its collateral can be got later.
    arguments = ["collateral", "fetch", "record", "--manifest", "manifest.json", "-o", "later"]
    assert main(arguments) == PASSED
    Path("record").write_bytes(replace(record, collateral=read("later")).encode())
    assert main(["verify", "record", "--manifest", "manifest.json", FOREIGN]) == PASSED


@pytest.mark.usefixtures("files")
def test_what_is_missing_is_said(
    vendors: SimulatedVendors, capsys: pytest.CaptureFixture[str]
) -> None:
    vendors.faults[KDS] = Reply(503)
    assert fetch("-o", "bundle") == FAILED
    said = capsys.readouterr().err.splitlines()
    assert sum("is busy or down (HTTP status 503)" in line for line in said) == 1
    assert sum("missing: amd/" in line for line in said) == 4
    assert all(name.startswith("nvidia/") for name in read("bundle").items)
    vendors.asked.clear()
    assert fetch("--offline", role="coordinator") == FAILED
    assert vendors.asked == []
    # What is known already need not be asked for.
    assert fetch("--offline", "--collateral", "all", "-o", "bundle") == PASSED
    capsys.readouterr()
    assert fetch("--offline", "--collateral", "all", "--json") == PASSED
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and found["missing"] == []
    assert "amd/milan/crl" in found["items"]
    assert fetch("--offline", "--json", role="coordinator") == FAILED
    assert "amd/milan/crl" in json.loads(capsys.readouterr().out)["missing"]


@pytest.mark.usefixtures("files")
def test_bundles(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read("all")
    parts = {name: name.startswith("nvidia/") for name in whole.items}
    for number in (False, True):
        items = {name: item for name, item in whole.items.items() if parts[name] == number}
        Path(f"part{number}").write_bytes(Bundle(items).encode())
    make = ["collateral", "bundle", "-o", "made"]
    assert main([*make, "partFalse", "partTrue"]) == PASSED
    said = capsys.readouterr().err
    # The simulated TDX collateral is of another year.
    left_out = {name for name in whole.items if name.startswith("intel/")}
    assert {line.split()[3] for line in said.splitlines() if "left out" in line} == left_out
    assert read("made") == Bundle({n: i for n, i in whole.items.items() if n not in left_out})

    assert main(["collateral", "show", "all"]) == FAILED
    assert "expired" in capsys.readouterr().out
    junk = replace(whole.items["amd/milan/ark"], data=b"junk")
    Path("junk").write_bytes(Bundle({"amd/milan/ark": junk, "no/such": junk}).encode())
    assert main(["collateral", "show", "junk", "--json"]) == FAILED
    listed = json.loads(capsys.readouterr().out)["items"]
    assert all("cannot be read" in item["fault"] and item["ends"] is None for item in listed)
    assert main([*make, "junk"]) == PASSED
    assert read("made") == Bundle()

    monkeypatch.setattr("confide.commands.collateral.MAX_BUNDLE", 1000)
    assert main([*make, "partTrue"]) == USAGE


@pytest.mark.usefixtures("files")
def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    Path("garbage").write_bytes(b"garbage")
    for command in ("show", "push --coordinator http://127.0.0.1:1"):
        assert main(["collateral", *command.split(), "nothing"]) == USAGE
        assert main(["collateral", *command.split(), "garbage"]) == FAILED
    assert main(["collateral", "bundle", "-o", "no/folder", "all"]) == USAGE
    assert main(["collateral", "fetch", "garbage", "--manifest", "manifest.json"]) == FAILED
    assert main(["collateral", "fetch", "nothing", "--manifest", "manifest.json"]) == USAGE
    assert main(["collateral", "fetch", "evidence", "--manifest", "nothing"]) == USAGE
    assert fetch(role="nobody") == FAILED
    nobody = f"http://127.0.0.1:{free_port()}"
    assert main(["collateral", "push", "--coordinator", nobody, "all"]) == FAILED


@pytest.mark.usefixtures("files")
def test_for_the_machine_that_was_refused_last(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = production.snp(bytes(64), certificates=0)
    refused = RefusedJoin("secret-service", evidence.encode())
    monkeypatch.setattr(CoordinatorClient, "refused", lambda _: refused)
    arguments = ["--refused", "--manifest", "manifest.json", "-o", "lacking"]
    assert main(["collateral", "fetch", "http://127.0.0.1:1", *arguments]) == PASSED
    assert set(read("lacking").items) == set(
        missing_for(
            ParsedEvidence(evidence), manifest().role("secret-service"), manifest(), Bundle()
        )
    )


@pytest.mark.usefixtures("files")
def test_for_a_machine_that_refuses_its_gpus(
    production: Production, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = replace(production.snp(bytes(64)), gpu_refusal="gpu-cc-off")
    refused = RefusedJoin("worker-gpu", evidence.encode())
    monkeypatch.setattr(CoordinatorClient, "refused", lambda _: refused)
    arguments = ["--refused", "--manifest", "manifest.json"]
    assert main(["collateral", "fetch", "http://127.0.0.1:1", *arguments]) == PASSED
    said = capsys.readouterr().err
    assert "no collateral helps: the machine refuses its GPUs: gpu-cc-off" in said


@pytest.mark.usefixtures("files")
def test_a_running_coordinator(
    tmp_path: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a development machine, and so are those of its manifest: they need nothing."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    Path("development.json").write_bytes(current_manifest())
    with program("coordinator", tmp_path, Path("development.json").read_bytes()) as coordinator:
        coordinator.wait("no-manifest")
        push = ["collateral", "push", "--coordinator", coordinator.url, "all"]
        assert main(push) == FAILED
        assert "has no manifest yet" in capsys.readouterr().err
        CoordinatorClient(coordinator.url).set_manifest(Path("development.json").read_bytes())
        assert main(push) == FAILED
        said = capsys.readouterr().err
        assert "took 0 items" in said
        for name in read("all").items:
            assert f"refused: {name}: collateral-not-needed" in said
        assert CoordinatorClient(coordinator.url).collateral() == Bundle()
        command = ["collateral", "fetch", coordinator.url, "--manifest", "development.json"]
        capsys.readouterr()
        assert main([*command, "-o", "bundle"]) == PASSED
    assert "needs no collateral" in capsys.readouterr().err
    assert read("bundle") == Bundle()
    assert not cache.exists()
