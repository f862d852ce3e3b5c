"""Environments beside the engine: what is sampled stays as it is, whatever is at work at once."""

import json
import random
import string
import threading
import time
from typing import Any

import pytest
from scripted import Acts, Bench, Dialogue
from sfpo_envs import MathReasoningEnv
from sfpo_envs.graders.pool import idle_workers
from transformers import AutoTokenizer

from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine
from sfpo_rllib.env_runners.rollout import RolloutResult
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.token_trace import TokenTrace

BAD = 5
SEEDS = [7, BAD, 9]


class Jittery(Dialogue):
    """Takes its time, another one at each call."""

    def reset(self, **kwargs: Any) -> tuple[str, dict]:
        time.sleep(random.random() * 0.01)
        return super().reset(**kwargs)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        time.sleep(random.random() * 0.01)
        return super().step(action)


def content(result: RolloutResult) -> dict[int, list]:
    """All that a learner could see of what was sampled."""
    return {
        seed: [
            (
                TokenTrace.of(episode).token_ids.tolist(),
                TokenTrace.of(episode).loss_mask.tolist(),
                TokenTrace.of(episode).logprobs.tolist(),
                TokenTrace.of(episode).member,
                TokenTrace.of(episode).cut_replies,
                episode.get_observations(),
                episode.get_actions(),
                episode.get_rewards(),
                episode.get_infos(),
                episode.is_terminated,
            )
            for episode in group
        ]
        for seed, group in result.groups.items()
    }


@pytest.mark.parametrize("num_env_threads", [1, 3, 32])
def test_what_is_sampled_does_not_depend_on_the_number_of_threads(bench, num_env_threads):
    seeds = list(range(20, 28))
    results = []
    for number in (0, num_env_threads):
        b = bench(number, Jittery, num_turns=3, fails="reset 24", max_model_len=30)
        results.append([b.run(seeds, group_size=3, stream=(1, i)) for i in range(2)])
    for one, other in zip(*results, strict=True):
        assert content(one) == content(other)
        assert list(one.groups) == list(other.groups)  # in one order, too
        assert one.dropped == other.dropped and set(one.dropped) == {24}


def test_the_same_holds_with_a_model(tokenizer, tiny_model):
    """Up to rounding: what shares a batch with what depends on when environments are done."""
    stop = [tokenizer.eos_token_id]
    episodes = []
    for number in (0, 4):
        b = Bench(
            tokenizer, lambda r: ("", False), env_class=Jittery, num_env_threads=number, num_turns=2
        )
        b.engine = TransformersEngine(model=str(tiny_model), dtype="float32", stop_token_ids=stop)
        b.engine.requests = b.engine.in_flight = []  # which a bench looks at
        groups = b.run(list(range(8)), group_size=2).groups
        assert set(groups) == set(range(8))
        episodes.append([episode for seed in sorted(groups) for episode in groups[seed]])
    for one, other in zip(*episodes, strict=True):
        assert TokenTrace.of(one).token_ids.tolist() == TokenTrace.of(other).token_ids.tolist()
        assert TokenTrace.of(one).logprobs == pytest.approx(TokenTrace.of(other).logprobs, abs=1e-5)


def test_the_engine_goes_on_while_an_environment_is_at_work(bench):
    has_replied = {member: threading.Event() for member in range(2)}
    waits = iter(range(2))

    def wait(seed: int) -> None:
        """The first to be stepped waits until the engine has replied to the other one as well."""
        if next(waits) == 0:
            assert has_replied[1].wait(20)

    b = bench(2, step=wait)
    step, replies = b.engine.step, iter(range(2))

    def observed() -> Any:
        result = step()
        has_replied[next(replies)].set()
        return result

    b.engine.step = observed
    assert set(b.run([7]).groups) == {7}


@pytest.mark.parametrize("num_env_threads", [1, 4])
@pytest.mark.parametrize("where", ["reset", "step"])
def test_as_many_environments_are_at_work_at_once_as_there_are_threads_and_no_more(
    bench, num_env_threads, where
):
    at_work, most, lock = 0, 0, threading.Lock()

    def act(seed: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.05)
        with lock:
            at_work -= 1

    b = bench(num_env_threads, **{where: act})
    assert set(b.run(list(range(6)), group_size=2).groups) == set(range(6))
    assert most == num_env_threads


