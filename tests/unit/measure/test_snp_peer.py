"""The SEV-SNP launch digest against sev-snp-measure, on random firmware and launches."""

from __future__ import annotations

import base64
import importlib
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from measure.snp import cpu, firmware, idblock, vmsa
from measure.snp.kernel import TABLE_SIZE, KernelHashes
from measure.snp.launch import Launch
from tests.support.measurement import ovmf_builders as build

PAGE = 4096
LIMITS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# Our name and the peer's. It has one layout for Google's machines: Milan's.
SAME_VMMS = {"qemu": "QEMU", "ec2": "ec2", "gce-milan": "gce"}


def peer_module(name: str) -> ModuleType:
    """A module of the peer. Without it the test is skipped, except under CI."""
    try:
        return importlib.import_module(f"sevsnpmeasure.{name}")
    except ImportError:
        message = (
            "sev-snp-measure (from PyPI) is not installed, so there is nothing to compare with"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@st.composite
def section_lists(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Sections in any order, disjoint, with gaps; some empty, at most one for kernel hashes."""
    kinds = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 4]), max_size=8))
    if draw(st.booleans()):
        kinds.append(0x10)
    sections, page = [], draw(st.integers(1, 0x10000))
    for kind in kinds:
        page += draw(st.integers(0, 3))
        # The peer measures one page of secrets or CPUID whatever the size; QEMU takes no other.
        pages = 1 if kind in (2, 3, 0x10) else draw(st.integers(0, 4))
        sections.append((page * PAGE, pages * PAGE, kind))
        page += pages
    return draw(st.permutations(sections))


@st.composite
def launches(draw: st.DrawFn) -> dict[str, Any]:
    """Everything that a launch is made of."""
    sections = draw(section_lists())
    hash_pages = [gpa for gpa, _, kind in sections if kind == 0x10]
    gap = PAGE - TABLE_SIZE
    table = (hash_pages[0] + draw(st.integers(0, gap)), TABLE_SIZE) if hash_pages else (0, 0)
    image = build.image(
        sections,
        hash_table=table,
        reset_eip=draw(st.integers(1, 0xFFFFFFFF)),
        extra=draw(st.sampled_from([(), ((build.UNKNOWN, b"abc"),)])),
        pages=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 1 << 32)),
    )
    kernel = None
    wanted = draw(st.booleans())
    if hash_pages and wanted:
        line = draw(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60))
        kernel = (draw(st.binary(max_size=99)), draw(st.none() | st.binary(max_size=99)), line)
    return {
        "image": image,
        "kernel": kernel,
        "vmm": draw(st.sampled_from(sorted(SAME_VMMS))),
        "signature": draw(st.sampled_from(sorted(cpu.TYPES.values())) | st.integers(0, 0xFFFFFFFF)),
        "features": draw(st.sampled_from([0x1, 0x21]) | st.integers(0, 0xFFFFFFFF).map(odd)),
        "vcpus": draw(st.integers(1, 255) | st.integers(1, 4)),
    }


def odd(value: int) -> int:
    """Bit 0 (SEV-SNP) set, bit 1 (vTOM) clear."""
    return value & ~2 | 1


def ours(case: dict[str, Any]) -> bytes:
    vmm = vmsa.vmm_of(case["vmm"])
    kernel = None
    if case["kernel"]:
        binary, initrd, line = case["kernel"]
        kernel = KernelHashes.of(binary, initrd or b"", line.encode())
    signature = case["signature"] if vmm.rdx is None else None
    image = firmware.from_image(case["image"], "fw")
    return Launch(image, kernel, vmm, signature, case["features"]).digest(case["vcpus"])


def theirs(case: dict[str, Any], folder: Path) -> bytes:
    guest, modes = peer_module("guest"), peer_module("sev_mode")
    vmms = peer_module("vmm_types")
    (folder / "fw").write_bytes(case["image"])
    kernel = initrd = append = None
    if case["kernel"]:
        binary, initrd_data, append = case["kernel"]
        kernel = folder / "kernel"
        kernel.write_bytes(binary)
        if initrd_data is not None:
            initrd = folder / "initrd"
            initrd.write_bytes(initrd_data)
    digest: bytes = guest.calc_launch_digest(
        modes.SevMode.SEV_SNP,
        case["vcpus"],
        case["signature"],
        str(folder / "fw"),
        kernel and str(kernel),
        initrd and str(initrd),
        append,
        case["features"],
        vmm_type=vmms.VMMType[SAME_VMMS[case["vmm"]]],
    )
    return digest


@LIMITS
@given(launches())
def test_no_difference(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert ours(case) == theirs(case, Path(folder))


def test_every_count_of_one_launch() -> None:
    """The peer's chain for 255 vCPUs passes through our digest for each smaller number."""
    context_type, pages = peer_module("gctx").GCTX, peer_module("vmsa").VMSA
    image = firmware.from_image(build.image(), "fw")
    launch = Launch(image, None, vmsa.QEMU, cpu.TYPES["EPYC-Genoa"], 1)
    context = context_type(launch.before_vcpus())
    mode = peer_module("sev_mode").SevMode.SEV_SNP
    areas = pages(mode, build.RESET, cpu.TYPES["EPYC-Genoa"], 1).pages(255)
    for area, digest in zip(areas, launch.digests(), strict=True):
        context.update_vmsa_page(area)
        assert context.ld() == digest


def test_without_init2_is_the_peers_vmsa_without_floating_point_state() -> None:
    vmsas = peer_module("vmsa")
    area = vmsas.VMSA.build_save_area(0xFFFFFFF0, 0x21, cpu.TYPES["EPYC-Milan"])
    area.mxcsr, area.x87_fcw = 0, 0
    ours = vmsa.page(vmsa.QEMU_WITHOUT_INIT2, 0xFFFFFFF0, cpu.TYPES["EPYC-Milan"], 0x21)
    assert bytes(area) == ours


def test_the_peers_vcpu_types_are_all_known_and_equal() -> None:
    signatures: dict[str, int] = peer_module("vcpu_types").CPU_SIGS
    assert len(signatures) >= 16
    assert {name: cpu.TYPES.get(name) for name in signatures} == signatures


@LIMITS
@given(st.integers(0, 270), st.integers(0, 255), st.integers(0, 15))
def test_signatures_of_any_model(family: int, model: int, stepping: int) -> None:
    theirs = peer_module("vcpu_types").cpu_sig(family, model, stepping)
    assert cpu.signature(family, model, stepping) == theirs


def test_id_block_and_authentication_page(tmp_path: Path) -> None:
    """The peer signs with a key that is made here; its output is taken apart and built again."""
    ders = []
    for name in ("id", "author"):
        key = ec.generate_private_key(ec.SECP384R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (tmp_path / name).write_bytes(pem)
        ders.append(
            key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    digest = bytes(range(48))
    peer = peer_module("id_block")
    text = peer.snp_calc_id_block(digest, str(tmp_path / "id"), str(tmp_path / "author"))
    properties = text.splitlines()[0]
    page = base64.b64decode(properties.split("id-auth=")[1])

    def signed(der: bytes, at: int) -> idblock.Signed:
        r, s = (int.from_bytes(page[at + n : at + n + 72], "little") for n in (0, 72))
        return idblock.Signed(
            idblock.public_key(der, "key"),
            idblock.signature(utils.encode_dss_signature(r, s), "signature"),
        )

    block, author = signed(ders[0], 0x40), signed(ders[1], 0x680)
    encoded = idblock.IdBlock(digest, 0x30000).encode()
    ours = idblock.qemu_properties(encoded, idblock.auth_page(block, author), author=False)
    assert ours == properties
