"""An interrupt that arrives in a bad moment still ends the command."""

from __future__ import annotations

import gc
import signal
import time

import pytest

from prefdelta.cli.app import interrupts_heard


class _Cycle:
    """Garbage whose finalizer is told to end while it runs."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def collect_and_go_on() -> None:
    with interrupts_heard():
        _Cycle()
        gc.collect()
        time.sleep(5)


def test_an_interrupt_in_a_finalizer_is_not_lost() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            collect_and_go_on()
    finally:
        signal.signal(signal.SIGINT, before)
