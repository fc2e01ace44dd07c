"""Predictions against recorded measured boots: QEMU, swtpm, Debian's OVMF, systemd-stub 257.

Data: local-vtpm (event logs with every input known) and systemd (systemd-measure's own test). The
images themselves are not recorded, their digests are; so each rule is checked on its own here, and
all together against a real boot in tests/e2e.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from measure import cpio, direct, eventlog, gpt, pcr, shapes, uki
from measure import firmware as ovmf
from measure.eventlog import EventType
from tests.support.measurement.samples import predict

DISK_RUN = "disk257.13-1~deb13u1"
UKI = "uki-257.13-1~deb13u1.efi"


@pytest.fixture(scope="module")
def expected(vectors: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((vectors / "local-vtpm" / "expected.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def log(vectors: Path, expected: dict[str, Any]) -> eventlog.EventLog:
    name = expected["runs"][DISK_RUN]["file"]
    return eventlog.parse((vectors / "local-vtpm" / name).read_bytes(), name)


def digests(log: eventlog.EventLog, register: int) -> list[bytes]:
    return [e.digests["sha256"] for e in log.events if e.pcr == register]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_every_log_replays_to_what_the_guest_read(vectors: Path, expected: dict[str, Any]) -> None:
    compared = 0
    for name, run in expected["runs"].items():
        if "file" not in run:
            continue
        recorded = eventlog.parse((vectors / "local-vtpm" / run["file"]).read_bytes(), name)
        replay = recorded.replay()
        for number, value in run["pcr_sha256"].items():
            # The kernel's IMA extends 10 after the firmware's log has ended.
            if number != "10":
                assert replay.get(int(number), bytes(32)).hex() == value, (name, number)
                compared += 1
    assert compared == 10 * 15


def test_pcr_7_without_secure_boot(log: eventlog.EventLog) -> None:
    assert [event.digest for event in pcr.secure_boot_events()] == digests(log, 7)


def test_pcr_7_differs_with_secure_boot(vectors: Path, expected: dict[str, Any]) -> None:
    name = expected["runs"]["sbdisk"]["file"]
    signed = eventlog.parse((vectors / "local-vtpm" / name).read_bytes())
    assert [event.digest for event in pcr.secure_boot_events()] != digests(signed, 7)


def test_pcr_5(vectors: Path, expected: dict[str, Any], log: eventlog.EventLog) -> None:
    head = (vectors / "local-vtpm" / expected["gpt"]["file"]).read_bytes()
    table = gpt.parse(whole_disk(head), "disk")
    (event,) = pcr.partition_events(table)
    assert event.digest.hex() == expected["gpt"]["event_sha256"]
    (logged,) = [e for e in log.events if e.type == EventType.EFI_GPT_EVENT]
    assert (table.event_data, event.digest) == (logged.data, logged.digests["sha256"])


def whole_disk(head: bytes) -> bytes:
    """The disk whose first 34 sectors are recorded: zeros, and the backup table at the end."""
    last = struct.unpack_from("<Q", head, 512 + 32)[0]
    fields = (last, 1, *struct.unpack_from("<QQ", head, 512 + 40))
    raw = head[512:528] + bytes(4) + head[532:536] + struct.pack("<4Q", *fields)
    raw += head[568:584] + struct.pack("<Q", last - 32) + head[592:604]
    backup = raw[:16] + struct.pack("<I", zlib.crc32(raw)) + raw[20:]
    entries = head[1024 : 34 * 512]
    middle = bytes((last - 32) * 512 - len(head))
    return head + middle + entries + backup.ljust(512, b"\0")


def test_pcr_11_is_the_sections_in_the_order_of_the_enum(
    expected: dict[str, Any], log: eventlog.EventLog
) -> None:
    sections = {s["name"]: bytes.fromhex(s["sha256"]) for s in expected["ukis"][UKI]["sections"]}
    predicted = []
    for section in uki.Section:
        if section.value in sections and section.measured:
            predicted += [sha256(section.value.encode() + b"\0"), sections[section.value]]
    assert predicted == digests(log, 11)
    value = eventlog.extend(predicted, 11).hex()
    assert value == expected["runs"][DISK_RUN]["pcr_sha256"]["11"]
    measured = expected["systemd_measure"]["257.13 calculate on sections of uki-257"]
    assert measured["phase :"].startswith(value)
    entered = eventlog.extend([*predicted, sha256(b"enter-initrd")], 11).hex()
    assert entered == measured["phase enter-initrd"]


def test_pcr_9(expected: dict[str, Any], log: eventlog.EventLog) -> None:
    inputs = expected["inputs"]
    sections = {
        uki.Section.CMDLINE: inputs["cmdline_section"].encode(),
        uki.Section.OSREL: inputs["osrel"].encode(),
    }
    archive = cpio.literal("os-release", sections[uki.Section.OSREL])
    assert archive.hex() == inputs["initrd_combined_257"]["cpio_hex"]
    image = uki.Uki(None, uki.STUBS[257], sections)  # type: ignore[arg-type]
    load_options, initrd = digests(log, 9)
    assert sha256((image.command_line + "\0").encode("utf-16-le")) == load_options
    # The initrd's bytes are not recorded; that the archive belongs behind them is, by digest.
    assert initrd.hex() == inputs["initrd_combined_257"]["sha256"] != inputs["initrd"]["sha256"]


def test_pcr_4_order(expected: dict[str, Any], log: eventlog.EventLog) -> None:
    events = [
        sha256(b"Calling EFI Application from Boot Option"),
        sha256(bytes(4)),
        bytes.fromhex(expected["ukis"][UKI]["authenticode_sha256"]),
        bytes.fromhex(expected["inputs"]["kernel"]["authenticode_sha256"]),
    ]
    assert events == digests(log, 4)
    value = eventlog.extend(events, 4).hex()
    assert value == expected["runs"][DISK_RUN]["pcr_sha256"]["4"]


def test_a_passed_command_line_shows_in_pcr_12(expected: dict[str, Any]) -> None:
    run = expected["runs"]["append257"]
    line = re.search(r'-append "([^"]+)"', run["boot"])
    assert line is not None
    event = sha256((line[1] + "\0").encode("utf-16-le"))
    assert eventlog.extend([event], 12).hex() == run["pcr_sha256"]["12"]
    assert expected["runs"]["direct257"]["pcr_sha256"]["12"] == "00" * 32


def test_pcr_0_from_the_firmware_file_alone(
    expected: dict[str, Any], log: eventlog.EventLog, firmware: Path
) -> None:
    path = firmware / "OVMF_CODE_4M.fd"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() not in expected["_source"]:
        pytest.skip(f"{path} is another version than the one in the recorded boots")
    events = [event.digest for event in pcr.firmware_events(ovmf.measure(data, str(path)))]
    assert [*events, sha256(bytes(4))] == digests(log, 0)


# What systemd 255's own test of systemd-measure expects in PCR 11 (testsuite-70.measure.sh), at the
# end of each phase; and, last, systemd's later test in which every section has the same content.
SYSTEMD_INPUTS = {".linux": "HALLO\n", ".initrd": "foobar\n"}
SYSTEMD_PCR_11 = {
    (":", "sha1"): "5177e4ad69db92192c10e5f80402bf81bfec8a81",
    (":", "sha256"): "37b48bd0b222394dbe3cceff2fca4660c4b0a90ae9369ec90b42f14489989c13",
    (":", "sha384"): "5573f9b2caf55b1d0a6a701f890662d682af961899f0419cf1e2d5ea4a6a68c1"
    "f25bd4f5b8a0865eeee82af90f5cb087",
    ("foo", "sha1"): "6765ee305db063040c454d32697d922b3d4f232b",
    ("foo", "sha256"): "21c49c1242042649e09c156546fd7d425ccc3c67359f840507b30be4e0f6f699",
    ("foo", "sha384"): "08d0b003a134878eee552070d51d58abe942f457ca85704131dd36f73728e732"
    "7ca837594bc9d5ac7de818d02a3d5dd2",
}
SYSTEMD_ALL_SECTIONS = "8a625cbc3c497b9a86dcf4f6a32582895ce969bb"


@pytest.mark.parametrize(("phase", "bank"), SYSTEMD_PCR_11)
def test_systemd_measure(phase: str, bank: str) -> None:
    """Systemd's own test of systemd-measure: a .linux and an .initrd, then the phase "foo"."""
    inputs = sorted(SYSTEMD_INPUTS.items(), key=lambda item: order(item[0]))
    events = [data for name, text in inputs for data in (f"{name}\0", text)]
    events += [] if phase == ":" else [phase]
    hashes = [hashlib.new(bank, event.encode()).digest() for event in events]
    assert eventlog.extend(hashes, 11, bank).hex() == SYSTEMD_PCR_11[phase, bank]


