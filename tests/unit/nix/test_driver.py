"""NVIDIA's driver: its packages in Debian's layout and in NVIDIA's own, locked and put together.

The packages here are made up, with the paths of real ones; what is in them is not NVIDIA's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import build_driver
import build_layer
import download
import fetch
import lock
import pytest
import tree

IMAGES = Path(__file__).parents[3] / "images"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
DEBIAN = {
    "firmware-nvidia-gsp": ["usr/lib/firmware/nvidia/{v}/gsp_ga10x.bin"],
    "libcuda1": [f"{LIBRARIES}/nvidia/current/libcuda.so.{{v}}"],
    "libnvidia-cfg1": [f"{LIBRARIES}/nvidia/current/libnvidia-cfg.so.{{v}}"],
    "libnvidia-ml1": [f"{LIBRARIES}/nvidia/current/libnvidia-ml.so.{{v}}"],
    "libnvidia-pkcs11-openssl3": [f"{LIBRARIES}/libnvidia-pkcs11-openssl3.so.{{v}}"],
    "libnvidia-ptxjitcompiler1": [f"{LIBRARIES}/nvidia/current/libnvidia-ptxjitcompiler.so.{{v}}"],
    "nvidia-open-kernel-dkms": [
        "usr/src/nvidia-current-open-{v}/Kbuild",
        "usr/src/nvidia-current-open-{v}/nvidia/nv-kernel.o_binary",
    ],
    "nvidia-persistenced": ["usr/bin/nvidia-persistenced"],
}
NVIDIA = {
    "libcuda1": [f"{LIBRARIES}/libcuda.so.{{v}}", f"{LIBRARIES}/libcudadebugger.so.{{v}}"],
    "libnvidia-cfg1": [f"{LIBRARIES}/libnvidia-cfg.so.{{v}}"],
    "libnvidia-gpucomp": [f"{LIBRARIES}/libnvidia-gpucomp.so.{{v}}"],
    "libnvidia-ml1": [f"{LIBRARIES}/libnvidia-ml.so.{{v}}"],
    "libnvidia-pkcs11-openssl3": [f"{LIBRARIES}/libnvidia-pkcs11-openssl3.so.{{v}}"],
    "libnvidia-ptxjitcompiler1": [f"{LIBRARIES}/libnvidia-ptxjitcompiler.so.{{v}}"],
    "nvidia-firmware": ["lib/firmware/nvidia/{v}/gsp_ga10x.bin"],
    "nvidia-kernel-open-dkms": [
        "usr/src/nvidia-{v}/Kbuild",
        "usr/src/nvidia-{v}/nvidia/nv-kernel.o_binary",
    ],
    "nvidia-persistenced": ["usr/bin/nvidia-persistenced"],
}
LAYOUTS = pytest.mark.parametrize("layout", [DEBIAN, NVIDIA], ids=["Debian's", "NVIDIA's"])
# What the layer has of other packages, for persistenced.
OTHERS = (
    *("libtirpc.so.3", "libgssapi_krb5.so.2", "libkrb5.so.3", "libk5crypto.so.3"),
    *("libkrb5support.so.0", "libcom_err.so.2", "libkeyutils.so.1", "libresolv.so.2"),
)
needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="makes Debian packages")


def content(root: Path, files: list[str], version: str) -> None:
    """Write a package's files; a library gets the link by which programs ask for it."""
    for name in files:
        path = root / name.format(v=version)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'NV_VERSION_STRING=\\"{version}\\"\n' if path.name == "Kbuild" else name)
        if ".so." in name:
            (path.parent / f"{path.name.partition('.so.')[0]}.so.1").symlink_to(path.name)


