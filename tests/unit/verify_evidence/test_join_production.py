"""A worker with a GPU joins under a production manifest, end to end in one process.

SIMULATED SEV-SNP processor, GPU and vendors, a FAKE driver; coordinator, node, the GPU service on
its socket and the verifiers are the real ones.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pynvml
import pytest
from confide.coordinator.domain import Coordinator
from confide.errors import ConfideError, UnavailableError, VerificationError
from confide.formats.canonical import json_encode
from confide.formats.certificates import LEAF_LIFETIME
from confide.formats.collateral import Bundle, Item
from confide.formats.coordinator import JoinReply, JoinRequest, MeshReply
from confide.formats.evidence import Evidence
from confide.formats.gpu import REFUSALS, gpu_nonce
from confide.formats.manifest import Manifest
from confide.issue.gpus import RemoteGpus, operations
from confide.issue.local import serve
from confide.issue.nvidia import NvidiaGpus
from confide.mesh.gpus import AttestedGpus
from confide.mesh.join import Node
from confide.verify.collateral import missing_for
from confide.verify.evidence import verify_gpu_evidence
from confide.verify.mesh import verify_leaf

from tests.support.fake_nvml import VERSION, FakeNvml, install_driver
from tests.support.production import Production, manifest_value
from tests.support.simulated_amd import NOW, SimulatedChip
from tests.support.simulated_machine import Clock

ROLE = "worker-gpu"
READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
NOT_READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
SET_READY = "nvmlSystemSetConfComputeGpusReadyState"
DEBUG = 1 << 19
# This machine is no TDX one, and brings its certificates along.
UNUSED = ("intel/", "amd/vcek/", "amd/milan/ask", "amd/milan/ark")


@dataclass
class SimulatedAttester:
    """A SIMULATED processor that attests; a test may alter its evidence."""

    chip: SimulatedChip
    alter: Callable[[Evidence, bytes], Evidence] = lambda evidence, _: evidence

    def evidence(self, report_data: bytes) -> Evidence:
        return self.alter(self.chip.evidence(report_data), report_data)


@dataclass
class Relay:
    """A JoinClient without a network; a test may alter what passes through it."""

    coordinator: Coordinator
    on_request: Callable[[JoinRequest], JoinRequest] = lambda request: request
    on_collateral: Callable[[Bundle], Bundle] = lambda bundle: bundle

    def mesh(self) -> MeshReply:
        return self.coordinator.mesh()

    def collateral(self) -> Bundle:
        return self.on_collateral(Bundle.parse(self.coordinator.collateral()))

    def challenge(self) -> bytes:
        return self.coordinator.challenge()

    def join(self, request: JoinRequest) -> JoinReply:
        return self.coordinator.join(self.on_request(request))


@dataclass
class Setting:
    """A coordinator with manifest and collateral, and a machine that wants to join."""

    production: Production
    clock: Clock
    root: Path
    service: Path
    coordinator: Coordinator = field(init=False)
    relay: Relay = field(init=False)
    attester: SimulatedAttester = field(init=False)
    nvml: FakeNvml = field(init=False)

    def __post_init__(self) -> None:
        self.coordinator = Coordinator(SimulatedAttester(self.production.chip), now=self.clock)
        self.coordinator.set_manifest(json_encode(manifest_value()))
        self.coordinator.set_collateral(self.production.bundle().encode())
        self.relay = Relay(self.coordinator)
        self.attester = SimulatedAttester(self.production.chip)
        self.nvml = FakeNvml([self.production.gpu])

    def node(self, *, models: tuple[str, ...] = ("large",), gpus: bool = True) -> Node:
        driver = RemoteGpus(self.service)
        attested = AttestedGpus(driver, ROLE, self.relay.collateral, now=self.clock)
        return Node(
            ROLE,
            self.attester,
            self.relay,
            models=models,
            gpus=attested if gpus else None,
            now=self.clock,
            monotonic=self.clock,
        )

    def refusal(self, *, gpus: bool = True) -> ConfideError:
        """Why the machine may not join."""
        node = self.node(gpus=gpus)
        with pytest.raises(ConfideError) as caught:
            node.join()
        with pytest.raises(UnavailableError, match="not a member"):
            node.membership()
        return caught.value


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Setting]:
    production = Production()
    production.pin(monkeypatch)
    root = install_driver(tmp_path)
    made = Setting(production, Clock(NOW), root, tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(made.service))
        listener.listen()
        gpus = operations(NvidiaGpus(made.nvml, root))
        threading.Thread(target=serve, args=(listener, gpus), daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


Break = Callable[[Setting], object]


def _set(name: str, value: int) -> Break:
    return lambda setting: setting.nvml.settings.update({name: value})


def _fail(function: str, code: int) -> Break:
    return lambda setting: setting.nvml.failing.update({function: code})


def _firmware_gone(setting: Setting) -> None:
    (setting.root / f"opt/driver/firmware/nvidia/{VERSION}/gsp_ga10x.bin").unlink()


def _service_gone(setting: Setting) -> None:
    setting.service = setting.root / "nothing"


def _ampere(setting: Setting) -> None:
    setting.nvml.gpus = [replace(setting.production.gpu, architecture="ampere")]


def _no_chain(setting: Setting) -> None:
    setting.nvml.gpus = [replace(setting.production.gpu, chain=())]


# What makes a machine refuse for each reason, and what its console then says.
AGAINST: dict[str, tuple[Break, str]] = {
    "no-gpu": (lambda setting: setting.nvml.gpus.clear(), "no NVIDIA GPU that can be used"),
    "gpu-service": (_service_gone, ""),
    "gpu-driver": (
        _fail("nvmlDeviceGetConfComputeGpuAttestationReport", pynvml.NVML_ERROR_UNKNOWN),
        "refused a call that attestation needs",
    ),
    "gpu-driver-mismatch": (
        _fail("nvmlInit", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        "library does not fit its kernel module",
    ),
    "gpu-firmware-missing": (_firmware_gone, "no firmware for the GPU driver that is loaded"),
    "gpu-cc-off": (
        _set("ccFeature", pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED),
        "confidential mode is wrong",
    ),
    "gpu-devtools-on": (
        _set("devToolsMode", pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_ON),
        "developer tools mode is wrong",
    ),
    "gpu-not-production": (
        _set("environment", pynvml.NVML_CC_SYSTEM_ENVIRONMENT_SIM),
        "environment is wrong",
    ),
    "gpu-protected-pcie": (
        _set("multiGpuMode", pynvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE),
        "multi-GPU mode is wrong",
    ),
    "gpu-unsupported": (_ampere, "architecture is wrong"),
    "gpu-bad-answer": (_no_chain, "did not answer as one that can be attested"),
}


def without(bundle: Bundle, prefix: str) -> Bundle:
    return Bundle({k: v for k, v in bundle.items.items() if not k.startswith(prefix)})


def test_a_worker_with_a_gpu_gets_its_certificate(setting: Setting) -> None:
    node = setting.node()
    joined = node.join()
    identity = verify_leaf(joined.certificate, joined.mesh_ca, joined.root_ca, role=ROLE, now=NOW)
    assert (identity.role, identity.models) == (ROLE, ("large",))
    assert identity.public_key == joined.private_key.public_key()
    assert node.state == "ready"
    assert setting.nvml.ready == READY


def test_the_gpu_is_set_ready_last_of_all(setting: Setting) -> None:
    setting.node().join()
    calls = setting.nvml.calls
    ready = calls.index(SET_READY)
    assert "nvmlDeviceGetConfComputeGpuAttestationReport" in calls[:ready]
    assert calls[ready:] == [SET_READY, "nvmlShutdown"]


def test_the_gpu_is_not_ready_before_the_coordinator_agreed(setting: Setting) -> None:
    """The machine finds its GPU good and the coordinator does not answer, or with nonsense."""
    given: list[int] = []

    def lost(request: JoinRequest) -> JoinRequest:
        given.append(setting.nvml.ready)
        raise UnavailableError("lost", "the request was lost")

    setting.relay.on_request = lost
    assert setting.refusal().code == "lost"
    setting.relay.on_request = lambda request: replace(request, models=())
    assert setting.refusal().code == "not-verified"
    assert given == [NOT_READY]
    assert SET_READY not in setting.nvml.calls


def test_a_gpu_that_cannot_be_set_ready(setting: Setting) -> None:
    """Everybody agreed, but there is no membership before the driver does."""
    setting.nvml.failing[SET_READY] = pynvml.NVML_ERROR_NO_PERMISSION
    assert setting.refusal().code == "gpu-ready-state"


def test_it_attests_its_gpu_again_with_every_certificate(setting: Setting) -> None:
    """A GPU that was good an hour ago and is so no more is taken back with the certificate."""
    node = setting.node()
    joined = node.join()
    setting.nvml.gpus = [setting.production.gpu.with_measurement(7, bytes(48))]
    with pytest.raises(VerificationError, match="GPU 0 driver measurements"):
        node.join()
    assert (node.membership(), setting.nvml.ready) == (joined, READY)
    setting.clock.now += LEAF_LIFETIME
    with pytest.raises(VerificationError, match="GPU 0 driver measurements"):
        node.join()
    assert (node.state, setting.nvml.ready) == ("expired", NOT_READY)
    setting.nvml.gpus = [setting.production.gpu]
    with pytest.raises(UnavailableError, match="start the machine again"):
        node.join()
    assert node.state == "expired"


def test_a_coordinator_that_is_away_takes_no_gpu_back(setting: Setting) -> None:
    def lost(request: JoinRequest) -> JoinRequest:
        raise UnavailableError("lost", "the request was lost")

    node = setting.node()
    node.join()
    setting.relay.on_request = lost
    setting.clock.now += LEAF_LIFETIME
    with pytest.raises(UnavailableError):
        node.join()
    assert (node.state, setting.nvml.ready) == ("expired", READY)
    setting.relay.on_request = lambda request: request
    node.join()
    assert node.state == "ready"


@pytest.mark.parametrize(
    ("prefix", "missing"),
    [
        ("", "amd/milan/crl"),
        ("amd/milan/crl", "amd/milan/crl"),
        ("nvidia/rim/", "nvidia/rim/NV_GPU_DRIVER"),
        ("nvidia/ocsp/", "nvidia/ocsp/"),
    ],
)
def test_without_collateral(setting: Setting, prefix: str, missing: str) -> None:
    """The coordinator lacks it. The machine has it from elsewhere, so that its own GPUs pass."""
    whole = setting.production.bundle()
    setting.coordinator.set_collateral(without(whole, prefix).encode())
    setting.relay.on_collateral = lambda _: whole
    error = setting.refusal()
    assert (type(error), error.code) == (VerificationError, "not-verified")
    assert "'collateral'" in str(error)
    assert missing in error.seen
    assert setting.nvml.ready == NOT_READY


def test_without_collateral_the_coordinator_has_seen_what_is_needed(setting: Setting) -> None:
    """The machine's own verdict fails first, but who brings collateral looks at the coordinator."""
    whole = setting.production.bundle()
    setting.coordinator.set_collateral(without(whole, "nvidia/").encode())
    error = setting.refusal()
    assert "'collateral'" in str(error)
    assert "nvidia/rim/" in error.seen
    assert setting.nvml.ready == NOT_READY
    refused = Evidence.parse(setting.coordinator.refused().evidence)
    manifest = Manifest.parse(json_encode(manifest_value()))
    found = missing_for(refused, manifest.role(ROLE), manifest, without(whole, "nvidia/"))
    assert sum(name.startswith("nvidia/rim/") for name in found) == 2


