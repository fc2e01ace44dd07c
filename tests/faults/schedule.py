"""Which fault comes when: a pure function of a seed.

`Model` is the state that the service is expected to be in. It decides which steps are possible
next, and which programs have to end. Nothing here knows a process.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum

MAX_FAULTS = 4
"""Faults at once, before only repairs are left."""

MAX_AGE = 12
"""Steps after which a fault is repaired."""


ACTS = frozenset(
    {
        *("kill", "start", "pause", "resume", "cut", "heal", "turn", "nudge", "fill", "free"),
        "await-end",
    }
)
"""Every kind of step. A nudge turns a clock a little; a node whose end is awaited ends itself."""


class State(Enum):
    """What a program does."""

    UP = "up"
    DOWN = "down"
    PAUSED = "paused"


@dataclass(frozen=True)
class Shape:
    """How many programs of each kind there are. There is one coordinator."""

    services: int
    workers: int
    gateways: int
    proxies: int

    @property
    def service_names(self) -> tuple[str, ...]:
        return _names("secret-service", self.services)

    @property
    def worker_names(self) -> tuple[str, ...]:
        return _names("worker", self.workers)

    @property
    def nodes(self) -> tuple[str, ...]:
        """What joins a mesh."""
        return (*self.service_names, *self.worker_names)

    @property
    def gateway_names(self) -> tuple[str, ...]:
        return _names("gateway", self.gateways)

    @property
    def proxy_names(self) -> tuple[str, ...]:
        return _names("proxy", self.proxies)

    @property
    def parts(self) -> tuple[str, ...]:
        """All programs, in the order in which they are started."""
        return ("coordinator", *self.nodes, *self.gateway_names, *self.proxy_names)

    def gateway_of(self, proxy: str) -> str:
        """The gateway that this proxy has."""
        return self.gateway_names[self.proxy_names.index(proxy) % self.gateways]

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Who connects to whom."""
        return (
            *((node, "coordinator") for node in self.nodes),
            *((worker, service) for worker in self.worker_names for service in self.service_names),
            *((gateway, "coordinator") for gateway in self.gateway_names),
            *((gateway, node) for gateway in self.gateway_names for node in self.nodes),
            *((proxy, self.gateway_of(proxy)) for proxy in self.proxy_names),
        )


def engine_of(worker: str) -> str:
    """The name of a worker's engine."""
    return f"engine-{worker.rpartition('-')[2]}"


FULL = Shape(services=3, workers=3, gateways=2, proxies=3)


def _names(kind: str, count: int) -> tuple[str, ...]:
    return tuple(f"{kind}-{number}" for number in range(1, count + 1))


@dataclass(frozen=True)
class Step:
    """One fault or repair. `after` requests of 50 clients have to end first.

    `other` is the far end of a link, or which way a clock is turned.
    """

    act: str
    target: str
    other: str = ""
    after: int = 0

    def __str__(self) -> str:
        return " ".join(filter(None, (self.act, self.target, self.other)))

    @property
    def link(self) -> tuple[str, str]:
        return self.target, self.other


TURNS = {"forward": 1000, "back": -1000}
"""Seconds by which a clock is turned, so that its machine has to end.

More than the 300 s that a clock may go wrong: on a busy computer, the thread that would see a small
turn back may not run for longer than that.
"""

NUDGE = 20
"""Seconds by which a clock may be turned without any effect."""

MAX_NUDGES = 3


