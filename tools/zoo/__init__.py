"""Parts of tools/zoo_sweep.py."""
