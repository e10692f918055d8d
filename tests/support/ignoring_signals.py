"""``python -m tests.support.ignoring_signals MODULE WORDS…``: ``python -m MODULE WORDS…`` as a script's background.

A shell without job control lets what it starts by ``&`` ignore SIGINT, and nohup SIGHUP.
"""

import runpy
import signal
import sys

for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
