"""The order of the stages: plan, run, resume, publish."""
