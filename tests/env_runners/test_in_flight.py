"""New weights between two steps of an engine: what runs goes on, each token knows its version."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ray")

import ray
from fake_runners import FakeRunners, complete, weights
from probes import learned_groups
from ray.rllib.core import COMPONENT_RL_MODULE
from scripted import Bench
from transformers import AutoModelForCausalLM

from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines import Completion, GenerationRequest, SamplingSettings
from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine
from sfpo_rllib.env_runners.prompts import PromptFormatter
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob, RolloutResult
from sfpo_rllib.env_runners.runner_calls import Answer
from sfpo_rllib.env_runners.stream import Fleet, GroupStream
from sfpo_rllib.env_runners.stream import fleet as fleet_module
from sfpo_rllib.env_runners.stream.ledger import Ledger
from sfpo_rllib.env_runners.summary import renewed_fraction
from sfpo_rllib.env_runners.weights import Mailbox, MailboxReader
from sfpo_rllib.token_trace import TokenTrace

# What a trace says.


class TokenByToken:
    """Samples a digit a step for each request, the last one of the version it runs, up to 4."""

    max_model_len = 200

    def __init__(self, tokenizer: Any) -> None:
        self._digits = [tokenizer.encode(str(d), add_special_tokens=False)[0] for d in range(10)]
        self.running: dict[GenerationRequest, list[int]] = {}
        self.version = 3

    def submit(self, request: GenerationRequest) -> None:
        self.running[id(request)] = (request, [])

    def step(self) -> list[Completion]:
        done = []
        for key, (request, versions) in list(self.running.items()):
            versions.append(self.version)
            if len(versions) == 4:
                del self.running[key]
                starts = [i for i, v in enumerate(versions) if i == 0 or versions[i - 1] != v]
                done.append(
                    Completion(
                        request.request_id,
                        np.array([self._digits[v % 10] for v in versions], np.int32),
                        np.zeros(4, np.float32),
                        True,
                        tuple((start, versions[start]) for start in starts),
                    )
                )
        return done

    def abort(self) -> None:
        self.running.clear()


class Talks(gym.Env):
    """Two turns."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        self.turn = 0
        return f"{seed}=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        self.turn += 1
        return "+=", 1.0, self.turn == 2, False, {}


def rollout(tokenizer: Any, engine: Any, renew: Callable[[], int] | None, **job: Any) -> Any:
    bench = Bench(tokenizer, lambda r: ("", False), env_class=Talks)
    return GroupRollout(
        RolloutJob(tuple(range(4)), 3, (0,), False, 60.0, **job),
        group_size=2,
        sampling=SamplingSettings(max_tokens=8),
        engine=engine,
        formatter=PromptFormatter(tokenizer, "raw"),
        envs=bench.pool,
        renew_weights=renew,
    ).run()


@pytest.mark.parametrize("updates", [[2, 5], [0], [1, 2, 3, 6, 7], [4], []])
def test_each_token_knows_the_version_that_it_was_sampled_from(tokenizer, updates):
    engine = TokenByToken(tokenizer)
    steps = iter(range(100))

    def renew() -> int:
        if next(steps) in updates:
            engine.version += 1
        return engine.version

    result = rollout(tokenizer, engine, renew)
    assert len(result.groups) == 4
    first = 3 + (0 in updates)
    for group in result.groups.values():
        for episode in group:
            trace = TokenTrace.of(episode)
            said = tokenizer.decode(trace.token_ids[trace.loss_mask])
            # The digits are the versions.
            assert [int(digit) for digit in said] == trace.token_versions[trace.loss_mask].tolist()
            assert set(trace.token_versions[~trace.loss_mask]) == {-1}
            assert (
                trace.weights_version
                == first
                == trace.token_versions.max(initial=first) - len(set(updates) - {0})
            )
            assert (trace.versions is None) == (not set(updates) - {0})
    assert set(result.oldest_versions.values()) == {first}
    assert renewed_fraction(list(result.groups.values())) == bool(set(updates) - {0})


