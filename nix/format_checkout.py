"""Format Python and shell files: `nix fmt` for all of the checkout, `nix fmt PATH…` for some.

Reads the environment: CONFIDE_SHFMT, the program shfmt.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shell_files import shell_files


def main() -> int:
    """Format in place; the exit status is that of the first tool that fails."""
    paths = sys.argv[1:] or ["."]
    shell = [str(file) for path in paths for file in found(Path(path))]
    commands = [[sys.executable, "-m", "ruff", "format", "--force-exclude", *paths]]
    if shell:
        commands.append([os.environ["CONFIDE_SHFMT"], "--write", *shell])
    return next(filter(None, (subprocess.run(c, check=False).returncode for c in commands)), 0)


def found(path: Path) -> list[Path]:
    """The shell files that a path names."""
    return list(shell_files(path)) if path.is_dir() else [path]


if __name__ == "__main__":
    sys.exit(main())
