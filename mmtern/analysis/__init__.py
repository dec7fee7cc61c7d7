"""Analyses of a config or a checkpoint: its ternary layers, their numbers and
the sizes of its files."""
