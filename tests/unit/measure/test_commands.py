"""The command line: what each command prints, and what it says of bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import measure
from measure import __main__ as cli
from measure import cbor, report
from tests.support.measurement import builders, ovmf_builders, platforms, samples

CHECKOUT = Path(measure.__file__).parents[1]
COMMANDS = [
    "image",
    "pcrs",
    "snp",
    "snp-id",
    "tdx",
    "eventlog",
    "explain",
    "diff",
    "corim",
    "picture",
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder with small inputs: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    shapes = {
        "format": "confide-shapes/1",
        "vtpm": ["ovmf-disk", "ovmf-direct"],
        "sev-snp": [
            {"vmm": "qemu", "vcpu_type": "EPYC-Milan", "vcpus": [1, 4], "guest_features": 1}
        ],
        "tdx": [],
    }
    for name, data in {
        "disk": builders.bootable_disk(),
        "uki": builders.uki(),
        "other-uki": builders.uki({".uname": b"6.12.1"}),
        "fw": builders.firmware(),
        "fw-snp": ovmf_builders.image(),
        "shapes": json.dumps(shapes).encode(),
        "m.json": platforms.encoded(),
    }.items():
        Path(name).write_bytes(data)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_starts_with_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  python -m measure {command} " in text


def test_the_list_of_commands_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    found = re.findall(r"^    ([a-z-]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(found) == sorted(COMMANDS)


def test_image_for_two_platforms(run: Run) -> None:
    status, out, err = run(
        "image", "--disk", "disk", "--uki", "uki", "--shapes", "shapes", "--firmware", "fw",
        "--firmware-sev-snp", "fw-snp",
    )  # fmt: skip
    assert (status, err) == (0, "")
    measured = report.parse(out.encode(), "m")
    found = report.read(measured, "m")
    assert [p.shape.name for p in found.vtpm] == ["ovmf-disk", "ovmf-direct"]
    assert [p.shape.name for p in found.sev_snp] == ["qemu-epyc-milan-1", "qemu-epyc-milan-4"]
    assert measured["image"] == "disk"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--firmware", "none"), "none: cannot read: No such file or directory"),
        ((), "--firmware and machines of platform vtpm need each other"),
        (("--firmware", "fw", "--firmware-sev-snp", "fw-snp"), "--firmware-sev-snp and machines"),
        (("--firmware", "fw", "--firmware-tdx", "fw"), "--firmware-tdx and machines"),
        (("--firmware", "fw", "--acpi", "."), "--firmware-tdx and --acpi go together"),
        (("--firmware", "fw", "--shapes", "shapes"), "--firmware-sev-snp and machines"),
        (("--firmware", "fw", "--shapes", "uki"), "uki: not JSON"),
        (("--firmware", "fw", "--uki", "other-uki"), "other-uki: the disk boots a different UKI"),
        (("--firmware", "disk"), "disk at offset 0x0: no firmware volume"),
        (("--firmware", "fw", "-o", "none/x"), "none/x: cannot write"),
    ],
)
def test_image_says_what_is_wrong(run: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run("image", "--disk", "disk", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("measure: ")
    assert err.count("\n") == 1
    assert message in err


def test_pcrs(run: Run) -> None:
    status, out, _ = run("pcrs", "--disk", "disk", "--firmware", "fw", "--json")
    measured = platforms.measurements()["platforms"]["vtpm"][0]
    assert (status, json.loads(out)) == (0, measured["pcrs"])
    _, lines, _ = run("pcrs", "--disk", "disk", "--firmware", "fw", "--shape", "ovmf-direct")
    assert f" 4 {platforms.measurements()['platforms']['vtpm'][1]['pcrs']['4']}" in lines
    assert run("pcrs", "--disk", "disk")[0] == 2
    assert run("pcrs", "--disk", "disk", "--shape", "gce-tdx")[0] == 0


def test_diff(run: Run) -> None:
    assert run("diff", "m.json", "m.json")[0] == 0
    assert run("diff", "m.json", "m.json", "--json") == (0, "[]\n", "")
    run("image", "--disk", "disk", "--firmware", "fw", "-o", "a.json")
    Path("disk2").write_bytes(builders.bootable_disk(builders.uki({".initrd": b"another"})))
    run("image", "--disk", "disk2", "--firmware", "fw", "-o", "b.json")
    status, out, _ = run("diff", "a.json", "b.json", "--json")
    found = json.loads(out)
    assert status == 1
    causes = [item for item in found if not item["follows"] and item["component"] == "initrd"]
    assert causes
    assert set(found[0]) == {"register", "component", "description", "expected", "seen", "follows"}
    status, out, _ = run("diff", "a.json", "b.json")
    assert status == 1
    assert "PCR 11: initrd: section .initrd" in out


def test_explain_and_eventlog_for_scripts(run: Run) -> None:
    prediction = samples.predict()
    Path("log").write_bytes(samples.log_bytes(prediction))
    status, out, _ = run("explain", "log", "--image", "m.json", "--json")
    said = json.loads(out)
    assert (status, said["compared_with"], said["differences"]) == (0, "ovmf-disk", [])
    assert said["notes"]
    status, out, _ = run("eventlog", "log", "--json")
    said = json.loads(out)
    assert (status, said["contradictions"]) == (0, [])
    expected = {str(n): v.hex() for n, v in prediction.pcrs().items() if prediction.of(n)}
    assert said["registers"] == {"sha256": expected}
    assert [e["digests"]["sha256"] for e in said["events"]] == [
        e.digest.hex() for e in prediction.events
    ]
    other = samples.predict(samples.changed_uki(initrd=b"another"))
    Path("log").write_bytes(samples.log_bytes(other))
    status, out, _ = run("explain", "log", "--image", "m.json", "--json")
    assert status == 1
    assert {d["component"] for d in json.loads(out)["differences"] if not d["follows"]} == {
        "initrd"
    }


def test_corim(run: Run) -> None:
    assert run("corim", "write", "m.json", "--creator", "Example Ltd", "-o", "c")[0] == 0
    status, out, _ = run("corim", "show", "c", "--json")
    shown = json.loads(out)
    assert (status, shown["signer"], shown["validity"]) == (0, None, [None, None])
    status, out, _ = run("corim", "compare", "c", "m.json")
    assert status == 0
    assert out == f"no difference: {len(shown['values'])} values of 8 machines\n"
    run("corim", "write", "m.json", "--shape", "qemu-2", "--not-after", "2027-01-01", "-o", "one")
    _, out, _ = run("corim", "show", "one")
    assert "not after 2027-01-01 00:00:00 UTC" in out
    assert out.count("Intel/TDX") == 1
    status, out, _ = run("corim", "compare", "one", "m.json")
    assert status == 1
    assert out.count("only in the measurements: ") == len(shown["values"]) - 7
    assert "only in the CoRIM" not in out


def measurement(comid: Any, name: str) -> Any:
    """The measurement of that name in a CoMID's first reference triple."""
    return next(m for m in comid[4][0][0][1] if m[0] == name)


