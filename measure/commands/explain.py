"""`measure explain`: which component makes a machine differ from an image's measurements."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from measure import eventlog, explain, image, report
from measure.commands.common import (
    MAX_BOOT_FILE,
    Commands,
    map_file,
    read,
    register,
)
from measure.commands.image import Inputs, add_machines, measure
from measure.explain import evidence
from measure.output import print_json, show
from measure.status import ExitStatus
from measure.uki import Section

_MAX_COMMAND_LINE = 64 << 10


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "explain",
        run,
        "say which component makes a machine's evidence differ from an image",
        "explain binary_bios_measurements --image measurements.json",
    )
    parser.add_argument(
        "evidence",
        help="an event log (TPM or CCEL), an SEV-SNP report, a TDX quote or TDREPORT, "
        "or the evidence that a role sends (CBOR)",
    )
    parser.add_argument(
        "--image",
        required=True,
        help="measurements.json; or a disk image, with the options that name the machines",
    )
    add_machines(parser)
    for name, text in (
        ("--command-line", "the command line that booted (/proc/cmdline), to name the layer"),
        ("--event-log", "the log that goes with a TDX quote (CCEL)"),
    ):
        parser.add_argument(name, metavar="FILE", help=text)
    parser.add_argument(
        "--try",
        dest="candidates",
        metavar="FILE",
        action="append",
        default=[],
        help="firmware, kernel, initrd or command line that the machine may have been started "
        "with instead, where there is no event log (may be repeated)",
    )
    parser.add_argument("--json", action="store_true", help="one object, for scripts")


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    seen = evidence.parse(read(options.evidence, evidence.MAX_EVIDENCE), options.evidence)
    if options.event_log is not None:
        log = read(options.event_log, eventlog.MAX_LOG)
        seen = evidence.with_log(seen, log, options.event_log)
    measured, kernel = _image(options)
    line = None
    if options.command_line is not None:
        text = read(options.command_line, _MAX_COMMAND_LINE)
        line = text.decode("ascii", "replace").rstrip("\n")
    files = [(path, read(path, MAX_BOOT_FILE)) for path in options.candidates]
    clues = explain.Clues(command_line=line, kernel=kernel, files=files)
    found = explain.explain(seen, measured, options.image, clues)
    if options.json:
        differences = explain.as_json(found.differences)
        print_json(
            {
                "compared_with": found.compared_with,
                "notes": found.notes,
                "differences": differences,
            }
        )
    else:
        for note in found.notes:
            show(f"note: {note}")
        show(f"compared with machine shape {found.compared_with}")
        show(*explain.render(found.differences).split("\n"))
    return ExitStatus.DIFFERS if found.differences else ExitStatus.OK


def _image(options: argparse.Namespace) -> tuple[dict[str, Any], explain.Kernel | None]:
    """The measurements to compare with; of a disk also its kernel."""
    data = map_file(options.image)
    if bytes(data[:1]) == b"{":
        return report.parse(read(options.image, report.MAX_REPORT), options.image), None
    machines = {field.name: getattr(options, field.name, None) for field in fields(Inputs)}
    paths = Inputs(**{**machines, "disk": options.image})
    measured = measure(paths, "")
    sections = image.parse(data, options.image).uki.sections
    return measured, explain.Kernel(sections[Section.LINUX], len(sections[Section.INITRD]))
