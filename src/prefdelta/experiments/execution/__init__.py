"""Making a plan's units: one scheduler, and executors that make what it hands out.

The scheduler (:mod:`~prefdelta.experiments.execution.scheduler`) knows the order, keeps what is there, and hands a unit
out as soon as its inputs are made. An executor makes units in this process, in processes of this machine, or on a Ray
cluster. All of them call :func:`~prefdelta.experiments.execution.make.build`, so that the bytes are the same.
"""
