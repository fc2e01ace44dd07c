"""Whether the GPU driver is there in one piece: kernel module, firmware, and a GPU to drive.

NVML cannot tell these apart: whatever is missing, it counts no GPU.
"""

from __future__ import annotations

from pathlib import Path

from confide.errors import UnavailableError

# Loaded by the module when a GPU is opened, for Hopper and Blackwell alike (nv-firmware.h of
# NVIDIA's open kernel modules).
GSP_FIRMWARE = "gsp_ga10x.bin"

_MODULE_VERSION = "sys/module/nvidia/version"
# Where the kernel looks (its documentation: driver-api/firmware/fw_search_path).
_FIRMWARE_PATH = "sys/module/firmware_class/parameters/path"
_FIRMWARE = "/lib/firmware"
_DAEMON = "run/nvidia-persistenced/nvidia-persistenced.pid"
_PCI_DEVICES = "sys/bus/pci/devices"
_PCI_VENDOR_NVIDIA = "0x10de"
_PCI_CLASS_DISPLAY = "0x03"


def check_driver(root: Path) -> str:
    """The version of the loaded kernel module, under the file system `root`.

    Raises UnavailableError: "no-gpu" if there is no NVIDIA GPU, "gpu-driver" if there is one and no
    module drives it, "gpu-firmware-missing" if there is no firmware of the module's version.
    """
    version = _read(root / _MODULE_VERSION)
    if not version:
        if not _has_gpu(root):
            raise no_gpu("none on the PCI bus")
        raise UnavailableError(
            "gpu-driver",
            "there is a GPU, but no driver for it",
            expected="the kernel module nvidia",
            seen="it is not loaded",
            next="use an image whose driver knows this GPU",
        )
    folders = [folder for folder in (_read(root / _FIRMWARE_PATH), _FIRMWARE) if folder]
    versions = [root / folder.lstrip("/") / "nvidia" for folder in folders]
    if not any((folder / version / GSP_FIRMWARE).is_file() for folder in versions):
        found = [
            path.parent.name for folder in versions for path in folder.glob(f"*/{GSP_FIRMWARE}")
        ]
        raise UnavailableError(
            "gpu-firmware-missing",
            "there is no firmware for the GPU driver that is loaded",
            expected=f"nvidia/{version}/{GSP_FIRMWARE} in {' or '.join(folders)}",
            seen=f"versions {' '.join(sorted(found))}" if found else "none",
            next="build the image with module and firmware from one release of the driver",
        )
    return version


def check_held(root: Path) -> None:
    """Raises UnavailableError ("gpu-not-held") unless NVIDIA's persistence daemon runs.

    A GPU that no program has open is set up anew by the next one: what was attested is then not
    known to be what is used. The daemon opens every GPU that is there when it starts, and none can
    come later. systemd removes its folder, with the file looked at here, however it ends.
    """
    if not (root / _DAEMON).is_file():
        raise UnavailableError(
            "gpu-not-held",
            "nothing keeps the GPUs open between their attestation and their work",
            expected="the persistence daemon of NVIDIA's driver",
            seen=f"no /{_DAEMON}",
            next="look for the daemon's own message on the console",
        )


def no_gpu(seen: str) -> UnavailableError:
    """There is no GPU."""
    return UnavailableError(
        "no-gpu",
        "there is no NVIDIA GPU that can be used",
        expected="at least one GPU and its driver",
        seen=seen,
        next="pass a GPU through to this machine, or use a role that needs none",
    )


def _has_gpu(root: Path) -> bool:
    return any(
        _read(device / "vendor") == _PCI_VENDOR_NVIDIA
        and _read(device / "class").startswith(_PCI_CLASS_DISPLAY)
        for device in (root / _PCI_DEVICES).glob("*")
    )


def _read(path: Path) -> str:
    """A file's text without the line's end, "" if there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
