"""The signals of a process that serves until it is told to end: the pages, the endpoint of events, servers, workers."""

import signal


def set_signals() -> None:
    """Let this process be ended, whatever its parent ignores or blocks. For its start, in its main thread.

    A new process ignores what its parent ignores. The shell of a script lets what it starts by ``&`` ignore SIGINT, and
    Prefect's worker sends itself SIGINT when it gets SIGTERM.

    SIGINT and SIGTERM end the process, until it has handlers of its own. SIGHUP, when its terminal is gone, does what
    SIGTERM does. If the parent ignores SIGHUP, as nohup does, so does this process.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: signal.raise_signal(signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
