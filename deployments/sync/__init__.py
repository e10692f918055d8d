"""From maintenance configurations to Prefect: what should be there, what is, and how the one becomes the other."""
