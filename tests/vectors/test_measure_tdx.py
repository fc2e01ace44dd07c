"""TDX registers against what real machines and other tools measured.

Data: debian-firmware (MRTD of Debian's packages), virtee-tdx-measure (ACPI tables and RTMR 0, one
of them from a live machine), dstack and go-tdx-guest (quotes with their event logs), trustee (event
logs), local-vtpm (event logs of TPMs, whose SHA-384 banks have the events that RTMRs are made of).
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from measure import direct, eventlog, gpt, pcr, uki
from measure.errors import FormatError
from measure.eventlog import Event, EventType
from measure.ovmf import TdxSection
from measure.tdx import acpi, hob, machine, mrtd, rtmr, smbios, tdvf, variables
from measure.tdx.shape import Boot, PageOrder, TdxShape
from tests.support import qemu_acpi

# Offsets in a version 4 quote: 48 bytes of header, then the TD report.
_MRTD, _RTMRS = 48 + 136, 48 + 328
# Where Ubuntu's OVMF 2025.02 (virtee-tdx-measure) and dstack's have their temporary memory.
UBUNTU, DSTACK = 0x811000, 0x810000
# SHA-384 of OVMF's variable store as it is built, in Ubuntu's firmware and in the flake's.
EMPTY_STORE = bytes.fromhex(
    "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790"
)
GIB = 1 << 30


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def firmware_with(temporary: int) -> tdvf.Tdvf:
    """Firmware of which only the sections that decide the TD HOB are known."""
    places = ((temporary, 0x820000, 3), (0x80B000, 0x80D000, 3), (0x809000, 0x80B000, 2))
    sections = [TdxSection(0, 0, a, b - a, kind, 0, 0) for a, b, kind in places]
    return tdvf.Tdvf(b"", "fw", (*sections, TdxSection(0, 0, 0x800000, 0x6000, 3, 0, 0)))


# --- MRTD -------------------------------------------------------------------------------------


def test_mrtd_of_debians_firmware(vectors: Path, firmware: Path, debian_firmware: Path) -> None:
    """The flake's TDX firmware is Debian's with another variable store, which MRTD leaves out."""
    recorded = load(vectors / "debian-firmware" / "expected.json")["firmware"]
    checked = 0
    for file, package in (
        (firmware / "OVMF.tdx.fd", "debian sid ovmf-inteltdx_2026.08+ds-2 OVMF.inteltdx.ms.fd"),
        (
            debian_firmware / "usr/share/ovmf/OVMF.amdsev.fd",
            "debian sid ovmf-amdsev_2026.08+ds-2 OVMF.amdsev.fd",
        ),
    ):
        expected = recorded[package]
        found = tdvf.parse(file.read_bytes(), file.name)
        fields = ("data_offset", "raw_size", "gpa", "memory_size", "type", "attributes")
        assert [[hex(getattr(s, field)) for field in fields] for s in found.sections] == expected[
            "tdvf_sections[data_off,raw,gpa,memsize,type,attr]"
        ]
        assert mrtd.measure(found, PageOrder.SINGLE).hex() == expected["mrtd_single_pass"]
        assert mrtd.measure(found, PageOrder.TWO).hex() == expected["mrtd_two_pass"]
        checked += 1
    assert checked == 2


def test_the_flakes_variable_store_is_empty(firmware: Path) -> None:
    found = tdvf.parse((firmware / "OVMF.tdx.fd").read_bytes(), "OVMF.tdx.fd")
    store = found.data(found.only(tdvf.Kind.CFV))
    variables.require_empty_store(store, "OVMF.tdx.fd")
    assert sha384(store) == EMPTY_STORE


def test_a_code_file_alone_has_no_mrtd(firmware: Path) -> None:
    """OVMF_CODE_4M.fd lacks the variables that its own metadata names: no VMM loads it as TDVF.

    debian-firmware/expected.json has values for it nevertheless; see the decisions.
    """
    data = (firmware / "OVMF_CODE_4M.fd").read_bytes()
    with pytest.raises(FormatError, match="only the code of a firmware"):
        tdvf.parse(data, "OVMF_CODE_4M.fd")


# --- RTMR 0 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["canonical-defaults", "q35-with-hpet"])
def test_rtmr_0_from_acpi_tables(vectors: Path, name: str) -> None:
    folder = vectors / "virtee-tdx-measure" / name
    memory = load(folder / "metadata.json")["boot_config"]["memory"]
    shape = TdxShape(
        name=name,
        memory=int(memory.removesuffix("M")) << 20,
        edk2=(2025, 2),
        page_order=PageOrder.SINGLE,
        attributes=0,
        xfam=0,
        boot=Boot.DIRECT,
    )
    tables = qemu_acpi.rebuild((folder / "acpi_tables.bin").read_bytes())
    described = machine.Machine(
        acpi.parse(tables.loader, tables.rsdp, tables.tables, name),
        b"",
        smbios.Statements(None, ""),
        b"",
        b"",
    )
    events = [
        sha384(hob.build(firmware_with(UBUNTU), shape.memory)),
        EMPTY_STORE,
        *(event.digest for event in pcr.secure_boot_events("sha384")),
        sha384(described.acpi.loader),
        sha384(described.acpi.rsdp),
        sha384(described.acpi.tables),
        *(sha384(data) for _, data in shape.measured_boot_variables()),
    ]
    assert eventlog.extend(events, 1, "sha384").hex() == load(folder / "expected.json")["rtmr0"]


def test_rtmr_0_of_a_live_machine(vectors: Path) -> None:
    """Its ACPI tables are not recorded, so their digests are taken from its event log."""
    recorded = load(vectors / "virtee-tdx-measure" / "expected.json")
    fixture = recorded["fixtures"]["runtime-capture"]
    events = [bytes.fromhex(digest) for _, digest in fixture["events_sha384"]]
    memory = int(fixture["memory"].removesuffix("M")) << 20
    assert events[0] == sha384(hob.build(firmware_with(UBUNTU), memory))
    assert events[2:8] == [e.digest for e in pcr.secure_boot_events("sha384")]
    assert events[11:] == [sha384(data) for _, data in variables.only_application("UiApp")]
    assert eventlog.extend(events, 1, "sha384").hex() == fixture["rtmr0"]


def test_smbios_tables_of_real_machines() -> None:
    recorded = load(Path(__file__).parent / "tdx" / "smbios.json")
    for entry in recorded:
        table = bytes.fromhex(entry["table"])
        found = hashlib.new(entry["bank"], smbios.measured(table, "smbios")).hexdigest()
        assert found == entry["digest"], entry["source"]
        said = smbios.statements(table, "smbios")
        assert said == smbios.Statements(entry["memory_mib"] << 20, entry["firmware_version"])
    assert len(recorded) == 2


# --- quotes with their event logs -------------------------------------------------------------


def registers(quote: bytes) -> dict[int, bytes]:
    return {n: quote[_RTMRS + 48 * n : _RTMRS + 48 * (n + 1)] for n in range(4)}


def test_dstacks_machine(vectors: Path) -> None:
    """64 GiB, 16 processors, a GPU, QEMU 9.2.1 with two-pass page order."""
    recorded = load(vectors / "dstack" / "quote-report.json")
    log = json.loads(recorded["event_log"])
    quoted = registers(bytes.fromhex(recorded["quote"]))
    digests = {n: [bytes.fromhex(e["digest"]) for e in log if e["imr"] == n] for n in range(4)}
    for number, value in quoted.items():
        assert eventlog.extend(digests[number], number + 1, "sha384") == value
    memory = json.loads(recorded["vm_config"])["memory_size"]
    assert memory == 64 * GIB
    assert digests[0][0] == sha384(hob.build(firmware_with(DSTACK), memory))
    assert digests[0][2:8] == [e.digest for e in pcr.secure_boot_events("sha384")]
    assert digests[0][11:] == [sha384(data) for _, data in variables.only_application("UiApp")]
    end = [e.digest for e in pcr.exit_boot_services_events("sha384")]
    calling = pcr.action_event(4, pcr.CALLING_APPLICATION, "sha384").digest
    separator = pcr.separator_event(4, "sha384").digest
    assert digests[1][1:] == [calling, separator, *end]


def test_googles_machine(vectors: Path) -> None:
    folder = vectors / "go-tdx-guest"
    log = eventlog.parse((folder / "ccel_data.dat").read_bytes())
    quoted = registers((folder / "cos-113-tdx-quote.dat").read_bytes())
    assert log.rtmrs() == quoted
    (order, first, second) = (
        (name, data) for name, data in map(variable, of_type(log, EventType.EFI_VARIABLE_BOOT))
    )
    assert variables.option_names(order[1]) == [first[0], second[0]] == ["Boot0001", "Boot0000"]
    assert second[1] == variables.only_application("UiApp")[1][1]


def variable(event: Event) -> tuple[str, bytes]:
    """Name and data in UEFI_VARIABLE_DATA."""
    characters, size = struct.unpack_from("<QQ", event.data, 16)
    end = 32 + 2 * characters
    data = event.data[end : end + size]
    return event.data[32:end].decode("utf-16-le"), data


def of_type(log: eventlog.EventLog, kind: EventType) -> list[Event]:
    return [event for event in log.events if event.type == kind]


LOGS = (
    "dstack/ccel.bin",
    "go-tdx-guest/ccel_data.dat",
    "trustee/eventlog/CCEL_data_ovmf",
    "trustee/eventlog/CCEL_data_grub",
)


@pytest.mark.parametrize("name", LOGS)
def test_what_recorded_events_are_digests_of(vectors: Path, name: str) -> None:
    """Boot variables are hashed without their names, those of Secure Boot with them."""
    log = eventlog.parse((vectors / name).read_bytes())
    compared = 0
    for event in log.events:
        if event.type == EventType.EFI_VARIABLE_BOOT:
            hashed = variable(event)[1]
        elif event.type in (
            EventType.EFI_VARIABLE_DRIVER_CONFIG,
            EventType.SEPARATOR,
            EventType.EFI_ACTION,
            EventType.EFI_GPT_EVENT,
        ):
            hashed = event.data
        else:
            continue
        assert event.digests["sha384"] == sha384(hashed)
        compared += 1
    assert compared >= 9


@pytest.mark.parametrize("name", LOGS)
def test_where_the_second_separator_is(vectors: Path, name: str) -> None:
    """RTMR 0 has the one of Secure Boot; old firmware put the other one there too, at the end."""
    log = eventlog.parse((vectors / name).read_bytes())
    places = [event.pcr - 1 for event in of_type(log, EventType.SEPARATOR)]
    old = name.startswith("trustee")
    release = (2024, 8) if old else (2024, 11)
    shape = TdxShape("s", GIB, release, PageOrder.SINGLE, 0, 0, Boot.DIRECT)
    assert places == [0, shape.separator_rtmr]
    if name == "trustee/eventlog/CCEL_data_ovmf":
        types = [event.type for event in log.events if event.pcr == 1]
        assert types[-3:] == [*[EventType.EFI_VARIABLE_BOOT] * 2, EventType.SEPARATOR]


# --- the same boots, measured by a TPM ---------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(vectors: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = load(vectors / "local-vtpm" / "expected.json")
    return loaded


def mapped(log: eventlog.EventLog) -> dict[int, list[bytes]]:
    """A TPM's log under the mapping of registers; PCR 0 has no RTMR."""
    found: dict[int, list[bytes]] = {n: [] for n in range(4)}
    for event in log.events:
        if event.type != EventType.NO_ACTION and event.pcr in rtmr.RTMR_OF_PCR:
            found[rtmr.RTMR_OF_PCR[event.pcr]].append(event.digests["sha384"])
    return found


