"""The GPU worker's committed measurements are what this code says of its machines.

Nothing here builds that image: what of it is measured stands, as digests, in the file itself.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from measure import machines
from measure.snp import firmware as snp_firmware
from measure.snp.kernel import KernelHashes
from measure.snp.prediction import predict as predict_snp
from measure.tdx import machine, rtmr, tdvf
from measure.tdx.shape import TdxShape

ROOT = Path(__file__).resolve().parents[3]
SHAPES = ROOT / "images" / "shapes-gpu.json"
MACHINES = machines.parse(SHAPES.read_bytes(), SHAPES.name)
RELEASE: dict[str, Any] = json.loads((ROOT / "release/worker-gpu.measurements.json").read_bytes())


def test_every_machine_is_measured() -> None:
    for platform, shapes in (("sev-snp", MACHINES.sev_snp), ("tdx", MACHINES.tdx)):
        measured = [one["shape"] for one in RELEASE["platforms"][platform]]
        assert measured == [shape.name for shape in shapes]
        assert len(measured) == {"sev-snp": 18, "tdx": 1}[platform]


def test_sev_snp_launch_digests(firmware: Path) -> None:
    image = (firmware / "OVMF.amdsev.fd").read_bytes()
    files = RELEASE["files"]
    assert hashlib.sha256(image).hexdigest() == files["firmware-sev-snp"]["sha256"]
    command_line = RELEASE["command_line"].encode() + b"\0"
    hashes = KernelHashes(
        kernel=bytes.fromhex(files["linux"]["sha256"]),
        initrd=bytes.fromhex(files["initrd"]["sha256"]),
        command_line=hashlib.sha256(command_line).digest(),
    )
    predicted = predict_snp(MACHINES.sev_snp, snp_firmware.from_image(image, "firmware"), hashes)
    recorded = {one["shape"]: one["launch_digest"] for one in RELEASE["platforms"]["sev-snp"]}
    assert {one.shape.name: one.digest.hex() for one in predicted} == recorded


@pytest.mark.parametrize("shape", MACHINES.tdx, ids=[shape.name for shape in MACHINES.tdx])
def test_tdx_registers_that_do_not_depend_on_the_image(
    shape: TdxShape, firmware: Path, acpi_tables: Path, images: Path
) -> None:
    image = (firmware / "OVMF.tdx.fd").read_bytes()
    assert hashlib.sha256(image).hexdigest() == RELEASE["files"]["firmware-tdx"]["sha256"]
    kernel = (images / "coordinator/boot/linux").read_bytes()  # the GPU worker has its own
    predicted = rtmr.predict(
        shape,
        tdvf.parse(image, "firmware"),
        machine.read(str(acpi_tables / shape.name)),
        rtmr.DirectBoot(kernel, initrd=b"another", command_line="another"),
    )
    (recorded,) = (one for one in RELEASE["platforms"]["tdx"] if one["shape"] == shape.name)
    mrtd = {order.value: value.hex() for order, value in predicted.mrtd.items()}
    assert mrtd == recorded["mrtd"]
    for register in (0, 3):
        assert predicted.rtmrs()[register].hex() == recorded["rtmrs"][str(register)]
    for register in (1, 2):
        assert predicted.rtmrs()[register].hex() != recorded["rtmrs"][str(register)]
