"""Runs fleetpatch under a profiler, all its threads. The times are processor time, not wall time.

    python -m tests.bench.profiled STATISTICS patch …

STATISTICS is a file for pstats. The profiler makes everything slower, calls of small functions most: its times say
where the processor's time goes, not how much it is.
"""

import cProfile
import os
import pstats
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any


def main(words: list[str]) -> None:
    output, *arguments = words
    profiles: list[cProfile.Profile] = []

    def start_profile() -> cProfile.Profile:
        # the clock of this thread: what has not ended at the end is measured by another thread
        clock = time.pthread_getcpuclockid(threading.get_ident())
        profile = cProfile.Profile(partial(time.clock_gettime, clock))
        profiles.append(profile)
        profile.enable()
        return profile

    def profile_thread(run: Callable[..., None]) -> Callable[..., None]:
        def run_profiled(thread: threading.Thread) -> None:
            profile = start_profile()
            try:
                run(thread)
            finally:
                profile.disable()  # its clock ends with it

        return run_profiled

    def write_statistics() -> None:
        pstats.Stats(*profiles).dump_stats(output)

    def end_after_writing(end: Callable[[int], Any]) -> Callable[[int], Any]:
        def write_and_end(code: int) -> None:
            write_statistics()
            end(code)

        return write_and_end

    bootstrap = "_bootstrap_inner"  # of subclasses with a run() of their own, too
    setattr(threading.Thread, bootstrap, profile_thread(getattr(threading.Thread, bootstrap)))
    os._exit = end_after_writing(os._exit)  # type: ignore[assignment]
    sys.argv = ["fleetpatch", *arguments]
    start_profile()
    try:
        from fleetpatch.cli.command import main as run_command

        run_command()
    finally:
        write_statistics()


if __name__ == "__main__":
    main(sys.argv[1:])
