"""What providers of live patches say, and when a reboot may wait for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.errors import ProtocolViolation
from tasks.domain.model import LivePatching, RebootNeed
from tasks.domain.protocols.transport import ScriptResult
from tasks.domain.states import YesNoUnknown
from tasks.machines.managers.apt.reboot_need import find_apt_reboot_need
from tasks.machines.managers.live_patches import mitigate_reboot, parse_live_patches
from tasks.machines.managers.script_output import parse_sections
from tasks.records.encoding.codec import decode, encode
from tasks.rules.machine_checks.packages import describe_live_patching
from tests.unit.managers.recordings import DATA, describe, recorded, wanted
from tests.unit.managers.test_apt_reboot import NEW, OLD
from tests.unit.managers.test_apt_reboot import record as reboot_record

FAMILY = "live_patches"
ANSWERS = sorted(path.stem for path in (DATA / FAMILY).glob("*.json") if not path.stem.endswith(".wanted"))
NEW_KERNEL = RebootNeed(YesNoUnknown.YES, ("a newer kernel is installed",))
MITIGATED = {"ubuntu-22.04-applied", "rhel-9-covered", "sles-15-covered", "oracle-9-ksplice"}


def parsed(result: ScriptResult) -> LivePatching | None:
    return parse_live_patches(result, parse_sections(result, "assess"))


def read(name: str) -> LivePatching | None:
    return parsed(recorded(name, family=FAMILY))


def section(name: str, text: str, exit_code: int = 0) -> dict[str, Any]:
    return {"kind": "section", "name": name, "text": text, "exit_code": exit_code, "stderr": ""}


def loaded(name: str, enabled: str = "1", transition: str = "0") -> dict[str, Any]:
    return {"kind": "live_patch", "name": name, "enabled": enabled, "transition": transition}


def answer(*records: dict[str, Any], kernel: str = "5.14.0-1.el9.x86_64") -> LivePatching:
    live = parsed(ScriptResult(({"kind": "live_patching", "kernel": kernel}, *records), 0))
    assert live is not None
    return live


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_mean_what_they_are_wanted_to(name: str) -> None:
    live = read(name)
    assert (None if live is None else describe(live)) == wanted(name, FAMILY)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_reboot_is_mitigated_only_by_live_patches_that_cover_all_of_it(name: str) -> None:
    live = read(name)
    need = mitigate_reboot(NEW_KERNEL, live, only_kernel=True)
    assert bool(need.mitigated_by) is (name in MITIGATED)
    assert need == RebootNeed(YesNoUnknown.YES, NEW_KERNEL.reasons, need.mitigated_by)
    if need.mitigated_by:
        assert live is not None
        assert need.mitigated_by.startswith(f"{live.provider}: ")
        assert live.assurance or need.mitigated_by.endswith("all CVEs that the newer kernel's changelog names")
        assert need.explanation == f"a newer kernel is installed; mitigated by {need.mitigated_by}"


@pytest.mark.parametrize("name", sorted(MITIGATED))
@pytest.mark.parametrize("need", [RebootNeed(YesNoUnknown.NO), RebootNeed(YesNoUnknown.UNKNOWN, ("?",)), NEW_KERNEL])
def test_another_reason_or_no_need_at_all_is_never_mitigated(name: str, need: RebootNeed) -> None:
    only_kernel = need is not NEW_KERNEL
    assert mitigate_reboot(need, read(name), only_kernel=only_kernel) == need


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_known_is_stored_and_described(name: str) -> None:
    live = read(name)
    if live is not None:
        assert decode(LivePatching, encode(live)) == live
    described = describe_live_patching(live)
    assert described == "" if live is None else described.startswith(f"{live.provider}: {live.state}")


def test_the_description_names_what_is_lacking() -> None:
    assert describe_live_patching(read("rhel-9-uncovered")) == (
        "kpatch: enabled; kpatch_5_14_0_427_13_1_1_3; fixes 2 CVEs; "
        "a newer kernel also fixes CVE-2024-26735, CVE-2024-26993"
    )
    not_loaded = describe_live_patching(read("rhel-9-not-loaded"))
    assert not_loaded.endswith("problem: kpatch_5_14_0_427_13_1_1_3 is installed, but not loaded")


@pytest.mark.parametrize(
    ("relation", "cves"),
    [("unknown", "CVE-2024-1086"), ("newer", ""), ("older", "CVE-2024-1086")],
    ids=["of another stream", "a changelog without CVEs", "nothing newer"],
)
def test_fixes_that_are_not_known_are_no_fixes_that_are_covered(relation: str, cves: str) -> None:
    package = {"kind": "live_patch_package", "name": "kpatch-patch-5_14_0-1", "version": "1", "release": "1.el9",
               "cves": "CVE-2024-1086"}  # fmt: skip
    kernel = {"kind": "other_kernel", "release": "5.14.0-2.el9", "relation": relation, "cves": cves}
    live = answer(loaded("kpatch_5_14_0_1_1_1"), package, kernel)
    assert live.cves == ("CVE-2024-1086",)
    assert live.unfixed_cves is None
    assert not mitigate_reboot(NEW_KERNEL, live, only_kernel=True).mitigated_by


def test_one_live_patch_of_unknown_content_makes_all_of_them_unknown() -> None:
    package = {"kind": "live_patch_package", "name": "kpatch-patch-5_14_0-1", "version": "1", "release": "1.el9",
               "cves": "CVE-2024-1086"}  # fmt: skip
    assert answer(loaded("kpatch_5_14_0_1_1_1"), loaded("own"), package).cves is None


@pytest.mark.parametrize(
    ("effective", "installed", "is_current"),
    [
        ("5.15.0-208.159.3.el9uek", "5.15.0-208.159.3.el9uek", True),
        ("5.15.0-208.159.3.el9uek.x86_64", "5.15.0-99.1.el9uek", True),
        ("5.15.0-208.159.3.2.el9uek", "5.15.0-208.159.3.el9uek", True),
        ("5.15.0-208.159.3.el9uek", "5.15.0-208.159.3.1.el9uek", False),
        ("5.15.0-208.159.3.el9uek", "5.15.10-1.1.1.el9uek", False),
        ("5.15.0-208.159.3.el9uek", "5.14.0-1.el9", False),
        ("5.15.0-89.99", "5.15.0-90.100.el9uek", False),
        ("99", "x", False),
    ],
)
def test_ksplice_covers_a_kernel_that_its_effective_kernel_is_as_new_as(
    effective: str, installed: str, is_current: bool
) -> None:
    text = f"Installed updates:\n[abc] CVE-2024-1086: A flaw.\n\nEffective kernel version is {effective}\n"
    kernel = {"kind": "other_kernel", "release": installed, "relation": "unknown", "cves": ""}
    assert bool(answer(section("ksplice", text), kernel).assurance) is is_current


def test_a_detection_of_an_attack_is_no_fix() -> None:
    live = read("oracle-9-ksplice")
    assert live is not None
    assert "CVE-2022-0847" not in (live.cves or ())


@pytest.mark.parametrize("tool", ["canonical_livepatch", "ksplice", "klp"])
@pytest.mark.parametrize(("text", "code"), [("", 124), ("", 137), ("Traceback", 1), ("[]", 1)])
def test_a_tool_that_fails_is_a_problem(tool: str, text: str, code: int) -> None:
    live = answer(section(tool, text, code), loaded("a"))
    assert live.problem
    assert not mitigate_reboot(NEW_KERNEL, live, only_kernel=True).mitigated_by


@given(text=st.text(max_size=200), tool=st.sampled_from(["canonical_livepatch", "ksplice", "klp"]))
def test_no_text_is_a_fault_or_an_assurance(text: str, tool: str) -> None:
    live = answer(section(tool, text), section("pro_reboot_required", text), loaded("a"))
    assert not mitigate_reboot(NEW_KERNEL, live, only_kernel=True).mitigated_by


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"Status": 5}',
        '{"Status": [5]}',
        '{"Status": [{"Running": true, "Livepatch": 5}]}',
        '{"Status": [{"Running": true, "Livepatch": {"State": "applied", "CheckState": "checked", "Fixes": [5]}}]}',
        '{"Status": [{"Running": true, "Livepatch": {"State": "applied", "CheckState": "checked", "Fixes": 5}}]}',
        f'{{"Status": {"9" * 10_000}}}',
    ],
)
def test_hostile_json_is_a_problem(text: str) -> None:
    assert answer(section("canonical_livepatch", text), section("pro_reboot_required", text)).problem


def test_malformed_records_are_refused() -> None:
    with pytest.raises(ProtocolViolation):
        answer({"kind": "live_patch", "name": 5, "enabled": "1", "transition": "0"})


def test_lists_are_bounded() -> None:
    cves = " ".join(f"CVE-2024-{number}" for number in range(10_000, 40_000))
    live = answer(*(loaded(f"p{number}") for number in range(1000)))
    assert len(live.patches) == 500
    assert len(answer(section("klp", f"a\n    active: 1\n    CVE: {cves}\n"), loaded("a")).cves or ()) == 5_000
    newer = {"kind": "other_kernel", "release": "1-1", "relation": "newer", "cves": f"{cves} CVE-2023-9999"}
    live = answer(section("klp", f"a\n    active: 1\n    CVE: {cves}\n"), loaded("a"), newer)
    assert live.unfixed_cves == ("CVE-2023-9999",)


@pytest.mark.parametrize(
    ("changes", "needrestart", "is_mitigated"),
    [
        ({"images": f"{NEW}\n{OLD}"}, None, True),
        ({"flag": True, "asked_by": "linux-image-6.1.0-41-amd64\nlinux-base\n"}, None, True),
        ({"flag": True, "asked_by": "linux-base\nlibc6\n", "images": f"{NEW}\n{OLD}"}, None, False),
        ({"flag": True, "asked_by": "", "images": f"{NEW}\n{OLD}"}, None, False),
        ({"images": f"{NEW}\n{OLD}"}, "NEEDRESTART-UCSTA: 2\n", False),
        ({"images": f"{NEW}\n{OLD}"}, "NEEDRESTART-KSTA: 3\n", True),
        ({}, None, False),
    ],
)
def test_on_ubuntu_only_a_new_kernel_is_mitigated(
    changes: dict[str, Any], needrestart: str | None, is_mitigated: bool
) -> None:
    need = find_apt_reboot_need(reboot_record(**changes), needrestart, read("ubuntu-22.04-applied"))
    assert bool(need.mitigated_by) is is_mitigated
