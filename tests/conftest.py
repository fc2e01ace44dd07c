"""What all tests share: where the recorded test data is, and what the flake built for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confide.runner.qemu import Tools

from tests.support import vectors as recorded


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


def _built(variable: str, target: str = "test") -> Path:
    """What a variable that a make target sets names. Skips the test without it; in CI, fails it."""
    if path := os.environ.get(variable):
        return Path(path)
    message = f"{variable} not set: run `make {target}`, which builds what it names"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def images() -> Path:
    """The flake's images: a folder for each role, with its disk and measurements."""
    return _built("CONFIDE_IMAGES")


@pytest.fixture(scope="session")
def firmware() -> Path:
    """The folder of the flake's firmware: OVMF_CODE_4M.fd, OVMF.amdsev.fd and OVMF.tdx.fd."""
    return _built("CONFIDE_FIRMWARE")


@pytest.fixture(scope="session")
def acpi_tables() -> Path:
    """The flake's ACPI tables: a folder for each TDX machine in images/shapes*.json."""
    return _built("CONFIDE_ACPI_TABLES")


@pytest.fixture(scope="session")
def systemd_measure() -> Path:
    """The program systemd-measure, of the same systemd as the images' stub."""
    return _built("CONFIDE_SYSTEMD_MEASURE")


@pytest.fixture(scope="session")
def model_tools() -> Path:
    """The folder with bin/mkfs.erofs and the other programs for model disks."""
    return _built("CONFIDE_MODEL_TOOLS")


@pytest.fixture(scope="session")
def built_model() -> Path:
    """The folder of the flake's own model disk: model.disk and model.json."""
    return _built("CONFIDE_MODEL")


@pytest.fixture(scope="session")
def tools() -> Tools:
    """QEMU, its firmware and the software TPM."""
    return Tools(_built("CONFIDE_QEMU"))


@pytest.fixture(scope="session")
def gpu_image() -> Path:
    """The folder of the GPU worker's image, which only `make test-gpu-image` builds."""
    return _built("CONFIDE_GPU_IMAGE", "test-gpu-image")
