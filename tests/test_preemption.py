"""Signals that ask a run to end: train/preemption.py."""

import os
import signal
import subprocess
import sys
import threading
import types

import pytest

from train import preemption
from train.preemption import Preemption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_only_asks(number, capfd):
    before = [signal.getsignal(each) for each in preemption.SIGNALS]
    with Preemption() as asked:
        assert not asked.asked(1)
        os.kill(os.getpid(), number)
        assert asked.asked(2)
        assert asked.asked(3)
        # The next one of either kind has nobody to stop it.
        assert {signal.getsignal(each) for each in preemption.SIGNALS} == {
            signal.SIG_DFL
        }
    assert [signal.getsignal(each) for each in preemption.SIGNALS] == before
    assert capfd.readouterr().err.startswith(signal.Signals(number).name)


def test_handlers_come_back_where_nobody_asked_and_where_the_run_breaks():
    before = [signal.getsignal(each) for each in preemption.SIGNALS]
    with pytest.raises(KeyError), Preemption():
        raise KeyError
    assert [signal.getsignal(each) for each in preemption.SIGNALS] == before


def test_the_second_signal_kills():
    script = """
import os, signal, time
from train.preemption import Preemption
with Preemption() as preemption:
    os.kill(os.getpid(), signal.SIGINT)
    print(preemption.asked(1), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(9)
print("survived")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "True\n"


def test_outside_the_main_thread_nobody_asks():
    seen = []

    def run():
        with Preemption() as preemption:
            seen.append(preemption.asked(1))

    thread = threading.Thread(target=run)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert seen == [False]
    assert signal.getsignal(signal.SIGTERM) is before


def test_of_several_processes_the_coordinator_is_asked_and_keeps_its_handler(
    monkeypatch,
):
    steps = []
    agreed = types.SimpleNamespace(
        reached_preemption_sync_point=lambda step: steps.append(step) or step == 7
    )
    monkeypatch.setattr(preemption.jax, "process_count", lambda: 2)
    monkeypatch.setattr(preemption, "multihost_utils", agreed)
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        with Preemption() as asked:
            assert [asked.asked(step) for step in (6, 7)] == [False, True]
            os.kill(os.getpid(), signal.SIGINT)  # is passed on as a SIGTERM
            assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps == [6, 7]
