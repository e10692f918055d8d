"""The first command of the README: the demonstration ends well, by the hosts' own words and by its exit code."""

import pytest

from tests.lab.demo import main
from tests.lab.fleet import Lab


@pytest.mark.slow
def test_the_demonstration_ends_well(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """The fixture says why it can't run where it can't. Two hosts show what three do: one is rebooted, one is not."""
    code = main(["--hosts", "2"])

    said = "".join(capfd.readouterr())
    assert code == 0, said[-6000:]
    assert "✓ Every security update is installed, and only lab-2 was rebooted." in said
