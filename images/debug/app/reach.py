"""Debug images only: lists what a program in a unit's place can reach inside this machine.

The units of role, engines and their supervisor start it after their own program, so it has their
user and their restrictions. It stays in the background, so that a unit ends as in a release image,
and waits for the file `GO`, which root makes at the console. Then it tries everything and prints
what worked, one line each: "reach NAME: WHAT". It changes nothing.

With the argument "units", root at the console gets what the kernel enforces of each unit's
restrictions. A line names no process id, size or random port, so two boots of one image print the
same.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GO = Path("/dev/reach")  # where every unit sees it
HOST = "10.0.2.2"  # what QEMU's network calls the host
FIRST_RANDOM_PORT = 32768
LISTENING = "0A"  # a state in /proc/net/tcp
PTRACE_SEIZE = 0x4206
# Read-only layers that anybody may read, and two file systems with rules of their own.
SKIPPED = ("/opt", "/proc", "/sys", "/usr")
FAMILIES = {
    "unix": 1,
    "inet": 2,
    "inet6": 10,
    "netlink": 16,
    "packet": 17,
    "alg": 38,
    "vsock": 40,
    "xdp": 44,
}
TYPES = {"stream": 1, "datagram": 2, "raw": 3, "seqpacket": 5}
# Number, and arguments with which it fails otherwise than by EPERM or ENOSYS if it is allowed.
CALLS = {
    "add_key": (248, 0, 0, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "clone3": (435, 0, 0),
    "fsopen": (430, 0, 0),
    "inotify_init1": (294, 0),
    "io_uring_setup": (425, 0, 0),
    "keyctl": (250, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "pidfd_getfd": (438, -1, 0, 0),
    "pidfd_open": (434, -1, 0),
    "process_vm_readv": (310, -1, 0, 0, 0, 0, 0),
    "ptrace": (101, PTRACE_SEIZE, -1, 0, 0),
    "setns": (308, -1, 0),
    "unshare": (272, 0x20000),
    "userfaultfd": (323, 0),
}
LIBC = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int) -> int:
    """A system call: 0, or the number of its error."""
    ctypes.set_errno(0)
    words = [ctypes.c_long(argument) for argument in arguments]
    return ctypes.get_errno() if LIBC.syscall(ctypes.c_long(number), *words) == -1 else 0


def opens(path: str, flags: int) -> bool:
    """Whether a file can be opened, without waiting and without following a link."""
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY))
    except OSError:
        return False
    return True


def entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder that can be listed."""
    try:
        inside = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in inside:
        if entry.path not in SKIPPED:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from entries(entry.path)


