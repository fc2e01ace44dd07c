"""Whether KVM works here. Only a trial shows it: with /dev/kvm present, guests may hang or die.

The trial boots the firmware alone, until its boot manager writes to the serial console. The user's
cache folder keeps the result until this computer's next boot.
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
# The firmware's boot manager writes this: all earlier phases ran
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
    with contextlib.suppress(OSError):  # without a cache, each run tries again
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
    """A name for this boot of this computer and this QEMU: others may give another result."""
    boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
    return hashlib.sha256(f"{boot}\0{tools.folder.resolve()}".encode()).hexdigest()[:32]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confide"
