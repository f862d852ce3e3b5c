"""After Ctrl-C, or any error, in train() the next train() is what it would have been."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from probes import ECHO, assert_equal_weights, learned_groups, seeds, sfpo_results
from scripted import Bench, Dialogue
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.algorithms.grpo.rollouts import Rollouts
from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine
from sfpo_rllib.env_runners.group_env_runner import GroupEnvRunner
from sfpo_rllib.env_runners.text_envs import EnvPool
from sfpo_rllib.token_trace import TokenTrace


class Interrupt:
    """Lets the n-th call of a method raise, before or after it has done its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self._monkeypatch, self._error = monkeypatch, error
        self.fired = False

    def at(self, owner: type, name: str, nth: int, *, after: bool = False) -> None:
        method, calls = getattr(owner, name), iter(range(nth + 1))

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            is_it = next(calls, None) == nth
            result = method(*args, **kwargs) if after or not is_it else None
            if is_it:
                self.fired = True
                raise self._error
            return result

        self._monkeypatch.setattr(owner, name, interrupted)


@pytest.fixture
def interrupt(monkeypatch) -> Interrupt:
    return Interrupt(monkeypatch, KeyboardInterrupt())


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_model)


# A job, on an engine that replies by rule.


PLACES = [
    ("reset", 3), ("step", 0), ("step", 4), ("__init__", 2), ("__init__", 5), ("submit", 4),
    ("submit", 7), ("engine step", 0), ("engine step", 5), ("take", 3), ("put_back", 1),
]  # fmt: skip


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "nth"), PLACES, ids=lambda p: str(p))
@pytest.mark.parametrize("timeout_s", [None, 60.0], ids=["no time-out", "time-out"])
def test_an_interrupted_job_leaves_nothing_to_the_next(
    tokenizer, interrupt, where, nth, after, timeout_s
):
    def bench() -> Bench:
        return Bench(
            tokenizer, lambda r: (str(r.request_id % 7), False), num_turns=2, timeout_s=timeout_s
        )

    expected = bench().run([3, 4], group_size=3)
    b = bench()
    owner: type = {"submit": type(b.engine), "engine step": type(b.engine)}.get(
        where, EnvPool if where in ("take", "put_back") else Dialogue
    )
    interrupt.at(owner, where.removeprefix("engine "), nth, after=after)
    if owner is Dialogue and timeout_s is not None:
        # There the interrupt is the environment's own doing, as a signal reaches the main thread.
        assert b.run([3, 4], group_size=3).dropped
    else:
        with pytest.raises(KeyboardInterrupt):
            b.run([3, 4], group_size=3)
    assert interrupt.fired
    assert not b.engine.in_flight
    assert len(b.pool._free) == len(set(b.pool._free)) and not b.pool._taken

    again = b.run([3, 4], group_size=3)
    for seed in (3, 4):
        for one, other in zip(again.groups[seed], expected.groups[seed], strict=True):
            assert one.get_actions() == other.get_actions()
            assert one.get_observations() == other.get_observations()
            assert TokenTrace.of(one).token_ids.tolist() == TokenTrace.of(other).token_ids.tolist()


@pytest.mark.parametrize("where", ["reset", "step", "close"])
def test_what_a_signals_handler_raises_is_no_fault_of_the_environment_it_interrupts(
    tokenizer, monkeypatch, where
):
    def leave(number: int, frame: Any) -> None:
        raise SystemExit(143)

    def terminate(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    b = Bench(tokenizer, lambda r: ("1", False), fails="step 4 1")
    monkeypatch.setattr(Dialogue, where, terminate)
    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit, match="143"):
            b.run([3, 4])
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ids_of_requests_are_unique_in_a_process(tokenizer):
    ids: list[int] = []
    for _ in range(2):
        b = Bench(tokenizer, lambda r: ("1", False))
        for _ in range(2):
            b.run([3, 4])
            ids += [request.request_id for request in b.engine.requests]
    assert len(set(ids)) == len(ids) == 16


