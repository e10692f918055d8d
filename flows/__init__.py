"""The flows, and all that they need. Whatever is imported of them guards Prefect first: its settings, and its server.

A program that imports a flow need not know Prefect. So this can't be left to it.
"""

from flows.prefect_api.server_settings import guard_prefect

guard_prefect()