def test_systemd_measure_of_all_sections() -> None:
    """Systemd's own test of every section, each with the same content."""
    events = [
        data
        for section in uki.Section
        if section.measured
        for data in (section.value.encode() + b"\0", b"HALLO\n")
    ]
    hashes = [hashlib.sha1(event).digest() for event in (*events, b"foo")]
    assert eventlog.extend(hashes, 11, "sha1").hex() == SYSTEMD_ALL_SECTIONS


def order(name: str) -> int:
    return list(uki.Section).index(uki.Section(name))


def recorded(vectors: Path, expected: dict[str, Any], run: str) -> eventlog.EventLog:
    name = expected["runs"][run]["file"]
    return eventlog.parse((vectors / "local-vtpm" / name).read_bytes(), name)


@pytest.mark.parametrize("run", ["bare", "q10-bare"])
def test_direct_boot_command_line(vectors: Path, expected: dict[str, Any], run: str) -> None:
    """Debian's OVMF of 2025.02 adds its word behind what was given with -append."""
    line = re.search(r'-append "([^"]+)"', expected["runs"][run]["boot"])
    assert line is not None
    options = direct.load_options(line[1], direct.edk2_release("2025.02-8+deb13u1", "f"))
    (predicted, _) = pcr.kernel_input_events(options, b"")
    seen, initrd = digests(recorded(vectors, expected, run), 9)
    assert predicted.digest == seen
    assert initrd.hex() == expected["inputs"]["initrd"]["sha256"]


