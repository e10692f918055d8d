"""Changes that people ask for outside of runs, on one machine or many: each under the machine's lock, and recorded."""
