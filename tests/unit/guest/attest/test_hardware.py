"""The attester is chosen by what is there; a confidential VM is never attested by its vTPM."""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.errors import UnavailableError
from confide.guest.attest import platform
from confide.guest.attest.confidential import SnpAttester, TdxAttester
from confide.guest.attest.hardware import detect_attester
from confide.guest.attest.vtpm import VtpmAttester
from tests.support.simulated_tsm import SimulatedTsm


@pytest.fixture
def tsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedTsm:
    """A machine with configfs-tsm, SIMULATED, beside a TPM."""
    simulated = SimulatedTsm(lambda data: data)
    monkeypatch.setattr(platform, "ConfigFs", lambda folder: simulated)
    (tmp_path / "sys/kernel/config/tsm/report").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/tpmrm0").touch()
    return simulated


def code_of(root: Path) -> str:
    with pytest.raises(UnavailableError) as error:
        detect_attester(root)
    return error.value.code


def test_sev_snp(tsm: SimulatedTsm, tmp_path: Path) -> None:
    assert isinstance(detect_attester(tmp_path), SnpAttester)


def test_tdx(tsm: SimulatedTsm, tmp_path: Path) -> None:
    tsm.provider = "tdx_guest"
    assert isinstance(detect_attester(tmp_path), TdxAttester)


def test_unknown_provider(tsm: SimulatedTsm, tmp_path: Path) -> None:
    tsm.provider = "arm_cca_guest"
    assert code_of(tmp_path) == "platform-unsupported"


def test_interface_that_no_hardware_provides_for(tsm: SimulatedTsm, tmp_path: Path) -> None:
    """The images load it on every machine."""
    tsm.provider = None
    assert isinstance(detect_attester(tmp_path), VtpmAttester)


@pytest.mark.parametrize("device", ["sev-guest", "tdx_guest"])
def test_confidential_vm_without_a_provider(tsm: SimulatedTsm, tmp_path: Path, device: str) -> None:
    tsm.provider = None
    (tmp_path / "dev" / device).touch()
    assert code_of(tmp_path) == "platform-unsupported"


@pytest.mark.parametrize("device", ["sev-guest", "tdx_guest"])
def test_confidential_vm_without_configfs(tmp_path: Path, device: str) -> None:
    (tmp_path / "dev").mkdir()
    for name in (device, "tpmrm0"):
        (tmp_path / "dev" / name).touch()
    assert code_of(tmp_path) == "platform-unsupported"


def test_interface_that_may_not_be_used(tmp_path: Path) -> None:
    """Whose provider cannot be told: an ordinary file, or folder, where it should be."""
    (tmp_path / "sys/kernel/config/tsm").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/tpmrm0").touch()
    (tmp_path / "sys/kernel/config/tsm/report").touch()
    assert code_of(tmp_path) == "no-tsm-report"
    (tmp_path / "sys/kernel/config/tsm/report").unlink()
    (tmp_path / "sys/kernel/config/tsm/report").mkdir()
    assert code_of(tmp_path) == "no-tsm-report"


def test_nothing_at_all(tmp_path: Path) -> None:
    assert code_of(tmp_path) == "no-platform"
