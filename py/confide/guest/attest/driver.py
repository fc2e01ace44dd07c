"""Checks that the GPU driver is complete: kernel module, firmware, and a GPU.

NVML does not say which of them is missing: it counts no GPU in each case.
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

    Raises UnavailableError "no-gpu" without an NVIDIA GPU, "gpu-driver" without a module for it,
    "gpu-firmware-missing" without firmware of the module's version.
    """
    version = _read(root / _MODULE_VERSION)
    if not version:
        if not _has_gpu(root):
            raise no_gpu("none on the PCI bus")
        raise UnavailableError(
            "gpu-driver",
            "there is no driver for the GPU",
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
            "the firmware for the loaded GPU driver is missing",
            expected=f"nvidia/{version}/{GSP_FIRMWARE} in {' or '.join(folders)}",
            seen=f"versions {' '.join(sorted(found))}" if found else "none",
            next="build the image with module and firmware from one release of the driver",
        )
    return version


def check_held(root: Path) -> None:
    """Raises UnavailableError ("gpu-not-held") unless NVIDIA's persistence daemon runs.

    A GPU that no program has open is set up again by the next program. It may then differ from what
    was attested. The daemon opens every GPU when it starts, and no GPU can come later. However the
    daemon ends, systemd removes its folder, with the file that is checked here.
    """
    if not (root / _DAEMON).is_file():
        raise UnavailableError(
            "gpu-not-held",
            "no process keeps the GPUs open after their attestation",
            expected="the persistence daemon of NVIDIA's driver",
            seen=f"no /{_DAEMON}",
            next="read the daemon's message on the console",
        )


def no_gpu(seen: str) -> UnavailableError:
    """The error for a machine without a GPU."""
    return UnavailableError(
        "no-gpu",
        "there is no usable NVIDIA GPU",
        expected="at least one GPU and its driver",
        seen=seen,
        next="pass a GPU through to this machine, or use a role without GPUs",
    )


def _has_gpu(root: Path) -> bool:
    return any(
        _read(device / "vendor") == _PCI_VENDOR_NVIDIA
        and _read(device / "class").startswith(_PCI_CLASS_DISPLAY)
        for device in (root / _PCI_DEVICES).glob("*")
    )


def _read(path: Path) -> str:
    """The text of a file without its end of line, "" if the file cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
