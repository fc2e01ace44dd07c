"""Says which component makes a machine, or another image, differ from a prediction.

`evidence` recognises what a machine gave; `vtpm`, `sev_snp` and `tdx` compare it with predictions;
`reports` compares two predictions with each other. An event log is the host's word: it means
something only if it replays to the registers of a quote. Digests are compared; what a log says in
words is shown, never believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from measure import binding, eventcheck, pcr, report
from measure.errors import InputError
from measure.eventlog import EventLog
from measure.explain import sev_snp, tdx, vtpm
from measure.explain.difference import Clues, Difference, Explanation, Kernel, as_json, render
from measure.explain.evidence import Evidence, SnpEvidence, VtpmEvidence
from measure.explain.reports import diff

__all__ = ["Clues", "Difference", "Explanation", "Kernel", "as_json", "diff", "explain", "render"]

_UNQUOTED = "an event log alone is the host's word: only a quote says that it is complete"
_LOG_ONLY = "not compared: MRTD, attributes and XFAM, which only a quote or a TDREPORT has"


def explain(seen: Evidence, measured: dict[str, Any], file: str, clues: Clues) -> Explanation:
    """Compares evidence with the nearest of an image's predictions.

    Args:
        seen: the evidence.
        measured: a parsed measurements.json.
        file: the name of `measured` in errors.
        clues: what else is known of the machine.

    Raises:
        InputError: the measurements have no prediction for the evidence's platform, or clues that
            contradict the evidence.
        FormatError: malformed measurements, or a log without the platform's bank.
    """
    found = _compare(seen, measured, file, clues)
    return replace(found, notes=(*found.notes, *_launched_for(seen)))


def _launched_for(seen: Evidence) -> Iterator[str]:
    """Which manifest the machine was launched for. No measurements of an image say that."""
    if isinstance(seen, VtpmEvidence):
        if seen.pcrs:
            yield binding.register_note(seen.pcrs.get(binding.PCR))
    elif isinstance(seen, SnpEvidence):
        if seen.host_data is not None:
            yield binding.HOST_DATA.note(seen.host_data)
    elif seen.mrconfigid is not None:
        yield binding.MRCONFIGID.note(seen.mrconfigid)


def _compare(seen: Evidence, measured: dict[str, Any], file: str, clues: Clues) -> Explanation:
    predictions, line = report.read(measured, file), measured["command_line"]
    if isinstance(seen, VtpmEvidence):
        _require("vtpm", predictions.vtpm, file)
        return _vtpm(seen, predictions, line, clues)
    if isinstance(seen, SnpEvidence):
        _require("sev-snp", predictions.sev_snp, file)
        return sev_snp.explain(seen, predictions.sev_snp, line, clues)
    _require("tdx", predictions.tdx, file)
    found = tdx.explain(seen, predictions.tdx, line, clues)
    missing = [] if seen.rtmrs is not None else [_UNQUOTED, _LOG_ONLY]
    return found if seen.log is None else replace(found, notes=_notes(seen.log, missing))


def _vtpm(
    seen: VtpmEvidence, predictions: report.Predictions, line: str, clues: Clues
) -> Explanation:
    if seen.log is None:
        return vtpm.without_log(seen.pcrs or {}, predictions.vtpm)
    quoted = seen.pcrs or {}
    found = vtpm.explain(seen.log, quoted, predictions.vtpm, line, clues)
    return replace(found, notes=_notes(seen.log, _unquoted(found, quoted, predictions.vtpm)))


def _unquoted(
    found: Explanation, quoted: Mapping[int, bytes], predictions: Sequence[pcr.Prediction]
) -> list[str]:
    """What to say of the predicted registers for which there is only the log."""
    (shape,) = (p.shape for p in predictions if p.shape.name == found.compared_with)
    missing = [str(number) for number in shape.predicted if number not in quoted]
    if missing and quoted:
        return [f"not in the quote, so the event log is the host's word: PCR {', '.join(missing)}"]
    return [_UNQUOTED] if missing else []


def _notes(log: EventLog, missing: Sequence[str]) -> tuple[str, ...]:
    return (*map(str, eventcheck.check(log)), *missing)


def _require(platform: str, predictions: Sequence[object], file: str) -> None:
    if not predictions:
        raise InputError(
            f"the image was not measured for platform {platform}; give its firmware and machines",
            file=file,
        )
