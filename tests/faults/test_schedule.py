"""The schedule is a function of its seed, makes only steps that are possible, and leaves nothing
broken.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.schedule import ACTS, FULL, MAX_AGE, MAX_NUDGES, Model, State, Step, schedule

SEEDS = range(20)


def test_a_seed_is_a_schedule() -> None:
    assert schedule(7, 200) == schedule(7, 200)
    assert schedule(7, 200) != schedule(8, 200)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_step_is_possible_and_nothing_stays_broken(seed: int) -> None:
    steps = schedule(seed, 200)
    assert len(steps) >= 200
    model = Model(FULL)
    for step in steps:
        possible = [*model.harms(), *model.repairs()]
        assert Step(step.act, step.target, step.other) in possible
        model.apply(step)
    assert set(model.states.values()) == {State.UP}
    assert not model.cut and not model.full
    assert set(model.joined.values()) == {model.mesh}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fault_that_can_be_repaired_is_repaired_in_time(seed: int) -> None:
    model = Model(FULL)
    possible: Counter[Step] = Counter()
    for step in schedule(seed, 200):
        model.apply(step)
        repairs = model.repairs()
        possible = Counter({repair: possible[repair] + 1 for repair in repairs})
        # One step repairs one fault, so the last of several that are due has to wait.
        assert max(possible.values(), default=0) <= 2 * MAX_AGE


def test_all_kinds_of_faults_come() -> None:
    acts = Counter(step.act for seed in SEEDS for step in schedule(seed, 200))
    assert set(acts) == ACTS
    assert min(acts.values()) > len(SEEDS)


def test_a_new_mesh_ends_the_nodes_of_the_old_one() -> None:
    model = Model(FULL)
    assert not model.must_end()
    model.apply(Step("kill", "coordinator"))
    assert not model.must_end(), "nobody shows another mesh"
    model.apply(Step("cut", "worker-1", "coordinator"))
    model.apply(Step("pause", "worker-2"))
    model.apply(Step("start", "coordinator"))
    assert set(model.must_end()) == set(FULL.nodes) - {"worker-1", "worker-2"}
    assert not [step for step in model.harms() if step.act == "turn" and "worker" in step.target]
    model.apply(Step("heal", "worker-1", "coordinator"))
    assert "worker-1" in model.must_end()


def test_a_node_joins_when_it_reaches_the_coordinator() -> None:
    model = Model(FULL)
    model.apply(Step("kill", "worker-1"))
    model.apply(Step("cut", "worker-1", "coordinator"))
    assert model.apply(Step("start", "worker-1")) == []
    assert model.apply(Step("heal", "worker-1", "coordinator")) == ["worker-1"]


def test_a_proxy_is_started_only_where_it_can_verify() -> None:
    model = Model(FULL)
    model.apply(Step("kill", "proxy-1"))
    assert Step("start", "proxy-1") in model.repairs()
    for fault, repair in (
        (Step("cut", "proxy-1", "gateway-1"), Step("heal", "proxy-1", "gateway-1")),
        (Step("cut", "gateway-1", "coordinator"), Step("heal", "gateway-1", "coordinator")),
        (Step("fill", "proxy-1"), Step("free", "proxy-1")),
    ):
        model.apply(fault)
        assert Step("start", "proxy-1") not in model.repairs()
        model.apply(repair)
    for service in FULL.service_names:
        assert model.can_verify("proxy-1")
        model.apply(Step("pause", service))
    assert not model.can_verify("proxy-1")


def test_small_turns_do_not_add_up() -> None:
    model = Model(FULL)
    for _ in range(MAX_NUDGES):
        assert Step("nudge", "worker-1") in model.harms()
        model.apply(Step("nudge", "worker-1"))
    assert Step("nudge", "worker-1") not in model.harms()
    for step in (Step("kill", "worker-1"), Step("start", "worker-1")):
        model.apply(step)
    assert Step("nudge", "worker-1") in model.harms(), "a new start has the right clock"
