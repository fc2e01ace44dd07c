"""SEV-SNP against published values: sev-snp-measure's digests, virtee's ID block and its keys.

Data: sev-snp-measure (recorded metadata of its test firmware, and what its own tests expect),
virtee-sev (an ID authentication page with its two signatures).
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from measure import ovmf
from measure.errors import FormatError, UnsupportedError
from measure.snp import cpu, firmware, idblock, vmsa
from measure.snp.kernel import KernelHashes
from measure.snp.launch import Launch

# From virtee/sev, tests/id-block.rs: an ID block and the digests of the two keys of its test.
LAUNCH_DIGEST = (
    "a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d89"
    "66068e615bb99efd13d214b35c231715b38e263dc6059745"
)
ID_BLOCK = (
    "oU1jg0HlZ0Yo/h4C++3r5eWrT68d1y2JZgaOYVu5nv0T0hSzXCMXFbOOJj3GBZdF"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAwAAAAAA"
)
ID_KEY_DIGEST = "WfssaG36T+9J84M5qndckAUcKNVzg93DuvO160sUlt87DbvcuuX+J2d6ZEggdz/i"
AUTHOR_KEY_DIGEST = "7tgRafsMteDsNHlPEo/U4MSkb2fGWhrfqB/LJLzAiMJyNpt//D6ytq9qQoShs2xf"

# From virtee/sev-snp-measure-go, guest/testdata: 2 vCPUs, features 0x1, EC2 before rdx was 0x600.
EC2_DIGESTS = {"ovmf_img_1.json": ("4c6e3308", "fa59303"), "ovmf_img_2.json": ("c2c84b93", "0a84e")}


def firmware_of(recorded: dict[str, Any]) -> firmware.Firmware:
    sections = tuple(
        ovmf.SevSection(s["gpa"], s["size"], s["type"], 0) for s in recorded["asev_sections"]
    )
    table = ovmf.HashTable(**recorded["hash_table_rv"])
    ovmf_hash = bytes.fromhex(recorded["ovmf_hash"])
    return firmware.from_metadata(ovmf_hash, sections, table, recorded["reset_eip"], "recorded")


def launch_of(case: dict[str, Any], images: dict[str, Any]) -> Launch:
    vmm = {"ec2": vmsa.EC2, "gce": vmsa.GCE_MILAN}.get(
        case.get("vmm_type", "").split(".")[-1], vmsa.QEMU
    )
    kernel = None
    if case["kernel"]:  # /dev/null in every case, and so is the initrd
        kernel = KernelHashes.of(b"", b"", (case["append"] or "").encode())
    signature = cpu.signature_of("EPYC-v4") if vmm.rdx is None else None
    image = firmware_of(images[Path(case["ovmf"]).name])
    return Launch(image, kernel, vmm, signature, case["guest_features"])


@pytest.fixture(scope="module")
def images(vectors: Path) -> dict[str, Any]:
    text = (vectors / "sev-snp-measure" / "launch_metadata.json").read_text()
    loaded: dict[str, Any] = json.loads(text)["images"]
    return loaded


@pytest.fixture(scope="module")
def cases(vectors: Path) -> list[dict[str, Any]]:
    loaded = json.loads((vectors / "sev-snp-measure" / "expected.json").read_text())
    found: list[dict[str, Any]] = [case for case in loaded["cases"] if "asserts" in case]
    return found


def test_16_launch_digests(images: dict[str, Any], cases: list[dict[str, Any]]) -> None:
    compared = 0
    for case in cases:
        if case["mode"] == "SevMode.SEV_SNP" and case["expect"] == "digest":
            launch = launch_of(case, images)
            assert launch.digest(case["vcpus"]).hex() == case["asserts"][-1], case["test"]
            compared += 1
    assert compared == 16


def test_3_errors(images: dict[str, Any], cases: list[dict[str, Any]]) -> None:
    """A kernel for a firmware that has nowhere for its hashes, however the guest is started."""
    failing = [case for case in cases if case["expect"] == "error"]
    assert len(failing) == 3
    for case in failing:
        with pytest.raises(UnsupportedError, match="does not check hashes of a kernel"):
            launch_of(case, images)


def test_0x1_and_0x21_differ(cases: list[dict[str, Any]]) -> None:
    """The trap: the same launch, on two kernels. No published digest says which one it is."""
    by_features: dict[int, set[str]] = {1: set(), 33: set()}
    for case in cases:
        if case["mode"] == "SevMode.SEV_SNP" and case["expect"] == "digest":
            by_features[case["guest_features"]].add(case["asserts"][-1])
    assert by_features[1] and by_features[33] and not by_features[1] & by_features[33]


@pytest.mark.parametrize("name", EC2_DIGESTS)
def test_ec2_from_a_recorded_firmware(vectors: Path, name: str) -> None:
    recorded = json.loads((vectors / "sev-snp-measure" / name).read_text())
    sections = tuple(
        ovmf.SevSection(int(s["GPA"], 0), int(s["Size"], 0), s["SectionTypeInt"], 0)
        for s in recorded["MetadataItems"]
    )
    ovmf_hash, eip = bytes.fromhex(recorded["OVMFHash"]), int(recorded["ResetEIP"], 0)
    image = firmware.from_metadata(ovmf_hash, sections, None, eip, name)
    published = dataclasses.replace(vmsa.EC2, rdx=0)
    digest = Launch(image, None, published, None, 1).digest(2).hex()
    start, end = EC2_DIGESTS[name]
    assert digest.startswith(start) and digest.endswith(end)
    assert Launch(image, None, vmsa.EC2, None, 1).digest(2).hex() != digest


def test_sections_of_debians_firmware(vectors: Path) -> None:
    """What these builds ask for is accepted, except the one whose section wraps around."""
    recorded = json.loads((vectors / "debian-firmware" / "expected.json").read_text())["firmware"]
    refused = []
    for name, values in recorded.items():
        raw = values["asev_sections[gpa,size,type]"]
        sections = tuple(
            ovmf.SevSection(int(gpa, 0), int(size, 0), int(kind, 0), 0) for gpa, size, kind in raw
        )
        try:
            eip = int(values["reset_eip"], 0)
            firmware.from_metadata(bytes(48), sections, None, eip, name)
        except FormatError as error:
            assert "brings the prepared memory to more than" in str(error)
            refused.append(name)
    assert refused == ["virtee-tdx/OVMF.inteltdx.fd"] and len(recorded) == 5


def ec_key(key: bytes) -> ec.EllipticCurvePublicKey:
    """The processor's format (1028 bytes) as a key."""
    assert int.from_bytes(key[:4], "little") == 2 and not any(key[148:])
    x, y = (int.from_bytes(key[at : at + 72], "little") for at in (4, 76))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()


