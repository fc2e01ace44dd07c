"""QEMU's arguments: what a boot register depends on is fixed, and nothing is open to others."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.host.runner.qemu import (
    TOOLS_VARIABLE,
    DirectBoot,
    MachineSpec,
    Tools,
    arguments,
    free_port,
)
from tests.support.fake_tools import MakeTools


def spec(**changes: object) -> MachineSpec:
    values: dict[str, object] = {
        "disk": Path("/images/a,b/disk.raw"),
        "variables": Path("/run/vars"),
        "console": Path("/run/console.log"),
        "memory_mib": 512,
        "cpus": 2,
        "kvm": False,
        "tpm": 5,
        "monitor": 6,
        "config_disk": Path("/run/config"),
        "model_disks": [Path("/m0"), Path("/m1")],
        "ports": {8000: 40000, 8443: 40001},
    }
    return MachineSpec(**(values | changes))  # type: ignore[arg-type]


def options(argv: list[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(argv) if option == name]


@pytest.fixture
def argv(make_tools: MakeTools) -> list[str]:
    return arguments(make_tools(), spec())


def test_no_disk_can_be_written_to(argv: list[str]) -> None:
    drives = [drive for drive in options(argv, "-drive") if "unit=1" not in drive]
    assert len(drives) == 5  # firmware, boot, configuration, two models
    assert all(",readonly=on," in drive for drive in drives)


def test_comma_in_a_path_is_no_option(argv: list[str]) -> None:
    [boot] = [drive for drive in options(argv, "-drive") if "id=boot" in drive]
    assert boot.endswith("file=/images/a,,b/disk.raw")


def test_only_the_boot_disk_can_be_booted(argv: list[str]) -> None:
    devices = options(argv, "-device")
    assert [device for device in devices if "bootindex" in device] == [
        "virtio-blk-pci,drive=boot,bootindex=0"
    ]
    assert "virtio-net-pci,netdev=net,romfile=" in devices


def test_direct_boot_starts_the_kernel_and_no_disk(make_tools: MakeTools, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    (boot / "cmdline").write_text("quiet root=a,b")
    argv = arguments(make_tools(), spec(direct=DirectBoot.of(tmp_path)))
    assert options(argv, "-kernel") == [str(boot / "linux")]
    assert options(argv, "-initrd") == [str(boot / "initrd")]
    assert options(argv, "-append") == ["quiet root=a,b"]
    assert "virtio-blk-pci,drive=boot" in options(argv, "-device")
    assert not any("bootindex" in word for word in argv)


def test_direct_boot_needs_the_parts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cmdline"):
        DirectBoot.of(tmp_path)


def test_disk_boot_has_no_kernel(argv: list[str]) -> None:
    assert not {"-kernel", "-initrd", "-append"} & set(argv)


def test_serials_name_the_disks(argv: list[str]) -> None:
    devices = options(argv, "-device")
    assert "virtio-blk-pci,drive=config,serial=confide-config" in devices
    assert "virtio-blk-pci,drive=model0,serial=confide-model-0" in devices
    assert "virtio-blk-pci,drive=model1,serial=confide-model-1" in devices


def test_ports_are_open_to_this_computer_only(argv: list[str]) -> None:
    [network] = options(argv, "-netdev")
    assert network == (
        "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:40000-:8000,hostfwd=tcp:127.0.0.1:40001-:8443"
    )


def test_nothing_that_was_not_asked_for(argv: list[str]) -> None:
    assert "-nodefaults" in argv
    assert "-no-user-config" in argv
    assert not options(argv, "-vga")
    assert options(argv, "-machine") == ["q35,smm=off"]


def test_shape_does_not_depend_on_accelerator_memory_or_processors(make_tools: MakeTools) -> None:
    tools = make_tools()
    one = arguments(tools, spec())
    other = arguments(tools, spec(kvm=True, memory_mib=4096, cpus=8))
    changed = [name for name, a, b in zip(["", *one], one, other, strict=False) if a != b]
    assert changed == ["-accel", "-cpu", "-m", "-smp"]


def test_an_emulated_processor_claims_no_fast_strings(make_tools: MakeTools) -> None:
    [emulated] = options(arguments(make_tools(), spec()), "-cpu")
    model, *less = emulated.split(",")
    assert (model, less) == ("max", ["-erms", "-fsrm", "-fsrs", "-fsrc", "-fzrm"])
    assert options(arguments(make_tools(), spec(kvm=True)), "-cpu") == ["host"]


def test_extra_arguments_come_last(make_tools: MakeTools) -> None:
    extra = ["-smbios", "type=11"]
    assert arguments(make_tools(), spec(extra=extra))[-2:] == extra


def test_tools_are_found_by_variable(
    make_tools: MakeTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = make_tools()
    monkeypatch.setenv(TOOLS_VARIABLE, str(tools.folder))
    assert Tools.find() == tools


def test_tools_that_nothing_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOOLS_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=TOOLS_VARIABLE):
        Tools.find()


def test_tools_with_a_missing_file_name_it(make_tools: MakeTools) -> None:
    tools = make_tools()
    tools.firmware.unlink()
    with pytest.raises(ConfigError, match="OVMF_CODE_4M"):
        Tools.find(tools.folder)


def test_free_ports_differ() -> None:
    assert free_port() != free_port()
