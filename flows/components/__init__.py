"""Upgrades components (agents, exporters, applications) on many machines, by ordinary runs of the engine."""
