"""Make a model disk of a model's folder, by the code of `confide model pack`, so with its bits.

$out gets model.disk, model.json (the model's entry for a manifest) and the model's expected.json if
it has one. Reads the environment: model_name, model, tasks and roles (separated by spaces),
tools, out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from confide.host.model.pack import pack, write_entry
from confide.host.model.source import scan
from confide.protocol.engine_options import EngineOptions


def main() -> None:
    """Build $out."""
    environment = os.environ
    model, out = Path(environment["model"]), Path(environment["out"])
    out.mkdir()
    disk = pack(scan(model), out / "model.disk", Path(environment["tools"]), no_progress)
    tasks, roles = environment["tasks"].split(), environment["roles"].split()
    entry = disk.entry(environment["model_name"], tasks, roles, EngineOptions())
    write_entry(out / "model.json", entry)
    if (model / "expected.json").exists():
        shutil.copyfile(model / "expected.json", out / "expected.json")


def no_progress(_total: int) -> Callable[[int], None]:
    """A build's log does not say how far it is."""
    return lambda _count: None


if __name__ == "__main__":
    main()
