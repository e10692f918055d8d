"""Scheduled events over HTTP: the endpoint, and programs that were written for Azure."""
