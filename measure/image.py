"""A disk image as it will boot: partition table, the UKI in the EFI system partition, layers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from measure import fat, gpt, uki
from measure.errors import FormatError, UnsupportedError

BOOT_PATH = "EFI/BOOT/BOOTX64.EFI"
MAX_LAYERS = 64
_LAYER_ITEM = "confide.layer="
_LAYER = re.compile(r"([a-z0-9][a-z0-9-]{0,35}),([0-9a-f]{64}),([1-9][0-9]{0,15})")


@dataclass(frozen=True)
class Layer:
    """One dm-verity protected partition, as the command line names it.

    Attributes:
        name: the partition's name.
        root_hash: 64 hex digits.
        data_blocks: size of the data in blocks of 4096 bytes.
    """

    name: str
    root_hash: str
    data_blocks: int


@dataclass(frozen=True)
class DiskImage:
    """A parsed disk; `uki_bytes` is the whole UKI file."""

    table: gpt.Table
    uki: uki.Uki
    uki_bytes: bytes
    layers: tuple[Layer, ...]


def parse(disk: bytes | memoryview, file: str) -> DiskImage:
    """Takes a whole disk image apart.

    Raises:
        FormatError: damaged, or something needed is missing.
        UnsupportedError: a boot that cannot be predicted.
    """
    table = gpt.parse(disk, file)
    esps = [p for p in table.partitions if p.type == gpt.ESP_TYPE]
    if len(esps) != 1:
        raise UnsupportedError(
            "the disk does not have exactly one EFI system partition",
            file=file,
            expected="1",
            seen=str(len(esps)),
        )
    volume = fat.Volume(disk, f"{file} (EFI system partition)", esps[0].start, esps[0].end)
    files = volume.files()
    # The stub picks up add-ons, credentials and extensions from beside the UKI and from /loader.
    if [f.path.upper() for f in files] != [BOOT_PATH]:
        raise UnsupportedError(
            "the EFI system partition must hold one file",
            file=file,
            expected=BOOT_PATH,
            seen=", ".join(f.path for f in files[:8]) or "none",
        )
    uki_bytes = volume.read(files[0])
    kernel_image = uki.parse(uki_bytes, f"{file} ({BOOT_PATH})")
    return DiskImage(table, kernel_image, uki_bytes, parse_layers(kernel_image.command_line, file))


def parse_layers(command_line: str, file: str) -> tuple[Layer, ...]:
    """The `confide.layer=NAME,ROOT HASH,DATA BLOCKS` items of a command line, in order.

    Raises:
        FormatError: a malformed item, a name twice, or more than 64 layers.
    """
    layers: list[Layer] = []
    for item in command_line.split():
        if not item.startswith(_LAYER_ITEM):
            continue
        if len(layers) == MAX_LAYERS:
            raise FormatError(
                "too many layers on the command line", file=file, expected=f"at most {MAX_LAYERS}"
            )
        match = _LAYER.fullmatch(item[len(_LAYER_ITEM) :])
        if match is None or any(match[1] == layer.name for layer in layers):
            raise FormatError(
                "a layer on the command line is malformed or repeated",
                file=file,
                expected=f"{_LAYER_ITEM}NAME,ROOT HASH (64 hex digits),DATA BLOCKS",
                seen=item[:160],
            )
        layers.append(Layer(match[1], match[2], int(match[3])))
    return tuple(layers)
