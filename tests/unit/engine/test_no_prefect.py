"""The engine knows no Prefect: importing it must not load it, since that costs plain runs seconds."""

import subprocess
import sys


def test_the_engine_does_not_load_prefect() -> None:
    code = "import sys, flows.campaign, flows.plain; print([name for name in sys.modules if name == 'prefect'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