def test_without_new_weights_a_trace_is_what_it_was(tokenizer):
    result = rollout(tokenizer, TokenByToken(tokenizer), None)
    traces = [TokenTrace.of(episode) for group in result.groups.values() for episode in group]
    assert {(trace.weights_version, trace.versions) for trace in traces} == {(3, None)}


def test_every_log_prob_is_that_of_the_version_its_token_names(tokenizer, tiny_model):
    """With a model: between two turns it becomes another one."""
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    old = {name: value.clone() for name, value in lm.state_dict().items() if name != TIED}
    new = {name: value + 0.3 * value.roll(1) for name, value in old.items()}
    by_version = {3: old, 4: new}
    engine = TransformersEngine(
        model=str(tiny_model), dtype="float32", stop_token_ids=[tokenizer.eos_token_id]
    )
    assert engine.takes_weights_in_flight
    steps = iter(range(100))

    def renew() -> int:
        if next(steps) == 1:
            assert engine._queue  # there are requests in flight
            engine.load_weights(new)
            return 4
        return 4 if engine_is_new() else 3

    def engine_is_new() -> bool:
        return next(iter(engine._model.parameters())).equal(next(iter(new.values())))

    result = rollout(tokenizer, engine, renew)
    traces = [TokenTrace.of(episode) for group in result.groups.values() for episode in group]
    assert all(trace.versions is not None and trace.weights_version == 3 for trace in traces)
    for version, state in by_version.items():
        engine.load_weights(state)
        for trace in traces:
            expected = engine.logprobs([trace.token_ids.tolist()], [1], SamplingSettings())[0]
            of_version = trace.token_versions[1:] == version
            assert of_version.any()
            difference = np.abs(expected - trace.logprobs[1:])
            assert difference[of_version].max() < 1e-4
            others = trace.loss_mask[1:] & ~of_version
            assert difference[others].max() > 1e-2


TIED = "lm_head.weight"


# The mailbox.


@pytest.fixture(scope="module")
def mailbox(ray_cluster) -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


def post(mailbox: Mailbox, version: int) -> None:
    mailbox.post(SimpleNamespace(version=version, state=ray.put({"version": version})))


