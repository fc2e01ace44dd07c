"""vCPUs of an SEV-SNP launch: types, registers, VMMs, guest features."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from measure.errors import InputError, MeasureError, UnsupportedError
from measure.snp import cpu, digest, features, vmsa
from measure.snp.digest import PageType
from measure.snp.launch import Launch
from tests.support.measurement import ovmf_builders as build
from tests.support.measurement.snp_builders import KERNEL, MILAN, PAGE, launch


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
