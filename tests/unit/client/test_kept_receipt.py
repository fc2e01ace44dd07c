"""A kept receipt, verified a year later: each part of it that was altered fails its own check."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from confide.client.kept_receipt import CLOCKS, LATEST, read_kept, verify_kept
from confide.client.receipts import Attested
from confide.client.service import Record
from confide.errors import ConfideError, ConfigError, FormatError
from confide.protocol.collateral import Bundle, Item
from confide.protocol.coordinator import Attestation
from confide.protocol.receipt import Receipt, Statement
from confide.protocol.usage import TOKEN, Usage
from confide.verify.verdict import Verdict
from tests.support import simulated_amd
from tests.support.kept import ANSWER, KeptService, keep
from tests.support.production import Production
from tests.support.production import manifest as production_manifest
from tests.support.simulated_amd import DAY, MADE, intermediate, make_crl, root
from tests.support.simulated_machine import (
    NOW,
    SimulatedMachine,
    manifest_bytes,
    manifest_value,
)
from tests.support.verdicts import failed

TINY = manifest_value()["models"][0]
# The second model is there, and the worker's certificate does not name it.
MANIFEST = manifest_bytes(models=[TINY, TINY | {"name": "second"}])


def make_service(manifest: bytes = MANIFEST, *, now: int = NOW) -> KeptService:
    machine = SimulatedMachine("coordinator", manifest=manifest)
    return KeptService(machine, manifest, now=now)


@pytest.fixture(scope="module")
def service() -> KeptService:
    return make_service()


@pytest.fixture(scope="module")
def attested(service: KeptService) -> Attested:
    return service.attested()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a verification of a kept receipt used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def verify(path: Path, manifest: bytes = MANIFEST, **options: Any) -> Verdict:
    return verify_kept(read_kept(path), manifest, **options)


def rewritten(path: Path, record: Record) -> Path:
    """The receipt beside another record, whose folder has that one's name."""
    encoded = record.encode()
    folder = path.parents[1] / sha256(encoded).hexdigest()
    shutil.copytree(path.parent, folder)
    (folder / "attestation.cbor").write_bytes(encoded)
    return folder / path.name


def test_it_passes(tmp_path: Path, service: KeptService, attested: Attested) -> None:
    path = keep(tmp_path, attested, service.receipt())
    verdict = verify(path, answer=ANSWER)
    verdict.require()
    names = [check.name for check in verdict.checks]
    assert names[0] == "attestation record"
    assert names[-3:] == ["time of the attestation", "receipt", "answer"]
    assert {"manifest", "quote signature", "mesh CA", "history"} < set(names)
    assert failed(verify(path, answer=ANSWER + b" ")) == ["answer"]
    assert failed(verify(path, answer=b"")) == ["answer"]


