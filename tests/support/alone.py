"""A real machine with a SIMULATED coordinator on this computer: one emulated machine is enough.

It can be, because the development CA's key is published: who has the host forges a vTPM.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from confide.encoding.canonical import json_encode
from confide.host.manifest_builder import build_manifest, development_policy
from confide.host.references import measured
from confide.host.runner.qemu import HOST_IN_GUEST
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.configdisk import ConfigDisk
from tests.support.native_service import Processes
from tests.support.simulated_machine import manifest_value


def manifest_of(images: Sequence[Path], model: Path) -> bytes:
    """A development manifest of these images, a coordinator's among them, whose own registers are
    replaced by those of the simulated one.
    """
    references = measured(images, released=int(time.time()))
    value = json.loads(build_manifest(references, [model], development_policy()))
    value["roles"]["coordinator"] = manifest_value()["roles"]["coordinator"]
    return json_encode(value)


@contextmanager
def simulated_coordinator(
    folder: Path, manifest: bytes, models: Sequence[str]
) -> Iterator[ConfigDisk]:
    """A running coordinator with this manifest. Gives the config disk of a worker that joins it."""
    file = folder / "manifest.json"
    file.write_bytes(manifest)
    with Processes(folder) as programs:
        options = ["coordinator", "--manifest", str(file)]
        url = programs.start("coordinator", "tests.support.native_node", options)
        programs.wait("coordinator", "no-manifest", 120)
        CoordinatorClient(url).set_manifest(manifest)
        port = url.rpartition(":")[2]
        yield ConfigDisk(
            sha256(manifest).digest(),
            f"http://{HOST_IN_GUEST}:{port}",
            (f"https://{HOST_IN_GUEST}:9",),  # asked for a key only
            tuple(models),
        )
