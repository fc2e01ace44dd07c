"""Which manifest a client takes, and which words it asks for."""

from __future__ import annotations

import argparse
import json
import socket
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from confide.client import release
from confide.client.remarks import MAX_FOREIGN, remarks
from confide.client.trust import trust
from confide.commands.cli import command_parser, main
from confide.commands.output import print_verdict
from confide.commands.pinned import examine, read_pinned
from confide.commands.proxy import settings
from confide.commands.status import ExitStatus
from confide.encoding.canonical import json_encode
from confide.errors import ConfideError, ConfigError, PolicyError
from confide.host.site import Site
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import FOREIGN
from confide.verify.verdict import Check, Verdict
from tests.support.programs import free_port
from tests.support.simulated_machine import current_manifest
from tests.support.site_manifest import RELEASE, Change, site_manifest

WORD = "--insecure-foreign-measurements"
COMMANDS = {"proxy": ["--gateway", "http://127.0.0.1:1"], "verify": ["http://127.0.0.1:1"]}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def options(*given: str, command: str = "proxy") -> argparse.Namespace:
    return command_parser(command).parse_args([*COMMANDS[command], *given])


def refused(*given: str) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        read_pinned(options(*given))
    return caught.value


def written(home: Path, data: bytes) -> list[str]:
    (home / "m.json").write_bytes(data)
    return ["--manifest", str(home / "m.json")]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_manifest_a_client_ends_with_2_and_says_how_to_get_one(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an environment says is not trusted either.
    monkeypatch.setenv("CONFIDE_MANIFEST", str(RELEASE / "development.json"))
    assert main([command, *COMMANDS[command]]) == ExitStatus.USAGE
    said = capsys.readouterr().err
    for part in (
        "no-manifest",
        "--manifest FILE",
        "confide trust FILE",
        "--development",
        "SHA-256",
    ):
        assert part in said


def test_the_trusted_one_is_taken_unless_another_is_given(home: Path) -> None:
    trusted, other = site_manifest(), site_manifest(_days(1))
    trust(trusted)
    assert read_pinned(options()).data == trusted
    assert read_pinned(options(command="verify")).data == trusted
    assert read_pinned(options(*written(home, other))).data == other
    development = RELEASE / "development.json"
    assert read_pinned(options("--development")).data == development.read_bytes()


def test_the_demonstration_s_needs_its_word(home: Path) -> None:
    given = written(home, current_manifest())
    error = refused(*given)
    assert isinstance(error, PolicyError) and error.code == "development-manifest"
    pinned = read_pinned(options(*given, "--development"))
    assert pinned.data == current_manifest() and not pinned.foreign


def test_the_word_for_the_demonstration_excuses_no_production_manifest(home: Path) -> None:
    error = refused(*written(home, site_manifest(_other_measurement)), "--development", WORD)
    assert isinstance(error, ConfigError) and error.code == "bad-options"


def test_a_trusted_file_that_others_may_write_is_refused() -> None:
    path = trust(site_manifest())
    path.chmod(0o660)
    assert refused().code == "unsafe-file"
    path.chmod(0o644)
    assert read_pinned(options()).data == path.read_bytes()


def _days(days: int) -> Change:
    return lambda value: value.update(expires=value["released"] + days * 86400)


def _other_measurement(value: dict[str, Any]) -> None:
    value["roles"]["coordinator"]["tdx"][0]["rtmr1"] = "ab" * 48


def _measurement_of_another_role(value: dict[str, Any]) -> None:
    roles = value["roles"]
    roles["coordinator"]["tdx"] = deepcopy(roles["worker-cpu"]["tdx"])


def _other_register(name: str) -> Change:
    return lambda value: value["roles"]["secret-service"]["tdx"][0].update({name: "ab" * 48})


def _weak_tdx(value: dict[str, Any]) -> None:
    value["platforms"]["tdx"]["minimum_tcb_evaluation_data_number"] -= 1


def _weak_gpus(value: dict[str, Any]) -> None:
    value["roles"]["worker-gpu"]["gpus"]["modes"] = ["single-gpu", "multi-gpu"]


FOREIGN_PARTS: list[tuple[Change, str]] = [
    (_other_measurement, "role coordinator, TDX: measurements of shape "),
    (_measurement_of_another_role, "role coordinator, TDX: measurements of shape "),
    *(
        (_other_register(name), "role secret-service, TDX: measurements of shape ")
        for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
    ),
    (_weak_tdx, "TDX: minimum_tcb_evaluation_data_number"),
    (_weak_gpus, "role worker-gpu, GPUs: modes"),
]


@pytest.mark.parametrize(("change", "part"), FOREIGN_PARTS)
def test_what_is_not_the_release_s_needs_a_word(home: Path, change: Change, part: str) -> None:
    given = written(home, site_manifest(change))
    error = refused(*given)
    assert (error.code, WORD in str(error)) == ("opt-out-not-given", True)
    pinned = read_pinned(options(*given, WORD))
    assert pinned.opt_outs == (FOREIGN,)
    assert {found.startswith(part) for found in pinned.foreign} == {True}


def test_a_manifest_of_the_release_needs_none(home: Path) -> None:
    """Also with other names for shapes, fewer of them, and a stricter policy."""

    def stricter(value: dict[str, Any]) -> None:
        value["platforms"]["tdx"]["minimum_tcb_evaluation_data_number"] += 1
        del value["roles"]["worker-cpu"]["tdx"][1:]
        value["roles"]["coordinator"]["tdx"][0]["shape"] = "mine"

    pinned = read_pinned(options(*written(home, site_manifest(stricter))))
    assert not pinned.foreign and not pinned.opt_outs


@pytest.mark.parametrize(
    ("field", "part"), [("platforms", "TDX: platform"), ("gpus", "role worker-gpu, GPUs: policy")]
)
def test_what_the_release_has_no_policy_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, field: str, part: str
) -> None:
    folder = home / "release"
    folder.mkdir()
    policy = json.loads((RELEASE / "policy.json").read_bytes())
    policy[field] = {}
    if field == "platforms":
        policy["sources"] = {}
    (folder / "policy.json").write_bytes(json_encode(policy))
    (folder / "references.json").write_bytes((RELEASE / "references.json").read_bytes())
    monkeypatch.setattr("confide.commands.pinned.release_folder", lambda: folder)
    assert examine(site_manifest()).foreign == (part,)


