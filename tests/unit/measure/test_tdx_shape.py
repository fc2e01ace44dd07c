"""TDX shapes: which exist, and how they are read from JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from measure.errors import FieldError, FormatError, MeasureError
from measure.tdx import shapefile
from measure.tdx.shape import Boot, TdxShape
from tests.support.measurement.tdx_shapes import BOOT_VARIABLES, DIRECT, DISK, OLD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": 0}, "invalid memory size"),
        ({"memory": (1 << 30) + 4096}, "invalid memory size"),
        ({"memory": 1 << 60}, "invalid memory size"),
        ({"attributes": 1 << 64}, "attributes are not 64 bits"),
        ({"xfam": -1}, "xfam are not 64 bits"),
        ({"edk2": (2023, 11)}, "not known"),
        ({"edk2": (2025, 5)}, "not known"),
        ({"edk2": (2026, 2)}, "not known"),
        ({"edk2": (2026, 11)}, "not known"),
        ({"edk2": (2026, 5)}, "boot variables"),
        ({"boot": Boot.DISK}, "needs boot variables"),
        ({"boot_variables": ()}, "invalid boot variables"),
        ({"boot_variables": BOOT_VARIABLES[1:]}, "invalid boot variables"),
        ({"boot_variables": BOOT_VARIABLES[:2]}, "invalid boot variables"),
        ({"boot_variables": BOOT_VARIABLES[::-1]}, "invalid boot variables"),
        ({"boot_variables": (("BootOrder", b"\0"),)}, "invalid boot variables"),
    ],
)
def test_a_shape_that_no_machine_has(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        dataclasses.replace(DIRECT, **change)


@pytest.mark.parametrize("shape", [DIRECT, DISK, OLD])
def test_shapes_survive_json(shape: TdxShape) -> None:
    text = json.dumps(shapefile.dump(shape))
    assert shapefile.load(json.loads(text), "f") == shape


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Up"),
        ("name", 3),
        ("memory_mib", "2048"),
        ("memory_mib", True),
        ("memory_mib", -1),
        ("edk2", "2026.8"),
        ("edk2", "2026.13"),
        ("edk2", 2026.08),
        ("page_order", "none"),
        ("page_order", ["single-pass"]),
        ("attributes", "10"),
        ("attributes", "0x1" + "0" * 16),
        ("xfam", 3),
        ("boot", "network"),
        ("boot_variables", [["BootOrder"]]),
        ("boot_variables", [["BootOrder", "0"]]),
        ("boot_variables", [[1, "00"]]),
        ("boot_variables", "BootOrder"),
        ("boot_variables", None),
        ("more", 1),
    ],
)
def test_bad_field_of_a_shape(field: str, value: object) -> None:
    with pytest.raises(MeasureError):
        shapefile.load({**shapefile.dump(DIRECT), field: value}, "f")


def test_missing_fields_of_a_shape() -> None:
    for field in shapefile.dump(DIRECT):
        fields = shapefile.dump(DIRECT)
        del fields[field]
        with pytest.raises(FieldError, match=f"f: the TDX shape has no field '{field}'"):
            shapefile.load(fields, "f")
    with pytest.raises(FormatError):
        shapefile.load([], "f")
