"""Deployments, schedules, the server, the worker and the pages. Whatever is imported of them guards Prefect first.

Its programs start as ``python -P -m deployments.…``, and some load Prefect before anything of ``flows``.
"""

import flows  # noqa: F401 - guards Prefect: its settings, its server, and what it sends
