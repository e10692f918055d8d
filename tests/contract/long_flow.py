"""A flow that takes a while, and leaves signs of how far it has come."""

import os
import time
from pathlib import Path

from prefect import flow, get_run_logger


@flow(name="takes-a-while", persist_result=False)
def take_a_while(folder: str, seconds: float) -> None:
    """Write down who carries this out, say something again and again, and write down that it is over."""
    (Path(folder) / "process").write_text(str(os.getpid()))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        get_run_logger().info("still here")
        time.sleep(0.2)
    (Path(folder) / "over").touch()