def state(process: Path) -> Iterator[str]:
    """The kernel's view of a process."""
    wanted = ("Uid", "Gid", "Groups", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    for line in (process / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in wanted:
            yield f"is {name} {' '.join(value.split())}".rstrip()


def units() -> Iterator[str]:
    """The kernel's view of all processes of our units; only root sees them."""
    first = Path("/proc/1/ns")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            unit = re.search(r"/(confide-\S+)", (process / "cgroup").read_text())
            if unit is None or unit[1] == "confide-debug.service":
                continue
            yield from (f"{unit[1]} {line}" for line in state(process))
            for kind in ("ipc", "mnt", "net", "uts"):
                if (process / "ns" / kind).readlink() != (first / kind).readlink():
                    yield f"{unit[1]} has its own namespace {kind}"


def files() -> Iterator[str]:
    """Files, devices, folders and sockets outside the read-only layers."""
    for entry in entries("/"):
        kind = entry.stat(follow_symlinks=False).st_mode
        path = re.sub(r"[0-9]{3,}|[0-9a-f]{16,}", "#", entry.path)
        if stat.S_ISDIR(kind):
            if os.access(entry.path, os.R_OK | os.X_OK):
                yield f"lists {path}"
            if os.access(entry.path, os.W_OK | os.X_OK):
                yield f"makes files in {path}"
        elif stat.S_ISSOCK(kind):
            yield from unix_socket(entry.path, path)
        elif not stat.S_ISLNK(kind):
            yield from (f"reads {path}" for _ in "x" if opens(entry.path, os.O_RDONLY))
            yield from (f"writes {path}" for _ in "x" if opens(entry.path, os.O_WRONLY))


def unix_socket(address: str, name: str) -> Iterator[str]:
    """A Unix socket that takes a connection."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as peer:
            peer.settimeout(1)
            peer.connect(address)
            yield f"connects to {name}"
            return


def abstract_sockets() -> Iterator[str]:
    """Unix sockets without a file, which the kernel lists."""
    with suppress(OSError):
        for line in Path("/proc/self/net/unix").read_text().splitlines():
            words = line.split()
            if len(words) == 8 and words[7].startswith("@"):
                name = re.sub(r"[0-9a-f-]{5,}", "#", words[7])
                yield from unix_socket("\0" + words[7][1:], name)


def kernel_files(root: str) -> Iterator[str]:
    """Below /proc and /sys: each file that can be written, and the folders with some to read."""
    readable = set()
    for entry in entries(root):
        if re.match(r"/proc/([0-9]+|self|thread-self)(/|$)", entry.path):
            continue
        if not entry.is_file(follow_symlinks=False):
            continue
        path = re.sub(r"(?<=[/:a-z-])[0-9a-f:.]*[0-9][0-9a-f:.]*(?=/|$)", "#", entry.path)
        if opens(entry.path, os.O_WRONLY):
            yield f"writes {path}"
        folder = "/".join(path.split("/")[:3])
        if folder not in readable and opens(entry.path, os.O_RDONLY):
            readable.add(folder)
            yield f"reads below {folder}"


def addresses() -> Iterator[str]:
    """Peers on the loopback interface and outside."""
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        address, _, state = line.split()[1:4]
        if state != LISTENING:
            continue
        port = int(address.partition(":")[2], 16)
        with suppress(OSError), socket.socket() as peer:
            peer.settimeout(5)
            if peer.connect_ex(("127.0.0.1", port)) == 0:
                named = str(port) if port < FIRST_RANDOM_PORT else "a random port"
                yield f"connects to 127.0.0.1 {named}"
    with suppress(OSError), socket.socket() as peer:
        peer.settimeout(5)
        if peer.connect_ex((HOST, 9)) in (0, errno.ECONNREFUSED):
            yield "connects to the outside"
    with suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.sendto(b"reach", (HOST, 9))
        yield "sends datagrams to the outside"


def families() -> Iterator[str]:
    """Kinds of sockets that can be made."""
    for family, number in FAMILIES.items():
        for name, kind in TYPES.items():
            with suppress(OSError), socket.socket(number, kind):
                yield f"makes sockets {family} {name}"


def processes() -> Iterator[str]:
    """Other processes: which are shown, take signals, or can be read."""
    for number in range(1, 32769):
        if number == os.getpid():
            continue
        try:
            os.kill(number, 0)
            takes_signals = True
        except ProcessLookupError:
            continue
        except PermissionError:
            takes_signals = False
        try:
            name = Path(f"/proc/{number}/comm").read_text().strip()
            yield f"sees the process {name}"
        except OSError:
            name = "(hidden)"
        if takes_signals:
            yield f"signals the process {name}"
        if opens(f"/proc/{number}/mem", os.O_RDONLY):
            yield f"opens the memory of the process {name}"
        if call(CALLS["ptrace"][0], PTRACE_SEIZE, number, 0, 0) == 0:
            yield f"traces the process {name}"
        if opens(f"/proc/{number}/environ", os.O_RDONLY):
            yield f"opens the environment of the process {name}"


def calls() -> Iterator[str]:
    """System calls that neither filter nor kernel refuses."""
    for name, (number, *arguments) in CALLS.items():
        if call(number, *arguments) not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            yield f"calls {name}"


def everything() -> Iterator[str]:
    """All that works, in no order, some of it twice."""
    yield from state(Path("/proc/self"))
    yield from files()
    yield from abstract_sockets()
    yield from kernel_files("/proc")
    yield from kernel_files("/sys")
    yield from addresses()
    yield from families()
    yield from processes()
    yield from calls()


def main() -> None:
    """Print the list that the argument names. A unit's own waits in the background for `GO`."""
    name = sys.argv[1]
    if name != "units":
        if os.fork():
            return
        while not GO.exists():
            time.sleep(1)
    prefix = f"reach {name}:"
    found = units() if name == "units" else everything()
    for line in (*sorted(set(found)), "end"):
        os.write(2, f"{prefix} {line}\n".encode())


if __name__ == "__main__":
    main()
