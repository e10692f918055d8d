"""The file of providers, and the provider of each machine of a run."""
