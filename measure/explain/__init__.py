"""Says which component makes a machine, or another image, differ from a prediction.

`evidence` recognises what a machine gave; `vtpm`, `sev_snp` and `tdx` compare it with predictions;
`reports` compares two predictions with each other. An event log is the host's word: it means
something only if it replays to the registers of a quote. Digests are compared; what a log says in
words is shown, never believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from measure import eventcheck, report
from measure.errors import InputError
from measure.eventlog import EventLog
from measure.explain import sev_snp, tdx, vtpm
from measure.explain.difference import Clues, Difference, Explanation, Kernel, as_json, render
from measure.explain.evidence import Evidence, SnpEvidence, VtpmEvidence
from measure.explain.reports import diff

__all__ = ["Clues", "Difference", "Explanation", "Kernel", "as_json", "diff", "explain", "render"]

_UNQUOTED = "an event log alone is the host's word: only a quote says that it is complete"


def explain(seen: Evidence, measured: dict[str, Any], file: str, clues: Clues) -> Explanation:
    """Compares evidence with the nearest of an image's predictions.

    Args:
        measured: a parsed measurements.json, named `file`.

    Raises:
        InputError: the measurements have no prediction for the evidence's platform, or clues that
            contradict the evidence.
        FormatError: malformed measurements, or a log without the platform's bank.
    """
    predictions, line = report.read(measured, file), measured["command_line"]
    if isinstance(seen, VtpmEvidence):
        _require("vtpm", predictions.vtpm, file)
        return _vtpm(seen, predictions, line, clues)
    if isinstance(seen, SnpEvidence):
        _require("sev-snp", predictions.sev_snp, file)
        return sev_snp.explain(seen, predictions.sev_snp, line, clues)
    _require("tdx", predictions.tdx, file)
    found = tdx.explain(seen, predictions.tdx, line, clues)
    quoted = seen.rtmrs is not None
    return found if seen.log is None else replace(found, notes=_notes(seen.log, quoted))


def _vtpm(
    seen: VtpmEvidence, predictions: report.Predictions, line: str, clues: Clues
) -> Explanation:
    if seen.log is None:
        return vtpm.without_log(seen.pcrs or {}, predictions.vtpm)
    found = vtpm.explain(seen.log, seen.pcrs or {}, predictions.vtpm, line, clues)
    return replace(found, notes=_notes(seen.log, seen.pcrs is not None))


def _notes(log: EventLog, quoted: bool) -> tuple[str, ...]:
    notes = [str(contradiction) for contradiction in eventcheck.contradictions(log)]
    return (*notes, *([] if quoted else [_UNQUOTED]))


def _require(platform: str, predictions: Sequence[object], file: str) -> None:
    if not predictions:
        raise InputError(
            f"the image was not measured for platform {platform}; give its firmware and machines",
            file=file,
        )
