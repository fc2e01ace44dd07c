"""The SEV-SNP launch digest: the chain, the kernel's hashes, and what it is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from measure.errors import FormatError, InputError, MeasureError, UnsupportedError
from measure.snp import digest, vmsa
from measure.snp.kernel import TABLE_SIZE, KernelHashes
from measure.snp.launch import MAX_VCPUS
from tests.support.measurement import ovmf_builders as build
from tests.support.measurement.snp_builders import KERNEL, MILAN, PAGE, launch, sha384


def page_info(state: bytes, content: bytes, kind: int, gpa: int) -> bytes:
    """One step, written out from the ABI's table of PAGE_INFO."""
    return sha384(
        state + content + b"\x70\0" + bytes([kind]) + b"\0" + bytes(4) + gpa.to_bytes(8, "little")
    )


def test_the_whole_chain_written_out() -> None:
    image = build.image(pages=16)
    pages = [image[at : at + PAGE] for at in range(0, len(image), PAGE)]
    runs = [a == b for a, b in itertools.pairwise(pages)]
    assert any(runs) and not all(runs)  # erased flash, hashed once, between other pages
    state = bytes(48)
    for number, page in enumerate(pages):
        state = page_info(state, sha384(page), 1, 0xFFFF0000 + number * PAGE)
    for gpa, size, kind in build.SECTIONS:
        for address in range(gpa, gpa + size, PAGE):
            if kind == 0x10:
                state = page_info(state, sha384(KERNEL.page(0xC00)), 1, address)
            else:
                state = page_info(state, bytes(48), {1: 3, 2: 5, 3: 6, 4: 3}[kind], address)
    assert launch(image).before_vcpus() == state
    for eip in (0xFFFFFFF0, build.RESET):
        page = vmsa.page(vmsa.QEMU, eip, MILAN, 1)
        state = page_info(state, sha384(page), 2, 0xFFFFFFFFF000)
    assert launch(image).digest(2) == state


def test_page_info_is_112_bytes() -> None:
    assert digest._PAGE_INFO.size == 0x70


def test_each_count_extends_the_one_before() -> None:
    subject = launch()
    digests = list(subject.digests())
    assert len(digests) == len(set(digests)) == MAX_VCPUS
    content = sha384(subject.vcpu_page(1))
    for before, after in itertools.pairwise(digests):
        assert after == page_info(before, content, 2, 0xFFFFFFFFF000)
    assert subject.digests_for([255, 1, 7, 7]) == {1: digests[0], 7: digests[6], 255: digests[254]}
    assert list(subject.digests_for([7, 1])) == [1, 7]
    assert subject.digests_for([]) == {}


@pytest.mark.parametrize("count", [0, 256, -1, 1 << 40])
def test_bad_numbers_of_vcpus(count: int) -> None:
    with pytest.raises(
        InputError, match=f"invalid number of vCPUs; expected 1 to 255, seen {count}"
    ):
        launch().digest(count)
    with pytest.raises(InputError, match="invalid number of vCPUs"):
        launch().digests_for([1, count])


def test_every_input_changes_the_digest() -> None:
    subject = launch()
    others = [
        launch(build.image(seed=2)),
        launch(build.image(reset_eip=build.RESET + 16)),
        launch(build.image(hash_table=(0x810B00, 0x400))),
        launch(kernel=None),
        launch(kernel=dataclasses.replace(KERNEL, kernel=bytes(32))),
        launch(kernel=dataclasses.replace(KERNEL, initrd=bytes(32))),
        launch(kernel=dataclasses.replace(KERNEL, command_line=bytes(32))),
        launch(guest_features=0x21),
        dataclasses.replace(subject, signature=MILAN + 1),
        *(launch(vmm=vmm) for vmm in vmsa.VMMS.values() if vmm is not vmsa.QEMU),
    ]
    digests = {subject.digest(2), *(other.digest(2) for other in others)}
    assert len(digests) == 1 + len(others)


def test_order_of_sections_changes_the_digest() -> None:
    turned = (*build.SECTIONS[1:], build.SECTIONS[0])
    assert launch(build.image(turned)).digest(1) != launch().digest(1)


# Kernel hashes


