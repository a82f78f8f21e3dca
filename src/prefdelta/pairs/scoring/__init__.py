"""Answers in, scores out: by a reward model, by comparison with gold answers, or from a file."""
