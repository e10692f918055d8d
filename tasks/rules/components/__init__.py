"""Decisions about components: versions, order, choice, health, and when a failed upgrade is tried again. Pure."""