@pytest.mark.parametrize("run", ["bare", "q10-bare"])
def test_direct_boot_order(vectors: Path, expected: dict[str, Any], run: str) -> None:
    """The kernel is loaded before the boot option is announced; nothing of a disk is measured."""
    log = recorded(vectors, expected, run)
    kernel, *rest = digests(log, 4)
    assert rest == [
        pcr.action_event(4, pcr.CALLING_APPLICATION).digest, pcr.separator_event(4).digest,
    ]  # fmt: skip
    plain = bytes.fromhex(expected["inputs"]["kernel"]["authenticode_sha256"])
    assert (kernel == plain) == (run == "q10-bare")
    events = [pcr.separator_event(5), *pcr.exit_boot_services_events()]
    assert digests(log, 5) == [event.digest for event in events]
    assert digests(log, 11) == digests(log, 12) == []


def test_the_whole_order_of_a_direct_boot(vectors: Path, expected: dict[str, Any]) -> None:
    """Every register of the shape has as many events as recorded, those without inputs alike."""
    log = recorded(vectors, expected, "q10-bare")
    prediction = predict(shape=shapes.OVMF_DIRECT)
    of_inputs = {pcr.Component.FIRMWARE, pcr.Component.KERNEL, pcr.Component.INITRD,
                 pcr.Component.COMMAND_LINE}  # fmt: skip
    for register in shapes.OVMF_DIRECT.predicted:
        predicted, seen = prediction.of(register), digests(log, register)
        assert len(predicted) == len(seen), register
        for event, digest in zip(predicted, seen, strict=True):
            assert event.component in of_inputs or event.digest == digest, event


@pytest.mark.parametrize(
    ("run", "uki_name", "version"),
    [
        ("direct252", "uki-252.efi", 252),
        ("direct257", UKI, 257),
        ("q10-uki", UKI, 257),
        ("direct262.1-1", "uki-262.1-1.efi", 262),
        ("disk262.1-1", "uki-262.1-1.efi", 262),
    ],
)
def test_what_each_stub_measures(
    vectors: Path, expected: dict[str, Any], run: str, uki_name: str, version: int
) -> None:
    stub, log = uki.STUBS[version], recorded(vectors, expected, run)
    described = expected["ukis"][uki_name]
    sections = {s["name"]: bytes.fromhex(s["sha256"]) for s in described["sections"]}
    predicted = []
    for section in uki.Section:
        measured = section.measured and section not in stub.unmeasured
        if measured and section.value in sections:
            predicted += [sha256(section.value.encode() + b"\0"), sections[section.value]]
    assert predicted == digests(log, 11)
    programs = [e.digests["sha256"].hex() for e in log.events
                if e.type == EventType.EFI_BOOT_SERVICES_APPLICATION]  # fmt: skip
    inner = [expected["inputs"]["kernel"]["authenticode_sha256"]] if stub.loads_kernel else []
    assert programs == [described["authenticode_sha256"], *inner]
    initrd = digests(log, 9)[1].hex()
    plain, packed = (expected["inputs"][n]["sha256"] for n in ("initrd", "initrd_combined_257"))
    from_disk = run.startswith("disk")
    if stub.adds_secret and from_disk:
        assert initrd not in (plain, packed)
    else:
        assert initrd == (packed if stub.packs_os_release else plain)


def test_two_disk_boots_of_262_differ(vectors: Path, expected: dict[str, Any]) -> None:
    """Why a prediction of PCR 9 is refused there."""
    logs = [recorded(vectors, expected, run) for run in ("disk262.1-1", "disk262b")]
    first, second = (digests(log, 9) for log in logs)
    assert first[0] == second[0] and first[1] != second[1]
    assert digests(logs[0], 11) == digests(logs[1], 11)


def test_the_kernel_header_that_qemu_7_rewrote(expected: dict[str, Any]) -> None:
    """QEMU 7.2, 1 GiB: the bytes of the setup header that it changed, as recorded."""
    inputs, patched = expected["inputs"], expected["qemu_header_patch_bare_kernel"]
    header = bytes.fromhex(inputs["kernel"]["setup_header_0x1f0_0x270"])
    kernel = bytes(0x1F0) + header + bytes(0x1000)
    after = direct.rewritten_kernel(kernel, inputs["initrd"]["size"], 1 << 30, "k")

    def number(at: int, size: int) -> int:
        return int.from_bytes(after[at : at + size], "little")

    assert after[0x210] == int(patched["0x210"], 16)
    assert (kernel[0x211], after[0x211]) == (0x01, 0x81)
    assert number(0x218, 4) == int(patched["0x218 u32 ramdisk_image"], 16)
    assert number(0x21C, 4) == patched["0x21c u32 ramdisk_size"]
    assert number(0x224, 2) == int(patched["0x224 u16 heap_end_ptr"], 16)
    assert number(0x228, 4) == int(patched["0x228 u32 cmd_line_ptr"], 16)
