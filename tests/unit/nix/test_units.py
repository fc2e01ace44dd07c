"""The units of the images: what each is denied is what stands there.

systemd reads a unit first and then its drop-ins, of which `hardening.conf` is one for all units. So
a setting of both is the drop-in's, and of system call filters the first decides the rest: one that
begins with "~" allows every call that it does not name (systemd.exec(5), SystemCallFilter=).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.protocol.configdisk import MAX_MODELS

IMAGES = Path(__file__).parents[3] / "images"
HARDENING = IMAGES / "common/systemd/confide-.service.d/hardening.conf"
UNITS = sorted(IMAGES.glob("**/systemd/confide-*.service"))
SERVICES = [unit for unit in UNITS if unit.name != "confide-debug.service"]


def settings(file: Path, wanted: str = "[Service]") -> list[tuple[str, str]]:
    """The settings of a section, in order."""
    found: list[tuple[str, str]] = []
    section = ""
    for line in file.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == wanted and not line.startswith("#") and "=" in line:
            name, _, value = line.partition("=")
            found.append((name, value))
    return found


def values(file: Path, name: str) -> list[str]:
    return [value for key, value in settings(file) if key == name]


def test_there_are_units() -> None:
    assert {"confide-role.service", "confide-attester.service"} < {unit.name for unit in SERVICES}
    assert len(settings(HARDENING)) >= 6


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_nothing_that_the_common_drop_in_would_overrule(unit: Path) -> None:
    common = {name for name, _ in settings(HARDENING)}
    assert common.isdisjoint(name for name, _ in settings(unit))


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_only_listed_system_calls_are_allowed(unit: Path) -> None:
    first, *rest = values(unit, "SystemCallFilter")
    assert first.split()[0] == "@system-service"
    assert all(value.startswith("~") for value in rest)
    assert "SystemCallFilter" not in dict(settings(HARDENING))


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_only_the_engine_writes_code(unit: Path) -> None:
    allowed = unit.name == "confide-engine@.service"
    assert values(unit, "MemoryDenyWriteExecute") == ["no" if allowed else "yes"]


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_every_capability_is_listed(unit: Path) -> None:
    expected = {
        "confide-disks.service": ["CAP_SYS_ADMIN CAP_MKNOD"],
        "confide-firewall.service": ["CAP_NET_ADMIN"],
        "confide-gpus.service": ["CAP_SYS_ADMIN"],
        "confide-network.service": [
            "CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_RAW"
        ],
    }
    assert values(unit, "CapabilityBoundingSet") == expected.get(unit.name, [""])


@pytest.mark.parametrize("name", ["confide-firewall", "confide-role"])
def test_nothing_starts_before_the_machine_knows_its_manifest(name: str) -> None:
    """The network comes after the firewall, and so after the binding."""
    found = settings(IMAGES / f"common/systemd/{name}.service", "[Unit]")
    for relation in ("Requires", "After"):
        listed = " ".join(value for key, value in found if key == relation).split()
        assert "confide-binding.service" in listed


def test_a_machine_without_a_binding_ends() -> None:
    unit = IMAGES / "common/systemd/confide-binding.service"
    assert ("FailureAction", "poweroff-force") in settings(unit, "[Unit]")
    service = dict(settings(unit))
    # With Type=oneshot, what comes after it starts when it has ended well.
    assert (service["Type"], service["RemainAfterExit"]) == ("oneshot", "yes")
    assert (service["PrivateNetwork"], service["RestrictAddressFamilies"]) == ("yes", "none")


def test_drop_ins_that_undo_come_after_the_common_one() -> None:
    undo = IMAGES / "debug/app/systemd/confide-debug.service.d/undo.conf"
    assert undo.name > HARDENING.name
    assert {name for name, _ in settings(undo)} < {name for name, _ in settings(HARDENING)}


def test_the_machine_ends_with_the_program_of_its_role() -> None:
    """Whatever the reason, a clean exit too: nothing of one mesh may meet another process."""
    role = IMAGES / "common/systemd/confide-role.service"
    assert values(role, "Restart") == ["no"]
    lines = role.read_text().splitlines()
    assert {"SuccessAction=poweroff-force", "FailureAction=poweroff-force"} < set(lines)
    for drop_in in IMAGES.glob("**/confide-role.service.d/*"):
        assert not {"Restart", "SuccessAction", "FailureAction"} & {
            line.partition("=")[0] for line in drop_in.read_text().splitlines()
        }


@pytest.mark.parametrize("unit", ["common/systemd/confide-role", "worker/systemd/confide-disks"])
def test_the_console_says_how_a_program_ended(unit: str) -> None:
    """A program that was killed cannot say it."""
    [said] = values(IMAGES / f"{unit}.service", "ExecStopPost")
    assert " -m confide.guest.ended " in said


# Units of every role, which are needed for an inventory, too.
EVERYWHERE = sorted((IMAGES / "common/systemd").glob("*.service"))


@pytest.mark.parametrize(
    "unit", [unit for unit in SERVICES if unit not in EVERYWHERE], ids=lambda unit: unit.name
)
def test_an_inventory_boot_starts_no_unit_of_one_role(unit: Path) -> None:
    """The condition counts once the binding is known, so such a unit comes after it."""
    found = settings(unit, "[Unit]")
    assert ("ConditionPathExists", "/run/confide/bound") in found
    after = " ".join(value for key, value in found if key == "After").split()
    assert "confide-binding.service" in after


def test_mounter_has_no_network_and_lets_its_mounts_out() -> None:
    unit = IMAGES / "worker/systemd/confide-disks.service"
    expected = {
        "IPAddressDeny": "any",
        "PrivateNetwork": "yes",
        "RestrictAddressFamilies": "AF_UNIX",
        # Without it, a network namespace brings a mount namespace, which keeps the mounts.
        "PrivateMounts": "no",
    }
    assert {name: values(unit, name) for name in expected} == {
        name: [value] for name, value in expected.items()
    }


@pytest.mark.parametrize("role", ["worker", "secret-service", "coordinator"])
def test_no_rule_of_the_firewall_lets_root_send(role: str) -> None:
    rules = (IMAGES / role / "firewall-role.nft").read_text().splitlines()
    sending = [rule for rule in rules if rule.startswith("add rule ip confide output")]
    assert all(" meta skuid 200 " in rule for rule in sending)
    assert bool(sending) == (role != "coordinator")


def test_machine_ends_with_its_mounter() -> None:
    lines = (IMAGES / "worker/systemd/confide-disks.service").read_text().splitlines()
    assert {"SuccessAction=poweroff-force", "FailureAction=poweroff-force"} < set(lines)
    assert not [line for line in lines if line.startswith("Restart=")]


# engines


WORKER = IMAGES / "worker/systemd"
ENGINES = [f"engine-{number}" for number in range(1, MAX_MODELS + 1)]


def test_every_engine_can_be_started_and_ended() -> None:
    found = settings(WORKER / "confide-engines.service", "[Unit]")
    wanted = " ".join(value for key, value in found if key == "Wants").split()
    assert sorted(wanted) == sorted(
        f"confide-engine{end}@{number}.path"
        for number in range(1, MAX_MODELS + 1)
        for end in ("", "-end")
    )
    ended = settings(WORKER / "confide-engine-end@.target", "[Unit]")
    assert "confide-engine@%i.service" in dict(ended)["Conflicts"].split()
    start = dict(settings(WORKER / "confide-engine@.path", "[Path]"))
    assert start == {"PathChanged": "/run/confide-engines/start/%i"}
    end = dict(settings(WORKER / "confide-engine-end@.path", "[Path]"))
    assert end["PathExists"] == "/run/confide-engines/end/%i"


@pytest.mark.parametrize("unit", ["confide-role.service.d/role.conf", "confide-engines.service"])
def test_who_reaches_the_engines_sockets(unit: str) -> None:
    [groups] = values(WORKER / unit, "SupplementaryGroups")
    assert groups.split() == ENGINES


def test_an_engine_has_what_is_its_own_and_no_more() -> None:
    """Each of these is a way from one engine to another, or to the next process of the same."""
    unit = WORKER / "confide-engine@.service"
    expected = {
        "BindPaths": ["/run/confide-engine/%i/run"],
        "BindReadOnlyPaths": ["/run/confide/models/%i /run/confide-engines/launch/%i.json"],
        "Group": [],
        "CPUWeight": ["100"],
        "MemoryMax": ["80%"],
        "PrivateIPC": ["yes"],
        "PrivateNetwork": ["yes"],
        "PrivateTmp": ["disconnected"],
        "ProtectProc": ["invisible"],
        "RuntimeDirectory": ["confide-engine/%i/run"],
        "RuntimeDirectoryMode": ["0750"],
        "RuntimeDirectoryPreserve": [],
        "Slice": [],
        "StandardError": ["file:/run/confide-engines/stderr/%i"],
        "StandardOutput": [],
        "SupplementaryGroups": [],
        "TasksMax": ["8192"],
        "TemporaryFileSystem": [
            "/run:ro,mode=0755",
            "/dev/shm:mode=1777,nosuid,nodev,size=25%",
        ],
        "UMask": ["0007"],
        "User": ["engine-%i"],
    }
    assert {name: values(unit, name) for name in expected} == expected
    assert ("StartLimitBurst", "30") in settings(unit, "[Unit]")
    assert not values(unit, "Restart"), "the supervisor decides"
    assert not values(unit, "KillMode"), "the whole control group"


def test_the_machine_does_not_end_with_an_engine() -> None:
    for unit in ("confide-engine@.service", "confide-engines.service"):
        text = (WORKER / unit).read_text()
        assert "FailureAction" not in text and "SuccessAction" not in text