def register_as_element(comid: Any) -> None:
    """The PCRs as digests of elements "PCR 0", "PCR 4" ...: they look the same, and are not."""
    pcrs = measurement(comid, "PCR")
    registers = sorted(pcrs[1][14].items())
    comid[4][0][0][1] = [{0: f"PCR {n}", 1: {2: digests}} for n, digests in registers]


def two_triples(comid: Any) -> None:
    """MRTD alone, and all the rest alone: each is enough where triples are alternatives."""
    environment, (mrtd, *rest) = comid[4][0][0]
    comid[4][0] = [[environment, [mrtd]], [environment, rest]]


ENVIRONMENT = {0: {1: "Intel", 2: "TDX"}}
CLAIM = [ENVIRONMENT, [{0: "MRTD", 1: {2: [[7, bytes(48)]]}}]]
CORIM_CHANGES: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "mask": ("tdx", lambda c: measurement(c, "ATTRIBUTES")[1].update({5: b""}), "field 5 40"),
    "mask of XFAM": ("tdx", lambda c: measurement(c, "XFAM")[1].update({5: bytes(8)}), "field 5"),
    "masked value": (
        "tdx",
        lambda c: measurement(c, "XFAM")[1].update({4: cbor.Tag(563, [bytes(8), bytes(8)])}),
        "XFAM raw 0000000000000000/0000000000000000",
    ),
    "svn": ("tdx", lambda c: measurement(c, "MRTD")[1].update({1: cbor.Tag(552, 0)}), "field 1"),
    "flags": ("tdx", lambda c: measurement(c, "MRTD")[1].update({3: {0: True}}), "field 3"),
    "private": ("tdx", lambda c: measurement(c, "MRTD")[1].update({-1: "x"}), "field -1 6178"),
    "authority": (
        "tdx",
        lambda c: measurement(c, "MRTD").update({2: [cbor.Tag(554, "key")]}),
        "Intel/TDX MRTD authorized-by",
    ),
    "another value": ("tdx", lambda c: c[4][0].append(CLAIM), "MRTD sha-384 " + "00" * 48),
    "endorsed": ("tdx", lambda c: c[4].update({1: [CLAIM]}), "triples field 1"),
    "keys": ("tdx", lambda c: c[4].update({3: [[ENVIRONMENT, [cbor.Tag(554, "")]]]}), "field 3"),
    "series": (
        "tdx",
        lambda c: c[4].update({8: [[[ENVIRONMENT, []], [[CLAIM[1], CLAIM[1]]]]]}),
        "triples field 8",
    ),
    "condition": ("tdx", lambda c: c[4].update({10: [[[CLAIM], [CLAIM]]]}), "triples field 10"),
    "private triples": ("tdx", lambda c: c[4].update({-7: None}), "triples field -7 f6"),
    "instance": (
        "tdx",
        lambda c: c[4][0][0][0].update({1: cbor.Tag(550, bytes(7))}),
        "Intel/TDX/instance 00000000000000 MRTD",
    ),
    "split name": (
        "sev-snp",
        lambda c: c[4][0][0].__setitem__(0, {0: {2: "AMD/SEV-SNP"}}),
        "the same values, but not",
    ),
    "layer": ("tdx", lambda c: c[4][0][0][0][0].update({3: 0}), "Intel/TDX/layer 0 MRTD"),
    "version": ("tdx", lambda c: c[1].update({1: 0}), "tag-identity field 1 00"),
    "links": ("tdx", lambda c: c.update({3: [{0: "x", 1: 1}]}), "CoMID field 3"),
    "triples": ("tdx", two_triples, "the same values, but not in the triples"),
    "twice": ("tdx", lambda c: c[4][0].append(c[4][0][0]), "the same values, but not"),
    "elements": ("vtpm", register_as_element, "the same values, but not"),
}


