"""The GPU worker's kernel as its own init leaves it: closed, with all that the driver asks for.

The image's kernel and initrd are booted without firmware's measurements and without disks. The host
adds to the initrd, which no genuine machine would start with: a module that asks for the driver's
algorithms before the image's own are loaded, and, in place of what init runs for the driver, a
script that looks around and waits.
"""

from __future__ import annotations

import re
from pathlib import Path

import build_initrd
import pytest

from confide.host.runner.qemu import Tools
from tests.support import firmware_machine
from tests.support.firmware_machine import Launch

SECONDS = 300
LIST = Path(__file__).parents[2] / "images/driver/modules.list"
COMMAND_LINE = "console=ttyS0 loglevel=7 lsm=lockdown,yama,landlock panic=-1 oops=panic"
# What init runs when it has loaded and closed everything.
LOOK_AROUND = """
lockdown=/sys/kernel/security/lockdown
insmod /modules.d/crypto_check.ko && say "a module came later" || say "no module comes later"
echo 0 >/proc/sys/kernel/modules_disabled || say "modules stay disabled"
for level in none integrity; do
	echo $level >$lockdown || say "lockdown does not become $level"
done
say "modules_disabled $(cat /proc/sys/kernel/modules_disabled)"
say "modules $(cat /proc/modules)."
say "lockdown $(cat $lockdown)"
say "<crypto>"
cat /proc/crypto >/dev/console
say "</crypto>"
sleep 1000
"""
# By name, as nvidia.ko asks for them when a GPU is in confidential mode.
ALGORITHMS = (
    *("gcm(aes)", "sha256", "sha384", "sha512", "hmac(sha256)", "hmac(sha384)", "hmac(sha512)"),
    *("ecdsa-nist-p256", "ecdsa-nist-p384", "ecdh-nist-p256", "ecdh-nist-p384", "rsa"),
)


@pytest.fixture(scope="module")
def said(
    gpu_image: Path, crypto_check: Path, tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """What the machine wrote to its console."""
    folder = tmp_path_factory.mktemp("kernel")
    added = folder / "added"
    (added / "modules.d").mkdir(parents=True)
    module = (crypto_check / "crypto_check.ko").read_bytes()
    (added / "modules.d/crypto_check.ko").write_bytes(module)
    listed = ["?crypto_check", *build_initrd.read_list(LIST)]
    (added / "modules").write_text("".join(f"{line}\n" for line in listed))
    (added / "driver").write_text(LOOK_AROUND)
    initrd = folder / "initrd"
    genuine = (gpu_image / "boot/initrd").read_bytes()
    initrd.write_bytes(genuine + bytes(-len(genuine) % 4) + build_initrd.cpio(added))
    launch = Launch(gpu_image / "boot/linux", initrd, COMMAND_LINE)
    arguments = [*firmware_machine.two_files(tools, folder), *launch.arguments()]
    return firmware_machine.run(tools, folder, arguments, "</crypto>", SECONDS).text


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_kernel_gives_what_the_driver_asks_for(said: str, name: str) -> None:
    assert f"crypto_check: {name}: 0\r\n" in said


def test_what_the_kernel_has_not_is_seen(said: str) -> None:
    assert "crypto_check: no such algorithm: -2\r\n" in said


def test_proc_crypto_lists_them(said: str) -> None:
    listed = said.partition("<crypto>")[2].partition("</crypto>")[0]
    found = set(re.findall(r"^name +: (\S+)\s+driver +: (\S+)", listed, re.MULTILINE))
    assert set(ALGORITHMS) <= {name for name, _ in found}
    assert ("gcm(aes)", "generic-gcm-aesni") in found  # on the processor's own instructions


def test_the_driver_looks_for_a_gpu_and_finds_none(said: str) -> None:
    """So nvidia.ko was linked with this kernel, and ran. It ended, so nvidia-uvm.ko cannot load.

    Functions of nvidia.ko are all that this one lacks.
    """
    assert "NVRM: No NVIDIA GPU found" in said
    unknown = re.findall(r"(\w+): Unknown symbol (\w+)", said)
    assert {module for module, _ in unknown} <= {"nvidia_uvm"}
    assert all(symbol.startswith("nvUvmInterface") for _, symbol in unknown)


def test_no_module_comes_later(said: str) -> None:
    assert "confide: no module comes later" in said
    assert "confide: modules stay disabled" in said
    assert "confide: modules_disabled 1\r\n" in said
    assert "confide: modules .\r\n" in said


def test_the_kernel_is_locked_down(said: str) -> None:
    assert "confide: lockdown does not become none" in said
    assert "confide: lockdown does not become integrity" in said
    assert "confide: lockdown none integrity [confidentiality]\r\n" in said
