"""InternLM2 checkpoints, ANAH-v2 among them, as plain Llama folders that need no code from the hub."""
