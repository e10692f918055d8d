"""Attacks by names that are other people's or other groups', and look or compare the same."""

import pytest

from fleetpatch.access.providers.login_file import LoginFile, RolesEntry
from fleetpatch.access.providers.logins import Logins
from fleetpatch.access.providers.person import LoginRefused, Person
from flows.approval.answers import find_approval_objection
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import ApprovalRequest
from tests.support.fake_clock import FakeClock

MAPPING = {"staff": "run", "Öffnung": "approve"}
GROUPS = ["\u017ftaff", "\ufb06aff", "\u017fTAFF", "öffnung", "O\u0308ffnung", "staff "]


@pytest.fixture
def logins() -> Logins:
    roles = [RolesEntry(group=group, roles=[role]) for group, role in MAPPING.items()]
    return Logins(LoginFile.model_construct(roles=roles), FakeClock())


@pytest.mark.parametrize("group", [*GROUPS, "STAFF"])
def test_a_group_that_somebody_names_like_another_has_no_role(logins: Logins, group: str) -> None:
    """Attacker: somebody who may make groups at the provider, but not join those with a role.

    Way: a group whose name casefold() takes for "staff": with a long s, a ligature, an accent apart; in another case.
    What must hold: no role; in a directory, only the case of A to Z is none of the name.
    """
    with pytest.raises(LoginRefused, match="in no group"):
        logins.list_roles(Person("eve", (group,), "1"))
    of_directory = Person("eve", (group,), "1", is_case_ignored=True)
    if group in {"STAFF", "staff "}:  # directories ignore both
        assert logins.list_roles(of_directory) == ("run",)
    else:
        with pytest.raises(LoginRefused, match="in no group"):
            logins.list_roles(of_directory)


@pytest.mark.parametrize("name", ["han\u017f", "\ufb01nk", "\uff41nna", "Ju\u0308rgen", "\u212aim"])
def test_a_name_whose_characters_stand_for_others_logs_nobody_in(logins: Logins, name: str) -> None:
    """Attacker: somebody who chooses a name at the provider that reads like a colleague's.

    What must hold: no login, as records and approvals compare names.
    """
    with pytest.raises(LoginRefused, match="can be taken for others"):
        logins.list_roles(Person(name, ("staff",), "1"))
    assert logins.list_roles(Person("Jürgen Groß", ("staff",), "1")) == ("run",)


@pytest.mark.parametrize("name", ["HANS", "han\u017f", " hans ", "\uff48ans"])
def test_who_starts_a_run_approves_it_under_no_other_spelling(name: str) -> None:
    """Attacker: the starter of a run, with a second login whose name is written otherwise.

    What must hold: the run says that its starter may not approve it.
    """
    request = PatchRequest(scope="*", approval=ApprovalRequest(required=True, not_by_starter=True))
    said = find_approval_objection(request, "hans", name, login=name)
    assert said == "hans started it and may not approve it"