def test_rtmr_2_of_tpm_logs(vectors: Path, recorded: dict[str, Any]) -> None:
    derived = recorded["derived_rtmr2_for_same_uki_on_tdx"]["values"]
    compared = 0
    for name, value in derived.items():
        if file := recorded["runs"][name].get("file"):
            log = eventlog.parse((vectors / "local-vtpm" / file).read_bytes(), name)
            assert eventlog.extend(mapped(log)[2], 3, "sha384").hex() == value, name
            compared += 1
    assert compared == 8


def test_boot_from_disk_as_a_tpm_saw_it(vectors: Path, recorded: dict[str, Any]) -> None:
    """Digests of RTMR 1, from the recorded digests of the files; a TPM has more separators."""
    run = recorded["runs"]["disk257.13-1~deb13u1"]
    log = eventlog.parse((vectors / "local-vtpm" / run["file"]).read_bytes())
    image = recorded["ukis"][run["uki"]]
    (logged,) = of_type(log, EventType.EFI_GPT_EVENT)
    separator = pcr.separator_event(4, "sha384").digest
    expected = [
        pcr.action_event(4, pcr.CALLING_APPLICATION, "sha384").digest,
        separator,
        sha384(logged.data),
        bytes.fromhex(image["authenticode_sha384"]),
        bytes.fromhex(recorded["inputs"]["kernel"]["authenticode_sha384"]),
        *(e.digest for e in pcr.exit_boot_services_events("sha384")),
    ]
    seen = mapped(log)[1]
    assert seen.count(separator) == 5
    assert [d for d in seen if d != separator] == [d for d in expected if d != separator]
    assert seen.index(expected[0]) == 0
    assert len(logged.data) > gpt.HEADER_SIZE


