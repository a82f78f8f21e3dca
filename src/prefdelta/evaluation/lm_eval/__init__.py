"""Knowledge benchmarks through EleutherAI's lm-evaluation-harness (``lm_eval``).

lm_eval brings what a task is: its documents, prompts, worked examples, answer filters and metrics. Who answers, with
which adapter, thinking or not, resumably, is this package's own business, as for every other benchmark. So a task
becomes items (``collecting``), and an answer to one becomes a score (``scoring``), both by calling ``lm_eval`` itself.

Tasks of our own, whose names begin with ``prefdelta_``, lie in ``tasks/``.
"""