def packages(folder: Path, layout: dict[str, list[str]], version: str) -> list[Path]:
    """Packages as files named like an archive's."""
    folder.mkdir()
    made = []
    for name, files in layout.items():
        root = folder / name
        content(root, files, version)
        (root / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}-1\nArchitecture: amd64\n"
        control += "Maintainer: a test <test@example.invalid>\nDescription: made up\n"
        (root / "DEBIAN/control").write_text(control)
        made.append(folder / f"{name}_{version}-1_amd64.deb")
        command: list[str | Path] = [
            "dpkg-deb",
            "--root-owner-group",
            "-Znone",
            "--build",
            root,
            made[-1],
        ]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(root)
    return made


def unpacked(folder: Path, layout: dict[str, list[str]], version: str) -> Path:
    """A driver's files as `tree.unpack` leaves them."""
    for files in layout.values():
        content(folder, [tree.merged(name) for name in files], version)
    return folder


@LAYOUTS
def test_a_driver_of_one_version_is_accepted(tmp_path: Path, layout: dict[str, list[str]]) -> None:
    root = unpacked(tmp_path, layout, "575.10")
    source = build_driver.find_source(root)
    assert build_driver.source_version(source) == "575.10"
    build_driver.check_versions(root, "575.10")


@LAYOUTS
@pytest.mark.parametrize("library", build_driver.LIBRARIES)
def test_a_library_of_another_version_is_refused(
    tmp_path: Path, layout: dict[str, list[str]], library: str
) -> None:
    root = unpacked(tmp_path, layout, "575.10")
    (file,) = root.glob(f"**/{library}.so.575.10")
    file.rename(file.parent / f"{library}.so.570.1")
    expected = f"modules are 575.10 and need {library} of that version, but .* have 570.1; lock one"
    with pytest.raises(tree.BuildError, match=expected):
        build_driver.check_versions(root, "575.10")


@LAYOUTS
def test_firmware_of_another_version_is_refused(
    tmp_path: Path, layout: dict[str, list[str]]
) -> None:
    root = unpacked(tmp_path, layout, "575.10")
    (folder,) = root.glob("usr/lib/firmware/nvidia/*")
    folder.rename(folder.parent / "550.1")
    with pytest.raises(tree.BuildError, match=r"need GSP firmware .* but the packages have 550\.1"):
        build_driver.check_versions(root, "575.10")


def test_missing_firmware_is_refused(tmp_path: Path) -> None:
    root = unpacked(tmp_path, DEBIAN, "575.10")
    shutil.rmtree(root / "usr/lib/firmware")
    with pytest.raises(tree.BuildError, match=r"need GSP firmware .* but the packages have none"):
        build_driver.check_versions(root, "575.10")


def test_two_drivers_are_refused(tmp_path: Path) -> None:
    content(tmp_path, DEBIAN["nvidia-open-kernel-dkms"], "550.1")
    content(tmp_path, NVIDIA["nvidia-kernel-open-dkms"], "575.10")
    with pytest.raises(tree.BuildError, match="source 2 times in usr/src, expected once"):
        build_driver.find_source(tmp_path)


def test_packages_without_the_open_modules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match="source 0 times"):
        build_driver.find_source(tmp_path)


def test_a_source_without_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Kbuild").write_text("ccflags-y += -Wall\n")
    with pytest.raises(tree.BuildError, match="does not say its version"):
        build_driver.source_version(tmp_path)


def test_some_features_of_the_kernel_are_not_looked_for(tmp_path: Path) -> None:
    kept = "NV_CONFTEST_TYPE_COMPILE_TESTS += mmu_notifier_ops_invalidate_range\n"
    for name, (kind, feature) in build_driver.NOT_LOOKED_FOR.items():
        (tmp_path / name).parent.mkdir()
        line = f"NV_CONFTEST_{kind}_COMPILE_TESTS += {feature}\n"
        (tmp_path / name).write_text(kept + line + kept)
    build_driver.leave_out(tmp_path)
    for name in build_driver.NOT_LOOKED_FOR:
        assert (tmp_path / name).read_text() == kept + kept


def test_warnings_that_are_known_are_none() -> None:
    known = f"/build/driver/nvidia.o: warning: objtool: nvReadLoad(): {build_driver.KNOWN[0]}\n"
    assert list(build_driver.unknown_warnings(["  CC [M]  nvidia/nv.o\n", known])) == []


