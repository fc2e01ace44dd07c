"""The chain of trust: every event of a prediction is in it, and the picture is one file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from measure import report
from measure.errors import InputError
from measure.pcr import Component
from measure.picture import chain, svg, table
from tests.support.measurement import platforms

SVG = "{http://www.w3.org/2000/svg}"


def build(*shapes: str, **changes: Any) -> chain.Chain:
    return chain.build(platforms.measurements() | changes, "m", shapes)


def test_one_machine_of_each_platform() -> None:
    shown = build()
    assert [(p.platform, p.shape) for p in shown.panels] == [
        ("vtpm", "ovmf-disk"), ("sev-snp", "qemu-epyc-milan-1"), ("tdx", "qemu-2"),
    ]  # fmt: skip
    assert [p.shape for p in build("disk-4", "ec2-2").panels] == ["ec2-2", "disk-4"]
    with pytest.raises(InputError, match=r"no such machine; expected ovmf-disk, .*seen bochs"):
        build("bochs")


def test_where_the_parts_of_the_image_land() -> None:
    shown = build()
    landing = {
        source.key: [r.name for panel in shown.panels for r in shown.landing(source.key, panel)]
        for source in shown.sources
    }
    assert landing == {
        "partition-table": ["PCR 5"],
        "uki": ["PCR 4"],
        "kernel": ["PCR 4", "PCR 11", "launch digest", "RTMR 1"],
        "initrd": ["PCR 9", "PCR 11", "launch digest", "RTMR 2"],
        "command-line": ["PCR 9", "PCR 11", "launch digest"],
        "os-release": ["PCR 11"],
        "other-sections": ["PCR 11"],
        "layer base": [],
        "firmware vtpm": ["PCR 0"],
        "firmware sev-snp": ["launch digest"],
        "firmware tdx": ["MRTD"],
        "vcpus": ["launch digest"],
        "tables": ["RTMR 0"],
        "variables": ["PCR 7"],
    }


def test_every_register_and_every_component_is_shown() -> None:
    found = report.read(platforms.measurements(), "m")
    for pcrs in found.vtpm:
        (panel,) = build(pcrs.shape.name).panels
        assert [r.name for r in panel.registers] == [f"PCR {n}" for n in pcrs.shape.predicted]
        assert [r.value for r in panel.registers] == [v.hex() for v in pcrs.pcrs().values()]
        for number, register in zip(pcrs.shape.predicted, panel.registers, strict=True):
            components = {e.component for e in pcrs.of(number)} - {Component.BOOT_PATH}
            assert bool(register.sources) == bool(components)
    for machine in found.tdx:
        (panel,) = build(machine.shape.name).panels
        expected = [machine.mrtd[machine.shape.page_order], *machine.rtmrs().values()]
        assert [r.value for r in panel.registers] == [value.hex() for value in expected]


def test_a_component_without_a_place_of_its_own_is_shown_all_the_same() -> None:
    measured = platforms.measurements()
    event = measured["platforms"]["vtpm"][0]["events"]["7"][0]
    event["component"] = Component.ADDED.value
    shown = chain.build(measured, "m")
    (source,) = [s for s in shown.sources if s.key == Component.ADDED.value]
    assert (source.group, source.title) == (chain.MACHINE, "Something added at boot")
    assert "Something added at boot" in svg.render(shown)


def test_the_table() -> None:
    text = table.render(build())
    lines = text.splitlines()
    assert lines[1].split() == [
        "image",
        "test",
        "bytes",
        "ovmf-disk",
        "qemu-epyc-milan-1",
        "qemu-2",
    ]
    (kernel,) = [line for line in lines if line.startswith("    Kernel")]
    assert re.sub(" {2,}", "|", kernel.strip()) == "Kernel|528|PCR 4, 11|launch digest|RTMR 1"
    (layer,) = [line for line in lines if line.startswith("  Layer base")]
    assert layer.endswith("in the command line")
    for panel in build().panels:
        for register in panel.registers:
            assert f"{register.value}  {register.covers}" in text
    assert all(line == line.rstrip() for line in lines)


def test_the_picture_is_self_contained_and_accessible() -> None:
    shown = build()
    picture = svg.render(shown)
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert {e.tag.removeprefix(SVG) for e in root.iter()} == {
        "svg", "title", "desc", "style", "rect", "text", "g", "path",
    }  # fmt: skip
    assert not re.search(r"(?i)href|url\(|@import|@font-face|<script", picture)
    assert not [name for e in root.iter() for name in e.attrib if name.startswith("on")]
    assert picture.count("http") == 1  # the name of the format
    assert root.get("role") == "img"
    names = (root.get("aria-labelledby") or "").split()
    found = {str(e.get("id")): e.text or "" for e in root if e.get("id")}
    assert sorted(found) == sorted(names)
    assert found["title"] == "Chain of trust of image test"
    assert "vtpm ovmf-disk, PCR 4: Unified kernel image, Kernel." in found["description"]
    assert "prefers-color-scheme:dark" in picture


def test_one_named_curve_for_each_place_and_each_layer() -> None:
    shown = build()
    root = ElementTree.fromstring(svg.render(shown))
    titles = [title.text for title in root.iterfind(f"{SVG}g/{SVG}title")]
    expected = [
        f"{source.title} lands in {register.name} of {panel.platform}"
        for source in shown.sources
        for panel in shown.panels
        for register in shown.landing(source.key, panel)
    ]
    assert titles == [*expected, "The root hash of layer base is on the command line"]
    assert len(expected) == sum(len(r.sources) for p in shown.panels for r in p.registers)


def test_everything_lies_within_the_picture() -> None:
    root = ElementTree.fromstring(svg.render(build()))
    _, _, width, height = map(float, (root.get("viewBox") or "").split())
    for element in root.iter():
        if element.tag == f"{SVG}rect":
            right = float(element.get("x", "0")) + float(element.get("width", "0"))
            bottom = float(element.get("y", "0")) + float(element.get("height", "0"))
            assert 0 <= right <= width
            assert 0 <= bottom <= height
        if element.tag == f"{SVG}path":
            numbers = [float(n) for n in re.findall(r"-?[0-9.]+", element.get("d", ""))]
            assert max(numbers) <= max(width, height)


def test_rows_do_not_overlap() -> None:
    root = ElementTree.fromstring(svg.render(build()))
    rows = [
        tuple(float(e.get(name, "")) for name in ("x", "y", "width", "height"))
        for e in root.iter(f"{SVG}rect")
        if e.get("class") == "row"
    ]
    assert len(rows) > 20
    for n, (x, y, width, height) in enumerate(rows):
        for other_x, other_y, other_width, other_height in rows[n + 1 :]:
            apart = y + height <= other_y or other_y + other_height <= y
            assert apart or x + width <= other_x or other_x + other_width <= x


def test_names_cannot_add_elements() -> None:
    name = '"><script>alert(1)</script>&'
    picture = svg.render(build(image=name))
    root = ElementTree.fromstring(picture)
    assert "script" not in {e.tag.removeprefix(SVG) for e in root.iter()}
    assert f"What is measured: {name}" in {e.text for e in root.iter(f"{SVG}text")}
