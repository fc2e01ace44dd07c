"""`confide site add`: a machine that passes every check gets into the site file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from confide.commands.cli import main
from confide.commands.status import ExitStatus
from confide.guest.inventory.app import create_app
from confide.host.site import Site
from confide.protocol.policy.snp import OptOut
from tests.support import intel_certificates
from tests.support.peer import Peer, peers
from tests.support.production import Production
from tests.support.registering import (
    CHIP,
    DATA,
    INSTANCE,
    OTHER,
    add,
    at,
    failed_names,
    listed,
    site_bytes,
    td,
    write_policy,
    write_site,
)
from tests.support.simulated_amd import (
    SimulatedChip,
)

PASSED, FAILED, USAGE, _ = ExitStatus


# --- machines that pass --------------------------------------------------------------------------


def test_a_chip_and_a_tdx_machine(
    machines: Production, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(machines.snp(DATA)) == PASSED
    shown = capsys.readouterr()
    assert f"site.json: chip {CHIP} is listed now\n" in shown.out
    assert "verified as of 2027-01-15" in shown.out
    assert "launch binding" in shown.out
    assert listed() == {"format": "confide-site/1", "chip_ids": [CHIP]}

    at(monkeypatch, intel_certificates.NOW)
    assert add(td(machines), "--json") == PASSED
    answer = json.loads(capsys.readouterr().out)
    assert (answer["added"], answer["platform_instances"], answer["chip_ids"]) == (
        True,
        [INSTANCE],
        [],
    )
    data = Path("site.json").read_bytes()
    assert data == Site((bytes.fromhex(CHIP),), (bytes.fromhex(INSTANCE),)).encode()
    assert list(Path.cwd().glob(".site*")) == []


def test_twice_changes_nothing_and_says_so(
    machines: Production, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write_site(chip_ids=[OTHER, CHIP])
    assert add(machines.snp(DATA)) == PASSED
    assert (
        f"site.json: chip {CHIP} was listed already, nothing is changed\n"
        in capsys.readouterr().out
    )
    assert add(machines.snp(DATA), "--json") == PASSED
    assert json.loads(capsys.readouterr().out)["added"] is False
    assert Path("site.json").read_bytes() == before


def test_the_rest_of_the_file_stays(machines: Production) -> None:
    rest = {
        "platform_instances": ["cc" * 16],
        "roles": {"coordinator": {"chip_ids": [CHIP], "platform_instances": ["dd" * 16]}},
    }
    write_site(chip_ids=[OTHER], **rest)
    assert add(machines.snp(DATA)) == PASSED
    assert listed() == {"format": "confide-site/1", "chip_ids": [CHIP, OTHER], **rest}
    assert Path("site.json").read_bytes() == Site.read(Path("site.json")).encode()


def test_for_one_role_alone(machines: Production) -> None:
    write_site(chip_ids=[CHIP], roles={"worker-gpu": {"chip_ids": [OTHER]}})
    assert add(machines.snp(DATA), "--role", "worker-gpu") == PASSED
    assert add(machines.snp(DATA), "--role", "coordinator", "--site", "site.json") == PASSED
    assert listed()["roles"] == {
        "coordinator": {"chip_ids": [CHIP]},
        "worker-gpu": {"chip_ids": [CHIP, OTHER]},
    }
    assert listed()["chip_ids"] == [CHIP]


def test_another_file_through_a_link_with_its_permissions(machines: Production) -> None:
    target = Path("kept.json")
    target.write_bytes(write_site())
    target.chmod(0o640)
    Path("link.json").symlink_to(target)
    assert add(machines.snp(DATA), "--site", "link.json") == PASSED
    assert Path("link.json").is_symlink()
    assert Site.read(target).chip_ids == (bytes.fromhex(CHIP),)
    assert target.stat().st_mode & 0o777 == 0o640


def test_opt_outs_of_the_policy_are_named(
    machines: Production, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy(opt_outs=frozenset({OptOut.WITHOUT_REVOCATION}))
    assert add(machines.snp(DATA)) == PASSED
    assert "insecure_without_revocation" in capsys.readouterr().err


# --- a live machine ------------------------------------------------------------------------------


@pytest.fixture
def peer() -> Iterator[Peer]:
    with peers() as start:
        yield start()


def inventory_of(peer: Peer, chip: SimulatedChip) -> None:
    """The peer answers as the guest's own app does."""
    client = create_app(chip).test_client()

    def answer(handler: Any) -> None:
        reply = client.post("/v1/attest", data=peer.seen[-1][3])
        handler.send_response(reply.status_code)
        handler.send_header("Content-Length", str(len(reply.data)))
        handler.end_headers()
        handler.wfile.write(reply.data)

    peer.answers["/v1/attest"] = answer


