"""The manifest: what a client trusts, as bytes it can pin.

Rules that hold for every manifest:
- The bytes are canonical, so comparing manifests is comparing bytes.
- A role accepts a platform only if the manifest says what it demands of that platform, and every
  measurement pins all that the image decides. The host chooses none of it.
- The published development CA protects nothing. So only a manifest of mode "development" names it,
  and such a manifest names no other platform.
- A worker with GPUs says what is demanded of them; no other role does.
- It is valid from its release until it expires, at most a year later.
- A role may have machines of its own: some of those that the manifest lists for the platform.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

from confide.encoding.messages import JsonMessage, to_map
from confide.errors import FormatError, PolicyError
from confide.protocol import opt_outs, validity
from confide.protocol.model import Model
from confide.protocol.policy.gpu import GpuPolicy
from confide.protocol.policy.snp import SnpPolicy, SnpReference
from confide.protocol.policy.tdx import TdxPolicy, TdxReference
from confide.protocol.policy.vtpm import DevelopmentCa, VtpmReference
from confide.protocol.roles import WORKERS, Role
from confide.vendors.amd.report import CHIP_ID_SIZE
from confide.vendors.intel.pck import INSTANCE_SIZE
from measure.declare import Nested, Wire
from measure.kinds import (
    Anything,
    Converted,
    Definitions,
    Hex,
    Integer,
    Kind,
    ListOf,
    MapOf,
    Optional,
    Schema,
    Text,
    Word,
)

FORMAT = "confide-manifest/4"
MODES = ("development", "production")
MAX_MANIFEST = 1 << 20


@dataclass(frozen=True)
class Platforms:
    """What is demanded of each platform. A platform that is left out is not accepted."""

    vtpm: Annotated[DevelopmentCa | None, Optional(Nested(DevelopmentCa))] = None
    snp: Annotated[SnpPolicy | None, Optional(Nested(SnpPolicy)), Wire("sev-snp")] = None
    tdx: Annotated[TdxPolicy | None, Optional(Nested(TdxPolicy))] = None

    def check_mode(self, mode: str) -> None:
        """Raises FormatError `manifest-mode` if a manifest of this mode may not accept these."""
        if mode == "development" and (self.vtpm is None or self.snp or self.tdx):
            raise FormatError(
                "manifest-mode",
                "a development manifest accepts a platform of production",
                expected="vtpm with the development CA, and nothing else",
                next="build a manifest of mode production, without the development CA",
            )
        if mode == "production" and self.vtpm is not None:
            raise FormatError(
                "manifest-mode",
                "a production manifest names a development CA",
                next="build the manifest with mode development, or remove that CA",
            )


@dataclass(frozen=True)
class _References(ListOf):
    """A role's measurements on one platform: at least one, each of its own shape."""

    def decode(self, value: object, what: str) -> tuple[Any, ...]:
        """Raises FormatError `manifest-role` for an empty list or a shape twice."""
        references = super().decode(value, what)
        shapes = {reference.shape for reference in references}
        if not references or len(shapes) != len(references):
            raise FormatError("manifest-role", f"{what} needs measurements, one per shape")
        return references

    def schema(self, definitions: Definitions) -> Schema:
        """`array` that is not empty."""
        return super().schema(definitions) | {"minItems": 1}


@dataclass(frozen=True)
class RoleReferences:
    """One role: the measurements of its image on each platform, at least one."""

    vtpm: Annotated[tuple[VtpmReference, ...], Optional(_References(Nested(VtpmReference)))] = ()
    snp: Annotated[
        tuple[SnpReference, ...], Optional(_References(Nested(SnpReference))), Wire("sev-snp")
    ] = ()
    tdx: Annotated[tuple[TdxReference, ...], Optional(_References(Nested(TdxReference)))] = ()

    SCHEMA_RULES: ClassVar[Schema] = {
        "anyOf": [{"required": [platform]} for platform in ("vtpm", "sev-snp", "tdx")]
    }


