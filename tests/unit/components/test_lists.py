"""What the list says of a machine: what it has, by its newest word; and which warnings of its run are foreign."""

from dataclasses import replace

import pytest

from flows.components.overview import ComponentKnowledge
from inventory.machine import OsFamily
from tasks.domain.components import ComponentStanding, InstalledComponent
from tasks.domain.model import Finding
from tasks.domain.states import FindingLevel
from tasks.rules.components.choice import choose_version
from tasks.rules.components.foreign import remark_foreign
from tests.support.builders import at, make_package_state
from tests.support.components import make_component, make_try, make_versions


class TestForeignWarnings:
    BEFORE = make_package_state(services_to_restart=("ssh.service",))

    @pytest.mark.parametrize(
        ("check", "now", "level"),
        [
            ("services-to-restart", ("ssh.service",), FindingLevel.REMARK),
            ("services-to-restart", ("cron.service", "ssh.service"), FindingLevel.WARN),
            ("auto-updater", (), FindingLevel.REMARK),
            ("pending-reboot", (), FindingLevel.WARN),  # it was not so before
            ("component", (), FindingLevel.WARN),
        ],
    )
    def test_what_was_so_before_is_a_remark(self, check, now, level):
        findings = remark_foreign(
            [Finding.warn(check, "look", "act")], self.BEFORE, make_package_state(services_to_restart=now)
        )
        assert [finding.level for finding in findings] == [level]

    def test_what_blocks_stays(self):
        blocking = Finding.block("packages", "broken")
        assert remark_foreign([blocking], self.BEFORE, None) == (blocking,)


class TestWhatAMachineHas:
    """What the list says, from the newest word of the machine."""

    @staticmethod
    def find(**changes):
        installed = {"web-1": {"exporter": InstalledComponent("exporter", "1.0.0")}}
        known = {"installed": installed, "answered_at": {"web-1": at(0)}, **changes}
        return ComponentKnowledge(**known).find_installed("exporter", "web-1")

    def test_the_end_of_an_upgrade_is_newer_than_an_assessment(self):
        upgraded = make_try(at=at(60), version_before="1.0.0", version_after="1.1.0")
        assert self.find(tries={"exporter": [upgraded]}).version == "1.1.0"
        assert self.find(tries={"exporter": [upgraded]}, answered_at={"web-1": at(90)}).version == "1.0.0"

    def test_what_nobody_saw_is_unknown_and_says_what_to_do(self):
        unseen = make_try(at=at(60), version_before="1.0.0")
        installed = self.find(tries={"exporter": [unseen]})
        assert (installed.version, "fleetpatch assess web-1" in installed.problem) == (None, True)
        installed = self.find(changing={"exporter": {"web-1": "run-7"}})
        assert (installed.version, "fleetpatch resume run-7" in installed.problem) == (None, True)

    @pytest.mark.parametrize("before", ["1.0.5", ""])
    def test_a_withdrawn_version_is_not_current_and_its_way_back_is_named(self, before):
        good, bad = make_versions("1.0.5", "1.0.6"), replace(make_versions("1.1.0")[0], withdrawn="it leaks")
        component = make_component("exporter", versions=(*good, bad))
        tries = [make_try(version_before=before, succeeded=True)]
        installed = InstalledComponent("exporter", "1.1.0")
        choice = choose_version(component, installed, OsFamily.LINUX, tries, "web-1", at(60))
        assert (choice.standing, choice.standing.is_unsettled) == (ComponentStanding.NON_CURRENT, True)
        assert choice.reason == (
            "version 1.1.0 was withdrawn: it leaks. To take it back: "
            f"fleetpatch components upgrade exporter web-1 --to {before or '1.0.6'}"
        )

    def test_a_version_that_only_a_journal_has_comes_to_nobody_by_itself(self):
        kept = replace(make_versions("1.2.0")[0], is_kept=True)
        component = make_component("exporter", versions=(*make_versions("1.0.0"), kept))
        installed = InstalledComponent("exporter", "1.0.0")
        choice = choose_version(component, installed, OsFamily.LINUX, (), "web-1", at(0))
        assert choice.standing is ComponentStanding.CURRENT
        ordered = choose_version(component, installed, OsFamily.LINUX, (), "web-1", at(0), "1.2.0")
        assert ordered.target == kept
