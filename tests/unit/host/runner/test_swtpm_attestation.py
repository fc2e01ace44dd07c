"""From a provisioned software TPM to a verdict, without a machine: the registers are extended by
what a real event log says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from confide.errors import FormatError, UnavailableError
from confide.guest.attest.vtpm import VtpmAttester
from confide.host.development_ca import development_ca_spki_sha256
from confide.host.runner.processes import ProcessGroup
from confide.host.runner.qemu import Tools
from confide.host.runner.swtpm import SwtpmConnection, provision
from confide.host.runner.tpm_provisioning import nv_create
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.launch import BINDING_PCR
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.vendors.tpm.commands import (
    Exchange,
    ResponseCode,
    TpmRefusedError,
    pcr_extend,
    run,
)
from confide.vendors.tpm.structures import ECC_AK
from confide.verify.verdict import Verdict
from confide.verify.vtpm import PCR_COVERS
from measure import eventlog
from tests.support.judged import judge_vtpm

REPORT_DATA = b"\x42" * 32 + bytes(32)
BINDING = bytes(range(32))
MEASURED = {n: hashlib.sha256(bytes([n])).digest() for n in (0, 1, 2, 3, 4, 5, 7, 9, 11)}


def event_log(folder: Path) -> Path:
    """A crypto-agile log (TCG PC Client PFP, section 10) with one event a register."""
    spec = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + b"\1\0\0\0" + b"\x0b\0\x20\0" + b"\0"
    log = bytes(4) + b"\3\0\0\0" + bytes(20) + len(spec).to_bytes(4, "little") + spec
    for pcr, digest in MEASURED.items():
        log += pcr.to_bytes(4, "little") + b"\x0d\0\0\0" + b"\1\0\0\0" + b"\x0b\0" + digest
        log += b"\4\0\0\0test"
    path = folder / "event_log"
    path.write_bytes(log)
    return path


@pytest.fixture
def tpm(tools: Tools, tmp_path: Path) -> Iterator[SwtpmConnection]:
    """A TPM as a machine finds it, with the log's events in its registers."""
    state = tmp_path / "tpm"
    state.mkdir()
    group = ProcessGroup()
    try:
        provision(tools.swtpm, state, group, tmp_path / "log")
        connection = SwtpmConnection(tools.swtpm, state, group, tmp_path / "log")
        for event in eventlog.parse(event_log(tmp_path).read_bytes()).events:
            if event.type != eventlog.EventType.NO_ACTION:
                run(connection.exchange, pcr_extend(event.pcr, event.digests["sha256"]))
        run(connection.exchange, pcr_extend(BINDING_PCR, BINDING))
        yield connection
        connection.close()
    finally:
        group.kill()


@pytest.fixture
def attester(tpm: SwtpmConnection, tmp_path: Path) -> VtpmAttester:
    return attester_of(tpm.exchange, tmp_path / "event_log")


def attester_of(exchange: Exchange, log: Path) -> VtpmAttester:
    @contextmanager
    def connect() -> Iterator[Exchange]:
        yield exchange

    return VtpmAttester(connect, log)


def reference() -> VtpmReference:
    pcrs = {n: bytes(32) for n in REQUIRED_PCRS}
    pcrs |= {n: eventlog.extend([MEASURED[n]], n) for n in REQUIRED_PCRS if n in MEASURED}
    return VtpmReference("test", pcrs)


def verify(evidence: Evidence, report_data: bytes = REPORT_DATA) -> Verdict:
    return judge_vtpm(
        Evidence.parse(evidence.encode()),
        report_data=report_data,
        references=[reference()],
        authority=DevelopmentCa(development_ca_spki_sha256()),
        binding=BINDING,
        now=int(time.time()),
    )


def test_evidence_verifies(attester: VtpmAttester) -> None:
    verify(attester.evidence(REPORT_DATA)).require()


def test_evidence_can_be_made_again_and_again(attester: VtpmAttester) -> None:
    for number in range(8):  # more keys than a TPM has room for at a time
        data = bytes([number]) * 32 + bytes(32)
        verify(attester.evidence(data), data).require()
    assert not verify(attester.evidence(REPORT_DATA), b"\1" * 64).passed


