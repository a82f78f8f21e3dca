"""An interrupt that arrives in a bad moment still ends the command."""

from __future__ import annotations

import gc
import signal
from threading import Event, Timer

import pytest

from prefdelta.cli.app import interrupts_heard


class _Cycle:
    """Garbage whose finalizer is told to end while it runs."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def collect_and_wait(longest: float) -> None:
    with interrupts_heard():
        _Cycle()
        gc.collect()
        Event().wait(longest)


def test_an_interrupt_in_a_finalizer_is_not_lost() -> None:
    """It comes again, and wakes what waits meanwhile."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    late = Event()
    timer = Timer(20, late.set)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            collect_and_wait(40)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert not late.is_set()
