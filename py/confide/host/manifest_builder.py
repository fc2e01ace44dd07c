"""`confide manifest build`: makes a manifest of references of images and entries of models.

Without a policy it is a development manifest, of the vTPM measurements and the published CA. With
one it is a production manifest, of the measurements for the platforms that the policy names, for
the machines that a site lists. A role accepts a platform only if there are machines of that
platform for it, so nothing is accepted by leaving a list out.
Deterministic: the manifest depends on the inputs alone, and not on their order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from confide.encoding.files import read_file
from confide.encoding.messages import from_map
from confide.errors import ConfigError
from confide.host.development_ca import development_ca_spki_sha256
from confide.host.policy_file import MAX_POLICY, PolicyFile
from confide.host.references import References
from confide.host.site import Site
from confide.protocol.manifest import Manifest, Platforms, RoleEntry, RoleReferences
from confide.protocol.model import Model
from confide.protocol.opt_outs import as_option
from confide.protocol.policy import snp, tdx
from confide.protocol.policy.gpu import GpuPolicy
from confide.protocol.policy.vtpm import DevelopmentCa
from confide.protocol.roles import Role
from confide.protocol.validity import DAY, DEFAULT_DAYS

MAX_MODEL_FILE = 65536
DIFFERENCES_SHOWN = 20


@dataclass(frozen=True)
class Policy:
    """What a manifest demands beside measurements: of platforms, of each role's GPUs, and whose
    machines they are.
    """

    mode: str
    platforms: Platforms
    gpus: Mapping[str, GpuPolicy]
    site: Site = field(default_factory=Site)

    @classmethod
    def read(cls, path: Path) -> Policy:
        """The production policy in a file. It does not say whose machines: `of_site` does.

        Raises ConfigError or FormatError.
        """
        file = PolicyFile.parse(read_file(path, "policy", MAX_POLICY))
        file.platforms.check_mode("production")
        policy = cls("production", file.platforms, file.gpus)
        if any(policy._any_machine()) or policy._lists_machines():
            raise ConfigError(
                "policy-machines",
                f"the policy {path} says whose machines",
                expected="empty lists chip_ids and platform_instances, and no "
                f"{snp.OptOut.ANY_CHIP} or {tdx.OptOut.ANY_PLATFORM}",
                next="list them in the file of --site",
            )
        return policy

    def of_site(self, site: Site, *, any_chip: bool = False, any_platform: bool = False) -> Policy:
        """The same policy for the machines of a site, or with these opt-outs for any machine."""
        platforms = self.platforms
        if platforms.snp is not None and any_chip:
            opt_outs = platforms.snp.opt_outs | {snp.OptOut.ANY_CHIP}
            platforms = replace(platforms, snp=replace(platforms.snp, opt_outs=opt_outs))
        if platforms.tdx is not None and any_platform:
            accepted = platforms.tdx.opt_outs | {tdx.OptOut.ANY_PLATFORM}
            platforms = replace(platforms, tdx=replace(platforms.tdx, opt_outs=accepted))
        return replace(self, platforms=platforms, site=site)

    def entry(self, role: Role, references: RoleReferences) -> RoleEntry:
        """What the manifest accepts for a role: on platforms that have machines for it, all of them
        listed. Raises ConfigError `no-measurements` or `no-machines`.
        """
        platforms, machines = self.platforms, self.site.machines(role)
        accepted = RoleReferences(
            references.vtpm if platforms.vtpm else (),
            references.snp if platforms.snp else (),
            references.tdx if platforms.tdx else (),
        )
        if accepted == RoleReferences():
            raise ConfigError(
                "no-measurements",
                f"role {role} has no measurements for the platforms of the policy",
                next="measure the image for these platforms (`measure image --help`)",
            )
        any_chip, any_platform = self._any_machine()
        # A cloud's machines sign with the cloud's key. Chips of another role are not this role's.
        is_cloud = bool(platforms.snp and platforms.snp.csp_ids) and not self.site.has_chips
        entry = RoleEntry(
            accepted.vtpm,
            accepted.snp if any_chip or is_cloud or machines.chip_ids else (),
            accepted.tdx if any_platform or machines.platform_instances else (),
            self.gpus.get(role),
            machines.chip_ids,
            machines.platform_instances,
        )
        if not (entry.vtpm or entry.snp or entry.tdx):
            words = " or ".join(map(as_option, (snp.OptOut.ANY_CHIP, tdx.OptOut.ANY_PLATFORM)))
            raise ConfigError(
                "no-machines",
                f"role {role} would accept no machine",
                expected="its chip_ids or platform_instances in the file of --site",
                seen="neither",
                next=f"list your machines (docs/operations.md), or accept those of the whole world "
                f"with {words}",
            )
        return entry

    def _any_machine(self) -> tuple[bool, bool]:
        """Whether it accepts any SEV-SNP chip, and any TDX machine."""
        platforms = self.platforms
        return (
            platforms.snp is not None and snp.OptOut.ANY_CHIP in platforms.snp.opt_outs,
            platforms.tdx is not None and tdx.OptOut.ANY_PLATFORM in platforms.tdx.opt_outs,
        )

    def _lists_machines(self) -> bool:
        platforms = self.platforms
        chips = platforms.snp.chip_ids if platforms.snp else ()
        return bool(chips or (platforms.tdx and platforms.tdx.platform_instances))


def development_policy() -> Policy:
    """The policy of development manifests: vTPMs that the published CA vouches for."""
    platforms = Platforms(vtpm=DevelopmentCa(development_ca_spki_sha256()))
    return Policy("development", platforms, {})


def build_manifest(
    references: References, models: Sequence[Path], policy: Policy, *, days: int = DEFAULT_DAYS
) -> bytes:
    """The canonical bytes of a manifest.

    Args:
        references: the measurements of the roles that it has.
        models: model.json files, or folders that have one.
        policy: what it demands beside measurements.
        days: how long it is valid after the release of the references.

    Raises:
        ConfigError: a file is wrong, or a role would accept no machine.
        FormatError: a file, or the whole, breaks a rule of manifests.
    """
    entries = {role: policy.entry(role, found) for role, found in references.roles.items()}
    platforms, entries = _with_machines(policy.platforms, entries)
    manifest = Manifest(
        mode=policy.mode,
        platforms=platforms,
        roles=entries,
        models=tuple(sorted((read_model(path) for path in models), key=lambda m: m.name)),
        released=references.released,
        expires=references.released + days * DAY,
    )
    data = manifest.encode()
    # What is written must be what every reader accepts.
    Manifest.parse(data)
    return data


def _with_machines(
    platforms: Platforms, entries: Mapping[Role, RoleEntry]
) -> tuple[Platforms, dict[Role, RoleEntry]]:
    """The platforms that a role accepts, with the machines of all roles; and the roles, each with
    its machines only if they are not all.
    """
    chips = {chip for entry in entries.values() if entry.snp for chip in entry.chip_ids}
    instances = {i for entry in entries.values() if entry.tdx for i in entry.platform_instances}
    accepts_snp = any(entry.snp for entry in entries.values())
    accepts_tdx = any(entry.tdx for entry in entries.values())
    snp_policy, tdx_policy = platforms.snp, platforms.tdx
    if snp_policy is not None:
        snp_policy = replace(snp_policy, chip_ids=tuple(sorted(chips))) if accepts_snp else None
    if tdx_policy is not None:
        listed = tuple(sorted(instances))
        tdx_policy = replace(tdx_policy, platform_instances=listed) if accepts_tdx else None
    return replace(platforms, snp=snp_policy, tdx=tdx_policy), {
        role: replace(
            entry,
            chip_ids=entry.chip_ids if entry.snp and set(entry.chip_ids) != chips else (),
            platform_instances=entry.platform_instances
            if entry.tdx and set(entry.platform_instances) != instances
            else (),
        )
        for role, entry in entries.items()
    }


def stamp(data: bytes, *, now: int, days: int = DEFAULT_DAYS) -> bytes:
    """The same manifest as if it had been released at `now` (Unix seconds), for a demonstration.

    Raises FormatError.
    """
    return replace(Manifest.parse(data), released=now, expires=now + days * DAY).encode()


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