def test_a_gpu_that_only_the_coordinator_accepts(setting: Setting) -> None:
    setting.relay.on_collateral = lambda _: Bundle()
    error = setting.refusal()
    assert "'collateral'" in str(error)
    assert setting.nvml.ready == NOT_READY


def test_collateral_that_has_ended(setting: Setting) -> None:
    whole = setting.production.bundle()
    setting.clock.now = NOW + 40 * 86400
    setting.relay.on_collateral = lambda _: whole
    assert "'revocation list'" in str(setting.refusal())


def test_another_machines_gpu(setting: Setting) -> None:
    """Its evidence is genuine and fresh, but it signed what another machine's report binds."""
    elsewhere = setting.production.gpu.evidence(gpu_nonce(bytes(64)))

    def exchange(request: JoinRequest) -> JoinRequest:
        evidence = replace(Evidence.parse(request.evidence), gpus=(elsewhere,))
        return replace(request, evidence=evidence.encode())

    setting.relay.on_request = exchange
    error = setting.refusal()
    assert (type(error), error.code) == (VerificationError, "not-verified")
    assert "'GPU 0 nonce'" in str(error)


def test_another_gpu_that_answers_for_this_one(setting: Setting) -> None:
    """A second good GPU signs the right nonce, but the machine's report binds the first."""
    other = setting.production.nvidia.gpu("GPU-1")
    items = dict(setting.production.bundle().items)
    setting.production.gpu = other
    setting.coordinator.set_collateral(Bundle(items).merged(setting.production.bundle()).encode())

    def exchange(request: JoinRequest) -> JoinRequest:
        evidence = Evidence.parse(request.evidence)
        nonce = gpu_nonce(evidence.report[0x50:0x90])
        return replace(request, evidence=replace(evidence, gpus=(other.evidence(nonce),)).encode())

    setting.relay.on_request = exchange
    assert "'report data'" in str(setting.refusal())


