"""Build a folder with the firmware of each platform, as machines start with it.

OVMF_CODE_4M.fd (vTPM) is the package's own file. OVMF.amdsev.fd (SEV-SNP) is the package's, with
the edits of edit_firmware.py. OVMF.tdx.fd is the package's firmware for TDX, with the configuration
volume of OVMF.amdsev.fd: Debian enrols Secure Boot keys there, and the same release's other image
carries the volume as the build left it. The volume is no part of MRTD; RTMR0 shows it. Reads the
environment: vtpm (file), cvm (unpacked root), out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from edit_firmware import FirmwareError, edited

from measure import ovmf
from measure.errors import MeasureError

CONFIGURATION_VOLUME = 1  # section type CFV (TDVF design guide, table 11-3)
EXTEND = 1  # section attribute: the section's bytes are part of MRTD
# SHA-384 of the volume without any variable in it: what the firmware measures, event by event.
VIRGIN_VOLUME = (
    "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe6995"
    "15dfa2c6583d95e6412af21c097d473155875ffd561d6790"
)
SIGNATURE = slice(40, 44)  # of a firmware volume (PI specification, volume 3, 3.2.1)
LENGTH = slice(32, 40)


def volume(image: bytes, name: str) -> bytes:
    """The firmware volume that an image begins with."""
    size = int.from_bytes(image[LENGTH], "little")
    if image[SIGNATURE] != b"_FVH" or size > len(image):
        raise FirmwareError(f"{name} does not begin with a firmware volume")
    return image[:size]


def with_volume(image: bytes, new: bytes, name: str) -> bytes:
    """The TDX firmware `image` with its configuration volume replaced by `new`."""
    sections = ovmf.parse(image, name).tdx_sections or ()
    found = [section for section in sections if section.type == CONFIGURATION_VOLUME]
    bounds = [(section.data_offset, section.raw_size) for section in found]
    if bounds != [(0, len(new))] or len(volume(image, name)) != len(new):
        raise FirmwareError(
            f"{name}: expected one configuration volume in its first {len(new):#x} bytes; "
            f"its TDX metadata says (offset, size) {bounds}"
        )
    if found[0].attributes & EXTEND:
        raise FirmwareError(f"{name}: its configuration volume is part of MRTD; leave it alone")
    return new + image[len(new) :]


def main() -> None:
    """Build $out."""
    out, vtpm, cvm = (Path(os.environ[name]) for name in ("out", "vtpm", "cvm"))
    folder = cvm / "usr/share/ovmf"
    out.mkdir()
    shutil.copyfile(vtpm, out / "OVMF_CODE_4M.fd")
    amd = (folder / "OVMF.amdsev.fd").read_bytes()
    virgin = volume(amd, "OVMF.amdsev.fd")
    digest = hashlib.sha384(virgin).hexdigest()
    if digest != VIRGIN_VOLUME:
        raise FirmwareError(
            f"OVMF.amdsev.fd: expected a volume without variables, SHA-384 {VIRGIN_VOLUME}; "
            f"seen {digest}"
        )
    name = "OVMF.inteltdx.ms.fd"
    (out / "OVMF.amdsev.fd").write_bytes(edited(amd, "OVMF.amdsev.fd"))
    (out / "OVMF.tdx.fd").write_bytes(with_volume((folder / name).read_bytes(), virgin, name))


if __name__ == "__main__":
    try:
        main()
    except (FirmwareError, MeasureError) as error:
        sys.exit(f"error: {error}")
