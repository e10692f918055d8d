"""What a plan and a report say of the packages that a run replaces: what an undo could have back of them."""

from dataclasses import replace

from tasks.domain.protocols.package_manager import WayBack
from tasks.domain.states import FindingLevel
from tasks.rules.kept_packages import MAX_KEPT_BYTES, build_keep_parameters, describe_kept, describe_no_way_back
from tests.unit.rules.test_undo import a_change

UPDATES = [replace(a_change(f"p{n}").update, previous_offered=offered) for n, offered in enumerate([False, None, True])]
NO_WAY = "not undoable here by packages: 1 of 3 (the repositories keep only the newest version): p0"
UNKNOWN = "whether packages can be taken back is not known before: 1 of 3"


def test_a_plan_says_what_could_not_be_taken_back() -> None:
    back = WayBack(caution="no promise")
    assert describe_no_way_back(UPDATES, back) == (NO_WAY, UNKNOWN)
    assert describe_no_way_back(UPDATES[2:], back) == ()
    assert describe_no_way_back([replace(UPDATES[0], goes_back=True)], back) == ()
    assert describe_no_way_back(UPDATES, WayBack(obstacle="as a whole")) == ()


def test_a_plan_says_what_the_option_changes() -> None:
    keeps = WayBack(caution="no promise", keeps=True)
    without = describe_no_way_back(UPDATES, keeps)
    assert without == (
        f"{NO_WAY}. keep_previous keeps all others, and of these what the package manager's cache has",
        UNKNOWN,
    )
    kept = "what this run replaces is kept on the machine for an undo"
    assert describe_no_way_back(UPDATES, keeps, keep=True) == (
        kept,
        "not in the repositories any more: 1 of 3. Kept only if the package manager's cache has them: p0",
    )
    assert describe_no_way_back(UPDATES[2:], keeps, keep=True) == (kept,)
    for other in (WayBack(caution="no promise"), WayBack(obstacle="as a whole")):
        assert "is not kept here" in describe_no_way_back(UPDATES, other, keep=True)[0]
    new = [replace(UPDATES[0], installed=None)]
    assert describe_no_way_back(new, keeps, keep=True) == ()  # it replaces nothing


def test_what_is_not_kept_is_one_remark_with_the_reasons() -> None:
    whole = describe_kept({"kept": 2, "total": 2, "lost": "", "full": "", "late": ""}, "")
    assert (whole.level, whole.message) == (FindingLevel.GOOD, "kept 2 of 2 packages that this run replaces")
    part = describe_kept({"kept": 1, "total": 4, "lost": " a=1 b:i386=1:2", "full": " c=1", "late": ""}, "")
    assert part.level is FindingLevel.REMARK
    assert part.message == (
        "kept 1 of 4 packages that this run replaces; not kept: neither the machine nor its repositories have the file "
        "of a, b:i386; no room (1024 MiB a run at most, and the machine's reserve) for c"
    )
    none = describe_kept(None, "its download failed: no route")
    assert none.level is FindingLevel.REMARK
    assert none.message.endswith("replaces: its download failed: no route")
    untold = describe_kept({"failure": "apt did not tell what the installation replaces: E: no"}, "")
    assert untold.level is FindingLevel.REMARK
    assert untold.message.endswith("replaces: apt did not tell what the installation replaces: E: no")
    half = describe_kept({"kept": 1, "total": 2, "failure": "apt did not tell where it gets b=1: E: no"}, "")
    assert half.message.endswith("replaces; not kept: apt did not tell where it gets b=1: E: no")


def test_room_stays_for_the_installation() -> None:
    sizes = [replace(UPDATES[0], size_bytes=1000), replace(UPDATES[1], size_bytes=None)]
    assert build_keep_parameters("r", sizes) == {
        "keep": "r",
        "keep_bytes": str(MAX_KEPT_BYTES),
        "keep_reserve": str(200 * 1024**2 + 4000),
    }
