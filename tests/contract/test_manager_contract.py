"""The contract of package managers over the fake one."""

import pytest

from tests.contract.manager_contract import (  # noqa: F401  # pytest finds the tests here
    TestAssess,
    TestDownload,
    TestInstall,
    TestRehearse,
    TestRepair,
    TestStage,
    test_a_machine_is_not_to_be_rebooted_while_packages_are_changed_or_half_done,
    test_it_is_a_package_manager,
    test_the_same_work_is_the_same_script,
)
from tests.contract.manager_subjects import Subject, fake_subject


@pytest.fixture
def subject() -> Subject:
    return fake_subject()


@pytest.fixture
def looked_at() -> Subject:
    return fake_subject()
