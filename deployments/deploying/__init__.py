"""Former place of ``deployments.sync`` and ``deployments.refresh_schedules``; it keeps one entrypoint alive."""
