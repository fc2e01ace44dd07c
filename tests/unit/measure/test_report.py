"""measurements.json: what is in it follows from as little of it as possible, and is checked."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from measure import explain, report
from measure.declare import decode, encode
from measure.errors import FormatError, InputError
from measure.pcr import Component
from measure.report import Predictions
from measure.report.form import MAX_EVENTS, SCHEMA_FILE, SnpFirmware, schema_text
from measure.report.snp import read_firmware, write
from measure.snp.prediction import predict
from tests.support.measurement import platforms

SCHEMA = json.loads(SCHEMA_FILE.read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# What a reader has to take as it is, because it is of bytes that are not in the file, or text for
# people. A verifier gets none of it but MRTD, attributes and XFAM, which only the firmware's bytes
# and the machine's description can confirm.
TAKEN_AS_IT_IS = {
    ("image",),
    *(("files", name, field) for name in ("disk", "uki", "cmdline", "firmware", "firmware-sev-snp",
                                          "firmware-tdx") for field in ("sha256", "size")),
    *(("files", name, "size") for name in ("linux", "initrd")),
    ("platforms", "vtpm", "*", "events", "*", "*", "description"),
    *(("platforms", "tdx", "*", field)
      for field in ("shape", "memory_mib", "edk2", "attributes", "xfam")),
    ("platforms", "tdx", "*", "mrtd", "*"),
    ("platforms", "tdx", "*", "events", "*", "*", "description"),
    ("platforms", "tdx", "*", "boot_variables", "*", "*"),
}  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value that holds no others, with the keys that lead to it."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def with_change(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if new is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return changed


def another(value: Any) -> Any:
    """A value of the same kind that is not this one."""
    if isinstance(value, str):
        last = "1" if value[-1:] != "1" else "2"
        return value[:-1] + last
    return 1 if value is None else value + 1


def generic(path: tuple[Any, ...], known: set[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The pattern that a path fits; "*" is any key."""
    for pattern in known:
        pairs = zip(pattern, path, strict=False)
        if len(pattern) == len(path) and all(part in ("*", key) for part, key in pairs):
            return pattern
    return None


def test_what_is_built_is_read_again() -> None:
    measured = platforms.measurements()
    assert report.encode(measured) == platforms.encoded()
    found = report.read(measured, "m")
    assert [p.shape.name for p in found.vtpm] == ["ovmf-disk", "ovmf-direct"]
    assert [p.shape for p in found.sev_snp] == list(platforms.SNP_SHAPES)
    assert [p.shape.name for p in found.sev_snp] == [
        "qemu-epyc-milan-1", "qemu-epyc-milan-4", "qemu-epyc-genoa-4-features-21", "ec2-2",
    ]  # fmt: skip
    assert [p.shape for p in found.tdx] == list(platforms.TDX_SHAPES)


def test_no_value_can_change_alone() -> None:
    """And no other file is the same to `diff`, but for the image's name and texts for people."""
    measured = platforms.measurements()
    accepted = set()
    for path, value in leaves(measured):
        changed = with_change(measured, path, another(value))
        try:
            report.parse(report.encode(changed), "m")
        except FormatError:
            continue
        assert generic(path, TAKEN_AS_IT_IS), path
        found = explain.diff(measured, changed, "a", "b")
        assert bool(found) is (path[-1] not in ("image", "description")), path
        assert all(difference.expected != difference.seen for difference in found)
        accepted.add(generic(path, TAKEN_AS_IT_IS))
    assert accepted == TAKEN_AS_IT_IS


def test_no_type_can_change() -> None:
    """JSON's true is 1 to Python, and 1.0 is; a file that says so is not what was written."""
    measured = platforms.measurements()
    numbers = [(path, value) for path, value in leaves(measured) if isinstance(value, int)]
    assert len(numbers) > 20
    for path, value in numbers:
        for new in (True, float(value), str(value)):
            with pytest.raises(FormatError):
                report.parse(report.encode(with_change(measured, path, new)), "m")


def test_nothing_can_be_left_out_and_the_schema_knows_it() -> None:
    measured = platforms.measurements()
    optional = {("files", name) for name in report.FIRMWARE.values()}
    optional |= {("platforms", name) for name in report.FIRMWARE}
    inner = {path[:length] for path, _ in leaves(measured) for length in range(1, len(path) + 1)}
    unknown_to_schema = set()
    for path in inner - optional:
        if isinstance(path[-1], int):
            continue
        changed = with_change(measured, path, None)
        with pytest.raises(FormatError):
            report.parse(report.encode(changed), "m")
        if VALIDATOR.is_valid(changed):
            unknown_to_schema.add(path[-1] if path[1:2] != ("vtpm",) else "register")
    # Which registers there are follows from the machine, which boot variables from how it boots,
    # and whether there is a firmware from the platforms.
    assert unknown_to_schema == {"register", "boot_variables", "sev-snp"}


