"""Check all shell files of the checkout: shellcheck has no remark, shfmt would change nothing.

Reads the environment: checkout, tools, out.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from shell_files import has_shebang, shell_files


def main() -> None:
    """Run every tool, then fail if any of them did."""
    tools = os.environ["tools"]
    os.chdir(os.environ["checkout"])
    files = list(shell_files(Path()))
    programs = [str(file) for file in files if has_shebang(file)]
    parts = [str(file) for file in files if not has_shebang(file)]
    commands = (
        [f"{tools}/bin/shfmt", "--diff", *map(str, files)],
        [f"{tools}/bin/shellcheck", "--external-sources", *programs],
        # Busybox runs these. Their variables are set by what starts them (SC2154).
        [f"{tools}/bin/shellcheck", "--shell=busybox", "--exclude=SC2154", *parts],
    )
    environment = {"LC_ALL": "C.UTF-8"}
    # Every program runs, so that one build shows all there is to mend.
    failed = [
        Path(command[0]).name
        for command in commands
        if subprocess.run(command, env=environment, check=False).returncode
    ]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; `nix fmt` does what shfmt asks for")
    Path(os.environ["out"]).write_text("".join(f"{file}\n" for file in files))


if __name__ == "__main__":
    main()
