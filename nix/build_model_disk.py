"""Make a model disk of a model's folder with the code of `confide model pack`, so with its bits.

$out gets model.disk, model.json (the model's entry for a manifest) and the model's expected.json if
it has one. Reads from the environment: model_name, model, tasks and roles (separated by spaces),
tools, out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from confide.host.model.loadable import require_loadable
from confide.host.model.outputs import Outputs, write_entry
from confide.host.model.pack import pack
from confide.host.model.source import scan
from confide.protocol.engine_options import EngineOptions


def main() -> None:
    """Build $out."""
    environment = os.environ
    model, out = Path(environment["model"]), Path(environment["out"])
    out.mkdir()
    tasks, roles = environment["tasks"].split(), environment["roles"].split()
    source = scan(model)
    for note in require_loadable(source, tasks):
        print(note)
    outputs = Outputs(out / "model.disk")
    disk = pack(source, outputs.disk, Path(environment["tools"]), no_progress)
    entry = disk.entry(environment["model_name"], tasks, roles, EngineOptions())
    write_entry(outputs.entry, entry)
    if (model / "expected.json").exists():
        shutil.copyfile(model / "expected.json", out / "expected.json")


def no_progress(_total: int) -> Callable[[int], None]:
    """Show no progress in a build's log."""
    return lambda _count: None


if __name__ == "__main__":
    main()
