"""A flow that takes as long as it is wanted to, and leaves signs of how far it has come."""

import json
import os
import time
from pathlib import Path

from prefect import flow, get_run_logger


@flow(name="takes-a-while", persist_result=False)
def take_a_while(folder: str) -> None:
    """Write down who carries this out, say something again and again until it may end, and write down that it did."""
    (Path(folder) / "environment").write_text(json.dumps(dict(os.environ)))
    (Path(folder) / "process").write_text(str(os.getpid()))
    until = time.monotonic() + 600  # a test that fails must not leave it behind for ever
    while not (Path(folder) / "may-end").exists() and time.monotonic() < until:
        get_run_logger().info("still here")
        time.sleep(0.2)
    (Path(folder) / "over").touch()