def der_of(signature: bytes) -> bytes:
    r, s = (int.from_bytes(signature[at : at + 72], "little") for at in (0, 72))
    return utils.encode_dss_signature(r, s)


def spki_of(key: bytes) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return ec_key(key).public_bytes(serialization.Encoding.DER, form)


def test_id_block() -> None:
    block = idblock.IdBlock(bytes.fromhex(LAUNCH_DIGEST), 0x30000).encode()
    assert base64.b64encode(block).decode() == ID_BLOCK


def test_id_authentication_page(vectors: Path) -> None:
    folder = vectors / "virtee-sev"
    page = (folder / "test_auth_block.bin").read_bytes()
    id_signature = (folder / "test_id_sig.bin").read_bytes()
    author_signature = (folder / "test_auth_sig.bin").read_bytes()
    id_key, author_key = page[0x240:0x644], page[0x880:0xC84]
    # The whole way from OpenSSL's formats, so that each conversion is compared byte by byte.
    signed = idblock.Signed(
        idblock.public_key(spki_of(id_key), "id"), idblock.signature(der_of(id_signature), "id")
    )
    author = idblock.Signed(
        idblock.public_key(spki_of(author_key), "author"),
        idblock.signature(der_of(author_signature), "author"),
    )
    assert (signed.signature, author.signature) == (id_signature, author_signature)
    assert idblock.auth_page(signed, author) == page
    assert base64.b64encode(signed.key_digest).decode() == ID_KEY_DIGEST
    assert base64.b64encode(author.key_digest).decode() == AUTHOR_KEY_DIGEST
    # What the author signs is the ID key in the processor's format.
    algorithm = ec.ECDSA(hashes.SHA384())
    ec_key(author.key).verify(der_of(author.signature), signed.key, algorithm)
    assert hashlib.sha384(id_key).digest() == signed.key_digest
