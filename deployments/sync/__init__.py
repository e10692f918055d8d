"""From maintenance configurations to Prefect: desired state, actual state, and the changes between them."""
