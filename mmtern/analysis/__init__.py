"""What a config or a checkpoint makes ternary, and what it will weigh."""
