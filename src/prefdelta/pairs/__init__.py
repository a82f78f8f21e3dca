"""Answers in, preferences out: scores, pairs and triples, what is dropped from them, and other tools' formats."""
