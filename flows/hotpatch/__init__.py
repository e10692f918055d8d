"""Enrols machines for hotpatches or live patches, and ends that: the engine of ``fleetpatch hotpatch``."""