@dataclass(frozen=True)
class RoleEntry(RoleReferences):
    """One role: the measurements it may have on each platform, at least one, its GPUs, and its own
    machines. A role without machines of its own may run on all that the platform's policy lists.
    """

    gpus: Annotated[GpuPolicy | None, Optional(Nested(GpuPolicy))] = None
    chip_ids: Annotated[
        tuple[bytes, ...],
        Optional(ListOf(Hex(CHIP_ID_SIZE), min_items=1, unique=True)),
        "The only SEV-SNP chips that may have this role: some of the policy's.",
    ] = ()
    platform_instances: Annotated[
        tuple[bytes, ...],
        Optional(ListOf(Hex(INSTANCE_SIZE), min_items=1, unique=True)),
        "The only TDX machines that may have this role: some of the policy's.",
    ] = ()

    def narrow(self, platforms: Platforms) -> Platforms:
        """What is demanded of a machine of this role: of its own machines, if it has any."""
        snp, tdx = platforms.snp, platforms.tdx
        if snp is not None and self.chip_ids:
            snp = replace(snp, chip_ids=self.chip_ids, csp_ids=())
        if tdx is not None and self.platform_instances:
            tdx = replace(tdx, platform_instances=self.platform_instances)
        return replace(platforms, snp=snp, tdx=tdx)

    def check(self, role: Role, platforms: Platforms) -> None:
        """The rules for the entry of this role, in a manifest with these platforms.

        Raises FormatError `manifest-role`, `manifest-gpus`, `manifest-platform` or
        `manifest-machines`.
        """
        if not (self.vtpm or self.snp or self.tdx):
            raise FormatError("manifest-role", f"role {role} has no measurements")
        if (self.gpus is not None) != role.has_gpus:
            names = " and ".join(role for role in Role if role.has_gpus)
            raise FormatError(
                "manifest-gpus",
                f"role {role} {'demands GPUs' if self.gpus else 'demands nothing of its GPUs'}",
                expected=f"a field gpus in {names}, and in no other role",
            )
        for platform, references, policy in (
            ("vtpm", self.vtpm, platforms.vtpm),
            ("sev-snp", self.snp, platforms.snp),
            ("tdx", self.tdx, platforms.tdx),
        ):
            if references and policy is None:
                raise FormatError(
                    "manifest-platform",
                    f"role {role} accepts {platform}, and the manifest has no policy for it",
                    expected=f"an entry {platform!r} in platforms",
                )
        for name, own, listed in (
            ("chip_ids", self.chip_ids, platforms.snp.chip_ids if platforms.snp else ()),
            (
                "platform_instances",
                self.platform_instances,
                platforms.tdx.platform_instances if platforms.tdx else (),
            ),
        ):
            strange = set(own) - set(listed)
            if strange:
                raise FormatError(
                    "manifest-machines",
                    f"role {role} has machines that the manifest does not list",
                    expected=f"some of {name} in the policy of the platform",
                    seen=min(strange).hex(),
                )


@dataclass(frozen=True)
class RoleName(Kind):
    """The name of a role, as a key."""

    def decode(self, value: object, what: str) -> Role:
        """Raises FormatError `unknown-role`."""
        text: str = Text(MAX_MANIFEST).decode(value, what)
        if text not in set(Role):
            raise FormatError(
                "unknown-role",
                "the manifest names an unknown role",
                expected=" or ".join(Role),
                seen=ascii(text[:80]),
            )
        return Role(text)

    def encode(self, value: Role) -> str:
        """The name."""
        return str(value)

    def schema(self, definitions: Definitions) -> Schema:
        """`enum`."""
        return Word(Role).schema(definitions)


def _no_keys(keys: tuple[Any, ...]) -> tuple[()]:
    if keys:
        raise FormatError(
            "manifest-keys",
            "the manifest has update or recovery keys",
            expected="[]: this format knows no updates and no recovery",
        )
    return ()


_NO_KEYS = Converted(ListOf(Anything()), read=_no_keys, write=list)
_ROLES = MapOf(RoleName(), Nested(RoleEntry), max_items=MAX_MANIFEST)
# The schema's part of `RoleEntry.check`.
_ROLE_RULES: Schema = {
    "required": [str(Role.COORDINATOR)],
    "allOf": [
        {
            "properties": {
                str(role): {"required": ["gpus"]}
                if role.has_gpus
                else {"properties": {"gpus": False}}
                for role in Role
            }
        }
    ],
}


