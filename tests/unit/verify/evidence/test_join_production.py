"""A worker with a GPU joins under a production manifest, end to end in one process.

SIMULATED SEV-SNP processor, GPU and vendors, a FAKE driver (see joining.py).
"""

from __future__ import annotations

from dataclasses import replace

import pynvml
import pytest

from confide.encoding.canonical import json_encode
from confide.errors import UnavailableError, VerificationError
from confide.guest.ending import MachineEndsError
from confide.protocol.certificates import LEAF_LIFETIME
from confide.protocol.collateral import Bundle, Item
from confide.protocol.coordinator import JoinRequest
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import gpu_nonce
from confide.protocol.manifest import Manifest
from confide.verify.collateral import missing_for
from confide.verify.mesh import verify_leaf
from confide.verify.parsed import ParsedEvidence
from tests.support.joining import NOT_READY, READY, ROLE, SET_READY, Setting
from tests.support.production import manifest_value
from tests.support.simulated_amd import NOW

DEBUG = 1 << 19


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
    """A GPU that was good an hour ago and is so no more ends the machine with its certificate."""
    node = setting.node()
    joined = node.join()
    setting.nvml.gpus = [setting.production.gpu.with_measurement(7, bytes(48))]
    setting.clock.now += LEAF_LIFETIME - 1
    node.step()
    assert (node.membership(), node.reason) == (joined, "not-verified")
    setting.clock.now += 1
    with pytest.raises(MachineEndsError, match="certificate has ended, last error: not-verified"):
        node.step()


@pytest.mark.parametrize("prefix", ["", "amd/", "nvidia/"])
def test_nobody_takes_the_collateral_of_a_member_away(setting: Setting, prefix: str) -> None:
    """Not at the coordinator, and not on the way from there."""
    fewer = without(setting.production.bundle(), prefix)
    node = setting.node()
    joined = node.join()
    setting.coordinator.add_collateral(fewer.encode())
    setting.relay.on_collateral = lambda _: fewer
    setting.clock.now += LEAF_LIFETIME - 1
    node.step()
    assert node.reason == ""
    assert node.membership().certificate != joined.certificate


@pytest.mark.parametrize("prefix", ["", "amd/", "nvidia/"])
def test_missing_collateral_only_delays_the_first_join(setting: Setting, prefix: str) -> None:
    whole = setting.production.bundle()
    setting.start_coordinator(without(whole, prefix))
    node = setting.node()
    with pytest.raises(VerificationError):
        node.join()
    assert SET_READY not in setting.nvml.calls
    setting.coordinator.add_collateral(whole.encode())
    node.join()
    assert (node.state, setting.nvml.ready) == ("ready", READY)


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
    setting.start_coordinator(without(whole, prefix))
    setting.relay.on_collateral = lambda _: whole
    error = setting.refusal()
    assert (type(error), error.code) == (VerificationError, "not-verified")
    assert "'collateral'" in str(error)
    assert missing in error.seen
    assert setting.nvml.ready == NOT_READY


def test_without_collateral_the_coordinator_has_seen_what_is_needed(setting: Setting) -> None:
    """The machine's own verdict fails first, but who brings collateral looks at the coordinator."""
    whole = setting.production.bundle()
    setting.start_coordinator(without(whole, "nvidia/"))
    error = setting.refusal()
    assert "'collateral'" in str(error)
    assert "nvidia/rim/" in error.seen
    assert setting.nvml.ready == NOT_READY
    refused = ParsedEvidence.parse(setting.coordinator.refused().evidence)
    manifest = Manifest.parse(json_encode(manifest_value()))
    found = missing_for(refused, manifest.role(ROLE), manifest, without(whole, "nvidia/"))
    assert sum(name.startswith("nvidia/rim/") for name in found) == 2


def test_a_gpu_that_only_the_coordinator_accepts(setting: Setting) -> None:
    setting.relay.on_collateral = lambda _: Bundle()
    error = setting.refusal()
    assert "'collateral'" in str(error)
    assert setting.nvml.ready == NOT_READY


def test_collateral_that_has_ended(setting: Setting) -> None:
    """It stays until a newer one comes, and passes no check."""
    node = setting.node()
    node.join()
    setting.clock.now = NOW + 40 * 86400
    with pytest.raises(VerificationError, match="'revocation list'"):
        node.join()


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
    setting.production.gpu = other
    setting.coordinator.add_collateral(setting.production.bundle().encode())

    def exchange(request: JoinRequest) -> JoinRequest:
        evidence = Evidence.parse(request.evidence)
        nonce = gpu_nonce(evidence.report[0x50:0x90])
        return replace(request, evidence=replace(evidence, gpus=(other.evidence(nonce),)).encode())

    setting.relay.on_request = exchange
    assert "'report data'" in str(setting.refusal())


def test_a_debug_report(setting: Setting) -> None:
    """Its signature, its chain and all it binds are right: only the policy refuses it."""
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


def test_a_hostile_bundle_changes_nothing(setting: Setting) -> None:
    """Anybody may bring collateral: garbage under each name, here and on the way to the machine."""
    whole = setting.production.bundle()
    for garbage in (b"", b"\0", b"<a/>", bytes(5000)):
        hostile = Bundle(dict.fromkeys(whole.items, Item(garbage, NOW)))
        setting.coordinator.add_collateral(hostile.encode())
        node = setting.node()
        node.join()
        setting.relay.on_collateral = lambda _, hostile=hostile: hostile  # type: ignore[misc]
        node.join()
        setting.relay.only_carries(setting.coordinator)
