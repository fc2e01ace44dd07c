"""Which GPUs a model gets, and every way in which it gets none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ConfigError
from confide.guest.worker.engine.placement import BESIDE_PERCENT, Demand, place, require_memory

GIB = 1 << 30
H100 = 80 * GIB


def model(name: str = "a", *, gpus: int = 1, percent: int = 90, weights: int = GIB) -> Demand:
    return Demand(name, gpus, percent, weights)


def refused(demands: list[Demand], memory: list[int]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        place(demands, memory)
    return caught.value


@pytest.mark.parametrize(
    ("demands", "gpus", "placed"),
    [
        ([], 2, []),
        ([model()], 1, [(0,)]),
        ([model(), model()], 2, [(0,), (1,)]),
        ([model(gpus=4)], 8, [(0, 1, 2, 3)]),
        ([model(gpus=4), model(gpus=4)], 8, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ([model(percent=45), model(percent=45)], 1, [(0,), (0,)]),
        (
            [model(percent=60), model(gpus=2, percent=50), model(percent=40)],
            3,
            [(0,), (1, 2), (1,)],
        ),
        ([model(percent=50), model(percent=90), model(percent=40)], 2, [(0,), (1,), (0,)]),
    ],
)
def test_first_fit(demands: list[Demand], gpus: int, placed: list[tuple[int, ...]]) -> None:
    assert place(demands, [H100] * gpus) == placed


def test_more_gpus_than_there_are() -> None:
    error = refused([model(), model("large", gpus=8)], [H100] * 4)
    assert error.code == "too-few-gpus"
    assert "large" in error.message
    assert error.expected.startswith("8 GPUs")
    assert error.seen == "4"


def test_no_gpu_at_all() -> None:
    assert refused([model()], []).code == "too-few-gpus"


def test_gpus_that_other_models_have() -> None:
    error = refused([model(percent=60), model("second", percent=60)], [H100])
    assert error.code == "gpus-taken"
    assert "second" in error.message
    assert error.seen == "35 %"


def test_an_engine_takes_more_than_its_share() -> None:
    """VLLM wants its whole share free, and the first engine's CUDA context is outside of its."""
    error = refused([model(percent=50), model("second", percent=50)], [H100])
    assert error.code == "gpus-taken"
    assert error.expected == "1 GPUs with 50 + 5 % free"
    assert error.seen == "45 %"
    assert place([model(percent=95)], [H100]) == [(0,)], "the most that a manifest can give"


def test_weights_that_do_not_fit() -> None:
    given = H100 * 90 // 100
    assert place([model(weights=given)], [H100]) == [(0,)]
    error = refused([model("large", weights=given + 1)], [H100])
    assert error.code == "model-too-large"
    assert "large" in error.message
    assert error.expected == f"weights of at most {given} bytes"
    assert error.seen == f"{given + 1} bytes"


def test_the_smallest_gpu_decides_for_a_model_on_several() -> None:
    assert place([model(gpus=2, percent=50, weights=40 * GIB)], [H100, 40 * GIB]) == [(0, 1)]
    assert refused([model(gpus=2, percent=50, weights=41 * GIB)], [H100, 40 * GIB]).code == (
        "model-too-large"
    )


@given(
    st.lists(st.builds(model, gpus=st.integers(1, 4), percent=st.integers(10, 95)), max_size=8),
    st.integers(0, 8),
)
def test_no_gpu_is_given_away_twice(demands: list[Demand], gpus: int) -> None:
    try:
        placed = place(demands, [H100] * gpus)
    except ConfigError:
        return
    taken = [0] * gpus
    for demand, indexes in zip(demands, placed, strict=True):
        assert len(set(indexes)) == demand.gpus
        for index in indexes:
            taken[index] += demand.percent + BESIDE_PERCENT
    assert all(percent <= 100 for percent in taken)


def test_without_gpus_all_weights_share_the_memory() -> None:
    require_memory([model(weights=GIB), model(weights=GIB)], 2 * GIB)
    with pytest.raises(ConfigError) as caught:
        require_memory([model(weights=GIB), model("second", weights=GIB)], 2 * GIB - 1)
    assert caught.value.code == "model-too-large"
    assert "second" in caught.value.message
