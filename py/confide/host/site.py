"""A site: whose machines a production manifest accepts.

    {
      "format": "confide-site/1",
      "chip_ids": ["<128 hex digits>"],
      "platform_instances": ["<32 hex digits>"],
      "roles": {"coordinator": {"chip_ids": ["<128 hex digits>"]}}
    }

The operator writes this file by hand, or lets `confide site add` do it. `chip_ids` are the SEV-SNP
chips, `platform_instances` the TDX machines. Either may be left out, and so may `roles`: a role
that lists machines of a platform runs on these alone, every other role on the machines at the top.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from confide.encoding.canonical import json_encode
from confide.encoding.files import read_file
from confide.encoding.messages import from_map, to_map
from confide.errors import ConfigError
from confide.protocol.manifest import RoleName
from confide.protocol.roles import Role
from confide.vendors.amd.report import CHIP_ID_SIZE
from confide.vendors.intel.pck import INSTANCE_SIZE
from measure.declare import Nested
from measure.kinds import Hex, ListOf, MapOf, Optional, Word

SITE_FORMAT = "confide-site/1"
MAX_SITE = 1 << 20
_CHIPS = Optional(ListOf(Hex(CHIP_ID_SIZE), min_items=1, unique=True))
_INSTANCES = Optional(ListOf(Hex(INSTANCE_SIZE), min_items=1, unique=True))


@dataclass(frozen=True)
class Machines:
    """Machines: SEV-SNP chips (64 bytes each) and TDX platform instances (16 bytes each)."""

    chip_ids: Annotated[tuple[bytes, ...], _CHIPS] = ()
    platform_instances: Annotated[tuple[bytes, ...], _INSTANCES] = ()

    def merged(self, other: Machines) -> Machines:
        """These and the others, each once, in order."""
        return Machines(
            tuple(sorted({*self.chip_ids, *other.chip_ids})),
            tuple(sorted({*self.platform_instances, *other.platform_instances})),
        )

    def has(self, other: Machines) -> bool:
        """Whether all of the others are listed."""
        return set(other.chip_ids) <= set(self.chip_ids) and set(other.platform_instances) <= set(
            self.platform_instances
        )


@dataclass(frozen=True)
class Site:
    """Whose machines: those of every role, and those of roles that have their own."""

    format: Annotated[str, Word((SITE_FORMAT,))] = field(default=SITE_FORMAT, init=False)
    chip_ids: Annotated[tuple[bytes, ...], _CHIPS] = ()
    platform_instances: Annotated[tuple[bytes, ...], _INSTANCES] = ()
    roles: Annotated[
        Mapping[Role, Machines] | None, Optional(MapOf(RoleName(), Nested(Machines), min_items=1))
    ] = None

    @classmethod
    def read(cls, path: Path) -> Site:
        """The site in a file, JSON in any layout. Raises ConfigError or FormatError."""
        data = read_file(path, "site file", MAX_SITE)
        try:
            value = json.loads(data, object_pairs_hook=_each_once)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                "bad-site", f"the site file {path} is not JSON", seen=ascii(str(error))[:200]
            ) from error
        return from_map(cls, value, str(path))

    @classmethod
    def read_or_new(cls, path: Path) -> Site:
        """The site in a file; an empty one if there is no file. Raises ConfigError, FormatError."""
        try:
            path.lstat()
        except FileNotFoundError:
            return cls()
        except OSError:
            pass  # reading says what is wrong
        return cls.read(path)

    def encode(self) -> bytes:
        """The site as canonical JSON."""
        return json_encode(to_map(self))

    def listed(self, role: Role | None) -> Machines:
        """The machines at the top, or those that this role has for itself."""
        if role is None:
            return Machines(self.chip_ids, self.platform_instances)
        return (self.roles or {}).get(role, Machines())

    def with_machines(self, machines: Machines, role: Role | None) -> Site:
        """The same site with these machines as well: at the top, or for this role alone."""
        merged = self.listed(role).merged(machines)
        if role is None:
            return replace(
                self, chip_ids=merged.chip_ids, platform_instances=merged.platform_instances
            )
        return replace(self, roles={**(self.roles or {}), role: merged})

    @property
    def has_chips(self) -> bool:
        """Whether any SEV-SNP chip is listed."""
        return bool(self.chip_ids) or any(own.chip_ids for own in (self.roles or {}).values())

    def machines(self, role: Role) -> Machines:
        """The machines that this role may run on, in order."""
        own = (self.roles or {}).get(role, Machines())
        return Machines(
            tuple(sorted(own.chip_ids or self.chip_ids)),
            tuple(sorted(own.platform_instances or self.platform_instances)),
        )


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Raises ValueError for a key that is there twice: the second one would hide the first."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is there twice")
    return value