def look_until_shown(reader: MailboxReader) -> Any:
    deadline = time.monotonic() + 20
    while (state := reader.take(wait=False)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return state


def test_a_reader_is_shown_what_was_posted_last_and_once(mailbox):
    reader = MailboxReader(mailbox.box)
    assert reader.take(wait=True) is None  # of an empty one
    post(mailbox, 1)
    post(mailbox, 2)
    assert reader.take(wait=True) == {"version": 2}
    assert reader.take(wait=True) is None
    post(mailbox, 3)
    assert look_until_shown(reader) == {"version": 3}
    assert MailboxReader(mailbox.box).take(wait=True) == {"version": 3}  # of a runner that is new


def test_older_weights_are_news_where_they_were_posted_later(mailbox):
    """As after a restore."""
    reader = MailboxReader(mailbox.box)
    for version in (9, 2, 2):
        post(mailbox, version)
        assert reader.take(wait=True) == {"version": version}


def test_who_waits_is_not_shown_the_answer_to_an_earlier_look(mailbox):
    reader = MailboxReader(mailbox.box)
    reader.take(wait=True)
    reader._next_look = 0.0
    assert reader.take(wait=False) is None  # it is asked for, and nothing new is there
    ray.get(mailbox.box.newer_than.remote(0))
    post(mailbox, 1)
    assert reader.take(wait=True) == {"version": 1}


def test_looking_without_waiting_takes_no_time(mailbox):
    reader = MailboxReader(mailbox.box)
    reader.take(wait=True)
    start = time.monotonic()
    for _ in range(1000):
        reader.take(wait=False)
    assert time.monotonic() - start < 1.0


# The driver's side.


class Looking(FakeRunners):
    """They have looked into the mailbox, and run whatever a job names."""

    def poll(self, *, wait: bool = True) -> list[Answer]:
        for worker_id, line in self._lines.items():
            if line and line[0].method == "sample":
                self.loaded[worker_id] = line[0].ref["job"].weights_version
        return super().poll(wait=wait)


def test_with_a_mailbox_runners_are_sent_jobs_alone_and_told_where_to_look(monkeypatch):
    monkeypatch.setattr(fleet_module, "calls_on", lambda runners: runners)
    asked = []

    def sample(job: RolloutJob) -> RolloutResult:
        asked.append(job)
        return complete(job)

    runners = Looking([sample])
    box: Any = SimpleNamespace(box="the box")
    fleet = Fleet(
        runners,  # type: ignore[arg-type]
        timeout_s=5.0,
        restore=lambda: None,
        restore_timeout_s=1.0,
        mailbox=box,
    )
    stream = GroupStream(
        fleet,
        run_seed=0,
        cursor=0,
        batch_size=2,
        job_size=2,
        max_staleness=1,
        timeout_s=5.0,
        num_runners=1,
    )
    fleet.publish(weights(0))
    for version in range(4):
        batch = stream.take(version, version=version, set_aside=lambda group: False, at_most=0)
        assert len(batch.groups) == 2
        assert all(version - older in (0, 1) for older in batch.versions)  # by admission
        fleet.publish(weights(version + 1), tell=False)
        assert set(fleet._weights) == {version + 1}  # no older ones are held
    assert [method for _, method, _ in runners.sent].count("set_state") == 1
    assert {job.mailbox for job in asked} == {"the box"}


def test_a_groups_age_is_that_of_its_oldest_token():
    ledger = Ledger(1)
    ledger.open(RolloutJob((1, 2), 5, (0,), False, 5.0))
    result = RolloutResult(groups={1: ["a"], 2: ["b"]}, oldest_versions={1: 6, 2: 5})  # type: ignore[dict-item, list-item]
    ledger.answered(ledger.pending.popleft(), result)
    assert [outcome.weights_version for _, outcome in ledger.outcomes()] == [6, 5]


# Whole.


def test_an_engine_that_cannot_take_weights_in_flight_is_refused_by_name(make_config, monkeypatch):
    monkeypatch.setattr(TransformersEngine, "takes_weights_in_flight", False)
    config = make_config().env_runners(max_staleness=1, weight_sync="in_flight")
    runner = GroupEnvRunner(config=config)
    runner.set_state({COMPONENT_RL_MODULE: {}})  # which does not make it good
    with pytest.raises(ValueError, match="weight_sync='in_flight': must be 'between_batches'"):
        runner.sample_probes()


@pytest.mark.slow
def test_training_with_weights_in_flight(make_config, running):
    class Thinks(gym.Env):
        """Many turns, each of which takes its time."""

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
            super().reset(seed=seed)
            self.turn = 0
            return f"{(seed or 0) % 1000}=", {}

        def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
            time.sleep(0.1)
            self.turn += 1
            return "+=", float(action.count("1")), self.turn == 8, False, {}

    config = make_config(env=lambda config: Thinks()).env_runners(
        num_env_runners=1, num_env_threads=16, max_staleness=1, weight_sync="in_flight"
    )
    config.evaluation(evaluation_duration=16)
    algo = running(config.build_algo())
    with learned_groups(algo) as batches:
        results = [algo.train()["env_runners"] for _ in range(4)]
        at = [algo._rollouts.version - len(results) + i for i in range(len(results))]
    # Episodes of nearly a second: the updates fall into them.
    assert any(result["renewed_fraction"] > 0 for result in results)
    for version, groups, result in zip(at, batches, results, strict=True):
        traces = [TokenTrace.of(episode) for group in groups for episode in group]
        oldest = min(trace.weights_version for trace in traces)
        assert result["weights_version"] == oldest
        assert version - 1 <= oldest
        assert max(trace.token_versions.max() for trace in traces) <= version
        assert result["weights_age"]["max"] == version - oldest
    evaluated = algo.evaluate()["env_runners"]
    assert evaluated["weights_version"] == algo._rollouts.version