def test_a_register_extended_once_more_is_seen(
    attester: VtpmAttester, tpm: SwtpmConnection
) -> None:
    run(tpm.exchange, pcr_extend(12, b"\xcc" * 32))
    verdict = verify(attester.evidence(REPORT_DATA))
    failed = [check.name for check in verdict.checks if not check.passed]
    assert failed == [f"PCR 12 ({PCR_COVERS[12]})", "event log"]


def test_a_binding_cannot_be_extended_to_another(
    attester: VtpmAttester, tpm: SwtpmConnection
) -> None:
    run(tpm.exchange, pcr_extend(BINDING_PCR, BINDING))
    verdict = verify(attester.evidence(REPORT_DATA))
    assert [check.name for check in verdict.checks if not check.passed] == ["launch binding"]


def test_evidence_of_another_tpm_does_not_verify_with_this_key(
    attester: VtpmAttester, tools: Tools, tmp_path: Path
) -> None:
    mine = attester.evidence(REPORT_DATA)
    folder = tmp_path / "other"
    folder.mkdir()
    group = ProcessGroup()
    try:
        provision(tools.swtpm, folder, group, tmp_path / "log")
        other = SwtpmConnection(tools.swtpm, folder, group, tmp_path / "log")
        theirs = attester_of(other.exchange, tmp_path / "event_log").evidence(REPORT_DATA)
    finally:
        group.kill()
    assert theirs.endorsements[0] != mine.endorsements[0]
    mixed = dataclasses.replace(mine, endorsements=theirs.endorsements)
    failed = [check.name for check in verify(mixed).checks if not check.passed]
    assert failed == ["quote signature"]


def test_registers_that_change_during_every_quote(tpm: SwtpmConnection, tmp_path: Path) -> None:
    def restless(command: bytes) -> bytes:
        if command[6:10] == b"\0\0\1\x58":  # TPM2_Quote
            run(tpm.exchange, pcr_extend(10, os.urandom(32)))
        return tpm.exchange(command)

    with pytest.raises(UnavailableError, match="changed"):
        attester_of(restless, tmp_path / "event_log").evidence(REPORT_DATA)


def test_registers_that_change_during_one_quote(tpm: SwtpmConnection, tmp_path: Path) -> None:
    changes = iter([True])

    def exchange(command: bytes) -> bytes:
        if command[6:10] == b"\0\0\1\x58" and next(changes, False):
            run(tpm.exchange, pcr_extend(10, b"\1" * 32))
        return tpm.exchange(command)

    evidence = attester_of(exchange, tmp_path / "event_log").evidence(REPORT_DATA)
    assert VtpmReport.parse(evidence.report).pcrs[10] != bytes(32)
    verify(evidence).require()


@pytest.mark.parametrize("data", [b"", bytes(32), b"\1" * 64])
def test_data_that_a_quote_cannot_bind_whole(attester: VtpmAttester, data: bytes) -> None:
    with pytest.raises(FormatError, match="does not fit"):
        attester.evidence(data)


def test_tpm_that_nobody_provisioned(tools: Tools, tmp_path: Path) -> None:
    group = ProcessGroup()
    try:
        (tmp_path / "tpm").mkdir()
        bare = SwtpmConnection(tools.swtpm, tmp_path / "tpm", group, tmp_path / "log")
        with pytest.raises(UnavailableError, match="0x01c10002") as error:
            attester_of(bare.exchange, event_log(tmp_path)).evidence(REPORT_DATA)
        assert error.value.code == "tpm-not-provisioned"
    finally:
        group.kill()


def test_provisioned_certificate_cannot_be_defined_again(tpm: SwtpmConnection) -> None:
    with pytest.raises(TpmRefusedError) as error:
        nv_create(tpm.exchange, ECC_AK.certificate, b"other")
    assert error.value.is_(ResponseCode.NV_DEFINED)


def test_missing_event_log(tpm: SwtpmConnection, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="event log"):
        attester_of(tpm.exchange, tmp_path / "none").evidence(REPORT_DATA)


def test_tpm_that_may_not_be_opened(tmp_path: Path) -> None:
    attester = VtpmAttester.from_device(tmp_path / "missing", event_log(tmp_path))
    with pytest.raises(UnavailableError) as error:
        attester.evidence(REPORT_DATA)
    assert error.value.code == "no-tpm"
