"""`measure explain` as it is called: every kind of evidence, every option."""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.protocol.evidence import Evidence, VtpmReport
from measure import __main__ as cli
from measure import report
from measure.snp.kernel import KernelHashes
from measure.tdx.rtmr import Prediction, RtmrEvent
from tests.support.measurement import builders, ovmf_builders, platforms, samples

Run = Callable[..., tuple[int, str]]

PREDICTIONS = report.read(platforms.measurements(), "m")
MILAN = PREDICTIONS.sev_snp[1]  # 4 vCPUs
TDX = PREDICTIONS.tdx[0]
LINE = builders.COMMAND_LINE.decode().strip()


def snp_report(digest: bytes) -> bytes:
    return (b"\3".ljust(0x90, b"\0") + digest).ljust(1184, b"\0")


def quote(prediction: Prediction) -> bytes:
    """A version 4 quote as far as it is read."""
    shape = prediction.shape
    info = struct.pack("<QQ", shape.attributes, shape.xfam)
    info += prediction.mrtd[shape.page_order] + bytes(144)
    info += b"".join(prediction.rtmrs()[number] for number in range(4))
    return struct.pack("<HHI40x", 4, 2, 0x81) + bytes(120) + info + bytes(64)


def ccel(events: tuple[RtmrEvent, ...]) -> bytes:
    log = builders.log_header([(0x0C, 48)])
    for event in events:
        log += struct.pack("<IIIH", event.rtmr + 1, 0x0D, 1, 0x0C) + event.digest + bytes(4)
    return log


OTHER_INITRD = tuple(
    dataclasses.replace(event, digest=b"x" * 48) if event.rtmr == 2 else event
    for event in TDX.events
)
VTPM = samples.predict()
SAME = "no difference: everything predicted is as expected"
FILES = {
    "m.json": platforms.encoded(),
    "disk.raw": builders.bootable_disk(),
    "code.fd": builders.firmware(),
    "amdsev.fd": ovmf_builders.image(),
    "shapes.json": b'{"format": "confide-shapes/1", "vtpm": ["ovmf-disk"], "sev-snp": [{"vmm": '
    b'"qemu", "vcpu_type": "EPYC-Milan", "vcpus": [4], "guest_features": 1}], "tdx": []}',
    "log": samples.log_bytes(samples.predict()),
    "initrd.log": samples.log_bytes(samples.predict(samples.changed_uki(initrd=b"x"))),
    "snp": snp_report(MILAN.digest),
    "snp-5": snp_report(MILAN.launch.digest(5)),
    "snp-initrd": snp_report(
        dataclasses.replace(
            MILAN.launch,
            kernel=KernelHashes.of(builders.uki_sections()[".linux"], b"x", LINE.encode()),
        ).digest(4)
    ),
    "quote": quote(TDX),
    "quote-initrd": quote(dataclasses.replace(TDX, events=OTHER_INITRD)),
    "ccel": ccel(TDX.events),
    "ccel-initrd": ccel(OTHER_INITRD),
    "x": b"x",
    "cmdline": LINE.encode() + b"\n",
}
JSON = ("--image", "@m.json")
DISK = ("--image", "@disk.raw", "--shapes", "@shapes.json", "--firmware", "@code.fd",
        "--firmware-sev-snp", "@amdsev.fd")  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)

    def call(*arguments: str) -> tuple[int, str]:
        """Status and output of `measure explain`; an argument `@x` stands for the file x."""
        paths = [str(tmp_path / a[1:]) if a.startswith("@") else a for a in arguments]
        status = cli.main(["explain", *paths])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return call


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("@log", *JSON), 0, "compared with machine shape ovmf-disk\nno difference"),
        (("@log", *JSON, "--command-line", "@cmdline"), 0, "no difference"),
        (("@log", *JSON, "--command-line", "@x"), 2, "not the command line"),
        (("@initrd.log", *JSON), 1, "PCR 11: initrd: section .initrd"),
        (("@log", *DISK), 0, "no difference"),
        (("@snp", *JSON), 0, "compared with machine shape qemu-epyc-milan-4\nno difference"),
        (("@snp", *DISK), 0, "no difference"),
        (("@snp-5", *JSON), 1, "number of vCPUs: the VM's size\n  expected  1, 4\n  seen      5"),
        (("@snp-initrd", *JSON), 1, "cause not found: no single change explains it"),
        (("@snp-initrd", *JSON, "--try", "@cmdline", "--try", "@x"), 1, "launch digest: initrd"),
        (("@quote", *JSON), 0, "compared with machine shape qemu-2\nno difference"),
        (("@quote-initrd", *JSON), 1, "RTMR 2: cause not found"),
        (("@quote-initrd", *JSON, "--event-log", "@ccel-initrd"), 1, "RTMR 2: initrd: event 2"),
        (("@quote-initrd", *JSON, "--event-log", "@ccel"), 1, "RTMR 2: event log"),
        (("@quote", *JSON, "--event-log", "@ccel"), 0, "no difference"),
        (("@ccel", *JSON), 0, "note: an event log alone is the host's word"),
        (("@quote", *DISK), 2, "not measured for platform tdx"),
        (("@quote", *JSON, "--event-log", "@snp"), 2, "not an event log"),
        (("@snp", *JSON, "--event-log", "@ccel"), 2, "takes no event log"),
        (("@quote", *JSON, "--event-log", "@log"), 2, "the event log is of another platform"),
        (("@x", *JSON), 2, "not evidence of a known kind"),
        (
            ("@log", "--image", "@disk.raw"),
            2,
            "--firmware and machines of platform vtpm need each other",
        ),
        (("@log", "--image", "@x"), 2, "partition table header is truncated"),
    ],
)
def test_explain(run: Run, arguments: tuple[str, ...], status: int, text: str) -> None:
    seen, printed = run(*arguments)
    assert text in printed
    assert seen == status


