"""RLlib's callbacks in a runner: which, when, with what; and what becomes of one that raises."""

from collections.abc import Callable
from typing import Any

import pytest
from probes import ECHO
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback

from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.rollout import RolloutJob
from sfpo_rllib.token_trace import TokenTrace

Call = tuple[str, dict[str, Any]]
EPISODE = ["on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end"]


def job(*seeds: int, evaluation: bool = False) -> RolloutJob:
    return RolloutJob(seeds, 0, (0, 0), evaluation, 60.0)


@pytest.fixture(params=[0, 3], ids=["in turn", "in threads"])
def make_runner(make_config, request) -> Callable[..., GroupEnvRunner]:
    def make(change: Callable[[AlgorithmConfig], Any], **env_config: Any) -> GroupEnvRunner:
        config = make_config(env=ECHO, env_config=env_config).training(group_size=2)
        config.env_runners(num_env_threads=request.param)
        change(config)
        runner = GroupEnvRunner(config=config, worker_index=0)
        runner.weights_version = 0
        runners.append(runner)
        return runner

    runners: list[GroupEnvRunner] = []
    yield make
    for runner in runners:
        runner.stop()


class Recorder(RLlibCallback):
    """Notes each call of a runner's callbacks, and what the episode was like."""

    calls: list[Call]

    def _note(self, name: str, kwargs: dict[str, Any]) -> None:
        length = len(kwargs["episode"].observations) if "episode" in kwargs else None
        self.calls.append((name, {**kwargs, "num_observations": length}))

    def on_environment_created(self, **kwargs: Any) -> None:
        self._note("on_environment_created", kwargs)

    def on_episode_created(self, **kwargs: Any) -> None:
        self._note("on_episode_created", kwargs)

    def on_episode_start(self, **kwargs: Any) -> None:
        self._note("on_episode_start", kwargs)

    def on_episode_step(self, **kwargs: Any) -> None:
        self._note("on_episode_step", kwargs)

    def on_episode_end(self, **kwargs: Any) -> None:
        self._note("on_episode_end", kwargs)

    def on_sample_end(self, **kwargs: Any) -> None:
        self._note("on_sample_end", kwargs)


@pytest.fixture
def recorder() -> type[Recorder]:
    return type("Fresh", (Recorder,), {"calls": []})


