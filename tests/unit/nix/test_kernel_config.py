"""What the kernel's final configuration is compared with."""

from __future__ import annotations

from pathlib import Path

import kernel_config
import pytest
import tree

KERNEL = Path(__file__).parents[3] / "images/kernel"
FINAL = """\
# CONFIG_MODULES is not set
CONFIG_SMP=y
CONFIG_NR_CPUS=512
CONFIG_LSM="lockdown,yama"
CONFIG_XEN_NOTHING=0
"""


def check(asked: str = "", required: str = "", forbidden: str = "") -> None:
    kernel_config.check(FINAL, [asked], required, forbidden)


def test_what_is_asked_for_and_there_is_right() -> None:
    asked = '# a reason\nCONFIG_SMP=y\n\nCONFIG_LSM="lockdown,yama"\nCONFIG_MODULES=n\n'
    check(asked, "CONFIG_NR_CPUS=512\n", "# devices\nCONFIG_XEN*\nCONFIG_USB\n")


def test_an_option_that_kconfig_dropped() -> None:
    with pytest.raises(tree.BuildError, match="CONFIG_DM_VERITY is n, asked for was y"):
        check("CONFIG_DM_VERITY=y\n")


def test_an_option_that_kconfig_set_by_itself() -> None:
    with pytest.raises(tree.BuildError, match="CONFIG_SMP is y, asked for was n"):
        check("CONFIG_SMP=n\n")


def test_a_required_option_that_nobody_asked_for() -> None:
    with pytest.raises(tree.BuildError, match="CONFIG_VMAP_STACK is n, required is y"):
        check(required="CONFIG_VMAP_STACK=y\n")


def test_a_forbidden_option() -> None:
    with pytest.raises(tree.BuildError, match=r"CONFIG_SMP is y, but forbidden \(CONFIG_S\*\)"):
        check(forbidden="CONFIG_S*\n")


def test_every_problem_is_named() -> None:
    with pytest.raises(tree.BuildError) as caught:
        check("CONFIG_A=y\nCONFIG_B=y\n", "CONFIG_C=y\n", "CONFIG_NR_CPUS\n")
    assert str(caught.value).count("\n  CONFIG_") == 4


@pytest.mark.parametrize(
    ("asked", "said"),
    [("SMP=y\n", "expected CONFIG_NAME=value"), ("CONFIG_A=y\nCONFIG_A=n\n", "set twice")],
)
def test_a_file_that_cannot_be_meant(asked: str, said: str) -> None:
    with pytest.raises(tree.BuildError, match=said):
        check(asked)


# Nobody can ask for it: kconfig sets it where the table's file has a name.
FOLLOWS = ["CONFIG_ACPI_CUSTOM_DSDT is n, required is y"]


def test_our_lists_agree_with_each_other() -> None:
    """Nothing that is asked for is forbidden, all that is required is asked for, nothing twice."""
    common = [
        path.read_text()
        for path in KERNEL.glob("*.config")
        if path.stem not in ("gpu", "no-modules")
    ]
    forbidden = kernel_config.lines((KERNEL / "forbidden.list").read_text())
    every = (KERNEL / "required.list").read_text()
    plain = (KERNEL / "required-no-modules.list").read_text()
    for variant, texts in (("gpu", [every]), ("no-modules", [every, plain])):
        required = kernel_config.parse(texts)
        assert kernel_config.present(required, forbidden) == []
        asked = kernel_config.parse([*common, (KERNEL / f"{variant}.config").read_text()])
        assert kernel_config.present(asked, forbidden) == []
        assert kernel_config.missing(asked, required, "required is") == FOLLOWS
