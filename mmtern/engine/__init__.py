"""The training run: hooks, mixed precision, processes, resuming, tools."""