@pytest.mark.parametrize(
    "line",
    [
        "nvidia/nv.c:7:5: warning: unused variable 'x' [-Wunused-variable]\n",
        "nvidia.o: warning: objtool: nv_open(): unreachable instruction\n",
        "WARNING: modpost: nvidia.ko: section mismatch in reference\n",
    ],
    ids=["compiler", "objtool", "modpost"],
)
def test_a_warning_that_is_not_known_is_found(line: str) -> None:
    assert list(build_driver.unknown_warnings(["  LD [M]  nvidia.o\n", line])) == [line]


def layer(folder: Path, made: list[Path]) -> list[str]:
    """The paths of the driver's layer, made of these packages with the image's own lists."""
    whole = folder / "whole"
    tree.unpack(made, whole)
    for name in OTHERS:
        (whole / LIBRARIES / name).touch()
    lines = build_layer.read_list(IMAGES / "driver/files.list")
    chosen = tree.select(tree.walk(whole), lines)
    root = folder / "root"
    tree.move(whole, chosen, root)
    wanted = re.search(r"place = \[(.*?)\]", (IMAGES / "driver.nix").read_text(), re.DOTALL)
    assert wanted is not None
    for item in re.findall(r'"(.*?)=(.*?)"', wanted[1]):
        build_layer.place(root, *item)
    return [path for path in tree.walk(root) if Path(path).name not in OTHERS]


@needs_dpkg
@LAYOUTS
def test_the_layer_is_the_same_whoever_packaged(
    tmp_path: Path, layout: dict[str, list[str]]
) -> None:
    made = packages(tmp_path / "debs", layout, "575.10")
    names = ("cuda", "nvidia-cfg", "nvidia-ml", "nvidia-pkcs11-openssl3", "nvidia-ptxjitcompiler")
    libraries = [f"lib/lib{n}.so.{v}" for n in names for v in ("1", "575.10")]
    libraries.remove("lib/libnvidia-pkcs11-openssl3.so.1")  # CUDA asks for it by its version
    assert layer(tmp_path, made) == [
        "bin/nvidia-persistenced",
        "firmware/nvidia/575.10/gsp_ga10x.bin",
        *libraries,
    ]


@needs_dpkg
def test_a_driver_is_locked_and_fetched_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, locks, cache = (tmp_path / name for name in ("debs", "lock", "cache"))
    made = packages(folder, NVIDIA, "575.10")
    shutil.copytree(fetch.LOCK, locks, ignore=shutil.ignore_patterns("driver.json"))
    monkeypatch.setattr(lock, "LOCK", locks)
    arguments = argparse.Namespace(driver=folder, only=None, set=[], debian_mirror=[])
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda _: arguments)
    before = (locks / "debian.json").read_bytes()
    assert lock.main() == 0
    assert (locks / "debian.json").read_bytes() == before
    text = (locks / "driver.json").read_text()
    assert str(tmp_path) not in text
    locked = json.loads(text)
    assert locked["sets"]["driver"] == sorted(NVIDIA)

    entry = locked["packages"]["libcuda1"]
    digest = hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest()
    assert (entry["version"], entry["sha256"]) == ("575.10-1", digest)
    source = fetch.Source(f"/nix/store/x-{entry['path']}", digest, recursive=False)
    progress = download.Progress(1, 1, quiet=True)
    fetcher = fetch.Fetcher(cache, fetch.Lock(locks), [], folder, progress)
    assert fetcher.fetch([source]) == [source]
    assert fetcher.place(source).read_bytes() == (folder / entry["path"]).read_bytes()
    assert len(made) == len(locked["packages"])


