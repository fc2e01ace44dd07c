"""The kernel on a hostile host's machines: one of each kind that `make test-kernel-fuzz` makes."""

from __future__ import annotations

from pathlib import Path

from confide.host.runner.qemu import Tools
from tests.fuzz import inputs, kernel

SEED = 1
SECONDS = 60  # for each; one takes four


def test_no_input_makes_the_kernel_damage_memory(tools: Tools, linux: Path, tmp_path: Path) -> None:
    """The first machine of all is a genuine one, which must boot."""
    numbers = [inputs.KINDS.index(kind) for kind in dict.fromkeys(inputs.KINDS)]
    booted = kernel.outcomes(tools, linux / "vmlinuz", tmp_path, SEED, iter(numbers), SECONDS)
    seen = {outcome.kind: outcome for outcome in booted}
    assert len(seen) == len(numbers)
    damaged = [str(outcome) for outcome in seen.values() if outcome.what == kernel.DAMAGED]
    assert damaged == []
    assert seen["fadt"].why.startswith("ACPI may not name a register")