def test_by_address_and_then_by_the_saved_file(machines: Production, peer: Peer) -> None:
    inventory_of(peer, machines.chip)
    assert add(peer.url, "--save", "saved") == PASSED
    assert listed()["chip_ids"] == [CHIP]
    Path("site.json").unlink()
    assert add("saved") == PASSED
    assert listed()["chip_ids"] == [CHIP]


def test_what_is_saved_is_kept_although_it_fails(machines: Production, peer: Peer) -> None:
    inventory_of(peer, machines.chip.but(host_data=b"\1" * 32))
    assert add(peer.url, "--save", "saved") == FAILED
    assert not Path("site.json").exists()
    assert add("saved") == FAILED


def test_recorded_evidence_does_not_answer_a_fresh_nonce(
    machines: Production, peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.says("/v1/attest", machines.snp(DATA).encode())
    assert add(peer.url, "--json") == FAILED
    assert failed_names(capsys.readouterr().out) == ["report data"]
    assert not Path("site.json").exists()


FAKE = "\x1b[2K\x1b[1Gverified\r\n\x9b1A\u202e"


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize("status", [200, 403, 503])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_peers_words_reach_no_terminal_raw(
    peer: Peer, capsys: pytest.CaptureFixture[str], status: int, as_json: list[str]
) -> None:
    error = {"code": FAKE, "message": FAKE, "expected": FAKE, "seen": FAKE, "next": FAKE}
    peer.says("/v1/attest", json.dumps({"error": error}).encode(), status=status)
    assert add(peer.url, *as_json) == FAILED
    shown = capsys.readouterr()
    assert all(c == "\n" or c.isprintable() for c in shown.out + shown.err)
    assert not Path("site.json").exists()


@pytest.mark.usefixtures("machines")
def test_an_unreachable_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert add("http://127.0.0.1:1") == FAILED
    assert "peer-unreachable" in capsys.readouterr().err


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xa0", b"\xff", bytes(2 << 20)])
def test_a_file_that_is_no_inventory(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other").write_bytes(content)
    assert add("other") != PASSED
    assert capsys.readouterr().out == ""
    assert site_bytes() is None


def test_bare_evidence_has_no_nonce(
    machines: Production, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other").write_bytes(machines.snp(DATA).encode())
    assert add("other") == FAILED
    assert "not-inventory" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": "confide-site/2"}', b'{"a": 1}'])
def test_a_site_file_that_is_none_stays(machines: Production, data: bytes) -> None:
    Path("site.json").write_bytes(data)
    assert add(machines.snp(DATA)) != PASSED
    assert Path("site.json").read_bytes() == data


def test_no_policy_no_references(machines: Production) -> None:
    Path("policy.json").unlink()
    assert add(machines.snp(DATA)) == USAGE
    with pytest.raises(SystemExit):
        main(["site", "add", "inventory"])


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_as_it_was(
    machines: Production,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: str,
) -> None:
    before = write_site(chip_ids=[OTHER])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if fails == "fsync":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    assert add(machines.snp(DATA)) == USAGE
    assert "No space left on device" in capsys.readouterr().err
    assert Path("site.json").read_bytes() == before
    assert list(Path.cwd().glob(".site*")) == []
