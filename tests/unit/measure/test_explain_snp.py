"""A launch digest is explained by the single change of the launch that gives it."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

import pytest

from measure.errors import FormatError
from measure.explain import Clues, Explanation, evidence, sev_snp
from measure.explain.evidence import SnpEvidence
from measure.pcr import Component
from measure.snp import cpu, firmware, vmsa
from measure.snp.kernel import KernelHashes
from measure.snp.prediction import Prediction, SnpShape, predict
from tests.support.measurement import ovmf_builders as build

LINE = "console=ttyS0 quiet"
NO_CLUES = Clues()
KERNEL = KernelHashes.of(b"kernel", b"initrd", LINE.encode())
OTHER_FIRMWARE = build.image(seed=2)
SHAPES = [SnpShape("qemu", t, n, 1) for t in ("EPYC-Milan", "EPYC-Genoa") for n in (1, 2, 4)]


def predictions(kernel: KernelHashes = KERNEL) -> tuple[Prediction, ...]:
    return predict(SHAPES, firmware.from_image(build.image(), "OVMF"), kernel)


def explained(measurement: bytes, clues: Clues = NO_CLUES, own: int | None = None) -> Explanation:
    return sev_snp.explain(SnpEvidence(measurement, own), predictions(), LINE, clues)


def milan(vcpus: int = 2, **changes: object) -> bytes:
    launch = predictions()[0].launch
    return dataclasses.replace(launch, **changes).digest(vcpus)  # type: ignore[arg-type]


def kernel(**changes: bytes) -> KernelHashes:
    return dataclasses.replace(KERNEL, **changes)


def test_a_predicted_digest_is_no_difference() -> None:
    for prediction in predictions():
        found = explained(prediction.digest)
        assert (found.compared_with, found.differences) == (prediction.shape.name, ())


CHANGES: Sequence[tuple[Component, bytes, str, str]] = (
    (Component.VCPUS, milan(3), "1, 2, 4", "3"),
    (Component.VCPUS, milan(255), "1, 2, 4", "255"),
    (Component.VCPU_TYPE, milan(signature=cpu.TYPES["EPYC-Turin"]),
     "EPYC-Milan, signature 0xa00f11", "EPYC-Turin, signature 0xb00f00"),
    (Component.GUEST_FEATURES, milan(guest_features=0x21),
     "0x1 (SNPActive)", "0x21 (SNPActive, DebugVirtualization)"),
    (Component.GUEST_FEATURES, milan(guest_features=0x201),
     "0x1 (SNPActive)", "0x201 (SNPActive, SecureTSC)"),
    (Component.VMM, milan(vmm=vmsa.QEMU_WITHOUT_INIT2),
     vmsa.QEMU.text, vmsa.QEMU_WITHOUT_INIT2.text),
    (Component.VMM, milan(vmm=vmsa.EC2, signature=None), vmsa.QEMU.text, vmsa.EC2.text),
    (Component.KERNEL_HASHES, milan(kernel=None),
     "measured", "absent: kernel-hashes=off, or no -kernel"),
    (Component.INITRD, milan(kernel=KernelHashes.of(b"kernel", b"", LINE.encode())),
     "the image's own", "nothing"),
    (Component.COMMAND_LINE, milan(kernel=KernelHashes.of(b"kernel", b"initrd", b"")),
     repr(LINE), "''"),
    (Component.COMMAND_LINE,
     milan(kernel=KernelHashes.of(b"kernel", b"initrd", LINE.encode() + b"\n")),
     repr(LINE), repr(LINE + "\n")),
)  # fmt: skip


@pytest.mark.parametrize(("component", "measurement", "expected", "seen"), CHANGES)
def test_single_changes(component: Component, measurement: bytes, expected: str, seen: str) -> None:
    explanation = explained(measurement)
    assert explanation.compared_with.startswith("qemu-epyc-milan-")
    (found,) = explanation.differences
    assert (found.register, found.component) == ("launch digest", component)
    assert (found.expected, found.seen) == (expected, seen)


def test_the_hosts_own_processor_comes_from_the_report() -> None:
    measurement = milan(signature=0xA20F12)
    assert explained(measurement).differences[0].component is Component.UNEXPLAINED
    (found,) = explained(measurement, own=0xA20F12).differences
    assert found.component is Component.VCPU_TYPE and "-cpu host" in found.seen


def test_the_machines_command_line() -> None:
    line = "console=ttyS0 init=/bin/sh"
    measurement = milan(kernel=KernelHashes.of(b"kernel", b"initrd", line.encode()))
    assert explained(measurement).differences[0].component is Component.UNEXPLAINED
    for known in (line, f"{line} initrd=initrd", f"initrd=initrd {line}"):
        (found,) = explained(measurement, Clues(command_line=known)).differences
        assert (found.component, found.seen) == (Component.COMMAND_LINE, repr(line))


def test_a_command_line_names_the_layer() -> None:
    lines = [f"{LINE} confide.layer=base,{digit * 64},12" for digit in "ab"]
    kernels = [KernelHashes.of(b"kernel", b"initrd", line.encode()) for line in lines]
    (measurement,) = (p.digest for p in predictions(kernels[1])[:1])
    seen, clues = SnpEvidence(measurement, None), Clues(command_line=lines[1])
    found = sev_snp.explain(seen, predictions(kernels[0]), lines[0], clues).differences
    assert [d.component for d in found] == [Component.COMMAND_LINE, Component.ROOT_HASH]
    assert found[1].seen == "b" * 64 + " (12 blocks)"


@pytest.mark.parametrize(
    ("component", "measurement", "data"),
    [
        (Component.KERNEL, milan(kernel=KernelHashes.of(b"k2", b"initrd", LINE.encode())), b"k2"),
        (Component.INITRD, milan(kernel=KernelHashes.of(b"kernel", b"i2", LINE.encode())), b"i2"),
        (Component.COMMAND_LINE, milan(kernel=KernelHashes.of(b"kernel", b"initrd", b"l")), b"l\n"),
        (Component.FIRMWARE, milan(firmware=firmware.from_image(OTHER_FIRMWARE, "f")),
         OTHER_FIRMWARE),
    ],
)  # fmt: skip
def test_files_to_try(component: Component, measurement: bytes, data: bytes) -> None:
    assert explained(measurement).differences[0].component is Component.UNEXPLAINED
    wrong = ("wrong", b"something else")
    (found,) = explained(measurement, Clues(files=[wrong, ("right", data)])).differences
    assert found.component is component
    assert found.seen == ("'l'" if component is Component.COMMAND_LINE else "right")


def test_two_changes_at_once_are_not_guessed() -> None:
    measurement = milan(3, guest_features=0x21)
    (found,) = explained(measurement).differences
    assert found.component is Component.UNEXPLAINED
    assert "no single change explains it" in found.description
    assert found.seen == measurement.hex()
    assert predictions()[0].digest.hex() in found.expected


def test_firmware_for_one_vcpu_only() -> None:
    alone = firmware.from_image(build.image(reset_eip=None), "OVMF")
    one = predict(SHAPES[:1], alone, KERNEL)
    found = sev_snp.explain(SnpEvidence(bytes(48), None), one, LINE, Clues())
    assert found.differences[0].component is Component.UNEXPLAINED


def test_diff_names_the_inputs_that_differ() -> None:
    other = KernelHashes.of(b"kernel", b"other initrd", LINE.encode())
    pairs = zip(predictions(), predictions(other), strict=True)
    for expected, seen in pairs:
        (found,) = sev_snp.diff(expected, seen)
        assert found.component is Component.INITRD
        assert (found.expected, found.seen) == (KERNEL.initrd.hex(), other.initrd.hex())


def snp_report(measurement: bytes, version: int = 3, host_data: bytes = bytes(32)) -> bytes:
    """The fields of a report that are read: version, measurement, HOST_DATA, processor."""
    report = bytearray(1184)
    struct.pack_into("<I", report, 0, version)
    report[0x90:0xC0] = measurement
    report[0xC0:0xE0] = host_data
    report[0x188:0x18B] = bytes([25, 33, 2])
    return bytes(report)


def test_report() -> None:
    digest, host_data = bytes(range(48)), bytes(range(100, 132))
    report = snp_report(digest, host_data=host_data)
    assert evidence.parse(report, "r") == SnpEvidence(digest, 0xA20F12, host_data)
    old = evidence.parse(snp_report(digest, version=2), "r")
    assert old == SnpEvidence(digest, None, bytes(32))


@pytest.mark.parametrize(
    "data",
    [
        snp_report(bytes(48), 1),
        snp_report(bytes(48), 6),
        snp_report(bytes(48))[:-1],
        snp_report(bytes(48)) + b"\0",
    ],
)
def test_other_reports_are_no_evidence(data: bytes) -> None:
    with pytest.raises(FormatError):
        evidence.parse(data, "r")
