"""A machine's binding comes from its hardware; a confidential VM never believes the config disk."""

from __future__ import annotations

import errno
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.guest import launch
from confide.guest.attest import platform
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.launch import UNBOUND
from confide.vendors.tpm.commands import Exchange
from tests.support.programs import ROOT
from tests.support.simulated_amd import SimulatedChip
from tests.support.simulated_tdreport import SimulatedTdxGuest
from tests.support.simulated_tsm import SimulatedTsm

MANIFEST = sha256(b"a manifest").digest()
OTHER = sha256(b"another manifest").digest()


class SimulatedTpm:
    """PCR 15 of a TPM: takes TPM2_PCR_Extend and TPM2_PCR_Read, and nothing else."""

    def __init__(self) -> None:
        self.pcr = bytes(32)
        self.extended: list[bytes] = []

    def exchange(self, command: bytes) -> bytes:
        code, body = int.from_bytes(command[6:10]), command[10:]
        if code == 0x182:
            assert body[:4] == (15).to_bytes(4)
            assert body[-38:-32] == bytes.fromhex("00000001 000b")
            self.extended.append(body[-32:])
            self.pcr = sha256(self.pcr + body[-32:]).digest()
            parameters = bytes(4) + bytes.fromhex("0000 01 0000")
            return b"\x80\x02" + (10 + len(parameters)).to_bytes(4) + bytes(4) + parameters
        assert code == 0x17E
        assert body == bytes.fromhex("00000001 000b 03 008000")
        parameters = bytes(4) + body + bytes.fromhex("00000001 0020") + self.pcr
        return b"\x80\x01" + (10 + len(parameters)).to_bytes(4) + bytes(4) + parameters


