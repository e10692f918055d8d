"""The contract of package managers over the fake one."""

import pytest

from tests.contract.manager_contract import *  # noqa: F403  # pytest finds the tests here
from tests.contract.manager_subjects import Subject, fake_subject


@pytest.fixture
def subject() -> Subject:
    return fake_subject()


@pytest.fixture
def looked_at() -> Subject:
    return fake_subject()