@pytest.mark.parametrize("what", CORIM_CHANGES)
def test_corim_with_something_added(run: Run, what: str) -> None:
    """Whatever a verifier may take for something else is a difference, and is shown."""
    platform, change, text = CORIM_CHANGES[what]
    run("corim", "write", "m.json", "-o", "c")
    outer = cbor.decode(Path("c").read_bytes(), "c").value
    comids = [cbor.decode(tag.value, "c") for tag in outer[1]]
    place, comid = next((n, c) for n, c in enumerate(comids) if f"/{platform}/" in c[1][0])
    change(comid)
    outer[1][place] = cbor.Tag(506, cbor.encode(comid))
    Path("c").write_bytes(cbor.encode(cbor.Tag(501, outer)))
    status, out, _ = run("corim", "compare", "c", "m.json")
    assert status == 1
    assert text in out
    if "only in the CoRIM" in out:
        assert text.split()[-1] in run("corim", "show", "c")[1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda o: o.update({2: [{0: cbor.Tag(32, "https://example.com")}]}), "CoRIM field 2"),
        (lambda o: o.update({-1: "x"}), "CoRIM field -1 6178"),
        (lambda o: o[1].append(cbor.Tag(505, b"x")), "CoRIM tag 505 4178"),
        (lambda o: o[1].reverse(), "the same values, but not in the triples, order"),
        (lambda o: o[1].append(o[1][0]), "the same values"),
        (lambda o: o.pop(3), "the same values"),
        (lambda o: o.update({3: cbor.Tag(32, "urn:other")}), "or profile of `corim write`"),
    ],
)
def test_corim_with_something_around_it(
    run: Run, change: Callable[[Any], object], text: str
) -> None:
    run("corim", "write", "m.json", "-o", "c")
    outer = cbor.decode(Path("c").read_bytes(), "c").value
    change(outer)
    Path("c").write_bytes(cbor.encode(cbor.Tag(501, outer)))
    status, out, _ = run("corim", "compare", "c", "m.json")
    assert status == 1
    assert text in out