def test_kernel_hashes_page() -> None:
    page = KERNEL.page(0xC00)
    assert len(page) == PAGE and not any(page[:0xC00]) and not any(page[0xC00 + 168 :])
    table = page[0xC00 : 0xC00 + 168]
    assert uuid.UUID(bytes_le=table[:16]) == uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
    assert struct.unpack_from("<H", table, 16) == (168,)
    entries = [table[at : at + 50] for at in range(18, 168, 50)]
    assert [entry[16:18] for entry in entries] == [b"\x32\0"] * 3
    assert [entry[18:] for entry in entries] == [
        hashlib.sha256(b"quiet\0").digest(),
        hashlib.sha256(b"initrd").digest(),
        hashlib.sha256(b"kernel").digest(),
    ]
    assert [str(uuid.UUID(bytes_le=entry[:16]))[:8] for entry in entries] == [
        "97d02dd8",
        "44baf731",
        "4de79437",
    ]


def test_nothing_has_a_hash_too() -> None:
    empty = KernelHashes.of(b"k", b"", b"")
    assert empty.initrd == hashlib.sha256(b"").digest()
    assert empty.command_line == hashlib.sha256(b"\0").digest()


def test_the_table_may_begin_or_end_with_its_page() -> None:
    for offset in (0, PAGE - TABLE_SIZE):
        image = build.image(hash_table=(0x810000 + offset, TABLE_SIZE))
        assert launch(image).firmware.hash_table == offset


@pytest.mark.parametrize(
    "table",
    [
        (0x810C00, TABLE_SIZE - 1),
        (0x811000 - TABLE_SIZE + 1, 0x400),
        (0x811C00, 0x400),
        (0x80FC00, 0x400),
    ],
    ids=["too small", "crosses the page's end", "behind the page", "before the page"],
)
def test_a_table_outside_the_measured_page_is_refused(table: tuple[int, int]) -> None:
    """The firmware would check the kernel against memory that nothing measures."""
    with pytest.raises(FormatError, match="table of kernel hashes does not lie in the page"):
        launch(build.image(hash_table=table), kernel=None)


@pytest.mark.parametrize(
    "image",
    [
        build.image(hash_table=None),
        build.image(hash_table=(0, 0)),
        build.image(build.SECTIONS[:-1]),
    ],
    ids=["no entry", "address 0", "no section"],
)
def test_a_kernel_for_firmware_that_ignores_it_is_refused(image: bytes) -> None:
    launch(image, kernel=None).digest(1)
    with pytest.raises(UnsupportedError, match="fw: the firmware does not check hashes"):
        launch(image)


def test_components_are_the_inputs() -> None:
    subject = launch()
    found = {c.name: c.value for c in subject.components(2)}
    assert found == {
        "firmware": subject.firmware.ovmf_hash,
        "kernel": KERNEL.kernel,
        "initrd": KERNEL.initrd,
        "command-line": KERNEL.command_line,
        "vcpu-0": sha384(subject.vcpu_page(0)),
        "vcpu-n": sha384(subject.vcpu_page(1)),
    }
    assert [c.name for c in launch(kernel=None).components(1)] == ["firmware", "vcpu-0"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFFFFFF) | st.integers(0, 0x900).map(lambda n: n << 12),
            st.integers(0, 0xFFFFFFFF) | st.integers(0, 3).map(lambda n: n << 12),
            st.integers(0, 0x12),
        ).filter(lambda s: s[0] + s[1] <= 1 << 32),
        max_size=12,
    ),
    st.none() | st.tuples(st.integers(0, 0x900000), st.integers(0, 0x1000)),
    st.sampled_from(sorted(vmsa.VMMS)),
    st.booleans(),
)
def test_any_metadata_gives_a_digest_or_one_error(
    sections: list[tuple[int, int, int]],
    table: tuple[int, int] | None,
    vmm: str,
    with_kernel: bool,
) -> None:
    kernel = KERNEL if with_kernel else None
    image = build.image(sections, hash_table=table)
    try:
        assert len(launch(image, kernel=kernel, vmm=vmsa.vmm_of(vmm)).digest(3)) == 48
    except MeasureError as error:
        assert "\n" not in str(error)