def test_nothing_can_be_added_and_the_schema_knows_it() -> None:
    measured = platforms.measurements()
    objects = {path[:length] for path, _ in leaves(measured) for length in range(len(path))}
    for path in objects:
        changed = copy.deepcopy(measured)
        parent: Any = changed
        for key in path:
            parent = parent[key]
        if isinstance(parent, list):
            parent.append("more")
        else:
            parent["more"] = "more"
        assert not VALIDATOR.is_valid(changed), path
        with pytest.raises(FormatError):
            report.parse(report.encode(changed), "m")


def test_the_committed_schema_is_the_declared_one() -> None:
    """Renew it with `python -m measure.report > measure/measurements.schema.json`."""
    assert SCHEMA_FILE.read_text() == schema_text()


def test_the_schema_is_one_and_accepts_what_is_written() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(platforms.measurements())
    assert SCHEMA["properties"]["format"]["const"] == report.FORMAT


def test_platforms_can_be_left_out() -> None:
    """An image measured for one platform only has that one's firmware only."""
    for platform, firmware in report.FIRMWARE.items():
        measured = platforms.measurements()
        measured["platforms"] = {platform: measured["platforms"][platform]}
        if platform != report.SEV_SNP:
            measured["firmware"] = {}
        measured["files"] = {
            name: entry
            for name, entry in measured["files"].items()
            if name == firmware or name not in report.FIRMWARE.values()
        }
        assert report.parse(report.encode(measured), "m") == measured
        VALIDATOR.validate(measured)


def test_firmware_of_a_platform_that_is_not_there() -> None:
    measured = platforms.measurements()
    del measured["platforms"]["tdx"]
    with pytest.raises(FormatError, match="a firmware of a platform that they do not have"):
        report.parse(report.encode(measured), "m")


def test_no_platform_at_all() -> None:
    measured = platforms.measurements()
    measured |= {"platforms": {}, "firmware": {}}
    with pytest.raises(FormatError):
        report.parse(report.encode(measured), "m")
    with pytest.raises(InputError, match="no platform to measure for"):
        report.build("x", {}, None, Predictions())  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x00", "schön", "\u202e", 7, None])
def test_text_that_could_deceive_a_terminal(text: object) -> None:
    """Everything that commands print of a file is printable ASCII."""
    measured = platforms.measurements()
    paths: list[tuple[Any, ...]] = [("image",), ("command_line",)]
    for platform, register in (("vtpm", "4"), ("tdx", "0")):
        paths.append(("platforms", platform, 0, "events", register, 0, "description"))
    for path in paths:
        changed = copy.deepcopy(measured)
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = text
        with pytest.raises(FormatError):
            report.parse(report.encode(changed), "m")


def test_a_digest_of_another_size() -> None:
    for platform, register in (("vtpm", "4"), ("tdx", "0")):
        measured = platforms.measurements()
        machine = measured["platforms"][platform][0]
        machine["events"][register][0]["digest"] += "00"
        with pytest.raises(FormatError, match="is not hex; expected"):
            report.parse(report.encode(measured), "m")


def test_too_many_machines() -> None:
    measured = platforms.measurements()
    measured["platforms"]["sev-snp"] *= 100
    with pytest.raises(FormatError, match="expected at most 256 items, seen 400"):
        report.parse(report.encode(measured), "m")


@pytest.mark.parametrize("platform", ["vtpm", "sev-snp", "tdx"])
def test_a_machine_twice(platform: str) -> None:
    """Which of the two a reader would take is up to it."""
    measured = platforms.measurements()
    machines = measured["platforms"][platform]
    machines.append(copy.deepcopy(machines[0]))
    with pytest.raises(FormatError, match="a machine is there twice"):
        report.parse(report.encode(measured), "m")


@pytest.mark.parametrize(("platform", "register"), [("vtpm", "4"), ("tdx", "0")])
def test_more_events_than_can_be_compared(platform: str, register: str) -> None:
    measured = platforms.measurements()
    events = measured["platforms"][platform][0]["events"]
    events[register] = events[register][:1] * MAX_EVENTS
    assert VALIDATOR.is_valid(measured)
    with pytest.raises(FormatError, match="do not follow from the events"):
        report.parse(report.encode(measured), "m")
    events[register] += events[register][:1]
    assert not VALIDATOR.is_valid(measured)
    with pytest.raises(FormatError, match="expected at most 256 items, seen 257"):
        report.parse(report.encode(measured), "m")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "-0x1000"),
        ("address", hex(1 << 32)),
        ("address", hex(1 << 64)),
        ("size", -4096),
        ("size", 1 << 32),
        ("reset_address", "-0x1"),
        ("reset_address", hex(1 << 32)),
    ],
)
def test_numbers_that_no_firmware_can_say(field: str, value: Any) -> None:
    measured = platforms.measurements()
    described = measured["firmware"]["sev-snp"]
    (described["sections"][0] if field in described["sections"][0] else described)[field] = value
    assert not VALIDATOR.is_valid(measured)
    with pytest.raises(FormatError, match="is wrong; expected"):
        report.parse(report.encode(measured), "m")


