"""A machine of a site, as the evidence of its inventory boot shows it.

Rules that hold for every verdict which passes:
- The evidence answers our nonce under the label of inventories, so it is no join and no
  coordinator's.
- The machine was launched for no manifest (`protocol.launch.UNBOUND`).
- It runs an image of the release, in any role and shape, and is as the policy demands.
- It names itself: by a chip id or by a platform instance, which its vendor's key has signed.

It says nothing about where the machine stands.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from confide.encoding.files import read_file
from confide.encoding.messages import CborMessage
from confide.errors import FormatError, PolicyError
from confide.host.manifest_builder import Policy
from confide.host.references import References
from confide.host.site import Machines
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.binding import NONCE_SIZE, inventory_report_data
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import MAX_EVIDENCE, Evidence
from confide.protocol.launch import UNBOUND
from confide.protocol.manifest import Manifest, RoleEntry
from confide.protocol.roles import Role
from confide.protocol.validity import DAY, DEFAULT_DAYS
from confide.verify.evidence import verify_evidence
from confide.verify.machine import PckChain, SnpEvidence, TdxEvidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.verdict import Check, Verdict
from measure.kinds import Blob, Converted, Word

INVENTORY_FORMAT = "confide-inventory/1"
MAX_INVENTORY = MAX_EVIDENCE + 256
JUDGED_AS = Role.COORDINATOR
"""The only role of the manifest that `accepting` makes."""


@dataclass(frozen=True)
class Inventory(CborMessage, what="the inventory", limit=MAX_INVENTORY):
    """What a machine answered to one nonce (32 bytes): enough to verify it elsewhere."""

    format: Annotated[str, Word((INVENTORY_FORMAT,))] = field(default=INVENTORY_FORMAT, init=False)
    nonce: Annotated[bytes, Blob(NONCE_SIZE)]
    evidence: Annotated[
        Evidence, Converted(Blob(max_size=MAX_EVIDENCE), read=Evidence.parse, write=Evidence.encode)
    ]

    @classmethod
    def read(cls, path: Path) -> Inventory:
        """The one in a file.

        Raises:
            ConfigError: The file cannot be read.
            FormatError: `not-inventory`, if it is something else.
        """
        data = read_file(path, "inventory", MAX_INVENTORY)
        expected = "what `confide site add URL --save FILE` wrote"
        try:
            return cls.parse(data)
        except FormatError as error:
            raise _not_an_inventory(str(path), expected, error) from error

    @classmethod
    def fetch(cls, url: str) -> Inventory:
        """The answer of the machine at this address to a fresh nonce.

        Raises:
            UnavailableError: The machine is unreachable.
            FormatError: `not-inventory`, if it answers with something else.
            ConfideError: The machine refuses; the error is its own.
        """
        nonce = secrets.token_bytes(NONCE_SIZE)
        answer = CoordinatorClient(url).attest(nonce)
        expected = "evidence, as a machine in inventory sends it"
        try:
            return cls(nonce, Evidence.parse(answer))
        except FormatError as error:
            raise _not_an_inventory(url, expected, error) from error


def _not_an_inventory(where: str, expected: str, error: FormatError) -> FormatError:
    return FormatError(
        "not-inventory",
        f"{where} has no evidence of a machine in inventory",
        expected=expected,
        seen=error.code,
        next="launch the machine without a manifest, then ask it again",
    )


def named_machine(evidence: ParsedEvidence) -> Machines:
    """The one machine that this evidence names, not verified.

    Raises:
        FormatError: The evidence is malformed.
        PolicyError: `no-machine-identity`, if it names none: a vTPM, an SEV-SNP chip whose host
            masks its id, a TDX machine without a platform instance.
    """
    match evidence.machine:
        case FormatError() as error:
            raise error
        case SnpEvidence(report=report):
            if any(report.chip_id):
                return Machines(chip_ids=(report.chip_id,))
            seen = "a masked chip id (zeros)"
            next = "let the host show the id: clear MASK_CHIP_ID in its SEV-SNP configuration"
        case TdxEvidence(pck_chain=FormatError() as error):
            raise error
        case TdxEvidence(pck_chain=PckChain(pck=pck)):
            if pck.platform_instance_id is not None and any(pck.platform_instance_id):
                return Machines(platform_instances=(pck.platform_instance_id,))
            seen = "a PCK certificate without a platform instance"
            next = "register the platform with Intel: its Platform CA states the instance"
        case _:
            seen = "a vTPM, which is software of a host"
            next = "register machines with SEV-SNP or TDX only"
    raise PolicyError(
        "no-machine-identity",
        "the evidence does not name a machine",
        expected="a chip id (SEV-SNP) or a platform instance (TDX)",
        seen=seen,
        next=next,
    )


def accepting(machine: Machines, references: References, policy: Policy) -> Manifest:
    """A manifest that accepts each image of the release, on this one machine, for one role.

    Only `verify_inventory` judges by it. Its role demands no GPUs: an inventory shows none.

    Raises:
        FormatError: The references have no measurements for the platforms of the policy.
    """
    snp, tdx = policy.platforms.snp, policy.platforms.tdx
    if snp is not None:
        snp = replace(snp, chip_ids=machine.chip_ids)
    if tdx is not None:
        tdx = replace(tdx, platform_instances=machine.platform_instances)
    roles = references.roles.items()
    entry = RoleEntry(
        # The verdict shows which image it is by the name of its shape.
        snp=tuple(
            replace(reference, shape=f"{role}: {reference.shape}")
            for role, entry in roles
            for reference in entry.snp
            if snp is not None
        ),
        tdx=tuple(
            replace(reference, shape=f"{role}: {reference.shape}")
            for role, entry in roles
            for reference in entry.tdx
            if tdx is not None
        ),
    )
    return Manifest(
        mode=policy.mode,
        platforms=replace(policy.platforms, snp=snp, tdx=tdx),
        roles={JUDGED_AS: entry},
        models=(),
        released=references.released,
        expires=references.released + DEFAULT_DAYS * DAY,
    )


def verify_inventory(
    inventory: Inventory, *, manifest: Manifest, collateral: Bundle, now: int
) -> Verdict:
    """Every check of a machine in inventory.

    Args:
        inventory: nonce and evidence.
        manifest: what `accepting` made.
        collateral: vendors' statements; `missing_for` names those that are needed.
        now: Unix seconds.
    """
    verdict = verify_evidence(
        ParsedEvidence(inventory.evidence),
        report_data=inventory_report_data(inventory.nonce),
        manifest=manifest,
        role=JUDGED_AS,
        collateral=collateral,
        now=now,
        binding=UNBOUND,
    )
    return Verdict(tuple(map(_as_shown, verdict.checks)))


def _as_shown(check: Check) -> Check:
    """The check without the words of a manifest: nobody gave one, nor a list of machines."""
    if check.source.split(",")[0] != "manifest":
        return check
    if check.name in ("chip", "platform instance"):
        return replace(check, source="evidence")
    shown = replace(check, source=check.source.replace("manifest", "release", 1))
    if check.name == "launch digest" and not check.passed:
        # Of every role and shape: some fifty, which nobody reads.
        return replace(shown, expected="that of an image of the release")
    return shown
