"""The tests. Whatever loads Prefect here, and in the processes that it starts, sends nothing to Prefect's makers."""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
