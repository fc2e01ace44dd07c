"""The manifest: what a client trusts, as bytes it can pin.

Rules that hold for every manifest which `Manifest.parse` returns:
- The bytes are canonical, so comparing manifests is comparing bytes.
- A role accepts a platform only if the manifest says what it demands of that platform, and every
  measurement pins all that the image decides: nothing is left to the host.
- The published development CA protects nothing. So only a manifest of mode "development" names it,
  and such a manifest names no other platform.
- A worker with GPUs says what is demanded of them; no other role does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

from confide.encoding.canonical import Json, json_decode, json_encode
from confide.encoding.fields import Fields
from confide.errors import FormatError, PolicyError
from confide.protocol.engine_options import NO_OPTIONS, EngineOptions
from confide.protocol.hash_tree import BLOCK
from confide.protocol.policy.gpu import GpuPolicy
from confide.protocol.policy.snp import SnpPolicy, SnpReference
from confide.protocol.policy.tdx import TdxPolicy, TdxReference
from confide.protocol.policy.vtpm import (
    DevelopmentCa,
    VtpmAuthority,
    VtpmReference,
    authority_to_json,
    read_authority,
)

FORMAT = "confide-manifest/3"
MODES = ("development", "production")
ROLES = ("coordinator", "secret-service", "worker-cpu", "worker-gpu")
GPU_ROLES = ("worker-gpu",)
TASKS = ("chat", "completion")
MAX_MANIFEST = 1 << 20


class _Reference(Protocol):
    """What the references of all platforms have in common."""

    @property
    def shape(self) -> str: ...

    def to_json(self) -> Json: ...


_AnyReference = TypeVar("_AnyReference", bound=_Reference)


@dataclass(frozen=True)
class Platforms:
    """What is demanded of each platform, None if it is not accepted at all."""

    vtpm: VtpmAuthority | None = None
    snp: SnpPolicy | None = None
    tdx: TdxPolicy | None = None


@dataclass(frozen=True)
class Role:
    """One role: the measurements it may have on each platform, at least one, and its GPUs."""

    name: str
    vtpm: tuple[VtpmReference, ...] = ()
    snp: tuple[SnpReference, ...] = ()
    tdx: tuple[TdxReference, ...] = ()
    gpus: GpuPolicy | None = None


@dataclass(frozen=True)
class Model:
    """A model disk: verity root hash (32 bytes), byte offset of its hash tree, who serves it."""

    name: str
    root_hash: bytes
    hash_offset: int
    tasks: tuple[str, ...]
    roles: tuple[str, ...]
    engine: EngineOptions = NO_OPTIONS

    @classmethod
    def read(cls, fields: Fields) -> Model:
        """Read one entry, of a manifest or alone in a model.json. Raises FormatError."""
        model = cls(
            name=fields.name("name"),
            root_hash=fields.hex("root_hash", 32),
            hash_offset=fields.integer("hash_offset", minimum=BLOCK),
            tasks=fields.names("tasks"),
            roles=fields.names("roles"),
            engine=EngineOptions.read(fields.map("engine")),
        )
        fields.done()
        if model.hash_offset % BLOCK:
            raise FormatError(
                "manifest-models",
                f"model {model.name} has a hash tree between blocks",
                expected=f"a multiple of {BLOCK}",
                seen=str(model.hash_offset),
            )
        if not model.tasks or not set(model.tasks) <= set(TASKS):
            raise FormatError(
                "manifest-models",
                f"model {model.name} has a task that does not exist",
                expected=" or ".join(TASKS),
                seen=" ".join(model.tasks) or "none",
            )
        return model

    def to_json(self) -> Json:
        """The entry."""
        return {
            "name": self.name,
            "root_hash": self.root_hash.hex(),
            "hash_offset": self.hash_offset,
            "tasks": list(self.tasks),
            "roles": list(self.roles),
            "engine": self.engine.to_json(),
        }


@dataclass(frozen=True)
class Manifest:
    """A parsed manifest."""

    mode: str
    platforms: Platforms
    roles: tuple[Role, ...]
    models: tuple[Model, ...]
    update_keys: tuple[str, ...] = ()
    recovery_keys: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read canonical JSON. Raises FormatError unless every rule above holds."""
        fields = Fields(json_decode(data, what="manifest", limit=MAX_MANIFEST), "manifest")
        fields.text("format", one_of=(FORMAT,))
        mode = fields.text("mode", one_of=MODES)
        platforms = read_platforms(fields.map("platforms"), mode)
        roles = _read_roles(fields.map("roles"), platforms)
        models = _read_models(fields.list("models"), roles)
        for field in ("update_keys", "recovery_keys"):
            if fields.list(field):
                raise FormatError(
                    "manifest-keys",
                    f"manifest field {field!r} is not empty",
                    expected="[]: this format knows no updates and no recovery",
                )
        fields.done()
        return cls(mode, platforms, roles, models)

    def encode(self) -> bytes:
        """The manifest's canonical bytes: what is hashed, bound, served and pinned."""
        return json_encode(
            {
                "format": FORMAT,
                "mode": self.mode,
                "platforms": _platforms(self.platforms),
                "roles": {role.name: _role(role) for role in self.roles},
                "models": [model.to_json() for model in self.models],
                "update_keys": list(self.update_keys),
                "recovery_keys": list(self.recovery_keys),
            }
        )

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the canonical bytes: 32 bytes."""
        return hashlib.sha256(self.encode()).digest()

    def role(self, name: str) -> Role:
        """Raises PolicyError if the manifest has no such role."""
        for role in self.roles:
            if role.name == name:
                return role
        raise PolicyError(
            "unknown-role",
            "the manifest has no such role",
            expected=", ".join(r.name for r in self.roles),
            seen=ascii(name[:80]),
        )

    def model(self, name: str) -> Model:
        """Raises PolicyError if the manifest has no such model."""
        for model in self.models:
            if model.name == name:
                return model
        raise PolicyError(
            "unknown-model",
            "the manifest has no such model",
            expected=", ".join(m.name for m in self.models),
            seen=ascii(name[:80]),
        )


def read_platforms(fields: Fields, mode: str) -> Platforms:
    """What a manifest of this mode demands of each platform. Raises FormatError."""
    platforms = Platforms(
        vtpm=read_authority(fields.map("vtpm")) if fields.has("vtpm") else None,
        snp=SnpPolicy.read(fields.map("sev-snp")) if fields.has("sev-snp") else None,
        tdx=TdxPolicy.read(fields.map("tdx")) if fields.has("tdx") else None,
    )
    fields.done()
    is_development = isinstance(platforms.vtpm, DevelopmentCa)
    if mode == "development" and (not is_development or platforms.snp or platforms.tdx):
        raise FormatError(
            "manifest-mode",
            "a development manifest accepts a platform of production",
            expected="vtpm with the development CA, and nothing else",
            next="build a manifest of mode production, without the development CA",
        )
    if mode == "production" and is_development:
        raise FormatError(
            "manifest-mode",
            "a production manifest names a development CA",
            next="build the manifest with mode development, or name no such CA",
        )
    return platforms


def _read_roles(fields: Fields, platforms: Platforms) -> tuple[Role, ...]:
    roles = []
    for name in fields.unread():
        if name not in ROLES:
            raise FormatError(
                "unknown-role",
                "manifest names a role that does not exist",
                expected=" or ".join(ROLES),
                seen=ascii(name[:80]),
            )
        role = _read_role(name, fields.map(name))
        for platform, references, policy in (
            ("vtpm", role.vtpm, platforms.vtpm),
            ("sev-snp", role.snp, platforms.snp),
            ("tdx", role.tdx, platforms.tdx),
        ):
            if references and policy is None:
                raise FormatError(
                    "manifest-platform",
                    f"role {name} accepts {platform}, of which the manifest demands nothing",
                    expected=f"an entry {platform!r} in platforms",
                )
        roles.append(role)
    if "coordinator" not in (role.name for role in roles):
        raise FormatError("manifest-role", "manifest has no role coordinator")
    return tuple(roles)


def _read_role(name: str, fields: Fields) -> Role:
    role = Role(
        name,
        vtpm=_read_references(fields, "vtpm", VtpmReference.read),
        snp=_read_references(fields, "sev-snp", SnpReference.read),
        tdx=_read_references(fields, "tdx", TdxReference.read),
        gpus=GpuPolicy.read(fields.map("gpus")) if fields.has("gpus") else None,
    )
    fields.done()
    if not (role.vtpm or role.snp or role.tdx):
        raise FormatError("manifest-role", f"role {name} has no measurements")
    if (role.gpus is not None) != (name in GPU_ROLES):
        raise FormatError(
            "manifest-gpus",
            f"role {name} {'demands GPUs' if role.gpus else 'demands nothing of its GPUs'}",
            expected=f"a field gpus in {' and '.join(GPU_ROLES)}, and in no other role",
        )
    return role


def _read_references(
    fields: Fields, platform: str, read: Callable[[Fields], _AnyReference]
) -> tuple[_AnyReference, ...]:
    """The references of one platform: none if the field is not there, else one per shape."""
    if not fields.has(platform):
        return ()
    items = fields.list(platform)
    references = tuple(read(Fields(item, f"a measurement for {platform}")) for item in items)
    shapes = {reference.shape for reference in references}
    if not references or len(shapes) != len(references):
        raise FormatError("manifest-role", f"{platform} needs measurements, one per shape")
    return references


def _read_models(items: list[object], roles: tuple[Role, ...]) -> tuple[Model, ...]:
    models = tuple(Model.read(Fields(item, "a model of the manifest")) for item in items)
    names = {model.name for model in models}
    if len(names) != len(models):
        raise FormatError("manifest-models", "manifest names one model twice")
    workers = {role.name for role in roles if role.name.startswith("worker-")}
    for model in models:
        if not model.roles or not set(model.roles) <= workers:
            raise FormatError(
                "manifest-models",
                f"model {model.name} has a role that cannot serve it",
                expected="a worker role of this manifest",
                seen=" ".join(model.roles) or "none",
            )
    return models


def _platforms(platforms: Platforms) -> Json:
    encoded: dict[str, Json] = {}
    if platforms.vtpm is not None:
        encoded["vtpm"] = authority_to_json(platforms.vtpm)
    if platforms.snp is not None:
        encoded["sev-snp"] = platforms.snp.to_json()
    if platforms.tdx is not None:
        encoded["tdx"] = platforms.tdx.to_json()
    return encoded


def _role(role: Role) -> Json:
    references: dict[str, Json] = {
        platform: [reference.to_json() for reference in listed]
        for platform, listed in (("vtpm", role.vtpm), ("sev-snp", role.snp), ("tdx", role.tdx))
        if listed
    }
    if role.gpus is not None:
        references["gpus"] = role.gpus.to_json()
    return references
