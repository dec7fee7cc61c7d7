"""What surrounds a training run: hooks, mixed precision, processes, resume."""
