"""The evidence for what the documentation claims: deltas trained and merged in many ways, told with intervals.

``python -m evidence`` (with ``benchmarks`` on the path, or ``make evidence``) trains, measures and writes
``results/evidence.json`` (of some parts alone ``evidence-PART.json``) with its figures; it goes on where it
was stopped. What the numbers say is told in ``docs/evidence.md``.
"""
