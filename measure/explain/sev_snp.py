"""A launch digest against predictions: which single change of the launch would give it.

A digest says nothing about its parts, so this tries: another number of vCPUs, another vCPU type,
other guest features, another VMM, no kernel hashes, other command lines, and whatever files the
caller has to offer in place of the image's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from measure import direct
from measure.errors import MeasureError
from measure.explain.commandline import command_lines
from measure.explain.difference import NOTHING, Clues, Difference, Explanation
from measure.explain.evidence import SnpEvidence
from measure.pcr import Component
from measure.snp import cpu, features, firmware, vmsa
from measure.snp.kernel import KernelHashes
from measure.snp.launch import Launch
from measure.snp.prediction import Prediction

REGISTER = "launch digest"
_FEATURE_BITS = range(1, 20)
# What a launch calls its inputs.
_COMPONENTS = {
    "firmware": Component.FIRMWARE,
    "kernel": Component.KERNEL,
    "initrd": Component.INITRD,
    "command-line": Component.COMMAND_LINE,
    "vcpu-0": Component.VCPU_TYPE,
    "vcpu-n": Component.VCPU_TYPE,
}
_MAX_COMMAND_LINE = 64 << 10


@dataclass(frozen=True)
class _Change:
    """One launch that differs from a predicted one in a single component.

    `command_line` is its own, where that is what differs.
    """

    component: Component
    description: str
    expected: str
    seen: str
    launch: Launch
    command_line: str = ""


def explain(
    seen: SnpEvidence, predictions: Sequence[Prediction], command_line: str, clues: Clues
) -> Explanation:
    """Finds the prediction with this launch digest, or the single change that leads to it.

    Args:
        seen: the evidence.
        predictions: at least one, for the same image.
        command_line: the image's.
        clues: what else is known of the machine.
    """
    for prediction in predictions:
        if prediction.digest == seen.measurement:
            return Explanation(prediction.shape.name, ())
    tried: list[str] = []
    for launch in dict.fromkeys(prediction.launch for prediction in predictions):
        alike = [p for p in predictions if p.launch == launch]
        other_size = _other_count(seen.measurement, launch, alike)
        if other_size is not None:
            return other_size
        for change in _changes(launch, command_line, seen.signature, clues):
            tried.append(change.component.value)
            digests = change.launch.digests_for(p.shape.vcpus for p in alike)
            for prediction in alike:
                if digests[prediction.shape.vcpus] == seen.measurement:
                    found = _differences(change, command_line)
                    return Explanation(prediction.shape.name, tuple(found))
    return _unexplained(seen.measurement, predictions, tried)


def diff(expected: Prediction, seen: Prediction) -> list[Difference]:
    """Compares the inputs of two predictions for machines of one shape.

    What the firmware says of itself is no component, but decides which memory is measured and how.
    """
    sides = [
        {part.name: part for part in p.launch.components(p.shape.vcpus)} for p in (expected, seen)
    ]
    values = [{name: part.value.hex() for name, part in side.items()} for side in sides]
    components = [
        Difference(
            REGISTER,
            _COMPONENTS[name],
            (sides[0].get(name) or sides[1][name]).description,
            values[0].get(name, NOTHING),
            values[1].get(name, NOTHING),
        )
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if values[0].get(name) != values[1].get(name)
    ]
    described = [_description(p.launch.firmware) for p in (expected, seen)]
    return components + [
        Difference(REGISTER, Component.FIRMWARE, what, left, described[1][what])
        for what, left in described[0].items()
        if left != described[1][what]
    ]


def _description(started: firmware.Firmware) -> dict[str, str]:
    """What a firmware says of itself, for people."""
    sections = (f"{s.type.name} {s.gpa:#x}+{s.size:#x}" for s in started.sections)
    table, reset = started.hash_table, started.reset_eip
    return {
        "its sections, in their order": ", ".join(sections) or NOTHING,
        "place of the table of hashes in its page": NOTHING if table is None else f"{table:#x}",
        "where further vCPUs start": NOTHING if reset is None else f"{reset:#x}",
    }


def _other_count(
    measurement: bytes, launch: Launch, alike: Sequence[Prediction]
) -> Explanation | None:
    counts = [p.shape.vcpus for p in alike]
    try:
        for count, value in enumerate(launch.digests(), start=1):
            if value == measurement:
                expected = ", ".join(str(n) for n in sorted(counts))
                found = Difference(REGISTER, Component.VCPUS, "the VM's size", expected, str(count))
                return Explanation(alike[0].shape.name, (found,))
    except MeasureError:  # a firmware without an address for a second vCPU
        pass
    return None


def _differences(change: _Change, command_line: str) -> Iterator[Difference]:
    """The change, and for a command line the layers whose root hash it changes."""
    yield Difference(REGISTER, change.component, change.description, change.expected, change.seen)
    if change.component is Component.COMMAND_LINE:
        for found in command_lines(REGISTER, command_line, change.command_line):
            if found.component is Component.ROOT_HASH:
                yield found


def _unexplained(
    measurement: bytes, predictions: Sequence[Prediction], tried: Sequence[str]
) -> Explanation:
    first = predictions[0]
    what = ", ".join(dict.fromkeys([Component.VCPUS.value, *tried]))
    found = Difference(
        REGISTER,
        Component.UNEXPLAINED,
        f"no single change explains it; tried {len(tried)} launches and 255 sizes ({what})",
        f"{first.digest.hex()} ({first.shape.name}), or one of {len(predictions) - 1} others",
        measurement.hex(),
    )
    return Explanation(first.shape.name, (found,))


def _changes(
    launch: Launch, command_line: str, signature: int | None, clues: Clues
) -> Iterator[_Change]:
    """Every launch that is one component away; `signature` is the reporting processor's."""
    yield from _vcpu_types(launch, signature)
    yield from _guest_features(launch)
    yield from _vmms(launch)
    if launch.kernel is not None:
        yield from _kernels(launch, launch.kernel, command_line, clues)
    for name, data in clues.files:
        try:
            other = firmware.from_image(data, name)
            changed = replace(launch, firmware=other)
        except MeasureError:
            continue
        yield _Change(
            Component.FIRMWARE, "the firmware's file", launch.firmware.file, name, changed
        )


