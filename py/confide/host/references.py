"""References: what the images of a release measure to, as far as a manifest needs it.

`release/references.json` has every role on every platform and shape. A site's manifest is made of
it, so nobody has to build or measure an image for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from confide.encoding.files import read_file
from confide.encoding.messages import JsonMessage
from confide.errors import ConfigError
from confide.protocol.manifest import RoleName, RoleReferences
from confide.protocol.policy.snp import SnpReference
from confide.protocol.policy.tdx import TdxReference
from confide.protocol.policy.vtpm import VtpmReference
from confide.protocol.roles import Role
from confide.protocol.validity import LAST_TIME
from measure import report
from measure.declare import Nested
from measure.errors import MeasureError
from measure.kinds import Integer, MapOf, Word

REFERENCES_FORMAT = "confide-references/1"
MAX_REFERENCES = 1 << 20


@dataclass(frozen=True)
class References(JsonMessage, what="the references", limit=MAX_REFERENCES):
    """The measurements of each role, and when they were released (Unix seconds)."""

    format: Annotated[str, Word((REFERENCES_FORMAT,))] = field(
        default=REFERENCES_FORMAT, init=False
    )
    released: Annotated[int, Integer(maximum=LAST_TIME)]
    roles: Annotated[
        Mapping[Role, RoleReferences], MapOf(RoleName(), Nested(RoleReferences), min_items=1)
    ]

    @classmethod
    def read(cls, path: Path) -> References:
        """Those in a file. Raises ConfigError or FormatError."""
        return cls.parse(read_file(path, "references", MAX_REFERENCES))

    def only(self, names: Sequence[str]) -> References:
        """Those of these roles; of all roles if there is no name.

        Raises ConfigError `unknown-role` for a role that is not here.
        """
        for name in names:
            if name not in self.roles:
                raise ConfigError(
                    "unknown-role",
                    "the references do not have this role",
                    expected=" or ".join(self.roles),
                    seen=ascii(name[:80]),
                )
        chosen = {role: entry for role, entry in self.roles.items() if role in (names or [role])}
        return References(self.released, chosen)


def measured(paths: Sequence[Path], *, released: int) -> References:
    """The references of images.

    Args:
        paths: Folders of images (with measurements.json, and their role in a file `role` or as the
            measurements' image name) or measurements files.
        released: Unix seconds.

    Raises:
        ConfigError: A file has no measurements, or a role is there twice; the error names the file.
    """
    roles: dict[Role, RoleReferences] = {}
    for path in paths:
        role, entry = _read_role(path)
        if role in roles:
            raise ConfigError(
                "double-measurement", f"role {role} is measured twice", seen=str(path)
            )
        roles[role] = entry
    return References(released, roles)


def _read_role(path: Path) -> tuple[Role, RoleReferences]:
    file = path / "measurements.json" if path.is_dir() else path
    data = read_file(file, "measurements file", report.MAX_REPORT)
    try:
        parsed = report.parse(data, str(file))
        found = report.read(parsed, str(file))
    except MeasureError as error:
        raise ConfigError(
            "bad-measurements", "the file has no measurements of an image", seen=str(error)
        ) from error
    role_file = file.parent / "role"
    name = role_file.read_text().strip() if role_file.is_file() else str(parsed["image"])
    if name not in set(Role):
        raise ConfigError(
            "unknown-role",
            f"{file} is of an image with an unknown role",
            expected=" or ".join(Role),
            seen=ascii(name[:80]),
        )
    vtpm = [VtpmReference(p.shape.name, dict(p.pcrs())) for p in found.vtpm]
    snp = [SnpReference(p.shape.name, p.digest) for p in found.sev_snp]
    tdx = [
        TdxReference(p.shape.name, p.mrtd[p.shape.page_order], *_four(p.rtmrs())) for p in found.tdx
    ]
    if not (vtpm or snp or tdx):
        raise ConfigError(
            "no-measurements",
            f"{file} has no measurements for any platform",
            next="measure the image (`measure image --help`)",
        )
    return Role(name), RoleReferences(
        tuple(sorted(vtpm, key=lambda reference: reference.shape)),
        tuple(sorted(snp, key=lambda reference: reference.shape)),
        tuple(sorted(tdx, key=lambda reference: reference.shape)),
    )


def _four(rtmrs: Mapping[int, bytes]) -> tuple[bytes, bytes, bytes, bytes]:
    return rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]
