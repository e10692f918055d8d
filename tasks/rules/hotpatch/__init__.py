"""Hotpatches and live patches: the calendar of baselines, the status of an enrolment, and what may change it. Pure."""