def fetched(tmp_path: Path, folder: Path | None, served: bytes | None) -> fetch.Fetcher:
    locked = tmp_path / "lock"
    shutil.copytree(fetch.LOCK, locked, ignore=shutil.ignore_patterns("driver.json"))
    entry = {"version": "1", "path": "a_1_amd64.deb", "size": 1}
    entry["sha256"] = hashlib.sha256(b"a").hexdigest()
    (locked / "driver.json").write_text(json.dumps({"packages": {"a": entry}, "sets": {}}))
    if folder and served is not None:
        (folder / "a_1_amd64.deb").write_bytes(served)
    source = fetch.Source("/nix/store/x-a_1_amd64.deb", str(entry["sha256"]), recursive=False)
    progress = download.Progress(1, 1, quiet=True)
    fetcher = fetch.Fetcher(tmp_path / "cache", fetch.Lock(locked), [], folder, progress)
    assert fetcher.fetch([source]) == []
    return fetcher


@pytest.mark.parametrize("given", [True, False], ids=["not in the folder", "no folder"])
def test_a_package_that_is_not_in_the_folder_is_asked_for(tmp_path: Path, given: bool) -> None:
    (problem,) = fetched(tmp_path, tmp_path if given else None, None).problems
    assert "a_1_amd64.deb was locked from a folder; name that folder with --folder" in problem


def test_another_package_in_the_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (problem,) = fetched(tmp_path, tmp_path, b"b").problems
    assert "is not the locked file" in problem
    assert (tmp_path / "a_1_amd64.deb").read_bytes() == b"b"


def test_a_folder_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(download.DownloadError, match=r"has no \.deb files"):
        lock.lock_driver(tmp_path)


def test_two_versions_of_a_package_are_refused(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"libcuda1_{version}_amd64.deb").touch()
    with pytest.raises(download.DownloadError, match="has libcuda1 1 and 2; leave one of them"):
        lock.lock_driver(tmp_path)


# /proc/devices as the driver's two modules leave it, and one name that ends like theirs.
DEVICES = """Character devices:
  1 mem
195 nvidia
195 nvidiactl
235 not-nvidia-uvm
236 nvidia-uvm

Block devices:
254 virtblk
"""


def run_initrd_part(root: Path) -> list[str]:
    """Run initrd.sh with a root of its own; the calls that only root may make, as they were."""
    script = (IMAGES / "driver/initrd.sh").read_text()
    for folder in ("/proc/", "/sys/", "/dev/"):
        script = script.replace(folder, f"{root}{folder}")
    stubs = 'mknod() { echo "mknod $*"; }; chown() { echo "chown $*"; }; die() { exit 1; }\n'
    command = ["sh", "-euc", stubs + script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.replace(str(root), "").splitlines()


@pytest.fixture
def booting(tmp_path: Path) -> Path:
    """Simulated: what a booting machine with the driver, and no GPU yet, has in /proc and /sys."""
    for folder in ("proc", "sys/module/firmware_class/parameters"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/devices").write_text(DEVICES)
    return tmp_path


def test_device_nodes_of_two_simulated_gpus(booting: Path) -> None:
    for address in ("0000:01:00.0", "0000:02:00.0"):
        (booting / "proc/driver/nvidia/gpus" / address).mkdir(parents=True)
    expected = [("nvidia0", 195, 0), ("nvidia1", 195, 1), ("nvidiactl", 195, 255)]
    expected += [("nvidia-uvm", 236, 0), ("nvidia-uvm-tools", 236, 1)]
    assert run_initrd_part(booting) == [
        line
        for name, major, minor in expected
        for line in (f"mknod -m 0660 /dev/{name} c {major} {minor}", f"chown 0:211 /dev/{name}")
    ]


def test_a_machine_without_gpu_has_no_device_nodes(booting: Path) -> None:
    assert run_initrd_part(booting) == []
    parameter = booting / "sys/module/firmware_class/parameters/path"
    assert parameter.read_text() == "/opt/driver/firmware"


def test_a_package_with_another_kind_of_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "libcuda1.deb").write_bytes(b"x")
    with pytest.raises(download.DownloadError, match="is not called NAME_VERSION"):
        lock.lock_driver(tmp_path)
