"""What people see and drive: the command, the pages, the API. Whatever is imported of it guards Prefect first."""

import flows  # noqa: F401 - guards Prefect: its settings, its server, and what it sends
