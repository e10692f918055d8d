"""Units and containers of an earlier release start deployments.serve again and again: it changes nothing, and waits."""

import signal
import subprocess
import sys

from tests.ci.tree import TOP


def test_the_former_process_of_the_forms_says_what_to_do_and_waits_until_it_is_stopped() -> None:
    words = (sys.executable, "-P", "-m", "deployments.serve")
    environment = {"PYTHONPATH": str(TOP), "PREFECT_API_URL": "http://192.0.2.1/api"}  # it asks no server
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        assert "systemctl disable --now fleetpatch-serve" in process.stderr.readline()
        assert process.poll() is None  # Restart=always has nothing to start
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
