"""The client as pip installs it, and what is gone on a machine that runs no Linux."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

# What Linux has and macOS has not. A process that starts with these gone runs only what both have.
TAKEN_AWAY = """
import importlib
# select comes first: socket imports selectors, which looks once for what select has.
for module, names in {
    "select": ["epoll", "EPOLL"],
    "time": ["CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW", "CLOCK_TAI"],
    "os": ["sched_", "memfd_create", "pidfd_open", "eventfd", "splice", "copy_file_range",
           "posix_fadvise", "posix_fallocate", "O_DIRECT", "O_TMPFILE", "O_PATH", "pipe2"],
    "signal": ["sigtimedwait", "sigwaitinfo", "SIGRTM"],
    "socket": ["AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "SOCK_NONBLOCK", "SOCK_CLOEXEC",
               "MSG_NOSIGNAL", "SO_PEERCRED", "SO_PASSCRED", "SO_BINDTODEVICE", "TCP_USER_TIMEOUT"],
}.items():
    module = importlib.import_module(module)
    for name in dir(module):
        if name.startswith(tuple(names)):
            delattr(module, name)
"""


@dataclass(frozen=True)
class Installed:
    """A folder that `pip install --target` filled, and a home with nothing in it."""

    folder: Path
    home: Path
    python: str

    @property
    def environment(self) -> dict[str, str]:
        """All that a program gets: no variable of Confide, and of Python only where it looks."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        return {"HOME": str(self.home), "PATH": path, "PYTHONPATH": str(self.folder)}

    @property
    def elsewhere(self) -> dict[str, str]:
        """The same, as on a machine that is no Linux."""
        limited = self.home / "limited"
        limited.mkdir(exist_ok=True)
        (limited / "sitecustomize.py").write_text(TAKEN_AWAY)
        path = os.pathsep.join([str(limited), str(self.folder)])
        return self.environment | {"PYTHONPATH": path}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in the empty home."""
        return subprocess.run(
            arguments,
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
