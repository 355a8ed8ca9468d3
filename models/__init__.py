"""The Space-Time Memory network, and nothing else."""
