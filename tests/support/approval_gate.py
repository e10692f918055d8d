"""Ports with the gate of real runs, over the fakes of a test."""

from dataclasses import replace

from flows.approval.gate import build_gate
from flows.ports.ports import Ports
from tasks.records.approvals import SqlApprovals


def add_approval_gate(ports: Ports, approvals: SqlApprovals) -> Ports:
    """Return the ports with a gate that waits for decisions in these approvals."""
    gate = build_gate(approvals, ports.records, ports.clock, ports.listener, ports.notify, ports.append_audit)
    return replace(ports, gate=gate)
