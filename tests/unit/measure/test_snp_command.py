"""`measure snp` and `measure snp-id`: what they print, and one line for each error."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from measure import __main__ as cli
from measure import image as disk_image
from measure.commands.snp import parse_vcpus
from measure.errors import InputError
from measure.snp import cpu, firmware, idblock, vmsa
from measure.snp.kernel import KernelHashes
from measure.snp.launch import Launch
from measure.uki import Section
from tests.support.measurement import builders
from tests.support.measurement import ovmf_builders as build


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a firmware, a disk, and parts of a direct boot."""
    monkeypatch.chdir(tmp_path)
    Path("fw").write_bytes(build.image())
    Path("disk").write_bytes(builders.bootable_disk())
    Path("kernel").write_bytes(b"kernel")
    Path("initrd").write_bytes(b"initrd")
    return tmp_path


BASE = ["snp", "--firmware", "fw", "--guest-features", "0x1"]
DIRECT = [*BASE, "--kernel", "kernel", "--initrd", "initrd", "--append", "quiet"]
ONE = ["--vcpus", "4", "--vcpu-type", "EPYC-Milan"]


def launch(kernel: KernelHashes | None) -> Launch:
    image = firmware.from_image(build.image(), "fw")
    return Launch(image, kernel, vmsa.QEMU, cpu.TYPES["EPYC-Milan"], 1)


DIGESTS = launch(KernelHashes.of(b"kernel", b"initrd", b"quiet")).digests_for(range(1, 256))


@pytest.mark.usefixtures("folder")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*DIRECT, "--vcpus", "1-255", "--vcpu-type", "EPYC-Milan"]) == 0
    text, digests = capsys.readouterr().out.split("\nvCPUs launch digest\n")
    assert "guest features 0x1: SNPActive\n" in text
    assert "vcpu signature 0xa00f11\n" in text
    assert "vmm            qemu: QEMU on Linux 6.10 or newer (KVM_SEV_INIT2)\n" in text
    seen = [line.split() for line in digests.splitlines()]
    assert seen == [[str(count), value.hex()] for count, value in DIGESTS.items()]


@pytest.mark.usefixtures("folder")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*DIRECT, "--vcpus", "1,4", "--vcpu-type", "EPYC-Milan", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["launch_digests"] == {str(n): DIGESTS[n].hex() for n in (1, 4)}
    assert (found["guest_features"], found["guest_feature_names"]) == (1, ["SNPActive"])
    assert (found["vmm"], found["vcpu_signature"]) == ("qemu", 0xA00F11)
    names = [component["component"] for component in found["components"]]
    assert names == ["firmware", "kernel", "initrd", "command-line", "vcpu-0", "vcpu-n"]


@pytest.mark.usefixtures("folder")
def test_a_disk_is_its_ukis_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """The sections as they are; the command line without its newline."""
    sections = disk_image.parse(builders.bootable_disk(), "disk").uki.sections
    line = sections[Section.CMDLINE].rstrip(b"\n")
    hashes = KernelHashes.of(sections[Section.LINUX], sections[Section.INITRD], line)
    cli.main([*BASE, "--disk", "disk", *ONE, "--json"])
    found = json.loads(capsys.readouterr().out)["launch_digests"]
    assert found == {"4": launch(hashes).digest(4).hex()}


@pytest.mark.usefixtures("folder")
def test_no_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*BASE, *ONE, "--json"])
    found = json.loads(capsys.readouterr().out)["launch_digests"]
    assert found == {"4": launch(None).digest(4).hex()}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "option",
    [["--vcpu-type", "EPYC-Milan"], ["--vcpu-signature", "0xa00f11"], ["--vcpu-model", "25/1/1"]],
)
def test_three_ways_to_say_what_the_vcpu_is(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main([*DIRECT, "--vcpus", "4", *option, "--json"])
    assert json.loads(capsys.readouterr().out)["launch_digests"] == {"4": DIGESTS[4].hex()}


@pytest.mark.usefixtures("folder")
def test_qemu_with_files(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*DIRECT, *ONE, "--qemu", "--memory", "8G", "--policy", "0xb0000"])
    text = capsys.readouterr().out
    for part in (
        "-cpu EPYC-Milan",
        "-smp cpus=4,maxcpus=4",
        "-m 8G",
        "-bios fw",
        "-kernel kernel",
        "-initrd initrd",
        "-append quiet",
        "policy=0xb0000,kernel-hashes=on",
    ):
        assert part in text


