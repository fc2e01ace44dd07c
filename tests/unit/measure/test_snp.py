"""The SEV-SNP launch digest: the chain, each part of it, and everything that must be refused."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import struct
import time
import tracemalloc
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from measure import ovmf
from measure.errors import FormatError, InputError, MeasureError, UnsupportedError
from measure.snp import cpu, digest, features, firmware, vmsa
from measure.snp.digest import PageType
from measure.snp.kernel import TABLE_SIZE, KernelHashes
from measure.snp.launch import MAX_VCPUS, Launch
from tests.support.measurement import ovmf_builders as build

MILAN = 0xA00F11
KERNEL = KernelHashes.of(b"kernel", b"initrd", b"quiet")
PAGE = 4096


def launch(
    image: bytes | None = None,
    *,
    kernel: KernelHashes | None = KERNEL,
    vmm: vmsa.Vmm = vmsa.QEMU,
    guest_features: int = 1,
) -> Launch:
    signature = MILAN if vmm.rdx is None else None
    loaded = firmware.from_image(build.image() if image is None else image, "fw")
    return Launch(loaded, kernel, vmm, signature, guest_features)


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


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


# Firmware


def test_empty_sections_are_no_steps() -> None:
    empty = tuple((0, 0, kind) for kind in (1, 2, 3, 4, 0x10))
    before, after = launch(build.image((*empty, *build.SECTIONS))), launch()
    assert before.firmware.sections == after.firmware.sections


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ((0x900000, 0x800, 1), "SEC_MEMORY is not a whole number of pages"),
        ((0x900800, 0x1000, 1), "is not a whole number of pages"),
        ((0x900000, 0x2000, 2), "SECRETS is not one page"),
        ((0x900000, 0x2000, 3), "CPUID is not one page"),
        ((0x900000, 0x2000, 0x10), "KERNEL_HASHES is not one page"),
        ((0x900000, 0x1000, 0x10), "KERNEL_HASHES is the second of its type"),
        ((0x808000, 0x1000, 1), "SEC_MEMORY overlaps the section at 0x800000"),
        ((0x7FF000, 0x20000, 1), "overlaps the section at 0x800000"),
        ((0xFFFFE000, 0x1000, 1), "overlaps the firmware"),
        ((0x900000, 0xFF700000, 1), "overlaps the firmware"),
        ((0x900000, 64 << 20, 1), "brings the prepared memory to more than 67108864 bytes"),
    ],
)
def test_bad_sections(section: tuple[int, int, int], message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        launch(build.image((*build.SECTIONS, section)))
    assert caught.value.file == "fw" and caught.value.offset is not None
    assert caught.value.seen == f"{section[1]:#x} bytes at {section[0]:#x}"


def test_the_most_that_may_be_prepared() -> None:
    found = launch(build.image(((0x1000000, 64 << 20, 1),)), kernel=None).firmware
    assert found.sections[0].size == 64 << 20


def test_unknown_section() -> None:
    with pytest.raises(UnsupportedError, match="unknown type; expected 1, 2, 3, 4, 16, seen 7"):
        launch(build.image((*build.SECTIONS, (0x900000, 0x1000, 7))))


def test_a_hostile_firmware_costs_neither_time_nor_memory() -> None:
    most = tuple((0x1000 * n, 0x1000, 1) for n in range(1, ovmf.MAX_SECTIONS + 1))
    huge = tuple((0x10000000 * n, 0xF000000, 1) for n in range(1, 15))
    empty = build.image([(0, 0, 1)] * 1_000_000, pages=3000)
    started = time.process_time()
    launch(build.image(most), kernel=None, vmm=vmsa.EC2)
    with pytest.raises(FormatError, match="more than"):
        launch(build.image(huge), kernel=None)
    assert time.process_time() - started < 2
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="too many sections; expected at most 64"):
            launch(empty, kernel=None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_no_sev_metadata() -> None:
    with pytest.raises(UnsupportedError, match=r"no SEV-SNP metadata.*OVMF\.amdsev\.fd"):
        launch(build.image(None))


@pytest.mark.parametrize("cut", [1, 4095, 4097])
def test_firmware_of_half_pages(cut: int) -> None:
    with pytest.raises(FormatError, match="not a whole number of pages"):
        launch(build.image(pages=3)[cut:])


def test_firmware_cut_at_its_end_or_foreign() -> None:
    with pytest.raises(FormatError, match="not OVMF"):
        launch(build.image()[:-PAGE])
    with pytest.raises(FormatError, match="not OVMF"):
        launch(bytes(2 * PAGE))


@pytest.mark.parametrize("eip", [None, 0])
def test_no_address_for_further_vcpus(eip: int | None) -> None:
    subject = launch(build.image(reset_eip=eip))
    assert len(subject.digest(1)) == 48
    with pytest.raises(FormatError, match="does not say where a second vCPU starts"):
        subject.digest(2)


def test_recorded_metadata_gives_the_same() -> None:
    image = build.image()
    described = ovmf.parse(image, "fw")
    assert described.sev_sections is not None
    recorded = firmware.from_metadata(
        digest.extend_data(bytes(48), 0xFFFFE000, image),
        described.sev_sections,
        described.hash_table,
        described.reset_eip,
        "fw",
    )
    assert recorded == firmware.from_image(image, "fw")


@pytest.mark.parametrize("size", [0, 47, 49])
def test_recorded_hash_of_the_wrong_size(size: int) -> None:
    with pytest.raises(FormatError, match=f"expected 48 bytes, seen {size} bytes"):
        firmware.from_metadata(bytes(size), (), None, None, "fw")


# vCPUs


def test_vcpu_signatures() -> None:
    assert cpu.TYPES["EPYC-v4"] == 0x800F12
    assert cpu.TYPES["EPYC-Rome"] == 0x830F10
    assert cpu.TYPES["EPYC-Milan"] == 0xA00F11
    assert cpu.TYPES["EPYC-Genoa"] == 0xA10F10
    assert cpu.TYPES["EPYC-Turin"] == 0xB00F00
    assert len(cpu.TYPES) == 25


def test_an_old_family_has_no_extended_part() -> None:
    assert cpu.signature(6, 15, 11) == 0x6FB
    assert cpu.signature(15, 255, 15) == 0xF0FFF
    assert cpu.signature(270, 255, 15) == 0xFFF0FFF


@pytest.mark.parametrize("numbers", [(271, 0, 0), (25, 256, 0), (25, 0, 16), (-1, 0, 0)])
def test_bad_family_model_stepping(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="invalid vCPU"):
        cpu.signature(*numbers)


def test_unknown_vcpu_type_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown vCPU type; .*EPYC-Milan.*seen epyc-milan"):
        cpu.signature_of("epyc-milan")


def test_registers_of_the_first_and_of_further_vcpus() -> None:
    first, further = (launch().vcpu_page(number) for number in (0, 1))
    assert len(first) == len(further) == PAGE
    changed = [at for at in range(PAGE) if first[at] != further[at]]
    # cs.base (0x18) and rip (0x178) are the only difference.
    assert set(changed) <= {*range(0x18, 0x20), *range(0x178, 0x180)}
    assert struct.unpack_from("<HHIQ", first, 0x10) == (0xF000, 0x9B, 0xFFFF, 0xFFFF0000)
    assert struct.unpack_from("<HHIQ", further, 0x10) == (0xF000, 0x9B, 0xFFFF, 0x800000)
    for page, rip in ((first, 0xFFF0), (further, 0xB004)):
        assert struct.unpack_from("<Q", page, 0x178) == (rip,)
        assert struct.unpack_from("<Q", page, 0x310) == (MILAN,)


def test_without_init2_only_the_floating_point_state_differs() -> None:
    new, old = (launch(vmm=v).vcpu_page(0) for v in (vmsa.QEMU, vmsa.QEMU_WITHOUT_INIT2))
    assert struct.unpack_from("<IIH", new, 0x408) == (0x1F80, 0, 0x37F)
    changed = [at for at in range(PAGE) if new[at] != old[at]]
    assert changed == [0x408, 0x409, 0x410, 0x411] and not any(old[at] for at in changed)


def test_gce_measures_vcpus_at_the_top_of_what_the_processor_can_address() -> None:
    assert vmsa.GCE_MILAN.vmsa_gpa == (1 << 48) - PAGE
    assert vmsa.GCE_GENOA.vmsa_gpa == (1 << 52) - PAGE
    milan, genoa = launch(vmm=vmsa.GCE_MILAN), launch(vmm=vmsa.GCE_GENOA)
    assert milan.before_vcpus() == genoa.before_vcpus()
    assert milan.vcpu_page(0) == genoa.vcpu_page(0)
    assert milan.digest(1) != genoa.digest(1)


def test_ec2_measures_the_cpuid_page_last() -> None:
    image = build.image()
    state = digest.extend_data(bytes(48), 0xFFFFE000, image)
    for gpa, size, kind in build.SECTIONS:
        if kind == 0x10:
            state = digest.extend_data(state, gpa, KERNEL.page(0xC00))
        elif kind != 3:
            page_type = PageType.SECRETS if kind == 2 else PageType.ZERO
            state = digest.extend_range(state, page_type, gpa, size)
    state = digest.extend(state, PageType.CPUID, 0x80E000)
    assert launch(image, vmm=vmsa.EC2).before_vcpus() == state


def test_gce_does_not_measure_sec_memory() -> None:
    image = build.image(((0x800000, 0x1000, 1),))
    state = digest.extend_data(bytes(48), 0xFFFFE000, image)
    state = digest.extend(state, PageType.UNMEASURED, 0x800000)
    assert launch(image, kernel=None, vmm=vmsa.GCE_MILAN).before_vcpus() == state


def test_unknown_vmm() -> None:
    with pytest.raises(InputError, match=r"unknown VMM; expected one of qemu, .*seen QEMU"):
        vmsa.vmm_of("QEMU")


def test_a_vcpu_type_where_it_is_not_measured_is_refused() -> None:
    with pytest.raises(InputError, match="ec2 does not measure the vCPU type, so leave it out"):
        dataclasses.replace(launch(vmm=vmsa.EC2), signature=MILAN)


def test_no_vcpu_type_where_it_is_measured_is_refused() -> None:
    with pytest.raises(InputError, match="qemu measures the vCPU type, so one must be given"):
        dataclasses.replace(launch(), signature=None)


@pytest.mark.parametrize("signature", [-1, 1 << 32])
def test_bad_signature(signature: int) -> None:
    with pytest.raises(InputError, match="invalid vCPU signature; expected 32 bits"):
        dataclasses.replace(launch(), signature=signature)


# Guest features


def test_guest_features_have_no_default() -> None:
    """0x1 on one kernel is 0x21 on another: the digest must be asked for by number."""
    fields = {field.name: field for field in dataclasses.fields(Launch)}
    assert fields["guest_features"].default is dataclasses.MISSING
    one, other = launch(guest_features=0x1), launch(guest_features=0x21)
    assert one.digest(1) != other.digest(1)
    assert struct.unpack_from("<Q", other.vcpu_page(0), 0x3B0) == (0x21,)


def test_guest_features_by_name() -> None:
    assert features.names(0x1) == ["SNPActive"]
    assert features.names(0x21) == ["SNPActive", "DebugVirtualization"]
    assert features.names(1 << 40 | 1) == ["SNPActive", "bit 40"]
    # The order of the APM's table; bits 11 and 13 have no name.
    assert " ".join(features.names(0xFFFF)) == (
        "SNPActive vTOM ReflectVC RestrictedInjection AlternateInjection DebugVirtualization "
        "PreventHostIBS BTBIsolation VmplSSS SecureTSC VmgexitParameter bit 11 IbsVirtualization "
        "bit 13 VmsaRegProt SmtProtection"
    )


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, InputError, "lack SEV-SNP itself"),
        (0x20, InputError, "lack SEV-SNP itself"),
        (0x3, UnsupportedError, "vTOM"),
        (1 << 64 | 1, InputError, "expected 64 bits"),
        (-1, InputError, "expected 64 bits"),
    ],
)
def test_impossible_guest_features(value: int, error: type[MeasureError], message: str) -> None:
    with pytest.raises(error, match=message):
        launch(guest_features=value)


# Components


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
