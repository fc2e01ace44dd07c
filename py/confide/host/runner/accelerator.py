"""Whether KVM works here, found by trying it: /dev/kvm may exist and guests hang or die.

The trial boots the firmware alone until its boot manager speaks on the serial console. The result
is kept until this computer's next boot, in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from confide.host.runner.processes import ProcessGroup
from confide.host.runner.qemu import Tools, base_arguments

TRIAL_SECONDS = 15.0  # a working KVM needs two
POLL_SECONDS = 0.1
MEMORY_MIB = 256
DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The firmware's boot manager speaks: it ran all of its phases
FIRMWARE_IS_UP = b"BdsDxe"
KVM_FAILED = b"internal error"


def kvm_works(tools: Tools, cache: Path | None = None) -> bool:
    """True if the firmware boots under KVM on this computer; takes a moment the first time."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return False
    path = (cache or _cache_folder()) / f"kvm-{_key(tools)}.json"
    with contextlib.suppress(OSError, ValueError):
        works = json.loads(path.read_text())
        if isinstance(works, bool):
            return works
    works = _trial(tools)
    with contextlib.suppress(OSError):  # without a cache each run tries anew
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(works))
    return works


def _trial(tools: Tools) -> bool:
    with tempfile.TemporaryDirectory(prefix="confide-kvm-") as folder:
        variables, console, log = (Path(folder, name) for name in ("vars", "console", "log"))
        shutil.copyfile(tools.variables, variables)
        group = ProcessGroup()
        try:
            argv = base_arguments(tools, variables, console, kvm=True)
            process = group.start([*argv, "-m", str(MEMORY_MIB)], log=log)
            return _wait(process, console, log)
        except OSError:
            return False
        finally:
            group.kill()


def _wait(process: subprocess.Popen[bytes], console: Path, log: Path) -> bool:
    deadline = time.monotonic() + TRIAL_SECONDS
    while time.monotonic() < deadline:
        if console.exists() and FIRMWARE_IS_UP in console.read_bytes():
            return True
        if process.poll() is not None or KVM_FAILED in log.read_bytes():
            return False
        time.sleep(POLL_SECONDS)
    return False


def _key(tools: Tools) -> str:
    """Another boot of this computer or another QEMU may give another result."""
    boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
    return hashlib.sha256(f"{boot}\0{tools.folder.resolve()}".encode()).hexdigest()[:32]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confide"
