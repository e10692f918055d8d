"""Former module of the flow refresh-schedules: deployments from before 2026-11-22 have it as their entrypoint.

Prefect stores the entrypoint with each deployment. Without this module an older deployment fails until
`fleetpatch deploy` has replaced it. Release 0.2.0 may remove it: every fleet is deployed anew by then.
"""

from deployments.refresh_schedules import refresh_schedules

__all__ = ["refresh_schedules"]
