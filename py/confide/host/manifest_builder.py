"""`confide manifest build`: makes a manifest of measurements of images and entries of models.

Without a policy it is a development manifest, of the vTPM measurements and the published CA. With
one it is a production manifest, of the measurements for the platforms that the policy names.
Deterministic: the manifest depends on the inputs alone, and not on their order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.encoding.files import read_file
from confide.encoding.messages import from_map
from confide.errors import ConfigError
from confide.host.development_ca import development_ca_spki_sha256
from confide.host.policy_file import MAX_POLICY, PolicyFile
from confide.protocol.manifest import Manifest, Platforms, RoleEntry
from confide.protocol.model import Model
from confide.protocol.policy.gpu import GpuPolicy
from confide.protocol.policy.snp import SnpReference
from confide.protocol.policy.tdx import TdxReference
from confide.protocol.policy.vtpm import DevelopmentCa, VtpmReference
from confide.protocol.roles import Role
from measure import report
from measure.errors import MeasureError

MAX_MODEL_FILE = 65536
DIFFERENCES_SHOWN = 20


@dataclass(frozen=True)
class Policy:
    """What a manifest demands beside measurements: of platforms, and of each role's GPUs."""

    mode: str
    platforms: Platforms
    gpus: Mapping[str, GpuPolicy]

    @classmethod
    def read(cls, path: Path) -> Policy:
        """The production policy in a file. Raises ConfigError or FormatError."""
        file = PolicyFile.parse(read_file(path, "policy", MAX_POLICY))
        file.platforms.check_mode("production")
        return cls("production", file.platforms, file.gpus)


def development_policy() -> Policy:
    """The policy of development manifests: vTPMs that the published CA vouches for."""
    platforms = Platforms(vtpm=DevelopmentCa(development_ca_spki_sha256()))
    return Policy("development", platforms, {})


def build_manifest(measurements: Sequence[Path], models: Sequence[Path], policy: Policy) -> bytes:
    """The canonical bytes of a manifest.

    `measurements` are folders of images (with measurements.json, and their role in a file `role` or
    as the measurements' image name) or measurements files; `models` are model.json files or folders
    that have one. Raises ConfigError or FormatError, naming the file.
    """
    roles: dict[Role, RoleEntry] = {}
    for path in measurements:
        role, entry = _read_role(path, policy)
        if role in roles:
            raise ConfigError(
                "double-measurement", f"role {role} is measured twice", seen=str(path)
            )
        roles[role] = entry
    manifest = Manifest(
        mode=policy.mode,
        platforms=policy.platforms,
        roles=roles,
        models=tuple(sorted((read_model(path) for path in models), key=lambda m: m.name)),
    )
    data = manifest.encode()
    # What is written must be what every reader accepts.
    Manifest.parse(data)
    return data


def _read_role(path: Path, policy: Policy) -> tuple[Role, RoleEntry]:
    """A role, and its entry with the measurements for the platforms that the policy names."""
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
    platforms = policy.platforms
    vtpm = [VtpmReference(p.shape.name, dict(p.pcrs())) for p in found.vtpm if platforms.vtpm]
    snp = [SnpReference(p.shape.name, p.digest) for p in found.sev_snp if platforms.snp]
    tdx = [
        TdxReference(p.shape.name, p.mrtd[p.shape.page_order], *_four(p.rtmrs()))
        for p in found.tdx
        if platforms.tdx
    ]
    if not (vtpm or snp or tdx):
        raise ConfigError(
            "no-measurements",
            f"{file} has no measurements for the platforms of the policy",
            next="measure the image for these platforms (`measure image --help`)",
        )
    role = Role(name)
    return role, RoleEntry(
        tuple(sorted(vtpm, key=lambda reference: reference.shape)),
        tuple(sorted(snp, key=lambda reference: reference.shape)),
        tuple(sorted(tdx, key=lambda reference: reference.shape)),
        policy.gpus.get(role),
    )


def _four(rtmrs: Mapping[int, bytes]) -> tuple[bytes, bytes, bytes, bytes]:
    return rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]


def read_model(path: Path) -> Model:
    """A manifest's entry of a model, as `confide model pack` writes it: a file or its folder.

    Raises ConfigError or FormatError, naming the file.
    """
    file = path / "model.json" if path.is_dir() else path
    try:
        value = json.loads(read_file(file, "model file", MAX_MODEL_FILE))
    except (ValueError, RecursionError) as error:
        raise ConfigError("bad-model", "the model file is not JSON", seen=str(file)) from error
    return from_map(Model, value, str(file))


def differences(expected: object, seen: object, where: str = "") -> list[str]:
    """Where two decoded JSON documents differ, one line each, at most `DIFFERENCES_SHOWN`."""
    if isinstance(expected, Mapping) and isinstance(seen, Mapping):
        pairs = [
            (f"{where}.{key}".lstrip("."), expected.get(key), seen.get(key))
            for key in sorted({*expected, *seen})
        ]
    elif isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        pairs = [
            (f"{where}[{n}]", a, b) for n, (a, b) in enumerate(zip(expected, seen, strict=True))
        ]
    else:
        same = expected == seen and type(expected) is type(seen)
        return [] if same else [f"{where}: expected {expected!a}, seen {seen!a}"]
    lines = [line for name, a, b in pairs for line in differences(a, b, name)]
    return lines[:DIFFERENCES_SHOWN]
