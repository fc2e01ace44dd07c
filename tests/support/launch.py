"""What a booted machine by itself is launched for."""

from __future__ import annotations

from hashlib import sha256

from confide.commands.system import Build
from confide.protocol.configdisk import ConfigDisk


def launched_for(build: Build) -> ConfigDisk:
    """The config disk of a machine that is launched for the build's manifest."""
    return ConfigDisk(sha256(build.manifest.read_bytes()).digest())
