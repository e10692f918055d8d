"""How hard the property tests look: the default at every save, "ci" for every change, "thorough" before a release.

HYPOTHESIS_PROFILE names it. Tests whose examples are expensive take a share: ``settings().max_examples // 2``.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("default", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SPREAD = ("tests/lab/test_patch.py", "tests/lab/test_trouble.py", "tests/lab/test_apt.py", "tests/lab/test_ssh.py")
"""Files whose tests share nothing but the lab and take long: each may go to another process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests are divided among processes, keep together what shares something that is dear to make."""
    for item in items:
        place = item.path.relative_to(item.config.rootpath).as_posix()
        if place.startswith("tests/flows/"):
            item.add_marker(pytest.mark.xdist_group("prefect"))  # one server for all of them
        elif place not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(place))
