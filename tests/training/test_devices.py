from __future__ import annotations

import signal
import threading

import pytest
import torch

from simcore.errors import SimcoreError, UsageError
from simcore.training.devices import make_fabric, resolve_device, resolve_precision
from simcore.training.gather import gather, sum_over_processes, world
from simcore.training.interrupts import stop_requests


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "tpu", "cpu:1:2"])
def test_a_device_that_is_none_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        resolve_device(name)


def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(SimcoreError, match="this machine has"):
        resolve_device("cuda:99")


def test_auto_takes_what_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto") == (expected, None)
    assert resolve_precision("auto", "cpu") == "32-true"
    assert resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"
    assert make_fabric("cpu").device.type == "cpu"


def test_alone_gathering_changes_nothing() -> None:
    tensor = torch.randn(3, 2, requires_grad=True)
    assert world() == (0, 1)
    assert gather(tensor) is tensor
    assert sum_over_processes(tensor) is tensor


def test_signals_become_a_flag_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as stop:
        assert not stop
        signal.raise_signal(signal.SIGTERM)
        assert stop
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interrupt_is_obeyed_at_once() -> None:
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_nothing_is_caught() -> None:
    seen = []

    def run() -> None:
        with stop_requests() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
