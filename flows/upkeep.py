"""Former module of the flows in ``flows.maintenance``: deployments from before 2026-11-22 have it as their entrypoint.

Prefect stores the entrypoint with each deployment. Without this module an older deployment fails until
`fleetpatch deploy` replaces it. Release 0.2.0 may remove it: every fleet is deployed again by then.
"""

from flows.maintenance import prune_records, report_fleet, stage_fleet

__all__ = ["prune_records", "report_fleet", "stage_fleet"]