def test_sections_of_a_uki_as_a_tpm_saw_them(vectors: Path, recorded: dict[str, Any]) -> None:
    run = recorded["runs"]["disk257.13-1~deb13u1"]
    log = eventlog.parse((vectors / "local-vtpm" / run["file"]).read_bytes())
    seen = mapped(log)[2]
    inputs = recorded["inputs"]
    contents = {
        uki.Section.OSREL: inputs["osrel"].encode(),
        uki.Section.CMDLINE: inputs["cmdline_section"].encode(),
        uki.Section.UNAME: inputs["uname"].encode(),
        uki.Section.SBAT: bytes.fromhex(recorded["ukis"][run["uki"]]["sbat_hex"]),
    }
    digests = {section: sha384(content) for section, content in contents.items()}
    for section, name in ((uki.Section.LINUX, "kernel"), (uki.Section.INITRD, "initrd")):
        digests[section] = bytes.fromhex(inputs[name]["sha384"])
    expected = []
    for section in uki.Section:
        if section in digests:
            expected += [sha384(section.value.encode() + b"\0"), digests[section]]
    assert seen[:-2] == expected
    image = uki.Uki(image=None, stub=uki.STUBS[257], sections=contents)  # type: ignore[arg-type]
    options, _ = pcr.kernel_input_events(image.command_line, b"", "sha384")
    assert seen[-2] == options.digest


