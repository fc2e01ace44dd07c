"""Attesters of confidential VMs on a SIMULATED configfs-tsm and a SIMULATED chip."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.errors import ConfideError, FormatError, UnavailableError
from confide.guest.attest import tsm
from confide.guest.attest.confidential import SnpAttester, TdxAttester
from confide.guest.attest.tsm import ConfigFs, TsmReports
from confide.protocol.evidence import Evidence
from confide.vendors.amd.certificates import ARK_GUID, ASK_GUID, VCEK_GUID, VLEK_GUID
from confide.vendors.amd.report import Report
from tests.support.simulated_amd import CSP_ID, SimulatedChip, intermediate, root
from tests.support.simulated_tsm import SimulatedTsm

REPORT_DATA = bytes(range(64))
CHIP = SimulatedChip()


def certificate_table(entries: dict[UUID, bytes]) -> bytes:
    offset = 24 * (len(entries) + 1)
    head, body = b"", b""
    for guid, value in entries.items():
        place = (offset + len(body)).to_bytes(4, "little") + len(value).to_bytes(4, "little")
        head += guid.bytes + place
        body += value
    return head + bytes(24) + body


def chain() -> dict[UUID, bytes]:
    return {ARK_GUID: root().der, ASK_GUID: intermediate().der, VCEK_GUID: CHIP.certificate()}


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr("confide.guest.attest.tsm.time.sleep", waits.append)
    return waits


@pytest.fixture
def folder() -> SimulatedTsm:
    return SimulatedTsm(CHIP.report, auxblob=certificate_table(chain()))


def test_snp_evidence(folder: SimulatedTsm) -> None:
    evidence = SnpAttester(TsmReports(folder)).evidence(REPORT_DATA)
    assert evidence.platform == "sev-snp"
    assert Report.parse(evidence.report).report_data == REPORT_DATA
    given = chain()
    assert evidence.endorsements[1:] == (given[ASK_GUID], given[ARK_GUID])
    x509.load_der_x509_certificate(evidence.endorsements[0])
    assert (evidence.event_log, evidence.gpus) == (b"", ())
    assert not folder.instances, "the instance is removed"


@pytest.mark.parametrize("auxblob", [None, b"", bytes(24), bytes(4096)])
def test_host_that_hands_over_no_certificates(folder: SimulatedTsm, auxblob: bytes | None) -> None:
    folder.auxblob = auxblob
    assert SnpAttester(TsmReports(folder)).evidence(REPORT_DATA).endorsements == ()


def test_chain_is_given_up_to_the_first_gap(folder: SimulatedTsm) -> None:
    without_ask = {guid: der for guid, der in chain().items() if guid != ASK_GUID}
    folder.auxblob = certificate_table(without_ask | {UUID(int=1): b"another entry"})
    assert len(SnpAttester(TsmReports(folder)).evidence(REPORT_DATA).endorsements) == 1
    folder.auxblob = certificate_table({ASK_GUID: b"\x30", ARK_GUID: b"\x30"})
    assert SnpAttester(TsmReports(folder)).evidence(REPORT_DATA).endorsements == ()


def test_the_leaf_is_the_one_whose_kind_signed(folder: SimulatedTsm) -> None:
    folder.auxblob = certificate_table({VCEK_GUID: b"\x30vcek", VLEK_GUID: b"\x30vlek"})
    attester = SnpAttester(TsmReports(folder))
    assert attester.evidence(REPORT_DATA).endorsements == (b"\x30vcek",)
    folder.make_report = CHIP.but(csp_id=CSP_ID).report
    assert attester.evidence(REPORT_DATA).endorsements == (b"\x30vlek",)


def test_certificates_in_pem(folder: SimulatedTsm) -> None:
    der = CHIP.certificate()
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    folder.auxblob = certificate_table({VCEK_GUID: pem + b"\0"})
    assert SnpAttester(TsmReports(folder)).evidence(REPORT_DATA).endorsements == (der,)


@pytest.mark.parametrize(
    "auxblob", [b"\1", certificate_table({VCEK_GUID: b"-----BEGIN nothing-----"})]
)
def test_malformed_table(folder: SimulatedTsm, auxblob: bytes) -> None:
    folder.auxblob = auxblob
    with pytest.raises(FormatError):
        SnpAttester(TsmReports(folder)).evidence(REPORT_DATA)


def test_tdx_evidence(tmp_path: Path) -> None:
    (tmp_path / "CCEL").write_bytes(b"log" + b"\xff" * 100)
    folder = SimulatedTsm(lambda data: b"quote of " + data, "tdx_guest", auxblob=None)
    evidence = TdxAttester(TsmReports(folder), tmp_path / "CCEL").evidence(REPORT_DATA)
    log = b"log" + b"\xff" * 100
    assert evidence == Evidence("tdx", b"quote of " + REPORT_DATA, (), log)


def test_tdx_without_an_event_log(tmp_path: Path) -> None:
    folder = SimulatedTsm(lambda data: b"quote", "tdx_guest", auxblob=None)
    with pytest.raises(UnavailableError) as error:
        TdxAttester(TsmReports(folder), tmp_path / "CCEL").evidence(REPORT_DATA)
    assert error.value.code == "no-event-log"


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_data_of_another_size(folder: SimulatedTsm, size: int) -> None:
    with pytest.raises(FormatError, match="64 bytes"):
        TsmReports(folder).report(bytes(size))
    assert folder.made == 0


def interfere(times: int) -> Callable[[SimulatedTsm, str], None]:
    """Another process writes its own data into our instance, `times` times in all."""
    left = [times]

    def before_read(folder: SimulatedTsm, name: str) -> None:
        if left[0]:
            left[0] -= 1
            folder.write(name, "inblob", b"\xee" * 64)

    return before_read


def test_report_of_somebody_elses_data_is_not_taken(
    folder: SimulatedTsm, waited: list[float]
) -> None:
    folder.before_read = interfere(2)
    report = TsmReports(folder).report(REPORT_DATA)
    assert Report.parse(report.outblob).report_data == REPORT_DATA
    assert (folder.made, len(waited), folder.instances) == (3, 2, {})


def test_interference_without_end(folder: SimulatedTsm) -> None:
    folder.before_read = interfere(1000)
    with pytest.raises(UnavailableError) as error:
        TsmReports(folder).report(REPORT_DATA)
    assert error.value.code == "tsm-busy"
    assert (folder.made, folder.instances) == (tsm.ATTEMPTS, {})


def test_each_attempt_has_an_instance_of_its_own(folder: SimulatedTsm) -> None:
    names: set[str] = set()
    folder.before_read = lambda _, name: names.add(name)
    for _ in range(3):
        TsmReports(folder).report(REPORT_DATA)
    assert len(names) == 3


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT])
def test_busy_device_is_asked_again(folder: SimulatedTsm, waited: list[float], number: int) -> None:
    folder.failures = [number, number]
    TsmReports(folder).report(REPORT_DATA)
    assert len(waited) == 2
    folder.failures = [number] * 99
    with pytest.raises(UnavailableError) as error:
        TsmReports(folder).report(REPORT_DATA)
    assert error.value.code == "tsm-busy"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.ENOTTY, errno.EACCES])
def test_other_errors_are_final(folder: SimulatedTsm, waited: list[float], number: int) -> None:
    folder.failures = [number]
    with pytest.raises(UnavailableError) as error:
        TsmReports(folder).report(REPORT_DATA)
    assert error.value.code == "no-tsm-report"
    assert (waited, folder.instances) == ([], {})


def test_provider_that_changed(folder: SimulatedTsm) -> None:
    with pytest.raises(UnavailableError) as error:
        TdxAttester(TsmReports(folder)).evidence(REPORT_DATA)
    assert error.value.code == "tsm-provider"
    folder.provider = "tdx_guest"
    with pytest.raises(UnavailableError, match="tdx_guest"):
        SnpAttester(TsmReports(folder)).evidence(REPORT_DATA)


def test_provider(folder: SimulatedTsm) -> None:
    assert TsmReports(folder).provider() == "sev_guest"
    assert not folder.instances
    folder.provider = None
    assert TsmReports(folder).provider() is None


def test_kernel_without_the_interface(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as error:
        TsmReports(ConfigFs(tmp_path / "report")).provider()
    assert error.value.code == "no-tsm-report"
    with pytest.raises(ConfideError):
        TsmReports(ConfigFs(tmp_path / "report")).report(REPORT_DATA)


def test_file_operations(tmp_path: Path) -> None:
    """On an ordinary folder, which has no attributes unless somebody makes them."""
    folder = ConfigFs(tmp_path)
    folder.make("one")
    with pytest.raises(FileExistsError):
        folder.make("one")
    with pytest.raises(FileNotFoundError):
        folder.write("one", "inblob", REPORT_DATA)
    (tmp_path / "one/inblob").write_bytes(bytes(70))
    folder.write("one", "inblob", REPORT_DATA)
    assert folder.read("one", "inblob") == REPORT_DATA + bytes(6), "not truncated first"
    (tmp_path / "one/inblob").unlink()
    folder.remove("one")
    assert not (tmp_path / "one").exists()
