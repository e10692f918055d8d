"""What automatic patching does and waits for, as JSON data."""

from collections.abc import Sequence

from deployments.preview.automatic_status import AutomaticStatus
from tasks.records.automatic.opt_outs import OptOut
from tasks.records.feeds.risk_feeds import RiskFeeds, find_idle_rules
from tasks.reports.formatting import format_iso_utc
from tasks.rules.automatic.deadlines import describe_risk_rule
from tasks.rules.automatic.model import AutomaticPolicy, HeldUpdate, RunPlan, Waiting
from tasks.rules.automatic.progress import MachineStage, RolloutProgress


def build_automatic_json(status: AutomaticStatus) -> dict[str, object]:
    """Return the status as JSON data. It has every waiting machine."""
    return {
        "at": format_iso_utc(status.now),
        "policy": _build_policy_json(status.policy),
        "machineCount": len(status.view.machines),
        "rollout": build_rollout_json(status.progress) if status.progress else None,
        "nextRuns": [build_run_json(next_run) for next_run in status.next_runs],
        "waiting": [build_waiting_json(waiting_machine) for waiting_machine in status.decision.waiting],
        "paused": [build_pause_json(waiting_machine) for waiting_machine in status.pauses],
        "heldUpdates": [build_held_json(held_update) for held_update in status.view.held_updates],
        "feeds": build_feeds_json(status.policy, status.feeds),
    }


def _build_policy_json(policy: AutomaticPolicy) -> dict[str, object]:
    return {
        "enabled": policy.enabled,
        "scope": policy.scope,
        "classifications": sorted(classification.value for classification in policy.classifications),
        "offPeakStart": f"{policy.off_peak_start:%H:%M}",
        "offPeakEnd": f"{policy.off_peak_end:%H:%M}",
        "windowMinutes": policy.window_minutes,
        "dueDays": policy.due_days,
        "successPercent": policy.success_percent,
        "soakHours": policy.soak_hours,
        "maxTries": policy.max_tries,
        "riskRules": [describe_risk_rule(rule) for rule in policy.risk_rules],
    }


def build_rollout_json(progress: RolloutProgress) -> dict[str, object]:
    """Return a rollout, its phases and their machines as JSON data."""
    rollout = progress.rollout
    return {
        "id": rollout.id,
        "state": rollout.state.value,
        "message": rollout.message or None,
        "createdDateTime": format_iso_utc(rollout.created_at),
        "endDateTime": format_iso_utc(rollout.ended_at),
        "updates": [{"patchName": name, "version": version} for name, version in sorted(rollout.updates)],
        "phases": [
            {
                "number": phase.phase.number,
                "locations": list(phase.phase.locations),
                "state": phase.stage.value,
                "startDateTime": format_iso_utc(phase.phase.started_at),
                "endDateTime": format_iso_utc(phase.phase.ended_at),
                "soaksUntilDateTime": format_iso_utc(phase.soaks_until),
                "counts": {stage.value: phase.count(stage) for stage in MachineStage},
                "machines": [
                    {
                        "machineName": machine.machine,
                        "location": machine.location,
                        "state": machine.stage.value,
                        "tries": machine.tries,
                        "reason": machine.reason or None,
                    }
                    for machine in phase.machines
                ],
            }
            for phase in progress.phases
        ],
    }


def build_run_json(plan: RunPlan) -> dict[str, object]:
    """Return a run that is going to start as JSON data."""
    return {
        "key": plan.key,
        "rollout": plan.rollout_id,
        "phase": plan.phase,
        "location": plan.location,
        "availabilityZone": plan.availability_zone or None,
        "windowStart": format_iso_utc(plan.window_start),
        "windowMinutes": plan.window_minutes,
        "zone": plan.zone,
        "machines": list(plan.machines),
    }


def build_waiting_json(waiting: Waiting) -> dict[str, object]:
    """Return why a machine waits as JSON data."""
    return {"machineName": waiting.machine, "reason": waiting.reason, "until": format_iso_utc(waiting.until)}


def build_pause_json(pause: OptOut) -> dict[str, object]:
    """Return an opt-out as JSON data."""
    return {
        "scope": pause.scope,
        "who": pause.who,
        "reason": pause.reason or None,
        "at": format_iso_utc(pause.at),
        "until": format_iso_utc(pause.until),
    }


def build_held_json(held: HeldUpdate) -> dict[str, object]:
    """Return a held update as JSON data."""
    return {
        "patchName": held.name,
        "version": held.version,
        "reason": held.reason,
        "at": format_iso_utc(held.at),
        "rollout": held.rollout_id or None,
    }


def build_feeds_json(policy: AutomaticPolicy, feeds: RiskFeeds) -> dict[str, object]:
    """Return the used feeds, the refused ones, and the rules without their feed as JSON data."""
    idle: Sequence[tuple[int, Sequence[str]]] = [
        (number, [kind.value for kind in kinds]) for number, kinds in find_idle_rules(policy.risk_rules, feeds).items()
    ]
    return {
        "files": [
            {"file": str(file.path), "kind": file.kind.value, "at": format_iso_utc(file.at)} for file in feeds.files
        ],
        "problems": [
            {"file": problem.file, "message": problem.message, "hint": problem.hint or None}
            for problem in feeds.problems
        ],
        "idleRules": [
            {"rule": describe_risk_rule(policy.risk_rules[number - 1]), "missing": kinds} for number, kinds in idle
        ],
    }
