"""The first command of the README: the demonstration ends well, by the hosts' own words and by its exit code."""

import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.ci.tree import TOP
from tests.lab.fleet import Lab


@pytest.mark.slow
def test_the_demonstration_ends_well(lab: Lab) -> None:  # the fixture says why it can't run where it can't
    command = [sys.executable, "-m", "tests.lab.demo"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "✓ Every security update is installed, and only lab-2 was rebooted." in done.stdout
    pages = re.search(r"Pages: (http://127\.0\.0\.1:\d+)", done.stdout)
    assert pages is not None
    with pytest.raises(urllib.error.URLError):  # they end with it
        urllib.request.urlopen(pages[1], timeout=5)