@dataclass
class Model:
    """What is expected of each program, link and disk."""

    shape: Shape
    states: dict[str, State] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    nudged: dict[str, int] = field(default_factory=dict)
    mesh: int = 1
    joined: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = dict.fromkeys(self.shape.parts, State.UP)
        self.joined = dict.fromkeys(self.shape.nodes, self.mesh)

    def is_up(self, part: str) -> bool:
        return self.states[part] is State.UP

    def reaches(self, part: str, other: str) -> bool:
        """Whether both run and nothing is cut between them."""
        return self.is_up(part) and self.is_up(other) and (part, other) not in self.cut

    def is_old(self, part: str) -> bool:
        """Whether the mesh of a node is gone. It ends once it has seen that, or has already."""
        return self.joined.get(part, 0) not in (0, self.mesh)

    def must_end(self) -> list[str]:
        """The nodes that have to end by themselves now."""
        return [
            node
            for node in self.shape.nodes
            if self.is_old(node) and self.reaches(node, "coordinator")
        ]

    def can_verify(self, proxy: str) -> bool:
        """Whether a proxy that starts now finds a service that passes."""
        gateway = self.shape.gateway_of(proxy)
        return (
            (proxy, gateway) not in self.cut
            and self.reaches(gateway, "coordinator")
            and any(
                self.reaches(gateway, service) and self.joined[service] == self.mesh
                for service in self.shape.service_names
            )
        )

    def harms(self) -> list[Step]:
        """Every fault that is possible now."""
        steps = []
        for part in self.shape.parts:
            state = self.states[part]
            guest = part in ("coordinator", *self.shape.nodes) and not self.is_old(part)
            if state is not State.DOWN:
                steps.append(Step("kill", part))
            if state is State.UP:
                steps.append(Step("pause", part))
                if guest:
                    steps += [Step("turn", part, way) for way in TURNS]
                if guest and self.nudged.get(part, 0) < MAX_NUDGES:
                    steps.append(Step("nudge", part))
        steps += [Step("cut", *link) for link in self.shape.links if link not in self.cut]
        disks = (*self.shape.gateway_names, *self.shape.proxy_names)
        steps += [Step("fill", part) for part in disks if part not in self.full]
        return steps

    def repairs(self) -> list[Step]:
        """Every repair that is possible now."""
        steps = []
        for part, state in self.states.items():
            if state is State.PAUSED:
                steps.append(Step("resume", part))
            verifies = part not in self.shape.proxy_names or self.can_verify(part)
            if state is State.DOWN and verifies and part not in self.full:
                steps.append(Step("start", part))
        steps += [Step("await-end", node) for node in self.must_end()]
        steps += [Step("heal", *link) for link in sorted(self.cut)]
        steps += [Step("free", part) for part in sorted(self.full)]
        return steps

    def faults(self) -> int:
        """How many things are not as they should be."""
        parts = sum(state is not State.UP for state in self.states.values())
        old = any(self.is_old(node) for node in self.shape.nodes)
        return parts + old + len(self.cut) + len(self.full)

    def apply(self, step: Step) -> list[str]:
        """Make a step. Returns the nodes that join because of it."""
        part = step.target
        if step.act in ("kill", "turn", "await-end"):
            self.states[part] = State.DOWN
            self.nudged.pop(part, None)
            if part in self.joined:
                self.joined[part] = 0
        elif step.act == "start":
            self.states[part] = State.UP
            if part == "coordinator":
                self.mesh += 1
        elif step.act in ("pause", "resume"):
            self.states[part] = State.PAUSED if step.act == "pause" else State.UP
        elif step.act == "nudge":
            self.nudged[part] = self.nudged.get(part, 0) + 1
        elif step.act == "cut":
            self.cut.add(step.link)
        elif step.act == "heal":
            self.cut.discard(step.link)
        elif step.act == "fill":
            self.full.add(part)
        elif step.act == "free":
            self.full.discard(part)
        joins = [
            node
            for node in self.shape.nodes
            if self.joined[node] == 0 and self.reaches(node, "coordinator")
        ]
        self.joined.update(dict.fromkeys(joins, self.mesh))
        return joins


def schedule(seed: int, count: int, shape: Shape = FULL) -> list[Step]:
    """`count` random steps, then the repairs that leave nothing broken."""
    chance = random.Random(seed)
    model = Model(shape)
    steps: list[Step] = []
    since: dict[Step, int] = {}

    def make(step: Step, after: int) -> None:
        model.apply(step)
        steps.append(Step(step.act, step.target, step.other, after))
        for repair in list(since):
            if repair not in model.repairs():
                del since[repair]
        for repair in model.repairs():
            since.setdefault(repair, len(steps))

    while len(steps) < count:
        old = [step for step, at in since.items() if len(steps) - at >= MAX_AGE]
        repairs = model.repairs()
        if old:
            step = old[0]
        elif repairs and chance.random() < model.faults() / MAX_FAULTS:
            step = chance.choice(repairs)
        else:
            step = _harm(model, chance)
        make(step, chance.randint(2, 30))
    while repairs := model.repairs():
        # The coordinator first: the others need it.
        starts_coordinator = [step for step in repairs if step.target == "coordinator"]
        make((starts_coordinator or repairs)[0], 0)
    return steps


def _harm(model: Model, chance: random.Random) -> Step:
    """A fault: first of which kind, then of what. A new mesh takes longest, so it is rare."""
    harms = model.harms()
    act = chance.choice(sorted({step.act for step in harms}))
    chosen = chance.choice([step for step in harms if step.act == act])
    if chosen.target == "coordinator" and act in ("kill", "turn") and chance.random() < 0.7:
        return chance.choice([step for step in harms if step.target != chosen.target])
    return chosen
