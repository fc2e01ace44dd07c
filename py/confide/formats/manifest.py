"""The manifest: what a client trusts, as bytes it can pin.

Rules that hold for every manifest which `Manifest.parse` returns:
- The bytes are canonical, so comparing manifests is comparing bytes.
- Each platform that a role accepts has an authority, and a vTPM's authority is the published
  development CA, which protects nothing: so only a manifest of mode "development" can name it, and
  such a manifest names no other authority and no other platform.
- Each accepted measurement pins every register in `REQUIRED_PCRS`: nothing is left to the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from confide.errors import FormatError, PolicyError
from confide.formats.canonical import Json, json_decode, json_encode
from confide.formats.evidence import PCR_SIZE, read_pcrs
from confide.formats.fields import Fields, check_name

FORMAT = "confide-manifest/1"
MODES = ("development", "production")
ROLES = ("coordinator", "secret-service", "worker-cpu")
TASKS = ("chat", "completion")
# What each covers: docs/protocol.md. 1, 6, 10 and 15 to 23 hold nothing that the image decides.
REQUIRED_PCRS = (0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14)
MAX_MANIFEST = 1 << 20
VERITY_BLOCK = 4096


@dataclass(frozen=True)
class VtpmReference:
    """Accepted registers of one machine shape: register number to 32-byte SHA-256 bank value."""

    shape: str
    pcrs: Mapping[int, bytes]


@dataclass(frozen=True)
class Role:
    """One role and the vTPM measurements it may have; never empty."""

    name: str
    vtpm: tuple[VtpmReference, ...]


@dataclass(frozen=True)
class Model:
    """A model disk: verity root hash (32 bytes), byte offset of its hash tree, who serves it."""

    name: str
    root_hash: bytes
    hash_offset: int
    tasks: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """A parsed manifest. `development_ca` is SHA-256 of the CA's SPKI DER (32 bytes)."""

    mode: str
    development_ca: bytes | None
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
        development_ca = _read_authorities(fields.map("authorities"), mode)
        roles = _read_roles(fields.map("roles"), development_ca)
        models = tuple(_read_model(item, roles) for item in fields.list("models"))
        for field in ("update_keys", "recovery_keys"):
            if fields.list(field):
                raise FormatError(
                    "manifest-keys",
                    f"manifest field {field!r} is not empty",
                    expected="[]: this format knows no updates and no recovery",
                )
        fields.done()
        names = [model.name for model in models]
        if len(set(names)) != len(names):
            raise FormatError("manifest-models", "manifest names one model twice")
        return cls(mode, development_ca, roles, models)

    def encode(self) -> bytes:
        """The manifest's canonical bytes: what is hashed, bound, served and pinned."""
        authorities: dict[str, Json] = {}
        if self.development_ca is not None:
            authorities["vtpm"] = {"development_ca": self.development_ca.hex()}
        return json_encode(
            {
                "format": FORMAT,
                "mode": self.mode,
                "authorities": authorities,
                "roles": {
                    role.name: {"vtpm": [_reference(r) for r in role.vtpm]} for role in self.roles
                },
                "models": [_model(model) for model in self.models],
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


def _read_authorities(fields: Fields, mode: str) -> bytes | None:
    development_ca = None
    if fields.has("vtpm"):
        vtpm = fields.map("vtpm")
        development_ca = vtpm.hex("development_ca", 32)
        vtpm.done()
    fields.done()
    if mode == "production" and development_ca is not None:
        raise FormatError(
            "manifest-mode",
            "a production manifest names a development CA",
            next="build the manifest with mode development, or name no such CA",
        )
    return development_ca


def _read_roles(fields: Fields, development_ca: bytes | None) -> tuple[Role, ...]:
    roles = []
    for name in fields.unread():
        if name not in ROLES:
            raise FormatError(
                "unknown-role",
                "manifest names a role that does not exist",
                expected=" or ".join(ROLES),
                seen=ascii(name[:80]),
            )
        role = fields.map(name)
        if development_ca is None:
            raise FormatError(
                "manifest-authority",
                f"role {name} accepts a platform of which the manifest names no authority",
            )
        references = tuple(_read_reference(item, name) for item in role.list("vtpm"))
        role.done()
        shapes = [reference.shape for reference in references]
        if not references or len(set(shapes)) != len(shapes):
            raise FormatError("manifest-role", f"role {name} needs measurements, one per shape")
        roles.append(Role(name, references))
    if "coordinator" not in (role.name for role in roles):
        raise FormatError("manifest-role", "manifest has no role coordinator")
    return tuple(roles)


def _read_reference(item: object, role: str) -> VtpmReference:
    fields = Fields(item, f"a measurement of role {role}")
    shape = fields.name("shape")
    pcrs = read_pcrs(fields.map("pcrs"), lambda reader, key: reader.hex(key, PCR_SIZE))
    fields.done()
    missing = [str(index) for index in REQUIRED_PCRS if index not in pcrs]
    if missing:
        raise FormatError(
            "manifest-pcrs",
            f"shape {shape} of role {role} leaves registers open",
            expected="PCRs " + " ".join(map(str, REQUIRED_PCRS)),
            seen="no PCR " + " ".join(missing),
        )
    return VtpmReference(shape, pcrs)


def _read_model(item: object, roles: tuple[Role, ...]) -> Model:
    fields = Fields(item, "a model of the manifest")
    model = Model(
        name=fields.name("name"),
        root_hash=fields.hex("root_hash", 32),
        hash_offset=fields.integer("hash_offset", minimum=VERITY_BLOCK),
        tasks=fields.names("tasks"),
        roles=fields.names("roles"),
    )
    fields.done()
    if model.hash_offset % VERITY_BLOCK:
        raise FormatError(
            "manifest-models",
            f"model {model.name} has a hash tree between blocks",
            expected=f"a multiple of {VERITY_BLOCK}",
            seen=str(model.hash_offset),
        )
    if not model.tasks or not set(model.tasks) <= set(TASKS):
        raise FormatError(
            "manifest-models",
            f"model {model.name} has a task that does not exist",
            expected=" or ".join(TASKS),
            seen=" ".join(model.tasks) or "none",
        )
    served = {role.name for role in roles if role.name.startswith("worker-")}
    if not model.roles or not set(model.roles) <= served:
        raise FormatError(
            "manifest-models",
            f"model {model.name} has a role that cannot serve it",
            expected="a worker role of this manifest",
            seen=" ".join(model.roles) or "none",
        )
    return model


def _reference(reference: VtpmReference) -> Json:
    pcrs: dict[str, Json] = {str(i): value.hex() for i, value in reference.pcrs.items()}
    return {"shape": check_name(reference.shape, "shape"), "pcrs": pcrs}


def _model(model: Model) -> Json:
    return {
        "name": model.name,
        "root_hash": model.root_hash.hex(),
        "hash_offset": model.hash_offset,
        "tasks": list(model.tasks),
        "roles": list(model.roles),
    }