def test_what_binds_the_launch_to_a_manifest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "manifest.json").write_bytes(b"{}\n")
    value = hashlib.sha256(b"{}\n").digest()
    argument = "host-data=" + base64.b64encode(value).decode()
    cli.main([*DIRECT, *ONE, "--manifest", "manifest.json", "--json"])
    found = json.loads(capsys.readouterr().out)
    expected = {"field": "HOST_DATA", "value": value.hex(), "qemu": argument}
    assert found["launch_binding"] == expected
    assert found["launch_digests"] == {"4": DIGESTS[4].hex()}
    cli.main([*DIRECT, *ONE, "--manifest", "manifest.json"])
    out = capsys.readouterr().out
    assert value.hex() in out and argument in out.split()
    cli.main([*DIRECT, *ONE, "--manifest", "manifest.json", "--qemu"])
    assert f",kernel-hashes=on,{argument} " in capsys.readouterr().out
    cli.main([*DIRECT, *ONE, "--qemu"])
    assert "host-data" not in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), (b"", "manifest is empty"), (bytes((1 << 20) + 1), "too large")],
)
def test_a_file_that_cannot_be_a_manifest_is_refused(
    content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("manifest.json").write_bytes(content)
    assert cli.main([*DIRECT, *ONE, "--manifest", "manifest.json"]) == 2
    assert message in capsys.readouterr().err


def test_qemu_with_a_disk(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections = disk_image.parse(builders.bootable_disk(), "disk").uki.sections
    cli.main([*BASE, "--disk", "disk", *ONE, "--qemu", "--extract", str(folder)])
    text = capsys.readouterr().out
    assert "policy=0x30000," in text and "-m 4G" in text
    assert f"-kernel {folder}/linux" in text and f"-initrd {folder}/initrd" in text
    assert (folder / "linux").read_bytes() == sections[Section.LINUX]
    # What is started is what was measured: the raw section, not the stub's longer initrd.
    assert (folder / "initrd").read_bytes() == sections[Section.INITRD]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("author", [False, True])
def test_from_digest_to_a_launch_that_checks_itself(
    author: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenSSL signs; the printed properties end up in QEMU's command line."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    for name in ("id", "author"):
        openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", f"{name}.pem")
        openssl("pkey", "-in", f"{name}.pem", "-pubout", "-outform", "DER", "-out", f"{name}.der")
    assert cli.main([*DIRECT, *ONE, "--id-block", "block", "--guest-svn", "3"]) == 0
    assert Path("block").read_bytes()[:48] == DIGESTS[4]
    openssl("dgst", "-sha384", "-sign", "id.pem", "-out", "block.sig", "block")
    command = ["snp-id", "--id-block", "block", "--id-key", "id.der"]
    command += ["--id-signature", "block.sig", "-o", "check"]
    assert cli.main([*command, "--author-input", "key"]) == 0
    if author:
        openssl("dgst", "-sha384", "-sign", "author.pem", "-out", "key.sig", "key")
        signed = ["--author-key", "author.der", "--author-signature", "key.sig"]
        assert cli.main([*command, *signed]) == 0
    digests = {"ID_KEY_DIGEST": hashlib.sha384(Path("key").read_bytes()).hexdigest()}
    if author:
        key = idblock.public_key(Path("author.der").read_bytes(), "author.der")
        digests["AUTHOR_KEY_DIGEST"] = hashlib.sha384(key).hexdigest()
    last = capsys.readouterr().out.splitlines()[-len(digests) :]
    assert dict(line.split() for line in last) == digests
    checked = [*DIRECT, "--qemu", "--guest-svn", "3", "--id-check", "check"]
    assert cli.main([*checked, *ONE]) == 0
    properties = Path("check").read_text().strip()
    assert f"kernel-hashes=on,{properties} " in capsys.readouterr().out
    assert properties.endswith("author-key-enabled=on") == author
    for other in (
        [*checked, "--vcpus", "3", "--vcpu-type", "EPYC-Milan"],
        [*checked, *ONE, "--policy", "0x20000"],
        [*checked[:-4], "--id-check", "check", *ONE],
    ):
        assert cli.main(other) == 2
        assert "the ID block is of another launch" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*DIRECT, "--vcpus", "0", "--vcpu-type", "EPYC"], "expected 1 to 255, like 4 or 1-8"),
        ([*DIRECT, "--vcpus", "256", "--vcpu-type", "EPYC"], "seen 256"),
        ([*DIRECT, "--vcpus", "1", "--vcpu-type", "EPYC-Naples"], "unknown vCPU type"),
        ([*DIRECT, "--vcpus", "1"], "qemu measures the vCPU type"),
        ([*DIRECT, "--vcpus", "1", "--vcpu-model", "25/1"], "expected FAMILY/MODEL/STEPPING"),
        ([*DIRECT, "--vcpus", "1", "--vcpu-model", "25/1/x"], "expected FAMILY/MODEL/STEPPING"),
        ([*DIRECT, *ONE, "--vmm", "ec2"], "ec2 does not measure the vCPU type"),
        ([*DIRECT, *ONE, "--vmm", "xen"], "unknown VMM"),
        ([*BASE, *ONE, "--initrd", "initrd"], "--initrd and --append go with --kernel"),
        ([*BASE, *ONE, "--append", "x"], "--initrd and --append go with --kernel"),
        ([*BASE, *ONE, "--disk", "disk", "--append", "x"], "--disk has an initrd and a command"),
        ([*BASE, *ONE, "--disk", "kernel"], "kernel"),
        (["snp", "--firmware", "none", "--guest-features", "1", *ONE], "none: cannot read"),
        (["snp", "--firmware", "disk", "--guest-features", "1", *ONE], "disk at offset"),
        (["snp", "--firmware", "fw", "--guest-features", "0x20", *ONE], "lack SEV-SNP itself"),
        ([*DIRECT, "--vcpus", "1,2", "--vcpu-type", "EPYC", "--qemu"], "one number of vCPUs"),
        ([*DIRECT, *ONE, "--extract", "."], "--extract takes kernel and initrd out of --disk"),
        ([*BASE, *ONE, "--disk", "disk", "--qemu"], "write them with --extract DIR"),
        ([*BASE, *ONE, "--disk", "disk", "--qemu", "--extract", "disk/no"], "disk/no: cannot make"),
        ([*DIRECT, "--vcpus", "1", "--vmm", "ec2", "--qemu"], "needs a QEMU as --vmm"),
        ([*DIRECT, "--vcpus", "1", "--vcpu-signature", "1", "--qemu"], "and --vcpu-type"),
        ([*DIRECT, *ONE, "--id-check", "kernel"], "kernel: the file is not from `measure snp-id`"),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("measure: ") and said.err.count("\n") == 1
    assert message in said.err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ["snp", "--firmware", "fw", *ONE],
        [*BASE[:-1], "one", *ONE],
        [*DIRECT, *ONE, "--disk", "disk"],
        [*DIRECT, *ONE, "--vcpu-model", "25/1/1"],
    ],
    ids=["no guest features", "not a number", "disk and kernel", "two vCPU types"],
)
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--id-block", "kernel"], "kernel: not an ID block; expected 96 bytes, seen 6 bytes"),
        (["--author-key", "x"], "--author-key and --author-signature go together"),
        (["--author-signature", "x"], "--author-key and --author-signature go together"),
        (["--id-key", "kernel"], "kernel: not a P-384 public key"),
        (["--id-key", "none"], "none: cannot read"),
    ],
)
def test_errors_of_snp_id(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("block").write_bytes(idblock.IdBlock(bytes(48), 0x30000).encode())
    parts = {"--id-block": "block", "--id-key": "initrd", "--id-signature": "initrd", "-o": "out"}
    parts.update(zip(arguments[::2], arguments[1::2], strict=True))
    assert cli.main(["snp-id", *(word for pair in parts.items() for word in pair)]) == 2
    assert message in capsys.readouterr().err


def test_numbers_of_vcpus() -> None:
    assert parse_vcpus("4") == [4]
    assert parse_vcpus("1-3,2,255") == [1, 2, 3, 255]
    assert parse_vcpus("1-255") == list(range(1, 256))


@pytest.mark.parametrize(
    "text", ["", "0", "256", "3-2", "1-256", "1-999999999", "-1", "1,", "one", "1 ", "٣", "1-2-3"]
)
def test_bad_numbers_of_vcpus(text: str) -> None:
    with pytest.raises(InputError, match="invalid number of vCPUs"):
        parse_vcpus(text)