def _vcpu_types(launch: Launch, own: int | None) -> Iterator[_Change]:
    if launch.signature is None:
        return
    names = {signature: name for name, signature in reversed(cpu.TYPES.items())}
    if own is not None:
        names.setdefault(own, "the host's own (-cpu host)")
    expected = _vcpu_name(launch.signature, names)
    for signature in names:
        if signature != launch.signature:
            yield _Change(
                Component.VCPU_TYPE,
                "the type of the vCPUs",
                expected,
                _vcpu_name(signature, names),
                replace(launch, signature=signature),
            )


def _vcpu_name(signature: int, names: dict[int, str]) -> str:
    return f"{names.get(signature, 'unnamed')}, signature {signature:#x}"


def _guest_features(launch: Launch) -> Iterator[_Change]:
    """One feature more or less, and the values that kernels are known to use."""
    known = {1, 0x21}
    for value in sorted(known | {launch.guest_features ^ (1 << bit) for bit in _FEATURE_BITS}):
        try:
            changed = replace(launch, guest_features=value)
        except MeasureError:
            continue
        yield _Change(
            Component.GUEST_FEATURES,
            "SEV_FEATURES, which the host's kernel sets",
            _feature_text(launch.guest_features),
            _feature_text(value),
            changed,
        )


def _feature_text(value: int) -> str:
    return f"{value:#x} ({', '.join(features.names(value))})"


def _vmms(launch: Launch) -> Iterator[_Change]:
    for vmm in vmsa.VMMS.values():
        signature = launch.signature if vmm.rdx is None else None
        try:
            changed = replace(launch, vmm=vmm, signature=signature)
        except MeasureError:
            continue
        yield _Change(Component.VMM, "who starts the machine", launch.vmm.text, vmm.text, changed)


def _kernels(
    launch: Launch, kernel: KernelHashes, command_line: str, clues: Clues
) -> Iterator[_Change]:
    def change(component: Component, seen: str, hashes: KernelHashes | None) -> _Change:
        expected = "the image's own" if hashes is not None else "measured"
        description = "the table of hashes that the firmware checks"
        return _Change(component, description, expected, seen, replace(launch, kernel=hashes))

    yield change(Component.KERNEL_HASHES, "absent: kernel-hashes=off, or no -kernel", None)
    empty = hashlib.sha256().digest()
    yield change(Component.INITRD, NOTHING, replace(kernel, initrd=empty))
    for text in _lines(command_line, clues):
        hashed = hashlib.sha256(text + b"\0").digest()
        if hashed != kernel.command_line:
            line = text.decode("ascii", "replace")
            hashes = replace(kernel, command_line=hashed)
            found = change(Component.COMMAND_LINE, ascii(line)[:400], hashes)
            yield replace(found, expected=ascii(command_line), command_line=line)
    for name, data in clues.files:
        hashed = hashlib.sha256(data).digest()
        yield change(Component.KERNEL, name, replace(kernel, kernel=hashed))
        yield change(Component.INITRD, name, replace(kernel, initrd=hashed))


def _lines(command_line: str, clues: Clues) -> list[bytes]:
    """Command lines to try: variants of the image's, the machine's, and small files."""
    texts = [command_line]
    if clues.command_line is not None:
        texts.append(clues.command_line)
        # /proc/cmdline has the word that the firmware adds; what was measured has not.
        words = clues.command_line.split(" ")
        texts.append(" ".join(word for word in words if word != direct.INITRD_WORD))
    lines = [b""]
    for text in texts:
        encoded = text.encode("ascii", "replace")
        lines += [encoded, encoded + b"\n", encoded + b" "]
    for _, data in clues.files:
        if len(data) <= _MAX_COMMAND_LINE:
            lines += [data, data.rstrip(b"\n")]
    return lines