# An algorithm with its engine in the driver.


@pytest.fixture(scope="module")
def undisturbed(make_config: Callable[..., Any], ray_cluster: None) -> tuple[list[Any], Any]:
    """Problems and weights of three iterations."""
    algo = make_config(env=ECHO, env_config={"turns": 2}).build_algo()
    with learned_groups(algo) as batches:
        for _ in range(3):
            algo.train()
    weights = algo.get_module_weights()
    algo.stop()
    return [seeds(groups) for groups in batches], weights


CTRL_C, ERROR = KeyboardInterrupt(), RuntimeError("CUDA error")
ALGORITHM_PLACES = [
    (TransformersEngine, "_decode", 0, False, CTRL_C),
    (TransformersEngine, "_decode", 1, True, CTRL_C),
    (TransformersEngine, "_decode", 1, True, ERROR),
    (TransformersEngine, "submit", 9, True, CTRL_C),
    (TransformersEngine, "load_weights", 0, False, CTRL_C),
    (TransformersEngine, "load_weights", 0, True, ERROR),
    (GroupEnvRunner, "_fire_callbacks", 0, False, CTRL_C),
    (Rollouts, "_warn_if_nothing_is_learned", 0, True, CTRL_C),
    (Rollouts, "weights_change", 0, True, CTRL_C),
    (GRPOTorchLearner, "update", 0, False, CTRL_C),
]


@pytest.mark.parametrize(("owner", "method", "nth", "after", "error"), ALGORITHM_PLACES)
def test_the_iteration_after_an_interrupt_is_right(
    make_config, running, monkeypatch, undisturbed, owner, method, nth, after, error
):
    algo = running(make_config(env=ECHO, env_config={"turns": 2}).build_algo())
    with monkeypatch.context() as patches, learned_groups(algo) as batches:
        algo.train()
        interrupt = Interrupt(patches, error)
        interrupt.at(owner, method, nth, after=after)
        with pytest.raises(type(error)):
            algo.train()
        assert interrupt.fired
        results = [algo.train(), algo.train()]
    assert all(sfpo_results(result)["engine_logp_diff"] < 1e-5 for result in results)
    versions = [{TokenTrace.of(e).weights_version for g in batch for e in g} for batch in batches]
    assert all(len(each) == 1 for each in versions)
    problems, weights = undisturbed
    if owner is not GRPOTorchLearner and "load" not in method and error is CTRL_C:
        # What was interrupted is done once more, and all is as if nothing had been.
        assert [seeds(groups) for groups in batches] == problems
        assert_equal_weights(algo.get_module_weights(), weights)
        batch_size = algo.config.train_batch_size_per_learner
        assert results[-1]["env_runners"]["num_rollouts_lifetime"] == 3 * batch_size
    if "load" in method:  # the update was over: the next iteration is the next one
        assert [seeds(groups) for groups in batches[:3]] == problems


def noting(calls: list[str], name: str, method: Callable[..., Any], *args: Any) -> Any:
    calls.append(name)
    return method(*args)


@pytest.mark.parametrize("error", [CTRL_C, ERROR], ids=["Ctrl-C", "an error"])
def test_weights_that_did_not_arrive_are_broken_off_and_published_again(
    make_config, running, monkeypatch, error
):
    algo = running(make_config(env=ECHO).build_algo())
    calls: list[str] = []
    for name in ("publish", "settle", "break_off", "close"):
        noted = partial(noting, calls, name, getattr(algo._rollouts._publisher, name))
        monkeypatch.setattr(algo._rollouts._publisher, name, noted)
    interrupt = Interrupt(monkeypatch, error)
    interrupt.at(TransformersEngine, "load_weights", 0)
    with pytest.raises(type(error)):
        algo.train()
    assert calls == ["publish", "break_off"]
    algo.train()
    assert calls[2:] == ["publish", "settle"] * 2
    algo.stop()
    assert calls[-1] == "close"