def test_corim_until_the_end_of_time(run: Run) -> None:
    run("corim", "write", "m.json", "-o", "c")
    outer = cbor.decode(Path("c").read_bytes(), "c").value
    for seconds, status in ((253402300799, 0), (1 << 62, 2)):
        outer[4] = {1: cbor.Tag(1, seconds)}
        Path("c").write_bytes(cbor.encode(cbor.Tag(501, outer)))
        assert run("corim", "show", "c")[0] == status
    assert run("corim", "write", "m.json", "--not-after", "1969-12-31", "-o", "c")[0] == 2


def test_corim_for_one_launch_digest(run: Run) -> None:
    arguments = ("corim", "write", "m.json", "--launch-measurement", "1")
    assert run(*arguments, "--shape", "ec2-2", "-o", "c")[0] == 0
    assert "AMD/SEV-SNP/launch-measurement" in run("corim", "show", "c")[1]
    status, _, err = run(*arguments)
    assert status == 2
    assert "holds one machine" in err
    status, _, err = run(*arguments, "--shape", "bochs")
    assert status == 2
    assert "no such machine in the measurements; expected" in err


def test_what_a_corim_says_cannot_reach_the_terminal(run: Run) -> None:
    run("corim", "write", "m.json", "-o", "c")
    outer = cbor.decode(Path("c").read_bytes(), "c").value
    outer[0] = "\x1b[2Jid"
    Path("c").write_bytes(cbor.encode(cbor.Tag(501, outer)))
    status, out, _ = run("corim", "show", "c")
    assert (status, "\x1b" in out) == (0, False)
    assert "id        ?[2Jid" in out


def test_corim_signed_with_a_program_that_knows_nothing_of_it(run: Run) -> None:
    run("corim", "write", "m.json", "-o", "c")
    assert run(
        "corim", "to-be-signed", "c", "--algorithm", "ES384", "--signer", "Example Ltd", "-o", "tbs"
    )[0] == 0  # fmt: skip
    curve = "ec_paramgen_curve:P-384"
    for arguments in (
        ["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", "key"],
        ["dgst", "-sha384", "-sign", "key", "-out", "sig", "tbs"],
    ):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    assert run("corim", "assemble", "tbs", "sig", "-o", "signed")[0] == 0
    assert "signed by Example Ltd, ES384 (not verified)" in run("corim", "show", "signed")[1]
    assert run("corim", "compare", "signed", "m.json")[0] == 0
    status, _, err = run("corim", "assemble", "tbs", "tbs")
    assert status == 2
    assert "not an ECDSA signature in DER" in err


def test_picture(run: Run) -> None:
    assert run("picture", "m.json", "-o", "p.svg") == (0, "", "")
    assert Path("p.svg").read_text().startswith("<svg ")
    status, out, _ = run("picture", "m.json", "--shape", "ec2-2")
    assert status == 0
    assert "sev-snp ec2-2" in out


def test_every_command_but_corim_works_without_cbor2() -> None:
    """As in the sandbox that builds the images, and on an auditor's machine."""
    script = """
import sys
sys.modules["cbor2"] = None
from measure import __main__
sys.exit(__main__.main(["picture", "m.json"]) or __main__.main(["corim", "show", "m.json"]))
"""
    folder = CHECKOUT.joinpath("tests")
    with_report = subprocess.run(
        [sys.executable, "-c", script.replace("m.json", "/dev/stdin", 1)],
        input=platforms.encoded(),
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    assert b"launch digest" in with_report.stdout
    assert (
        with_report.stderr == b"measure: CBOR needs the Python package cbor2, version 6 or later\n"
    )
    assert with_report.returncode == 2


def test_a_reader_that_stops_early(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(platforms.encoded())
    command = f"{sys.executable} -m measure picture m.json | head -c 1"
    shown = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert shown.stderr == b""


def test_a_file_larger_than_any_that_is_meant_is_not_read(tmp_path: Path, capsys: Any) -> None:
    """A sparse file of a gigabyte in the place of measurements, and of a CoRIM."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    name = str(large)
    for arguments in (
        ["diff", name, name],
        ["picture", name],
        ["corim", "show", name],
    ):
        assert cli.main(arguments) == 2
        assert "too large" in capsys.readouterr().err
