"""The requests that are sent to machines have every field that an engine gets."""

from __future__ import annotations

import json

import pytest

from confide.protocol.routes.table import SEALED
from tests.support.field_samples import SAMPLES, UNLIKE, passed_paths, paths_of


@pytest.mark.parametrize("path", SEALED)
def test_each_passed_field_is_in_a_sample(path: str) -> None:
    route = SEALED[path]
    assert route.body is not None
    named = [{"model": "tiny", **sample} for sample in SAMPLES[path]]
    asked = SAMPLES[path][0]
    named += [{"model": "tiny", **asked, **sample} for sample in UNLIKE[path]]
    for sample in named:
        assert route.read(json.dumps(sample).encode()) == sample
    sent = set().union(*map(paths_of, named))
    assert passed_paths(route.body) <= sent