def test_an_episode_is_told_of_from_before_its_reset_to_its_end(make_runner, recorder):
    runner = make_runner(lambda config: config.callbacks(recorder), turns=2)
    result = runner.sample(job=job(5, 7))
    episodes = [episode for group in result.groups.values() for episode in group]
    assert len(episodes) == 4
    for place, episode in enumerate(episodes):
        of_it = [c for c in recorder.calls if c[1].get("episode") is episode]
        (_, created), *_, (_, end) = of_it
        assert [name for name, _ in of_it] == [*EPISODE[:2], *[EPISODE[2]] * 2, EPISODE[3]]
        assert [kwargs["num_observations"] for _, kwargs in of_it] == [0, 1, 2, 3, 3]
        assert {kwargs["env_index"] for _, kwargs in of_it} == {place}
        assert {kwargs["env"] for _, kwargs in of_it} == {created["env"]}
        for _, kwargs in of_it:
            assert kwargs["env_runner"] is runner and kwargs["metrics_logger"] is runner.metrics
            assert kwargs["rl_module"] is None
        assert end["prev_episode_chunks"] == []
        assert TokenTrace.of(end["episode"]).seed == 5 + 2 * (place // 2)
    name, last = recorder.calls[-1]
    assert name == "on_sample_end" and last["samples"] == episodes


def test_the_environment_is_as_the_step_has_left_it(make_runner):
    seen = []

    def look(*, env: Any, episode: Any, **kwargs: Any) -> None:
        seen.append((env.unwrapped._seed, env.unwrapped._turn, TokenTrace.of(episode).seed))

    runner = make_runner(lambda config: config.callbacks(on_episode_end=look), turns=3)
    runner.sample(job=job(5, 7))
    assert sorted(seen) == [(5, 3, 5), (5, 3, 5), (7, 3, 7), (7, 3, 7)]


def test_an_environment_is_told_of_when_it_is_made_and_not_again(make_runner, recorder):
    runner = make_runner(lambda config: config.callbacks(recorder), turns=1)
    for _ in range(2):
        runner.sample(job=job(5))
    created = [kwargs for name, kwargs in recorder.calls if name == "on_environment_created"]
    used = {kwargs["env"] for name, kwargs in recorder.calls if name == "on_episode_end"}
    assert {kwargs["env"] for kwargs in created} == used and len(created) == 2
    assert created[0]["env_context"] == {"turns": 1}
    assert created[0]["env_context"].worker_index == 0
    names = [name for name, _ in recorder.calls]
    assert names[:2] == ["on_environment_created", "on_episode_created"]


def test_a_list_and_functions_are_called_in_turn(make_runner):
    order = []

    def named(name: str) -> type[RLlibCallback]:
        def note(self: Any, **kwargs: Any) -> None:
            order.append(name)

        return type(name, (RLlibCallback,), {"on_sample_end": note})

    def function(**kwargs: Any) -> None:
        order.append("function")

    runner = make_runner(
        lambda config: config.callbacks(
            [named("first"), named("second")], on_sample_end=[function, function]
        )
    )
    runner.sample(job=job(5))
    assert order == ["first", "second", "function", "function"]


def test_evaluation_has_its_own_callbacks_and_config(make_runner, recorder):
    seen = []

    def look(*, env_runner: Any, **kwargs: Any) -> None:
        seen.append(env_runner.config.in_evaluation)

    runner = make_runner(
        lambda config: config.callbacks(on_episode_start=look).evaluation(
            evaluation_config={"callbacks_class": recorder}
        )
    )
    for evaluation in (False, True, False):
        runner.sample(job=job(0, evaluation=evaluation))
    assert seen == [False] * 2 + [True] * 2 + [False] * 2
    assert [name for name, _ in recorder.calls].count("on_episode_end") == 2
    assert not runner.config.in_evaluation


def log_length(*, episode: Any, metrics_logger: Any, **kwargs: Any) -> None:
    metrics_logger.log_value("num_turns", len(episode), reduce="sum")


@pytest.mark.parametrize("event", [*EPISODE, "on_sample_end"])
def test_after_a_callback_that_raises_the_next_batch_is_the_right_one(make_runner, event):
    armed: list[bool] = []

    def fail_once(**kwargs: Any) -> None:
        if armed and armed.pop():
            raise LookupError("no such column")

    def change(config: AlgorithmConfig) -> None:
        functions = {"on_episode_end": [log_length]}
        functions[event] = [*functions.get(event, []), fail_once]
        config.callbacks(**functions)

    runner = make_runner(change, turns=2)
    first = runner.sample(job=job(5, 7))
    armed.append(True)
    with pytest.raises(LookupError, match="no such column"):
        runner.sample(job=job(5, 7))
    again = runner.sample(job=job(5, 7))
    assert list(again.groups) == [5, 7] and not again.dropped and not again.unfinished
    for one, other in zip(first.groups.values(), again.groups.values(), strict=True):
        assert [e.get_actions() for e in one] == [e.get_actions() for e in other]
    turns = [result.metrics["num_turns"].peek() for result in (first, again)]
    assert turns == [8, 8]  # nothing of the failed one


def test_an_environment_that_a_callback_would_not_have_is_not_used(make_runner):
    kept = []

    def refuse(*, env: Any, **kwargs: Any) -> None:
        if not kept:
            kept.append(env)
            raise ValueError("not this one")

    runner = make_runner(lambda config: config.callbacks(on_environment_created=refuse))
    with pytest.raises(ValueError, match="not this one"):
        runner.sample(job=job(5))
    seen = []
    runner.config.callbacks_on_episode_end = lambda *, env, **kwargs: seen.append(env)
    runner.sample(job=job(5))
    assert len(seen) == 2 and kept[0] not in seen


def test_a_callback_that_raises_at_the_first_environment_says_so(make_runner):
    def refuse(**kwargs: Any) -> None:
        raise ValueError("not this one")

    runner = make_runner(lambda config: config.callbacks(on_environment_created=refuse))
    with pytest.raises(Exception, match="on_environment_created raised ValueError: not this one"):
        runner.get_spaces()
    runner.worker_index = 1  # it must not die of it, or nobody would learn why
    (space, _), *_ = runner.get_spaces().values()
    assert "not this one" in space.reason


@pytest.mark.parametrize(("duration", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3])])
def test_an_evaluation_has_as_many_episodes_as_it_is_told(make_runner, duration, sizes):
    ended = []

    def note(**kwargs: Any) -> None:
        ended.append(kwargs["env_index"])

    runner = make_runner(
        lambda config: config.evaluation(
            evaluation_duration=duration, evaluation_config={"group_size": 4}
        ).callbacks(on_episode_end=note)
    )
    result = runner.sample(job=job(*range(len(sizes)), evaluation=True))
    assert [len(group) for group in result.groups.values()] == sizes
    assert sorted(ended) == list(range(duration))
    assert [TokenTrace.of(e).member for e in result.groups[len(sizes) - 1]] == list(
        range(sizes[-1])
    )