def test_sev_snp_is_held_against_the_release_in_the_same_way(home: Path) -> None:
    def weaker(value: dict[str, Any]) -> None:
        value["platforms"]["sev-snp"]["vmpl"] = 1
        value["roles"]["coordinator"]["sev-snp"][0]["launch_digest"] = "ab" * 48

    site = Site(chip_ids=(b"c" * 64,))
    assert not examine(site_manifest(site=site)).foreign
    found = examine(site_manifest(weaker, site=site)).foreign
    assert found[0].startswith("role coordinator, SEV-SNP: measurements of shape ")
    assert found[1:] == ("SEV-SNP: vmpl",)


def test_an_opt_out_has_its_own_word_beside_it(home: Path) -> None:
    def any_platform(value: dict[str, Any]) -> None:
        value["platforms"]["tdx"] |= {
            "opt_outs": ["insecure_any_platform"],
            "platform_instances": [],
        }

    given = written(home, site_manifest(any_platform))
    assert "--insecure-any-platform" in str(refused(*given, WORD))
    pinned = read_pinned(options(*given, "--insecure-any-platform"))
    assert pinned.opt_outs == ("insecure_any_platform",)
    both = written(home, site_manifest(any_platform, _weak_tdx))
    assert WORD in str(refused(*both, "--insecure-any-platform"))


def test_it_is_shown_like_the_other_opt_outs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = written(home, site_manifest(_weak_tdx))
    chosen = settings(options(*given, WORD))
    part = "TDX: minimum_tcb_evaluation_data_number"
    assert chosen.foreign == (part,)
    manifest = Manifest.parse(chosen.manifest)
    lines = remarks(manifest, chosen.foreign, now=manifest.released)
    assert lines == [f"NOT THIS CLIENT'S RELEASE ({WORD}): {part}"]
    many = remarks(manifest, [part] * (MAX_FOREIGN + 2), now=manifest.released)
    assert len(many) == MAX_FOREIGN + 1 and many[-1].endswith(": 2 more parts")

    verdict = Verdict((Check("a", "b", "b", True, "c"),))
    for as_json in (True, False):
        print_verdict(verdict, manifest, title="t", now=0, as_json=as_json, foreign=chosen.foreign)
        shown = capsys.readouterr().out
        assert FOREIGN in shown and part in shown
        assert "because the manifest says so" not in shown  # it is not an opt-out of the manifest
        if as_json:
            assert json.loads(shown)["opt_outs"] == [FOREIGN]

    # The remark is also there before a service is asked.
    with socket.create_server(("127.0.0.1", 0)):
        verify = ["verify", f"http://127.0.0.1:{free_port()}", *given, WORD]
        assert main(verify) == ExitStatus.FAILED
    assert f"NOT THIS CLIENT'S RELEASE ({WORD}): {part}" in capsys.readouterr().err


def test_where_the_release_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(release.VARIABLE, raising=False)
    assert release.release_folder() == RELEASE
    monkeypatch.setenv(release.VARIABLE, str(home))
    assert release.release_folder() == home
    packaged = home / "packaged"
    packaged.mkdir()
    monkeypatch.setattr(release, "_PACKAGED", packaged)
    assert release.release_folder() == packaged, "an environment does not move an installed one"
    packaged.rmdir()
    monkeypatch.delenv(release.VARIABLE)
    monkeypatch.setattr(release, "_CHECKOUT", home)
    with pytest.raises(ConfigError) as caught:
        release.release_folder()
    assert caught.value.code == "no-release"
