"""A network namespace of the test's own, in which each program has an address and can be cut off.

A program is known by its group id: nftables marks each connection with the group of the program
that opened it, and drops the packets of marks and addresses that are cut. So both directions of old
and new connections are cut, as if a cable were pulled. Nothing outside the namespace is touched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.programs import ROOT

FIRST_GROUP = 20_001
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_RULES = """
table inet faults {
  set cut {
    type mark . ipv4_addr
  }
  chain opened {
    type filter hook output priority 0
    ct state new ct mark set meta skgid
  }
  chain arrived {
    type filter hook input priority 0
    ct mark . ct original ip daddr @cut drop
  }
}
"""


def why_not() -> str:
    """Why this machine cannot run programs in a namespace, "" if it can."""
    if os.geteuid() != 0:
        return "namespaces, nftables and mounts need root"
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare and mount (util-linux) are not installed"
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False)
    return "this machine allows no namespaces" if probe.returncode else ""


def start_apart(module: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start `python -m module` in a new namespace.

    With it, all programs end that it started. It has to be killed: `unshare` ignores SIGTERM.
    """
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    path = os.pathsep.join((str(ROOT / "py"), str(ROOT)))
    return subprocess.Popen(
        [*command, sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )


class Network:
    """The namespace that this program is alone in. `nft` is the program of that name."""

    def __init__(self, nft: Path, names: Sequence[str]) -> None:
        self._nft = nft
        self._numbers = {name: number for number, name in enumerate(names)}
        with socket.socket() as sock:
            request = struct.pack("16sH14x", b"lo", 0)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
            if flags & _IFF_UP:
                raise RuntimeError("not in a namespace of its own: start it with start_apart")
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
        self._run(_RULES)

    def address(self, name: str) -> str:
        """The address of a program, on loopback."""
        return f"127.0.1.{self._numbers[name] + 1}"

    def group(self, name: str) -> int:
        """The group id of a program."""
        return FIRST_GROUP + self._numbers[name]

    def cut(self, client: str, server: str) -> None:
        """Drop everything on connections that `client` opens, or has opened, to `server`."""
        self._run(f"add element inet faults cut {{ {self._link(client, server)} }}")

    def heal(self, client: str, server: str) -> None:
        """Let it through again."""
        self._run(f"delete element inet faults cut {{ {self._link(client, server)} }}")

    def _link(self, client: str, server: str) -> str:
        return f"{self.group(client)} . {self.address(server)}"

    def _run(self, commands: str) -> None:
        subprocess.run([self._nft, "-f", "-"], input=commands, text=True, check=True)


class Disk:
    """A small disk in memory, mounted in this program's own namespace."""

    def __init__(self, folder: Path, size: str = "64m") -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "confide-test", folder],
            check=True,
        )

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()
