"""``prefdelta real``: the whole way with a real instruct model that every laptop can train, SmolLM2-135M-Instruct."""
