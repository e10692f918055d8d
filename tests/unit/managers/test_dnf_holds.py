"""Which updates the owner of a machine holds back."""

import pytest

from tasks.machines.managers.rpm.dnf.holds import parse_holds
from tasks.machines.managers.rpm.packages import InstalledPackage

LIST = "/etc/dnf/plugins/versionlock.list:"


def installed(*names: str) -> list[InstalledPackage]:
    return [InstalledPackage(name, name, "x86_64", "1.0-1") for name in names]


@pytest.mark.parametrize(
    ("entry", "hides"),
    [
        ("bash-0:1.0-1.*", True),
        ("bash-1.0-1.*", True),
        ("bash-1.0-1", True),
        ("bash-1.*", True),
        ("bash-0:2.0-1.*", False),
        ("bash-2.0-1.x86_64", False),
        ("bash-2.*", False),
        ("bash", False),
        ("!bash-0:2.0-1.*", True),
        ("!bash-0:1.5-1.*", False),
        ("bash-completion-0:1.0-1.*", False),
        ("other-0:1.0-1.*", False),
        ("bas?-1.0-1.x86_64", True),
    ],
)
def test_a_lock_hides_other_versions(entry: str, hides: bool) -> None:
    assert parse_holds(LIST + entry).hides(installed("bash")[0], "2.0-1") is hides


def test_an_epoch_is_part_of_the_version() -> None:
    holds = parse_holds(f"{LIST}bind-32:9.16.23-1.*")
    (bind,) = installed("bind")
    assert holds.hides(bind, "32:9.16.24-1")
    assert not holds.hides(bind, "32:9.16.23-1")


def test_locked_and_excluded_packages_are_listed() -> None:
    text = (
        f"{LIST}bash-0:1.0-1.*\n/etc/dnf/dnf.conf:excludepkgs = kernel*, mariadb\n"
        "/etc/yum.repos.d/x.repo:exclude=php-*\n/etc/yum.repos.d/x.repo:includepkgs=foo\n"
    )
    holds = parse_holds(text)
    assert holds.excluded == ("kernel*", "mariadb", "php-*")
    assert holds.list_held(installed("bash", "kernel-core", "mariadb", "php-fpm", "vim")) == (
        *("bash", "kernel-core", "mariadb", "php-fpm"),
    )


def test_no_rules_hold_nothing() -> None:
    holds = parse_holds("")
    assert not holds.hides(installed("bash")[0], "2-1")
    assert holds.list_held(installed("bash")) == ()
