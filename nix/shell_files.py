"""Which files of a checkout are shell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

SHEBANG = re.compile(rb"#! ?\S*/(env )?(busybox )?(ba|da)?sh\b")
NOT_SOURCE = {".git", "__pycache__", "run"}  # folders, beside those that tools call .NAME_cache


def shell_files(root: Path) -> Iterator[Path]:
    """Paths of all files, in order, that are called *.sh or begin as a shell program does."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in NOT_SOURCE and not name.endswith("_cache")
        )
        for path in (Path(folder, name) for name in sorted(names)):
            if not path.is_symlink() and (path.suffix == ".sh" or has_shebang(path)):
                yield path


def has_shebang(path: Path) -> bool:
    """Whether the file's first line names a shell."""
    with path.open("rb") as file:
        return SHEBANG.match(file.read(64)) is not None
