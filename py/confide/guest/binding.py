"""The manifest that this machine was launched for, as the root unit `confide-binding` wrote it."""

from __future__ import annotations

from pathlib import Path

from confide.errors import ConfigError
from confide.protocol.launch import BINDING_SIZE

BINDING = Path("/run/confide/binding")
"""32 bytes: the SHA-256 of a manifest, or zeros. Root wrote it before the network came up."""

BOUND = BINDING.with_name("bound")
"""An empty file beside it, unless the binding is zeros. The units of single roles start only if it
is there (ConditionPathExists)."""


def read_binding(path: Path = BINDING) -> bytes:
    """The 32 bytes of this machine's binding.

    Raises ConfigError `no-binding` if the file is missing or has another size.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BINDING_SIZE + 1)
    except OSError as error:
        seen = error.strerror or type(error).__name__
    else:
        if len(data) == BINDING_SIZE:
            return data
        seen = "more bytes" if len(data) > BINDING_SIZE else f"{len(data)} bytes"
    raise ConfigError(
        "no-binding",
        "this machine does not know the manifest that it was launched for",
        expected=f"{BINDING_SIZE} bytes in {path}",
        seen=seen,
        next="start the machine anew",
    )