def test_a_debug_report(setting: Setting) -> None:
    """Its signature, its chain and all it binds are right: only the policy speaks against it."""
    setting.attester.chip = setting.production.chip.but(
        policy=setting.production.chip.policy | DEBUG
    )
    error = setting.refusal()
    assert (type(error), error.code) == (VerificationError, "not-verified")
    assert "'guest policy: debug'" in str(error)


def test_zero_gpus(setting: Setting) -> None:
    """A machine that says so, and one whose GPU was taken out of the evidence on the way."""
    error = setting.refusal(gpus=False)
    assert "'number of GPUs'" in str(error)

    def take_out(request: JoinRequest) -> JoinRequest:
        evidence = replace(Evidence.parse(request.evidence), gpus=())
        return replace(request, evidence=evidence.encode())

    setting.relay.on_request = take_out
    assert "'report data'" in str(setting.refusal())


def test_what_speaks_against_the_gpus_is_listed_whole() -> None:
    """Each code has its machine below."""
    assert set(AGAINST) == set(REFUSALS)


@pytest.mark.parametrize("code", REFUSALS)
def test_gpus_that_cannot_be_attested(
    setting: Setting, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It serves nothing, and says why on its console, in its evidence and at the coordinator."""
    breaks, says = AGAINST[code]
    good = setting.service
    breaks(setting)
    for _ in range(2):
        error = setting.refusal()
        assert (type(error), error.code) == (VerificationError, "not-verified")
        assert "the check 'GPU refusal' failed" in str(error)
        assert (error.expected, error.seen) == ("none", code)
    assert setting.nvml.ready == NOT_READY
    refused = setting.coordinator.refused()
    evidence = Evidence.parse(refused.evidence)
    assert (refused.role, evidence.gpu_refusal, evidence.gpus) == (ROLE, code, ())
    lines = capsys.readouterr().err.splitlines()
    if code == "gpu-service":  # what is not there says nothing
        assert lines == []
    else:
        assert len([line for line in lines if says in line]) == 1
    # The reason that it names is the reason.
    setting.service = good
    setting.nvml.settings = FakeNvml().settings
    setting.nvml.gpus, setting.nvml.failing = [setting.production.gpu], {}
    install_driver(setting.root)
    setting.node().join()


@pytest.mark.parametrize("code", ["", "gpu-cc-off"])
def test_a_refusal_that_was_exchanged_on_the_way(setting: Setting, code: str) -> None:
    setting.nvml.gpus = []

    def exchange(request: JoinRequest) -> JoinRequest:
        evidence = replace(Evidence.parse(request.evidence), gpu_refusal=code)
        return replace(request, evidence=evidence.encode())

    setting.relay.on_request = exchange
    assert "'report data'" in str(setting.refusal())


def test_a_refusal_that_was_added_on_the_way(setting: Setting) -> None:
    def add(request: JoinRequest) -> JoinRequest:
        evidence = replace(Evidence.parse(request.evidence), gpu_refusal="no-gpu")
        return replace(request, evidence=evidence.encode())

    setting.relay.on_request = add
    assert "'report data'" in str(setting.refusal())


def test_a_machine_that_says_why_its_gpus_are_refused_and_shows_them(setting: Setting) -> None:
    """A refusal counts, whatever comes with it."""
    evidence = Evidence("sev-snp", b"", (), b"", (b"gpu",), "gpu-cc-off")
    verdict = verify_gpu_evidence(
        evidence,
        report_data=bytes(64),
        manifest=Manifest.parse(json_encode(manifest_value())),
        role=ROLE,
        collateral=setting.production.bundle(),
        now=NOW,
    )
    assert [check.name for check in verdict.checks] == ["GPU refusal"]
    assert not verdict.passed


def test_a_processor_that_makes_no_report_is_no_reason_against_gpus(setting: Setting) -> None:
    def busy(evidence: Evidence, report_data: bytes) -> Evidence:
        raise UnavailableError("tsm-busy", "the processor makes no report")

    setting.attester.alter = busy
    assert setting.refusal().code == "tsm-busy"


def test_the_console_has_each_reason_once(
    setting: Setting, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the GPU service, and of the program that joins and joins."""
    setting.nvml.gpus = []
    attempts = threading.Semaphore(0)

    def count(request: JoinRequest) -> JoinRequest:
        attempts.release()
        return request

    setting.relay.on_request = count
    node = setting.node()
    node.start()
    for _ in range(3):
        assert attempts.acquire(timeout=10)
    assert node.reason == "not-verified"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "there is no NVIDIA GPU that can be used" in lines[0]
    assert "joining failed" in lines[1]
    assert "the check 'GPU refusal' failed; expected none; seen no-gpu" in lines[1]


def test_a_gpu_with_other_firmware_is_never_ready(setting: Setting) -> None:
    setting.nvml.gpus = [setting.production.gpu.with_measurement(7, bytes(48))]
    assert "'GPU 0 driver measurements'" in str(setting.refusal())
    assert setting.nvml.ready == NOT_READY


def test_evidence_of_another_join(setting: Setting) -> None:
    """Whatever was recorded answers a challenge that is used up."""
    recorded: list[JoinRequest] = []

    def record(request: JoinRequest) -> JoinRequest:
        recorded.append(request)
        return request

    setting.relay.on_request = record
    setting.node().join()
    with pytest.raises(VerificationError) as caught:
        setting.coordinator.join(recorded[0])
    assert caught.value.code == "stale-nonce"
    setting.relay.on_request = lambda request: replace(recorded[0], nonce=request.nonce)
    assert "'report data'" in str(setting.refusal())


def test_a_hostile_bundle_makes_joining_fail_and_nothing_worse(setting: Setting) -> None:
    """Anybody may bring collateral: each item replaced by garbage is a check that fails."""
    whole = setting.production.bundle()
    setting.relay.on_collateral = lambda _: whole
    for name in whole.items:
        for garbage in (b"", b"\0", b"<a/>", bytes(5000)):
            hostile = Bundle({**whole.items, name: Item(garbage, NOW)})
            setting.coordinator.set_collateral(hostile.encode())
            if name.startswith(UNUSED):
                setting.node().join()
            else:
                assert setting.refusal().code == "not-verified", name