def test_direct_boot_as_a_tpm_saw_it(vectors: Path, recorded: dict[str, Any]) -> None:
    run = recorded["runs"]["q10-bare"]
    log = eventlog.parse((vectors / "local-vtpm" / run["file"]).read_bytes())
    inputs = recorded["inputs"]
    line = run["boot"].split('"')[1]
    options, _ = pcr.kernel_input_events(direct.load_options(line, (2025, 2)), b"", "sha384")
    initrd = bytes.fromhex(inputs["initrd"]["sha384"])
    seen = mapped(log)
    assert seen[2] == [options.digest, initrd]
    assert seen[1][:2] == [
        bytes.fromhex(inputs["kernel"]["authenticode_sha384"]),
        pcr.action_event(4, pcr.CALLING_APPLICATION, "sha384").digest,
    ]
    boot_variables = [sha384(data) for _, data in variables.only_application("UiApp")]
    assert [e.digests["sha384"] for e in of_type(log, EventType.EFI_VARIABLE_BOOT)] == (
        boot_variables
    )


# --- the flake's machines ---------------------------------------------------------------------


def test_acpi_tables_are_as_qemu_makes_them(acpi_tables: Path) -> None:
    """QEMU's commands, written by it at build time, equal those that follow from its tables."""
    folders = [path for path in sorted(acpi_tables.iterdir()) if path.is_dir()]
    assert folders
    for folder in folders:
        found = machine.read(str(folder))
        assert qemu_acpi.rebuild(found.acpi.tables) == found.acpi, folder.name
        assert found.boot_menu == bytes(2)
        assert found.statements.firmware_version.startswith("2026.08")