def _without(platform: str) -> Schema:
    """A platform that is not among the platforms is in no role."""
    missing: Schema = {"properties": {"platforms": {"not": {"required": [platform]}}}}
    unused: Schema = {"additionalProperties": {"not": {"required": [platform]}}}
    return {"if": missing, "then": {"properties": {"roles": unused}}}


def _platforms(rule: Schema) -> Schema:
    return {"properties": {"platforms": rule}}


@dataclass(frozen=True)
class Manifest(JsonMessage, what="the manifest", limit=MAX_MANIFEST):
    """What a client trusts. The bytes must also be canonical JSON (docs/protocol.md), shapes and
    model names distinct, a model's roles among the manifest's own, a platform that a role accepts
    among the platforms, and a role's own machines among those of its platform.
    """

    format: Annotated[str, Word((FORMAT,))] = field(default=FORMAT, init=False)
    mode: Annotated[str, Word(MODES)]
    platforms: Platforms
    roles: Annotated[Mapping[Role, RoleEntry], _ROLES, _ROLE_RULES]
    models: Annotated[tuple[Model, ...], ListOf(Nested(Model))]
    released: Annotated[
        int, Integer(maximum=validity.LAST_TIME), "When it was released, in Unix seconds."
    ]
    expires: Annotated[
        int,
        Integer(maximum=validity.LAST_TIME),
        "When it expires, in Unix seconds: at most 366 days after its release.",
    ]
    update_keys: Annotated[tuple[()], _NO_KEYS, {"maxItems": 0}] = ()
    recovery_keys: Annotated[tuple[()], _NO_KEYS, {"maxItems": 0}] = ()

    SCHEMA_RULES: ClassVar[Schema] = {
        "allOf": [
            {
                "if": {"properties": {"mode": {"const": "development"}}},
                "then": _platforms({"required": ["vtpm"], "maxProperties": 1}),
                "else": _platforms({"properties": {"vtpm": False}}),
            },
            *map(_without, ("vtpm", "sev-snp", "tdx")),
        ]
    }

    def __post_init__(self) -> None:
        validity.check_times(self.released, self.expires)
        self.platforms.check_mode(self.mode)
        for role, entry in self.roles.items():
            entry.check(role, self.platforms)
        if Role.COORDINATOR not in self.roles:
            raise FormatError("manifest-role", "the manifest has no role coordinator")
        if len({model.name for model in self.models}) != len(self.models):
            raise FormatError("manifest-models", "the manifest names one model twice")
        for model in self.models:
            if not model.roles or not set(model.roles) <= set(self.workers):
                raise FormatError(
                    "manifest-models",
                    f"model {model.name} has a role that cannot serve it",
                    expected="a worker role of this manifest",
                    seen=" ".join(model.roles) or "no role",
                )

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the canonical bytes, which are hashed, bound, served and pinned: 32 bytes."""
        return hashlib.sha256(self.encode()).digest()

    @cached_property
    def opt_outs(self) -> tuple[str, ...]:
        """The names of all that it leaves unchecked, sorted (see `protocol.opt_outs`)."""
        value = to_map(self)
        return tuple(sorted({*opt_outs.named_in([value["platforms"], value["roles"]])}))

    def require_current(self, now: int) -> None:
        """Raises PolicyError `manifest-expired` or `manifest-not-valid-yet` at `now` (Unix)."""
        validity.require_current(self.released, self.expires, now=now)

    @property
    def workers(self) -> tuple[Role, ...]:
        """The roles that serve models."""
        return tuple(role for role in WORKERS if role in self.roles)

    def role(self, name: str) -> RoleEntry:
        """Raises PolicyError if the manifest has no such role."""
        for role, entry in self.roles.items():
            if role == name:
                return entry
        raise PolicyError(
            "unknown-role",
            "the manifest has no such role",
            expected=", ".join(self.roles),
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