def test_the_manifest_is_the_caller_s(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    """Not the one that lies in the folder."""
    path = keep(tmp_path, attested, service.receipt())
    (path.parent / "manifest.json").write_bytes(manifest_bytes())
    verify(path).require()
    assert "manifest" in failed(verify(path, manifest_bytes()))


STATEMENTS: dict[str, dict[str, Any]] = {
    "request_sha256": {"request_sha256": bytes(32)},
    "response_sha256": {"response_sha256": bytes(32)},
    "manifest_sha256": {"manifest_sha256": bytes(32)},
    "model": {"model": "second"},
    "model_root_hash": {"model_root_hash": bytes(32)},
    "time": {"time": NOW + 601},
    "usage": {"usage": Usage(TOKEN, 7, 4)},
}


@pytest.mark.parametrize("field", STATEMENTS)
def test_an_altered_statement(
    field: str, tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    """Its signature is the worker's over what it said."""
    assert STATEMENTS.keys() == vars(service.statement()).keys()
    parsed = Receipt.parse(service.receipt())
    altered = replace(Statement.parse(parsed.statement), **STATEMENTS[field])
    receipt = replace(parsed, statement=altered.encode()).encode()
    verdict = verify(keep(tmp_path, attested, receipt))
    assert failed(verdict) == ["receipt"]
    assert "the receipt's signature is wrong" in verdict.checks[-1].seen


SIGNED: dict[str, tuple[str, dict[str, Any]]] = {
    "another manifest": ("for another manifest", {"manifest_sha256": bytes(32)}),
    "another disk": ("for another model root", {"model_root_hash": bytes(32)}),
    "a model of no manifest": ("unknown-model", {"model": "third"}),
    "a model that it does not serve": ("does not serve this model", {"model": "second"}),
}


@pytest.mark.parametrize("name", SIGNED)
def test_what_a_worker_signed_wrongly(
    name: str, tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    reason, changes = SIGNED[name]
    verdict = verify(keep(tmp_path, attested, service.receipt(**changes)))
    assert failed(verdict) == ["receipt"]
    assert reason in verdict.checks[-1].seen


@pytest.mark.parametrize("role", ["secret-service", "coordinator", "worker-gpu"])
def test_a_signer_of_another_role(
    role: str, tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    receipt = service.receipt(service.leaf(role=role))
    verdict = verify(keep(tmp_path, attested, receipt))
    assert failed(verdict) == ["receipt"]
    assert "wrong-role" in verdict.checks[-1].seen


def test_a_worker_of_another_mesh(tmp_path: Path, attested: Attested) -> None:
    verdict = verify(keep(tmp_path, attested, make_service().receipt()))
    assert failed(verdict) == ["receipt"]
    assert "was not signed by its issuer" in verdict.checks[-1].seen


def test_a_certificate_that_had_ended(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    verdict = verify(keep(tmp_path, attested, service.receipt(time=NOW + 3601)))
    assert failed(verdict) == ["receipt"]
    assert "not-valid-now" in verdict.checks[-1].seen


@pytest.mark.parametrize(
    ("offset", "fits"),
    [
        (-CLOCKS - 1, False),
        (-CLOCKS, True),
        (LATEST + CLOCKS, True),
        (LATEST + CLOCKS + 1, False),
        (365 * 86400, False),
    ],
)
def test_an_attestation_of_another_time(offset: int, fits: bool, tmp_path: Path) -> None:
    """An old attestation, with collateral that was good then, vouches for nothing of today."""
    manifest = manifest_bytes(expires=NOW + 365 * 86400)
    # The mesh is older than the attestation, so that only the hours between the two times count.
    service = make_service(manifest, now=NOW - 7200)
    service.now = service.clock.now = NOW
    attested = service.attested()
    service.clock.now = NOW + offset
    receipt = service.receipt(time=NOW + offset)
    verdict = verify(keep(tmp_path, attested, receipt), service.manifest)
    assert verdict.passed == fits
    assert fits or "time of the attestation" in failed(verdict)
    if offset < 86400 and not fits:
        assert failed(verdict) == ["time of the attestation"]


def other_bundle(_: Record) -> dict[str, Any]:
    return {"collateral": Bundle({"amd/milan/ark": Item(b"x", NOW)})}


RECORDS: dict[str, tuple[Callable[[Record], Mapping[str, Any]], list[str]]] = {
    "nonce": (lambda _: {"nonce": bytes(32)}, ["quote binding"]),
    "time": (
        lambda _: {"time": NOW - 2 * LATEST},
        ["coordinator's clock", "root CA", "mesh CA", "time of the attestation"],
    ),
    "collateral": (other_bundle, []),
}


@pytest.mark.parametrize("field", RECORDS)
def test_an_altered_record(
    field: str, tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    """Under its own name it fails by that name; renamed, by what it is about.

    Collateral that nothing asks for is not looked at.
    """
    path = keep(tmp_path, attested, service.receipt())
    change, checks = RECORDS[field]
    altered = replace(attested.record, **change(attested.record))
    renamed = rewritten(path, altered)
    assert [name for name in failed(verify(renamed)) if "attestation key" not in name] == checks
    (path.parent / "attestation.cbor").write_bytes(altered.encode())
    assert failed(verify(path))[0] == "attestation record"


ATTESTATIONS = {
    "evidence": {"quote binding"},
    "manifest": {"manifest"},
    "history": {"quote binding", "history"},
    "root_ca": {"quote binding", "mesh CA", "history"},
    "mesh_ca": {"quote binding", "mesh CA", "history"},
    "time": {"quote binding"},
    "index": {"quote binding"},
    "path": {"quote binding"},
}


@pytest.mark.parametrize("part", ATTESTATIONS)
def test_a_part_of_another_attestation(
    part: str, tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    attestation = Attestation.parse(attested.record.attestation)
    assert ATTESTATIONS.keys() == vars(attestation).keys()
    other = Attestation.parse(make_service().attested().record.attestation)
    changes: dict[str, dict[str, Any]] = {
        "manifest": {"manifest": b"{}"},
        "time": {"time": attestation.time + 1},
        "index": {"index": 1, "path": (bytes(32),)},
        "path": {"path": (bytes(32),)},
    }
    mixed = replace(attestation, **changes.get(part, {part: getattr(other, part)}))
    path = keep(tmp_path, attested, service.receipt())
    renamed = rewritten(path, replace(attested.record, attestation=mixed.encode()))
    assert set(failed(verify(renamed))) == ATTESTATIONS[part]


def test_the_attestation_of_another_service(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    """It is as good as the right one. It vouches for other workers."""
    path = keep(tmp_path, attested, service.receipt())
    assert failed(verify(rewritten(path, make_service().attested().record))) == ["receipt"]


def test_files_that_are_no_receipt(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    path = keep(tmp_path, attested, service.receipt())
    whole = path.read_bytes()
    for data in (b"", b"\xff", whole[:-1], whole + b"\0"):
        path.write_bytes(data)
        with pytest.raises(FormatError):
            verify(path)
    path.write_bytes(whole)
    (path.parent / "attestation.cbor").write_bytes(b"\xa0")
    with pytest.raises(FormatError):
        verify(path)
    (path.parent / "attestation.cbor").unlink()
    with pytest.raises(ConfigError, match="the attestation beside the receipt cannot be read"):
        verify(path)


def test_every_flipped_byte_of_a_receipt(
    tmp_path: Path, service: KeptService, attested: Attested
) -> None:
    path = keep(tmp_path, attested, service.receipt())
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert not verify(path).passed, at
        except ConfideError:
            continue


# --- with collateral of a vendor, which was good at the time and is not any more ------------------


class Attesting:
    """SIMULATED SEV-SNP, whose certificates come as collateral."""

    def __init__(self, production: Production) -> None:
        self.production = production

    def evidence(self, report_data: bytes) -> Any:
        return self.production.snp(report_data, certificates=0)


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> KeptService:
    made = Production()
    made.pin(monkeypatch)
    return KeptService(
        Attesting(made),
        production_manifest().encode(),
        now=simulated_amd.NOW,
        collateral=made.bundle(),
    )


def test_collateral_of_the_time_is_kept(tmp_path: Path, production: KeptService) -> None:
    path = keep(tmp_path, production.attested(), production.receipt())
    verify(path, production.manifest).require()


def test_collateral_that_was_not_valid_then(tmp_path: Path, production: KeptService) -> None:
    """Neither may an item be missing, nor have ended before the receipt."""
    attested = production.attested()
    path = keep(tmp_path, attested, production.receipt())
    items = dict(attested.record.collateral.items)
    ended = make_crl(issuer=root(), start=MADE - 60 * DAY, end=MADE - DAY)
    for name, item in {
        "amd/milan/crl": Item(ended, simulated_amd.NOW),
        "amd/milan/ask": Item(root().der, simulated_amd.NOW),
    }.items():
        record = replace(attested.record, collateral=Bundle({**items, name: item}))
        verdict = verify(rewritten(path, record), production.manifest)
        assert not verdict.passed and "receipt" not in failed(verdict)
    for name in ("amd/milan/crl", "amd/milan/ask"):
        less = Bundle({key: item for key, item in items.items() if key != name})
        record = replace(attested.record, collateral=less)
        assert not verify(rewritten(path, record), production.manifest).passed
    assert intermediate().der == items["amd/milan/ask"].data
