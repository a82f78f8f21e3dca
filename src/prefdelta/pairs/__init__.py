"""Questions in, preference pairs out: prompts, answers of two models, and which of them is preferred."""
