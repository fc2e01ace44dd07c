"""Build a disk from layers: unified kernel image, EFI system partition, GPT.

The output folder gets disk.raw, uki.efi, boot/ with linux, initrd and cmdline (exactly the UKI's
sections, for firmware that is handed them directly), layers.json (what the command line says of the
layers), sbom.spdx.json and role.

What is in the partition table and not in a layer is fixed: identifiers that nobody chooses anew
cannot differ between builds. A layer's partition has the layer's name, by which the initrd finds
it, and the first 16 bytes of its root hash as its GUID.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import sbom
import tree

SECTOR = 512
ALIGN = 1 << 20
# Fixed constants, made once for this project; they identify nothing and need not be unique.
DISK_GUID = "C0F1DE00-0000-4000-8000-0000000000D1"
ESP_GUID = "C0F1DE00-0000-4000-8000-0000000000E5"
FAT_SERIAL = "C0F1DE00"
FAT16_SMALL = 16 << 20  # bytes
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
LINUX_DATA_TYPE = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


def run(*command: str | Path, **options: Any) -> None:
    """Run a program whose output nobody needs; its failure ends the build."""
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, **options)


def make_uki(args: argparse.Namespace, boot: Path) -> Path:
    """One EFI program out of stub, the parts in the folder `boot`, and os-release."""
    uki: Path = args.output / "uki.efi"
    release = (args.kernel / "kernel-release").read_text().strip()
    run(
        *("ukify", "build", f"--linux={boot / 'linux'}", f"--uname={release}"),
        *(f"--initrd={boot / 'initrd'}", f"--cmdline={(boot / 'cmdline').read_text()}"),
        *(f"--os-release=@{args.os_release}", f"--stub={STUB}", f"--output={uki}"),
    )
    return uki


def make_esp(uki: Path, image: Path) -> None:
    """A FAT file system just large enough for EFI/BOOT/BOOTX64.EFI."""
    # 4 % and 256 KiB over: FAT tables, folders, rounding to clusters.
    size = (uki.stat().st_size * 104 // 100 + (256 << 10)) // ALIGN * ALIGN + ALIGN
    with image.open("wb") as file:
        file.truncate(size)
    # FAT16 wants 4085 clusters at least: in a small volume, clusters of one sector.
    cluster = ("-s", "1") if size < FAT16_SMALL else ()
    run("mkfs.vfat", "--invariant", "-i", FAT_SERIAL, "-n", "ESP", "-F", "16", *cluster, image)
    # mtools takes file times from the source and writes them in the time zone of the process.
    os.utime(uki, (int(os.environ["SOURCE_DATE_EPOCH"]),) * 2)
    environment = {**os.environ, "TZ": "UTC"}
    run("mmd", "-i", image, "::/EFI", "::/EFI/BOOT", env=environment)
    run("mcopy", "-m", "-i", image, uki, "::/EFI/BOOT/BOOTX64.EFI", env=environment)


def append(disk: Path, offset: int, source: Path) -> None:
    """Copy source into the disk at offset inside the kernel; shares blocks where it can."""
    with disk.open("r+b") as out, source.open("rb") as data:
        left, position = source.stat().st_size, 0
        while left:
            here, there = position, offset + position
            done = os.copy_file_range(data.fileno(), out.fileno(), left, here, there)
            left, position = left - done, position + done


def make_disk(parts: list[tuple[str, str, str, Path]], disk: Path) -> None:
    """Write the GPT and each part (name, type GUID, GUID, file), aligned to 1 MiB."""
    script = ["label: gpt", f"label-id: {DISK_GUID}", f"first-lba: {ALIGN // SECTOR}"]
    offset, places = ALIGN, []
    for name, kind, guid, file in parts:
        sectors = -(-file.stat().st_size // SECTOR)
        script.append(
            f"start={offset // SECTOR}, size={sectors}, type={kind}, uuid={guid}, name={name}"
        )
        places.append((offset, file))
        offset += -(-sectors * SECTOR // ALIGN) * ALIGN
    with disk.open("wb") as out:
        out.truncate(offset + ALIGN)  # the last MiB holds the backup table
    command = ("sfdisk", "--quiet", "--no-tell-kernel", "--no-reread", disk)
    run(*command, input="\n".join(script).encode())
    for place, source in places:
        append(disk, place, source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--role", required=True)
    parser.add_argument("--kernel", type=Path, required=True, help="output of build_initrd.py")
    parser.add_argument("--layer", type=Path, nargs="+")
    parser.add_argument("--cmdline", type=Path, required=True, help="the fixed words, one a line")
    parser.add_argument("--os-release", type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True, help="JSON list of locked packages")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    layers = [json.loads((folder / "layer.json").read_text()) for folder in args.layer]
    words = [f"confide.layer={x['name']},{x['root_hash']},{x['data_blocks']}" for x in layers]
    words += [line.split("#", 1)[0].strip() for line in args.cmdline.read_text().splitlines()]
    cmdline = " ".join(w for w in words if w)
    boot = args.output / "boot"
    boot.mkdir()
    shutil.copyfile(args.kernel / "vmlinuz", boot / "linux")
    shutil.copyfile(args.kernel / "initrd.img", boot / "initrd")
    (boot / "cmdline").write_text(cmdline)
    (args.output / "layers.json").write_text(json.dumps(layers, indent=2, sort_keys=True) + "\n")
    (args.output / "role").write_text(args.role + "\n")

    uki = make_uki(args, boot)
    with tempfile.TemporaryDirectory(dir=args.output) as scratch:
        esp = Path(scratch, "esp")
        make_esp(uki, esp)
        parts = [("ESP", ESP_TYPE, ESP_GUID, esp)]
        for layer, folder in zip(layers, args.layer, strict=True):
            guid = str(uuid.UUID(layer["root_hash"][:32]))
            parts.append((layer["name"], LINUX_DATA_TYPE, guid, folder / "layer.img"))
        make_disk(parts, args.output / "disk.raw")
    sources = [args.kernel, *args.layer]
    sbom.write(args.output / "sbom.spdx.json", args.name, layers, sources, args.lock)


if __name__ == "__main__":
    try:
        main()
    except tree.BuildError as error:
        tree.fail(error)
