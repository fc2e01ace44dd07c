"""What all tests share: where the recorded test data is, and what the flake built for them."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from confide.host.runner.qemu import Tools
from confide.net import loops
from tests.support import vectors as recorded

ROOT = Path(__file__).resolve().parents[1]

# A machine under load is slow, which is no failure, and a test run leaves no files behind.
settings.register_profile(
    "confide", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("confide")


def pytest_configure() -> None:
    """Allow more open files: tests make hundreds of servers, and a login shell allows 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(16384, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of recorded vectors, which `make vectors` fills.

    Without it a test is skipped, except under CI, where it fails: nothing is left out there.
    """
    try:
        return recorded.folder()
    except recorded.NoVectorsError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def loops_end_with_their_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Background work that a test starts ends with it: else it works and prints during others."""
    ended: list[threading.Event] = []
    run_loop = loops.run_loop

    def noted(
        name: str, step: loops.Step, stop: threading.Event, *rest: Any, **options: Any
    ) -> None:
        ended.append(stop)
        run_loop(name, step, stop, *rest, **options)

    monkeypatch.setattr(loops, "run_loop", noted)
    yield
    for stop in ended:
        stop.set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Skips a test one of whose fixtures reads a recorded file that is not published."""
    with recorded.skipped_if_unpublished():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skips a test that reads a recorded file that is not published, where it is absent."""
    with recorded.skipped_if_unpublished():
        yield


def _built(path: str, target: str = "test") -> Path:
    """What `make` built, below the checkout. Skips the test without it; in CI, fails it."""
    built = ROOT / path
    if built.exists():
        return built
    message = f"{path} is not built: run `make {target}`"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def images() -> Path:
    """The flake's images: a folder for each role, with its disk and measurements."""
    return _built("result-test/images")


@pytest.fixture(scope="session")
def firmware() -> Path:
    """The folder of the flake's firmware: OVMF_CODE_4M.fd, OVMF.amdsev.fd and OVMF.tdx.fd."""
    return _built("result-test/firmware")


@pytest.fixture(scope="session")
def debian_firmware() -> Path:
    """Debian's packages of firmware for confidential machines, unpacked, before any edit."""
    return _built("result-test/debian-firmware")


@pytest.fixture(scope="session")
def acpi_tables() -> Path:
    """The flake's ACPI tables: a folder for each TDX machine in images/shapes*.json."""
    return _built("result-test/acpi-tables")


@pytest.fixture(scope="session")
def systemd_measure() -> Path:
    """The program systemd-measure, of the same systemd as the images' stub."""
    return _built("result-test/systemd-measure/usr/lib/systemd/systemd-measure")


@pytest.fixture(scope="session")
def model_tools() -> Path:
    """The folder with bin/mkfs.erofs and the other programs for model disks."""
    return _built("result-test/model-tools")


@pytest.fixture(scope="session")
def built_model() -> Path:
    """The folder of the flake's own model disk: model.disk and model.json."""
    return _built("result-test/model")


@pytest.fixture(scope="session")
def tools() -> Tools:
    """QEMU, its firmware and the software TPM."""
    return Tools(_built("result-test/qemu"))


@pytest.fixture(scope="session")
def linux() -> Path:
    """The folder of the kernel of the roles without a GPU: vmlinuz and config."""
    return _built("result-test/linux")


@pytest.fixture(scope="session")
def faketime() -> Path:
    """The library that turns the clock of one program."""
    return _built("result-test/faketime/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@pytest.fixture(scope="session")
def reverse_proxies() -> Path:
    """The folder of the programs nginx and haproxy."""
    return _built("result-test/reverse-proxies/usr/sbin")


@pytest.fixture(scope="session")
def nft() -> Path:
    """The program that cuts connections in a namespace of a test's own."""
    return _built("result-test/nftables/usr/sbin/nft")


@pytest.fixture(scope="session")
def gpu_image() -> Path:
    """The folder of the GPU worker's image, which only `make test-gpu-image` builds."""
    return _built("result-worker", "test-gpu-image")


@pytest.fixture(scope="session")
def crypto_check() -> Path:
    """The folder of the test module for the GPU worker's kernel, tests/gpu_image/crypto_check.c."""
    return _built("result-crypto-check", "test-gpu-image")


@pytest.fixture(scope="session")
def debug_image() -> Path:
    """The folder of the coordinator's image with a shell."""
    return _built("result-test/debug-image")


@pytest.fixture(scope="session")
def debug_worker() -> Path:
    """The folder of the CPU worker's image with a shell."""
    return _built("result-test/debug-worker")


@pytest.fixture(scope="session")
def debug_secret_service() -> Path:
    """The folder of the secret service's image with a shell."""
    return _built("result-test/debug-secret-service")


@pytest.fixture(scope="session")
def debug_gpu_worker() -> Path:
    """The folder of the GPU worker's image with a shell and without engine, likewise."""
    return _built("result-debug-gpu-worker", "test-gpu-image")


@pytest.fixture(scope="session")
def built_manifest() -> Path:
    """The development manifest of the flake's images."""
    return _built("result-test/manifest")


@pytest.fixture(scope="session")
def built_wheel() -> Path:
    """The folder of the client's wheel, which only `make test-install` builds."""
    return _built("result-wheel", "test-install")


@pytest.fixture(scope="session")
def go_peer() -> Path:
    """The program that tests/go/peer.go is, which only `make test-go` builds."""
    return _built("result-go-peer/bin/peer", "test-go")
