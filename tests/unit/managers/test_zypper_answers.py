"""zypper's XML and its dry runs: real answers, and what no honest machine sends."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import FleetpatchError, ManagerBusy, PrivilegeError, ProtocolViolation
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.states import Classification
from tasks.machines.managers.rpm.zypper import xml_answer
from tasks.machines.managers.rpm.zypper.offers import parse_zypper_candidates
from tasks.machines.managers.rpm.zypper.patches import parse_descriptions, parse_patches
from tasks.machines.managers.rpm.zypper.xml_answer import (
    ZypperAnswer,
    parse_answer,
    parse_install_summary,
    parse_zypper_simulation,
)
from tasks.machines.managers.script_output import ScriptSection
from tests.unit.managers.recordings import recorded


def answered(text: str, exit_code: int = 0) -> ZypperAnswer:
    return parse_answer(ScriptSection(exit_code, text), "a test")


def wanted(*specs: str) -> list[Update]:
    """Updates from "NAME VERSION" and, if it is not noarch, " ARCH"."""
    found = []
    for spec in specs:
        name, version, arch = (*spec.split(), "noarch")[:3]
        found.append(Update(name, name, arch, "1.0-1", version, Classification.OTHER))
    return found


def simulated(recording: str, *specs: str) -> SimulationResult:
    return parse_zypper_simulation(recorded(f"{recording}.rpm_simulate", family="zypper"), wanted(*specs))


class TestSimulation:
    def test_what_it_would_do(self) -> None:
        answer = simulated("sles-15", "lab-dep 2.0-1", "lab-sec 2.1-1", "kernel-default 5.14.2-1 x86_64")
        assert not answer.refusal
        assert answer.changes == {
            "lab-dep": "2.0-1",
            "lab-sec": "2.1-1",
            "kernel-default": "5.14.2-1",
            "lab-newdep": "2.0-1",
        }
        assert answer.download_bytes == 22288
        assert answer.removals == ()

    def test_what_is_replaced_is_a_removal(self) -> None:
        answer = simulated("sles-15-replaces", "lab-new 2.0-1")
        assert (answer.refusal, answer.removals) == ("", ("lab-old",))

    def test_a_refusal_is_assigned_to_the_update_that_it_names(self) -> None:
        names = ("lab-broken 2.0-1", "lab-removes 2.0-1", "lab-locked 2.0-1", "lab-sec 2.1-1")
        answer = simulated("sles-15-refused", *names)
        assert answer.refusal.count("; ") == 2
        assert "nothing provides nowhere needed by lab-broken-2.0-1.noarch" in answer.refusal
        assert answer.named == {"lab-broken", "lab-removes"}

    def test_versions_that_nobody_has(self) -> None:
        answer = simulated("sles-15-unknown", "lab-sec 9.9-1", "lab-gone 1-1", "lab-plain 2.0-1")
        assert set(answer.refused) == {"lab-sec", "lab-gone"}

    def test_no_licence_is_accepted_by_itself(self) -> None:
        answer = simulated("sles-15-licence", "lab-lic 2.0-1", "lab-plain 2.0-1")
        assert (set(answer.named), answer.refusal) == (
            {"lab-lic"},
            "the licence of lab-lic must be accepted on the machine",
        )

    def test_files_that_are_downloaded_are_not_counted(self) -> None:
        result = recorded("sles-15.rpm_simulate", family="zypper")
        some = "lab-dep-2.0-1.noarch.rpm\nlab-sec-2.1-1.noarch.rpm\n"
        every = f"{some}kernel-default-5.14.2-1.x86_64.rpm\nlab-newdep-2.0-1.noarch.rpm\n"
        for cached, size in ((some, 22288), (every, 0)):  # zypper itself tells what is left to download
            records = [{**each, "text": cached} if each.get("name") == "cached" else each for each in result.records]
            answer = parse_zypper_simulation(replace(result, records=tuple(records)), [])
            assert answer.download_bytes == size

    def test_a_simulation_without_a_reason_is_a_refusal(self) -> None:
        assert parse_install_summary(answered("<stream></stream>", 4)).refusals == ("zypper gave no reason",)

    def test_nothing_to_do_is_no_refusal(self) -> None:
        summary = parse_install_summary(answered('<stream><message type="info">Nothing to do.</message></stream>'))
        assert (summary.refusals, summary.changes, summary.download_bytes) == ((), (), 0)


class TestHostileAnswers:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "<stream>",
            "<stream><update-status><update-list>",
            "</stream><stream>",
            "<stream><a></b></stream>",
            "<stream>&bomb;</stream>",
            "<stream><a b='1' b='2'/></stream>",
            "<stream><!DOCTYPE x></stream>",
            "<stream><message>\ud800</message></stream></stream>",
        ],
    )
    def test_what_is_no_complete_answer_is_refused(self, text: str) -> None:
        with pytest.raises(ProtocolViolation):
            answered(text)

    def test_entities_are_not_expanded(self) -> None:
        bomb = '<!DOCTYPE stream [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
        with pytest.raises(ProtocolViolation):
            answered(f"{bomb}<stream><message>&b;</message></stream>")

    def test_no_file_is_read(self) -> None:
        outside = '<!DOCTYPE stream [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
        with pytest.raises(ProtocolViolation):
            answered(f"<stream>{outside}<message>&f;</message></stream>")

    def test_a_very_long_answer_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(xml_answer, "MAX_ANSWER_CHARACTERS", 1000)
        with pytest.raises(ProtocolViolation, match="longer than"):
            answered(f"<stream>{'x' * 1000}</stream>")

    def test_deep_nesting_ends(self) -> None:
        depth = 100_000
        assert answered(f"<stream>{'<a>' * depth}{'</a>' * depth}</stream>").messages == ()

    def test_lines_of_others_around_the_answer_do_no_harm(self) -> None:
        text = "Refreshing service 'x'.\n<?xml version='1.0' encoding='utf-16'?>\n<stream>\x1b[0m</stream>\nbye <b>\n"
        assert answered(text).errors == ()

    def test_entries_that_are_not_valid_are_left_out(self) -> None:
        text = """<stream><update-status><update-list>
            <update kind="package" name="--root=/" edition="1-1" arch="noarch"/>
            <update kind="package" name="a" edition="1 -1" arch="noarch"/>
            <update kind="package" name="b" edition="1-1"/>
            <update kind="patch" name="$(id)" edition="1" arch="noarch"/>
            <update kind="patch" name="c" edition="" arch="noarch"><issue-date time_t="99999999999999999999"/>
              <issue-list><issue type="cve" id="CVE-1; rm"/></issue-list></update>
            </update-list></update-status></stream>"""
        assert parse_zypper_candidates(answered(text)) == ()
        (patch,) = parse_patches(answered(text))
        assert (patch.name, patch.edition, patch.is_needed, patch.advisory.cves) == ("c", "1", True, ())
        assert patch.advisory.published is None

    def test_exit_codes(self) -> None:
        with pytest.raises(ManagerBusy):
            answered("<stream></stream>", 7)
        with pytest.raises(PrivilegeError):
            answered("<stream></stream>", 5)

    @given(st.text(st.sampled_from("<>/='\"& \nabstremupdkinvo-" + string.digits), max_size=300))
    def test_any_text_is_an_answer_or_a_known_error(self, text: str) -> None:
        try:
            answer = answered(f"<stream>{text}</stream>")
            parse_install_summary(answer)
            parse_patches(answer)
        except FleetpatchError:
            pass

    @given(st.text(max_size=500))
    def test_any_description_is_read(self, text: str) -> None:
        parse_descriptions(f"Repository : x\n{text}")


def test_dependencies_of_zypper_1_13_are_read() -> None:
    """Without brackets and without indentation."""
    text = "Repository: x\nName: p\nConflicts:\nopenssl.x86_64 < 1.0-1\nopenssl < 1.0-1\n\nInformation for patch q:\n"
    (found,) = parse_descriptions(text)
    assert found.dependencies["Conflicts"] == ("openssl.x86_64 < 1.0-1", "openssl < 1.0-1")
