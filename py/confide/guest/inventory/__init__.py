"""A machine that was launched for no manifest: it attests, and does nothing else."""
