"""One platform's verifier on evidence as it travels: malformed evidence makes a verdict, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from confide.errors import FormatError
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import GpuEvidence
from confide.verify.machine import SnpEvidence, TdxEvidence, VtpmEvidence
from confide.verify.nvidia import verify_gpus
from confide.verify.nvidia.device import Device
from confide.verify.parsed import ParsedEvidence
from confide.verify.snp import verify_snp
from confide.verify.tdx import verify_tdx
from confide.verify.verdict import Verdict, unreadable
from confide.verify.vtpm import verify_vtpm

_Parsed = TypeVar("_Parsed")


def judge_vtpm(evidence: Evidence, **arguments: Any) -> Verdict:
    """`verify_vtpm` with these arguments."""
    return _judge(VtpmEvidence.parse, verify_vtpm, evidence, arguments)


def judge_snp(evidence: Evidence, **arguments: Any) -> Verdict:
    """`verify_snp` with these arguments."""
    return _judge(SnpEvidence.parse, verify_snp, evidence, arguments)


def judge_tdx(evidence: Evidence, **arguments: Any) -> Verdict:
    """`verify_tdx` with these arguments."""
    return _judge(TdxEvidence.parse, verify_tdx, evidence, arguments)


def judge_gpus(gpus: Sequence[bytes], **arguments: Any) -> Verdict:
    """`verify_gpus` with these arguments; `gpus` are the items of `Evidence.gpus`."""
    return verify_gpus(read_gpus(gpus), **arguments)


def read_gpus(gpus: Sequence[bytes]) -> tuple[Device | FormatError, ...]:
    """GPUs as `ParsedEvidence.gpus` has them."""
    return ParsedEvidence(Evidence("vtpm", b"", (), b"", tuple(gpus))).gpus


def read_gpu(evidence: GpuEvidence) -> Device | FormatError:
    """One of them."""
    return read_gpus([evidence.encode()])[0]


def _judge(
    parse: Callable[[Evidence], _Parsed],
    verify: Callable[..., Verdict],
    evidence: Evidence,
    arguments: dict[str, Any],
) -> Verdict:
    try:
        parsed = parse(evidence)
    except FormatError as error:
        return unreadable("evidence", error)
    return verify(parsed, **arguments)