def test_a_disk_that_begins_as_json_is_not_read_whole(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "m.json").open("wb") as file:
        file.write(b"{")
        file.truncate(1 << 30)
    tracemalloc.start()
    try:
        status, printed = run("@log", *JSON)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == 2 and f"too large; expected at most {report.MAX_REPORT} bytes" in printed
    assert peak < 64 << 20


@pytest.mark.parametrize(
    ("evidence", "shape", "note"),
    [
        (Evidence("vtpm", VtpmReport(b"q", b"s", VTPM.pcrs() | {15: b"\1" * 32}).encode(), (),
            FILES["log"]), "ovmf-disk", f"PCR 15: launched for the manifest whose hash, extended "
            f"once, is {'01' * 32}"),
        (Evidence("sev-snp", FILES["snp"], (b"VCEK",), b""), "qemu-epyc-milan-4",
            "HOST_DATA is zero: launched for no manifest"),
        (Evidence("tdx", FILES["quote"], (), FILES["ccel"]), "qemu-2",
            "MRCONFIGID is zero: launched for no manifest"),
    ],
)  # fmt: skip
def test_what_a_role_sends(
    run: Run, tmp_path: Path, evidence: Evidence, shape: str, note: str
) -> None:
    """The map as the project's own code encodes it, which `measure` reads without that code."""
    (tmp_path / "evidence").write_bytes(evidence.encode())
    status, printed = run("@evidence", *JSON)
    assert status == 0
    assert printed == f"note: {note}\ncompared with machine shape {shape}\n{SAME}\n"


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence("vtpm", VtpmReport(b"q", b"s", VTPM.pcrs()).encode(), (), FILES["ccel"]),
        Evidence("tdx", FILES["quote"], (), FILES["log"]),
    ],
)
def test_a_log_of_another_platform(run: Run, tmp_path: Path, evidence: Evidence) -> None:
    (tmp_path / "evidence").write_bytes(evidence.encode())
    status, printed = run("@evidence", *JSON)
    assert status == 2 and "the event log is of another platform" in printed
