"""What a pass logs is taken back, however it is reduced, and nothing else."""

import threading
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from sfpo_rllib.algorithms.with_update_rule.rewindable_metrics import RewindableMetrics

REDUCTIONS: dict[str, dict[str, Any]] = {
    "window": {"window": 1},
    "mean": {"reduce": "mean", "window": 10},
    "ema": {},
    "min": {"reduce": "min"},
    "max": {"reduce": "max"},
    "sum": {"reduce": "sum"},
    "throughput": {"reduce": "sum", "with_throughput": True},
    "lifetime_sum": {"reduce": "lifetime_sum"},
    "item": {"reduce": "item"},
    "item_series": {"reduce": "item_series"},
    "percentiles": {"reduce": "percentiles", "window": 10, "percentiles": [50]},
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("earlier", [[], [7.0], [7.0, 1.0]], ids=len)
def test_what_is_taken_back_was_never_logged(name: str, earlier: list[float]) -> None:
    metrics, without = RewindableMetrics(), MetricsLogger()
    for value in earlier:
        metrics.log_value(("module", name), value, **REDUCTIONS[name])
        without.log_value(("module", name), value, **REDUCTIONS[name])
    with metrics.recording() as take_back:
        for values in ([5.0, 2.0, 9.0], [4.0], [3.0, 8.0]):
            take_back()
            for value in values:
                metrics.log_value(("module", name), value, **REDUCTIONS[name])
    for value in values:
        without.log_value(("module", name), value, **REDUCTIONS[name])
    assert metrics.peek(("module", name)) == without.peek(("module", name))
    assert metrics.reduce(compile=True) == without.reduce(compile=True)


def test_a_key_that_the_last_pass_does_not_log_is_as_it_was() -> None:
    metrics = RewindableMetrics()
    metrics.log_value("kept", 1, reduce="sum")
    with metrics.recording() as take_back:
        metrics.log_dict({"kept": 2, "new": {"nested": 3}}, reduce="sum")
        with metrics.log_time("timer"):
            pass
        take_back()
    assert metrics.peek("kept") == 1
    assert ("new", "nested") not in metrics
    assert "timer" not in metrics


def test_within_a_pass_what_it_logged_can_be_read() -> None:
    """CQL counts and reads the count in its loss."""
    metrics = RewindableMetrics()
    metrics.log_value("count", 1, reduce="sum")
    with metrics.recording() as take_back:
        for _ in range(3):
            take_back()
            metrics.log_value("count", 1, reduce="sum")
            assert metrics.peek("count") == 2


def test_values_that_hang_on_a_graph_are_taken_back_too() -> None:
    metrics, weight = RewindableMetrics(), torch.ones(2, requires_grad=True)
    metrics.log_value("loss", weight.sum(), window=1)
    with metrics.recording() as take_back:
        metrics.log_value("loss", weight.prod(), window=1)
        take_back()
    assert metrics.peek("loss") == 2.0


def test_what_another_thread_logs_meanwhile_stays() -> None:
    metrics = RewindableMetrics()
    with metrics.recording() as take_back:
        other = threading.Thread(target=metrics.log_value, args=("queue", 3), kwargs={"window": 1})
        other.start()
        other.join()
        metrics.log_value("loss", 1.0, window=1)
        take_back()
    assert metrics.peek("queue") == 3
    assert "loss" not in metrics


def test_what_is_logged_outside_of_passes_stays() -> None:
    metrics = RewindableMetrics()
    with metrics.recording() as take_back:
        metrics.log_value("count", 1, reduce="sum")
    metrics.log_value("count", 1, reduce="sum")
    take_back()
    assert metrics.peek("count") == 2
