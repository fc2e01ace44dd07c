"""`measure corim`: what it writes, shows, compares and signs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from measure import cbor

Run = Callable[..., tuple[int, str, str]]


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
    assert r"id        \x1b[2Jid" in out


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