class Host:
    """What a host gives its machine. By default: a TPM, a config disk that names `MANIFEST`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._monkeypatch = root, monkeypatch
        self.tpm = SimulatedTpm()
        (root / "dev").mkdir()
        (root / "run/confide").mkdir(parents=True)
        (root / "dev/tpmrm0").touch()
        self.config = root / "run/confide/config"
        self.config.write_bytes(ConfigDisk(MANIFEST).encode())

        @contextmanager
        def open_device(device: Path) -> Iterator[Exchange]:
            assert device == root / "dev/tpmrm0"
            yield self.tpm.exchange

        opens: Callable[[Path], AbstractContextManager[Exchange]] = open_device
        monkeypatch.setattr(launch, "open_device", opens)

    def is_snp(self, host_data: bytes) -> SimulatedTsm:
        """Make it a machine of SEV-SNP that was launched with this HOST_DATA."""
        return self._is("sev-guest", SimulatedTsm(SimulatedChip(host_data=host_data).report))

    def is_tdx(self, guest: SimulatedTdxGuest) -> SimulatedTsm:
        """Make it a machine of TDX, whose TDREPORT `guest` gives."""
        self._monkeypatch.setattr("confide.guest.launch.fcntl.ioctl", guest.ioctl)
        return self._is("tdx_guest", SimulatedTsm(lambda _: b"", provider="tdx_guest"))

    def _is(self, device: str, tsm: SimulatedTsm) -> SimulatedTsm:
        (self.root / "dev" / device).touch()
        (self.root / "sys/kernel/config/tsm/report").mkdir(parents=True)
        self._monkeypatch.setattr(platform, "ConfigFs", lambda folder: tsm)
        return tsm

    def binding(self) -> bytes:
        return launch.establish_binding(self.root)

    def refusal(self) -> str:
        """The code of the error that ends the machine."""
        with pytest.raises(ConfideError) as caught:
            self.binding()
        return caught.value.code


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


# --- vTPM ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", [MANIFEST, UNBOUND])
def test_a_vtpm_machine_reads_its_config_disk_and_extends_pcr_15(
    host: Host, binding: bytes
) -> None:
    host.config.write_bytes(ConfigDisk(binding, "http://10.0.2.2:8000").encode())
    assert host.binding() == binding
    assert host.tpm.extended == [binding]


def test_a_vtpm_machine_loads_no_code_of_another_platform() -> None:
    """The whole boot waits for this program."""
    code = "import sys, confide.guest.launch; print(*sys.modules)"
    environment = {"PYTHONPATH": f"{ROOT / 'py'}:{ROOT}"}
    command = [sys.executable, "-c", code]
    loaded = subprocess.check_output(command, text=True, env=environment).split()
    assert "confide.vendors.tpm.commands" in loaded
    assert not [name for name in loaded if re.match(r"confide\.(vendors\.(?!tpm)|verify)", name)]
    assert not {"cryptography", "flask", "requests", "confide.protocol.evidence"} & set(loaded)


def test_a_vtpm_machine_without_a_config_disk(host: Host) -> None:
    host.config.unlink()
    assert host.refusal() == "no-config"
    assert host.tpm.extended == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"confide-config/3", b"confide-config/1", "bad-field"),
        (b'"manifest_sha256"', b'"manifest_sha255"', "missing-field"),
        (MANIFEST.hex().encode(), MANIFEST.hex().upper().encode(), "bad-hex"),
        (MANIFEST.hex().encode(), MANIFEST.hex()[:-2].encode() + b"  ", "bad-hex"),
    ],
)
def test_a_vtpm_machine_whose_config_disk_names_no_manifest(
    host: Host, old: bytes, new: bytes, code: str
) -> None:
    host.config.write_bytes(host.config.read_bytes().replace(old, new))
    assert host.refusal() == code
    assert host.tpm.extended == []


def test_a_vtpm_machine_without_a_tpm(host: Host) -> None:
    (host.root / "dev/tpmrm0").unlink()
    assert host.refusal() == "no-platform"


def test_a_tpm_whose_register_was_used_before(host: Host) -> None:
    host.tpm.pcr = bytes(31) + b"\1"
    assert host.refusal() == "binding-register-used"


# --- SEV-SNP ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host_data", [OTHER, UNBOUND])
def test_snp_reads_host_data_of_its_own_report(host: Host, host_data: bytes) -> None:
    """There is a config disk, and a TPM, that say otherwise: neither is asked."""
    host.is_snp(host_data)
    assert host.binding() == host_data
    assert host.tpm.extended == []


def test_snp_needs_no_config_disk(host: Host) -> None:
    host.is_snp(OTHER)
    host.config.unlink()
    assert host.binding() == OTHER


def test_snp_refuses_a_report_that_it_did_not_ask_for(host: Host) -> None:
    chip = SimulatedChip(host_data=OTHER)
    host.is_snp(OTHER).make_report = lambda _: chip.report(bytes(64))
    assert host.refusal() == "stale-report"


def test_snp_refuses_a_malformed_report(host: Host) -> None:
    host.is_snp(OTHER).make_report = lambda _: bytes(1184)
    assert host.refusal() == "bad-snp-report"


def test_snp_without_a_report(host: Host) -> None:
    host.is_snp(OTHER).failures.append(errno.EIO)
    assert host.refusal() == "no-tsm-report"


@pytest.mark.parametrize("device", ["sev-guest", "tdx_guest"])
def test_confidential_vm_that_cannot_say_so_is_no_vtpm_machine(host: Host, device: str) -> None:
    (host.root / "dev" / device).touch()
    assert host.refusal() == "platform-unsupported"
    assert host.tpm.extended == []


# --- TDX ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("binding", [OTHER, UNBOUND])
def test_tdx_reads_mrconfigid_of_a_tdreport(host: Host, binding: bytes) -> None:
    guest = SimulatedTdxGuest(binding + bytes(16))
    tsm = host.is_tdx(guest)
    assert host.binding() == binding
    assert len(guest.asked) == 1 and any(guest.asked[0])
    assert tsm.made == 1  # for the provider's name; no quote was made
    assert host.tpm.extended == []


def test_tdx_asks_with_a_fresh_nonce(host: Host) -> None:
    guest = SimulatedTdxGuest(OTHER + bytes(16))
    host.is_tdx(guest)
    host.binding()
    host.binding()
    assert guest.asked[0] != guest.asked[1]


def test_tdx_refuses_a_report_that_it_did_not_ask_for(host: Host) -> None:
    host.is_tdx(SimulatedTdxGuest(OTHER + bytes(16), report_data=bytes(64)))
    assert host.refusal() == "stale-report"


@pytest.mark.parametrize("tail", [b"\1" + bytes(15), bytes(15) + b"\1"])
def test_tdx_refuses_an_mrconfigid_that_is_no_binding(host: Host, tail: bytes) -> None:
    host.is_tdx(SimulatedTdxGuest(OTHER + tail))
    assert host.refusal() == "bad-mrconfigid"


def test_tdx_module_that_makes_no_report(host: Host) -> None:
    host.is_tdx(SimulatedTdxGuest(OTHER + bytes(16), error=errno.EIO))
    assert host.refusal() == "no-tdreport"


def test_tdx_without_its_device(host: Host) -> None:
    host.is_tdx(SimulatedTdxGuest(OTHER + bytes(16)))
    (host.root / "dev/tdx_guest").unlink()
    assert host.refusal() == "no-tdreport"


# --- the program --------------------------------------------------------------------------------


def run_main(host: Host, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the program; where it wrote the binding."""
    written = host.root / "run/confide/binding"
    establish, write = launch.establish_binding, launch.write_binding
    monkeypatch.setattr(launch, "establish_binding", lambda: establish(host.root))
    monkeypatch.setattr(launch, "write_binding", lambda binding: write(binding, written))
    launch.main()
    return written


def test_the_program_writes_the_binding_for_everybody_and_says_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = run_main(host, monkeypatch)
    assert written.read_bytes() == MANIFEST
    assert stat.S_IMODE(written.stat().st_mode) == 0o444
    assert written.with_name("bound").read_bytes() == b""
    said = f"confide: this machine is bound to the manifest {MANIFEST.hex()}\n"
    assert capsys.readouterr().out == said


def test_the_program_says_that_there_is_no_manifest(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host.config.write_bytes(ConfigDisk(UNBOUND).encode())
    written = run_main(host, monkeypatch)
    assert written.read_bytes() == UNBOUND
    assert not written.with_name("bound").exists()
    assert "bound to no manifest" in capsys.readouterr().out


def test_the_program_ends_with_one_line_and_writes_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host.config.unlink()
    with pytest.raises(SystemExit, match="1"):
        run_main(host, monkeypatch)
    said = capsys.readouterr().err
    assert said.startswith("confide: boot failed: this machine has no config disk;")
    assert said.count("\n") == 1
    assert not list((host.root / "run/confide").glob("b*"))


def test_a_binding_is_never_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.root / "run/confide/binding").write_bytes(OTHER)
    with pytest.raises(SystemExit):
        run_main(host, monkeypatch)
    assert (host.root / "run/confide/binding").read_bytes() == OTHER
    assert not (host.root / "run/confide/bound").exists()
