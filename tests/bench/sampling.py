"""What the kernel says of processes while a benchmark runs: their CPU time, their peaks, and how long they waited."""

import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

SAMPLE_SECONDS: Final = 0.2
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """CPU time of a process, s, and of the children that it has waited for; and its peak, MiB."""

    own_seconds: float
    children_seconds: float
    peak: float

    @classmethod
    def read(cls, process_id: int) -> "Process":
        """Read it now. OSError: it is gone."""
        fields = (
            Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
        )
        status = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8", errors="replace")
        peak = re.search(r"VmHWM:\s+(\d+)", status)
        own, children = sum(map(int, fields[11:13])) / _TICKS, sum(map(int, fields[13:15])) / _TICKS
        return cls(own, children, int(peak[1]) / 1024 if peak else 0.0)


@dataclass
class Sampler:
    """Reads the peaks of the workers' processes in a thread of its own.

    Attributes:
        peaks: MiB by flow run.
        writer_peak: MiB, of what these processes have started: it writes the report.
        server_waits: at which time Prefect's server had waited how long for a core, s.
    """

    workers: Sequence[int]
    server_id: int
    peaks: dict[str, float] = field(default_factory=dict)
    writer_peak: float = 0.0
    server_waits: list[tuple[float, float]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _flow_runs: dict[int, str] = field(default_factory=dict)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Read until the end of the block."""
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.server_waits.append((time.monotonic(), read_wait(self.server_id)))
            for worker in self.workers:
                for child in list_children(worker):
                    with suppress(OSError):
                        self._read(child)
                        for writer in list_children(child):
                            self.writer_peak = max(self.writer_peak, Process.read(writer).peak)

    def find_server_wait(self, begin: float, end: float) -> float:
        """Return how long the server waited for a core between two times, in seconds."""
        before = [waited for at, waited in self.server_waits if at <= begin]
        after = [waited for at, waited in self.server_waits if at >= end]
        return after[0] - before[-1] if before and after else 0.0

    def _read(self, child: int) -> None:
        if child not in self._flow_runs:
            environment = Path(f"/proc/{child}/environ").read_bytes()
            flow_run = re.search(rb"PREFECT__FLOW_RUN_ID=([0-9a-f-]+)", environment)
            if flow_run is None:
                return  # not started in full
            self._flow_runs[child] = str(UUID(flow_run[1].decode()))
        name = self._flow_runs[child]
        self.peaks[name] = max(self.peaks.get(name, 0.0), Process.read(child).peak)


def read_wait(process_id: int) -> float:
    """Return how long the main thread of a process was ready and had no core, in seconds."""
    return int(Path(f"/proc/{process_id}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


def list_children(process_id: int) -> list[int]:
    """Return the child processes of a process."""
    words: list[str] = []
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        with suppress(OSError):
            words += task.read_text(encoding="ascii").split()
    return [int(word) for word in words]