def test_more_sections_than_a_firmware_has() -> None:
    """Each is compared with each."""
    measured = platforms.measurements()
    measured["firmware"]["sev-snp"]["sections"] += [
        {"type": "SEC_MEMORY", "address": hex(0x1000 * n), "size": 0x1000} for n in range(8000)
    ]
    assert not VALIDATOR.is_valid(measured)
    with pytest.raises(FormatError, match="expected at most 64 items"):
        report.parse(report.encode(measured), "m")


def test_a_table_of_hashes_without_a_page() -> None:
    measured = platforms.measurements()
    measured["firmware"]["sev-snp"]["sections"] = []
    with pytest.raises(FormatError, match="hashes has no page"):
        report.parse(report.encode(measured), "m")


# What `explain.diff` finds


def test_files_follow_from_what_is_in_them() -> None:
    """A hash is listed if nothing else is that explains it; the firmware's always."""
    measured, changed = platforms.measurements(), platforms.measurements()
    for name in changed["files"]:
        if name not in ("linux", "initrd"):
            changed["files"][name]["sha256"] = "ab" * 32
    files = {d.description for d in explain.diff(measured, changed, "a", "b")}
    assert files == {
        f"SHA-256 of {name}" for name in (*report.FIRMWARE.values(), "cmdline", "uki", "disk")
    }
    del changed["platforms"]["vtpm"], changed["files"]["firmware"]
    found = explain.diff(measured, changed, "a", "b")
    (absent,) = (d for d in found if d.description == "SHA-256 of firmware")
    assert (absent.component, absent.seen) == (Component.FIRMWARE, "nothing")


def test_a_command_line_that_is_only_written_differently() -> None:
    """Its hash is another one, and so is every register that it is in."""
    measured = platforms.measurements()
    del measured["platforms"]["sev-snp"], measured["files"]["firmware-sev-snp"]
    measured["firmware"] = {}
    changed = with_change(measured, ("command_line",), measured["command_line"] + " ")
    (found,) = explain.diff(measured, changed, "a", "b")
    assert (found.register, found.component) == ("command line", Component.COMMAND_LINE)
    assert found.seen == repr(changed["command_line"])


def described_otherwise(field: str, value: Any) -> dict[str, Any]:
    """The measurements of a firmware that says something else of itself."""
    measured = platforms.measurements()
    kernel = report.read(measured, "m").sev_snp[0].launch.kernel
    measured["firmware"]["sev-snp"][field] = value
    stated = decode(SnpFirmware, measured["firmware"]["sev-snp"], "the firmware")
    predictions = predict(platforms.SNP_SHAPES, read_firmware(stated), kernel)
    measured["platforms"]["sev-snp"] = [encode(write(prediction)) for prediction in predictions]
    return report.parse(report.encode(measured), "m")


@pytest.mark.parametrize(
    ("field", "description"),
    [
        ("sections", "its sections, in their order"),
        ("hash_table_offset", "place of the table of hashes in its page"),
    ],
)
def test_what_a_firmware_says_of_itself(field: str, description: str) -> None:
    """It decides every launch digest, and is in none of their components."""
    measured = platforms.measurements()
    value = measured["firmware"]["sev-snp"][field]
    changed = described_otherwise(field, value[::-1] if isinstance(value, list) else value - 16)
    digests = [
        [machine["launch_digest"] for machine in side["platforms"]["sev-snp"]]
        for side in (measured, changed)
    ]
    assert not set(digests[0]) & set(digests[1])
    (found,) = explain.diff(measured, changed, "a", "b")
    assert (found.register, found.component) == ("launch digest", Component.FIRMWARE)
    assert found.description == description and found.expected != found.seen


def test_where_further_vcpus_start() -> None:
    changed = described_otherwise("reset_address", "0x80b014")
    found = explain.diff(platforms.measurements(), changed, "a", "b")
    assert ("where further vCPUs start", "0x80b004", "0x80b014") in {
        (d.description, d.expected, d.seen) for d in found
    }


def test_other_orders_of_equal_content_are_refused() -> None:
    measured = platforms.measurements()
    for data in (
        json.dumps(measured).encode(),
        report.encode(measured)[:-1],
        report.encode(measured) + b"\n",
        report.encode(measured).replace(b'"image"', b'"image": "", "image"', 1),
    ):
        with pytest.raises(FormatError):
            report.parse(data, "m")
