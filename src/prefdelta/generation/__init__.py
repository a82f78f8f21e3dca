"""Questions in, answers out: prompts, the models and servers that answer them, and answers that exist already."""
