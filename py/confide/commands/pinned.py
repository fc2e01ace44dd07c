"""Which manifest a client pins, and what of it the person in front has to agree to.

A client takes the manifest of --manifest, or the one that `confide trust` keeps. The development
manifest protects nothing, so it needs --development. A production manifest is held against the
release that this client came with: what it accepts beyond that needs a word, as opt-outs do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from confide.client.release import release_folder
from confide.client.trust import trusted_manifest
from confide.commands.options import read_manifest
from confide.encoding.files import read_file
from confide.errors import ConfigError, PolicyError
from confide.host.policy_file import MAX_POLICY, PolicyFile
from confide.host.references import References
from confide.protocol.manifest import Manifest, RoleReferences
from confide.protocol.opt_outs import FOREIGN, as_option, require_given, unchecked
from confide.protocol.policy.weaker import weaker_gpus, weaker_snp, weaker_tdx


@dataclass(frozen=True)
class Pinned:
    """A manifest's bytes, what they say, and what of it is not the release's."""

    data: bytes
    manifest: Manifest
    foreign: tuple[str, ...]

    @property
    def opt_outs(self) -> tuple[str, ...]:
        """All that is not checked, by name: those of the manifest, and `FOREIGN`."""
        return unchecked(self.manifest.opt_outs, is_foreign=bool(self.foreign))


def add_pinned(parser: argparse.ArgumentParser) -> None:
    """--manifest, --development and --insecure-foreign-measurements, as every client has them."""
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="the manifest, which says what to trust (default: the one given to `confide trust`)",
    )
    parser.add_argument(
        "--development",
        action="store_true",
        help="take a development manifest, which protects nothing against the service's host "
        "(default: the one of this client's release, for the demonstration)",
    )
    parser.add_argument(
        as_option(FOREIGN),
        dest="opt_outs",
        action="append_const",
        const=FOREIGN,
        default=[],
        help="take a manifest with measurements that are not this client's release, or with a "
        "weaker policy",
    )


def read_pinned(options: argparse.Namespace) -> Pinned:
    """The manifest that `add_pinned`'s options choose, if the person agreed to all of it.

    Raises:
        ConfigError: There is no manifest, it cannot be read, or it is not of mode development.
        FormatError: It is malformed.
        PolicyError: It is a development manifest, or has an opt-out, without the word for it.
    """
    pinned = examine(_bytes(options))
    if options.development and pinned.manifest.mode != "development":
        raise ConfigError(
            "bad-options",
            "--development is for development manifests, and this is another one",
            expected="mode development",
            seen=f"mode {pinned.manifest.mode}",
            next="leave --development out",
        )
    if pinned.manifest.mode == "development" and not options.development:
        raise development_refused("add --development, if this is a demonstration or a test")
    require_given(pinned.opt_outs, options.opt_outs)
    return pinned


def development_refused(next: str) -> PolicyError:
    """The error for a development manifest in a place where it needs a word."""
    return PolicyError(
        "development-manifest",
        "the manifest is for development: it protects nothing against the service's host",
        expected="mode production",
        seen="mode development",
        next=f"ask the service's operator for its manifest, or {next}",
    )


def examine(data: bytes) -> Pinned:
    """Hold a manifest against this client's release. Raises FormatError, ConfigError."""
    manifest = Manifest.parse(data)
    if manifest.mode == "development":
        return Pinned(data, manifest, ())
    folder = release_folder()
    references = References.read(folder / "references.json")
    policy = PolicyFile.parse(read_file(folder / "policy.json", "policy", MAX_POLICY))
    return Pinned(data, manifest, tuple(foreign(manifest, references, policy)))


def foreign(manifest: Manifest, references: References, policy: PolicyFile) -> Iterator[str]:
    """What a production manifest accepts, and a release's references and policy do not.

    A measurement counts for its role only, whatever the name of its shape.
    """
    for role, entry in manifest.roles.items():
        released = references.roles.get(role, RoleReferences())
        for platform, own, known in (
            ("SEV-SNP", entry.snp, released.snp),
            ("TDX", entry.tdx, released.tdx),
        ):
            values = [replace(reference, shape="") for reference in known]
            for reference in own:
                if replace(reference, shape="") not in values:
                    yield f"role {role}, {platform}: measurements of shape {reference.shape}"
        gpus = policy.gpus.get(role)
        if entry.gpus is not None:
            names = ["policy"] if gpus is None else weaker_gpus(entry.gpus, gpus)
            yield from (f"role {role}, GPUs: {name}" for name in names)
    snp, tdx = manifest.platforms.snp, manifest.platforms.tdx
    released_snp, released_tdx = policy.platforms.snp, policy.platforms.tdx
    if snp is not None:
        names = ["platform"] if released_snp is None else weaker_snp(snp, released_snp)
        yield from (f"SEV-SNP: {name}" for name in names)
    if tdx is not None:
        names = ["platform"] if released_tdx is None else weaker_tdx(tdx, released_tdx)
        yield from (f"TDX: {name}" for name in names)


def _bytes(options: argparse.Namespace) -> bytes:
    if options.manifest is not None:
        return read_manifest(options.manifest)
    if options.development:
        return read_manifest(release_folder() / "development.json")
    data = trusted_manifest()
    if data is None:
        raise no_manifest()
    return data


def no_manifest() -> ConfigError:
    """The error of a client that was told of no manifest."""
    return ConfigError(
        "no-manifest",
        "there is no manifest, which says what to trust",
        expected="--manifest FILE, or `confide trust FILE` once",
        next="ask the service's operator for its manifest, and compare its SHA-256 with the one "
        "that the operator publishes elsewhere; for the demonstration add --development",
    )
