"""The ID block, keys and signatures in the processor's format; QEMU takes what is printed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.host.runner.qemu import Tools
from measure.errors import FormatError, InputError
from measure.snp import cpu, idblock, qemu

DIGEST = bytes(range(48))
BLOCK = idblock.IdBlock(DIGEST, 0x30000)
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> idblock.Signed:
    der = key.sign(data, ec.ECDSA(hashes.SHA384()))
    return idblock.Signed(idblock.public_key(spki(key), "k"), idblock.signature(der, "s"))


def test_block_layout() -> None:
    block = idblock.IdBlock(DIGEST, 0x3_0000, b"F" * 16, b"I" * 16, 7).encode()
    fields = (block[:48], block[48:64], block[64:80], block[80:84], block[84:88], block[88:])
    assert fields == (
        DIGEST,
        b"F" * 16,
        b"I" * 16,
        b"\1\0\0\0",
        b"\7\0\0\0",
        b"\0\0\3\0\0\0\0\0",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"launch_digest": bytes(47)}, "invalid launch digest; expected 48 bytes, seen 47 bytes"),
        ({"family_id": bytes(15)}, "invalid family id"),
        ({"image_id": bytes(17)}, "invalid image id"),
        ({"policy": 1 << 64}, "invalid policy; expected 64 bits"),
        ({"policy": -1}, "invalid policy"),
        ({"guest_svn": 1 << 32}, "invalid guest SVN; expected 32 bits"),
    ],
)
def test_bad_fields(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(BLOCK, **changes).encode()  # type: ignore[arg-type]


def test_page_layout_with_and_without_author(key: ec.EllipticCurvePrivateKey) -> None:
    block = signed(key, BLOCK.encode())
    author = signed(ec.generate_private_key(ec.SECP384R1()), block.key)
    page, alone = idblock.auth_page(block, author), idblock.auth_page(block)
    assert len(page) == len(alone) == idblock.AUTH_SIZE
    assert page[:8] == b"\1\0\0\0\1\0\0\0" and alone[:8] == b"\1\0\0\0\0\0\0\0"
    places = {0x40: block.signature, 0x240: block.key, 0x680: author.signature, 0x880: author.key}
    rest = bytearray(page)
    for at, value in places.items():
        assert page[at : at + len(value)] == value
        rest[at : at + len(value)] = bytes(len(value))
    assert not any(rest[8:])
    assert alone[0x40:0x680] == page[0x40:0x680] and not any(alone[0x680:])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, ORDER - 1), st.integers(1, ORDER - 1))
def test_any_signature(r: int, s: int) -> None:
    raw = idblock.signature(utils.encode_dss_signature(r, s), "s")
    assert len(raw) == idblock.SIGNATURE_SIZE and not any(raw[144:])
    assert int.from_bytes(raw[:72], "little") == r and int.from_bytes(raw[72:144], "little") == s


def test_public_key(key: ec.EllipticCurvePrivateKey) -> None:
    raw = idblock.public_key(spki(key), "k")
    numbers = key.public_key().public_numbers()
    assert len(raw) == idblock.KEY_SIZE and raw[:4] == b"\2\0\0\0" and not any(raw[148:])
    assert int.from_bytes(raw[4:76], "little") == numbers.x
    assert int.from_bytes(raw[76:148], "little") == numbers.y


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()])
def test_other_curves_are_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(FormatError, match=r"k\.der: not a P-384 public key; .*openssl pkey"):
        idblock.public_key(spki(ec.generate_private_key(curve)), "k.der")


def test_every_changed_byte_of_the_keys_header_is_refused(
    key: ec.EllipticCurvePrivateKey,
) -> None:
    good = spki(key)
    for at in range(len(good) - 96):
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(FormatError, match="not a P-384 public key"):
            idblock.public_key(bytes(bad), "k")
    for cut in (good[:-1], good + b"\0", b""):
        with pytest.raises(FormatError, match="not a P-384 public key"):
            idblock.public_key(cut, "k")


SMALL = bytes.fromhex("3006020101020102")


def test_the_smallest_signature() -> None:
    raw = idblock.signature(SMALL, "s")
    assert (raw[0], raw[72], sum(raw)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("der", "message"),
    [
        ("", "a sequence is truncated"),
        ("30", "a sequence is truncated"),
        ("3106020101020102", "not an ECDSA signature in DER.*tag 0x30"),
        ("3005020101020102", "not an ECDSA signature in DER"),
        ("3006030101020102", "not an ECDSA signature in DER.*the number r: tag 0x02"),
        ("3006020101030102", "the number s"),
        ("3006020100020102", "r is not a positive number in DER"),
        ("3006020101020100", "s is not a positive number"),
        ("3006020181020102", "r is not a positive number"),
        ("300702020001020102", "r is not a positive number"),
        ("30050200020102", "r is not a positive number"),
        ("3003020101", "the number s is truncated"),
        ("30060201010201", "not an ECDSA signature"),
        ("3006020101020202", "the number s is truncated"),
        ("300702010102010200", "bytes after the signature"),
        ("3006028101020102", "not an ECDSA signature|truncated"),
    ],
)
def test_bad_signatures(der: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        idblock.signature(bytes.fromhex(der), "s")


def test_a_number_too_large_for_the_curve() -> None:
    der = utils.encode_dss_signature(1 << 384, 1)
    with pytest.raises(FormatError, match="r is too large for P-384"):
        idblock.signature(der, "s")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_a_signature_or_a_format_error(data: bytes) -> None:
    for der in (data, b"\x30" + bytes([len(data)]) + data):
        try:
            raw = idblock.signature(der, "s")
        except FormatError:
            continue
        r, s = (int.from_bytes(raw[at : at + 72], "little") for at in (0, 72))
        assert utils.encode_dss_signature(r, s) == der


# QEMU


def machine(boot: qemu.Boot | None = None, properties: str = "") -> qemu.Machine:
    return qemu.Machine("fw.fd", "EPYC-Milan", 4, "2G", 0x30000, boot, properties)


def test_command_line() -> None:
    boot = qemu.Boot("linux", "initrd", "console=ttyS0 quiet")
    argv = qemu.arguments(machine(boot))
    pairs = dict(itertools.pairwise(argv))
    assert pairs["-object"] == (
        "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x30000,kernel-hashes=on"
    )
    assert pairs["-machine"].startswith("q35,confidential-guest-support=sev0")
    assert (pairs["-cpu"], pairs["-smp"]) == ("EPYC-Milan", "cpus=4,maxcpus=4")
    assert (pairs["-bios"], pairs["-kernel"], pairs["-initrd"]) == ("fw.fd", "linux", "initrd")
    assert pairs["-append"] == "console=ttyS0 quiet"


def test_command_line_without_kernel_or_initrd() -> None:
    disk = qemu.arguments(machine())
    assert "-kernel" not in disk and any("kernel-hashes=off" in a for a in disk)
    plain = qemu.arguments(machine(qemu.Boot("linux", "", "")))
    assert "-initrd" not in plain and plain[-2:] == ["-append", ""]


def test_a_shell_reads_the_command_line_as_it_is() -> None:
    argv = qemu.arguments(machine(qemu.Boot("a b", "-c'd", 'x="y z" $HOME `id`\\ -v')))
    rendered = qemu.render(argv).replace(qemu.PROGRAM, "printf '%s\\0'", 1)
    seen = subprocess.run(["sh", "-c", rendered], capture_output=True, check=True).stdout
    assert seen.decode().split("\0")[:-1] == argv[1:]


def test_qemu_understands_the_command_line(tools: Tools, key: ec.EllipticCurvePrivateKey) -> None:
    """Without SEV-SNP hardware QEMU stops where it would start the guest, and not before.

    By then it has checked every property; the ID block and page by their size.
    """
    block = signed(key, BLOCK.encode())
    page = idblock.auth_page(block, signed(key, block.key))
    said = {}
    for name, parts in (
        ("right", (BLOCK.encode(), page)),
        ("block", (BLOCK.encode()[:-1], page)),
        ("page", (BLOCK.encode(), page + b"\0")),
    ):
        properties = idblock.qemu_properties(*parts, author=True)
        argv = qemu.arguments(machine(qemu.Boot("/dev/null", "", "quiet"), properties))
        argv[0] = str(tools.qemu)
        argv[argv.index("kvm")] = "tcg"
        done = subprocess.run([*argv, "-display", "none"], capture_output=True, timeout=60)
        assert done.returncode == 1
        said[name] = done.stderr.decode()
    assert "sev-snp-guest: KVM required" in said["right"]
    assert "parameter length of 95 not equal to 96" in said["block"]
    assert "4097" in said["page"] and "KVM required" not in said["page"]


def test_qemus_own_vcpu_types(tools: Tools) -> None:
    """Every EPYC that QEMU has is in the table, with the signature that QEMU would give it."""
    start: list[object] = [{"execute": "qmp_capabilities"}]
    argv = [str(tools.qemu), "-S", "-display", "none", "-machine", "none", "-nodefaults"]
    argv += ["-accel", "tcg", "-qmp", "stdio"]

    def ask(commands: list[object]) -> list[object]:
        lines = "".join(json.dumps(c) + "\n" for c in [*start, *commands, {"execute": "quit"}])
        done = subprocess.run(argv, input=lines.encode(), capture_output=True, timeout=60)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        return [a["return"] for a in answers if "return" in a]

    definitions = ask([{"execute": "query-cpu-definitions"}])[1]
    assert isinstance(definitions, list)
    names = sorted(d["name"] for d in definitions if d["name"].startswith("EPYC"))
    expansions = ask(
        [
            {
                "execute": "query-cpu-model-expansion",
                "arguments": {"type": "full", "model": {"name": name}},
            }
            for name in names
        ]
    )[1:-1]
    assert len(names) == len(expansions) >= 16
    for name, answer in zip(names, expansions, strict=True):
        assert isinstance(answer, dict)
        found = answer["model"]["props"]
        signature = cpu.signature(found["family"], found["model"], found["stepping"])
        assert cpu.TYPES.get(name) == signature, name