def test_an_environment_keeps_its_thread_for_life_and_no_thread_is_left(bench):
    b = bench(3)
    for _ in range(3):
        assert set(b.run(SEEDS).groups) == set(SEEDS)  # sqlite would have raised in any other
    assert len({env.thread for env in b.made}) == len(b.made) <= 6
    assert threading.current_thread() not in {env.thread for env in b.made}
    b.pool.close()
    for env in b.made:
        assert env.closed.is_set()
        env.thread.join(20)
        assert not env.thread.is_alive()


def test_the_first_environment_is_made_alone(tokenizer):
    """It reads the data that the others then share."""
    others: list[int] = []
    made = 0

    class Counts(Acts):
        def __init__(self) -> None:
            nonlocal made
            others.append(made)
            time.sleep(0.1)
            made += 1
            super().__init__()

    b = Bench(tokenizer, lambda r: ("1", False), env_class=Counts, num_env_threads=4)
    assert set(b.run(SEEDS).groups) == set(SEEDS)
    assert others[0] == 0 and min(others[1:]) >= 1


def test_math_is_graded_in_threads_by_workers_that_can_be_killed(tmp_path):
    """math-verify's own time-outs are signals, which work in a main thread alone."""
    pytest.importorskip("math_verify")
    build_char_llama(tmp_path, alphabet=string.printable, hidden_size=32, num_layers=1)
    rows = [{"problem": f"{k}", "answer": f"\\sqrt{{{4 * k}}}"} for k in (3, 5, 7, 11, 13, 17)]
    path = tmp_path / "roots.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replies = [r"\boxed{2\sqrt{3}}", r"\boxed{\sqrt{7}+\sqrt{7}}"]
    b = Bench(
        AutoTokenizer.from_pretrained(tmp_path),
        lambda request: (replies[request.seed % 2], False),
        env_class=MathReasoningEnv,
        num_env_threads=4,
        max_model_len=1000,
        dataset=path,
        prompt_template="plain",
    )
    groups = b.run(list(range(len(rows))), group_size=6, max_tokens=100).groups
    episodes = [episode for group in groups.values() for episode in group]
    assert len(episodes) == 36 and idle_workers()
    roots = {replies[0]: "3", replies[1]: "7"}
    for episode in episodes:
        is_right = episode.get_observations(0) == roots[episode.get_actions(0)]
        assert episode.get_infos(-1)["is_success"] is is_right
    assert 0 < sum(episode.get_infos(-1)["is_success"] for episode in episodes) < 36


# What the engine makes of its time.


def test_the_busy_fraction_is_the_engines_share_of_the_time(bench):
    fractions = {}
    for slow in ("engine", "environment"):
        b = bench(4, step=lambda seed: time.sleep(0.1) if slow == "environment" else None)  # noqa: B023
        step = b.engine.step
        if slow == "engine":
            b.engine.step = lambda: (time.sleep(0.1), step())[1]  # noqa: B023
        fractions[slow] = b.run(SEEDS).engine_busy_fraction
    assert 0.6 < fractions["engine"] <= 1.0
    assert 0.0 < fractions["environment"] < 0.4


def test_training_in_threads_sees_the_same_problems_and_says_how_busy_the_engine_was(
    make_config, running
):
    from probes import learned_groups

    tokens = []
    for number in (0, 4):
        algo = running(make_config().env_runners(num_env_threads=number).build_algo())
        with learned_groups(algo) as batches:
            result = algo.train()
        assert 0.0 < result["env_runners"]["engine_busy_fraction"] <= 1.0
        assert algo.evaluate()["env_runners"]["num_episodes"] > 0
        traces = [TokenTrace.of(episode) for group in batches[0] for episode in group]
        tokens.append([(t.seed, t.member, t.token_ids.tolist()) for t in traces])
    assert tokens[0] == tokens[1]
