"""Adapters, against stand-ins everywhere and against the real packages where they are installed."""

import asyncio
import logging
import random
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from gymnasium.utils.env_checker import check_env
from sfpo_envs import ChatMessages, UnicodeText, check_text_env
from sfpo_envs.adapters.textarena import TextArenaEnv
from sfpo_envs.adapters.verifiers import VerifiersEnv

# TextArena, of which only the real package shows anything.


def guess(**options: Any) -> TextArenaEnv:
    pytest.importorskip("textarena", reason="textarena is not installed")
    return TextArenaEnv("GuessTheNumber-v0", **options)


def win(env: TextArenaEnv, seed: int) -> list[tuple[str, float, bool, bool, dict[str, Any]]]:
    env.reset(seed=seed)
    steps = []
    for number in range(1, 21):
        steps.append(env.step(f"[{number}]"))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def test_textarena_a_game_is_played_to_its_end_and_paid_then():
    env = guess(max_turns=30)
    steps = win(env, seed=3)
    *before, (observation, reward, terminated, truncated, info) = steps
    assert [step[1:] for step in before] == [(0.0, False, False, {})] * len(before)
    assert all("higher" in step[0] for step in before)
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info == {"is_success": True, "metrics": {"invalid_move": 0.0, "game_error": 0.0}}
    with pytest.raises(RuntimeError, match="reset"):
        env.step("[1]")


def test_textarena_the_seed_decides_the_game_whatever_runs_beside_it():
    alone = {seed: len(win(guess(max_turns=30), seed)) for seed in range(6)}
    assert len(set(alone.values())) > 1
    state = random.getstate()
    envs = {seed: guess(max_turns=30) for seed in alone}
    for seed, env in envs.items():
        env.reset(seed=seed)
    for seed, turns in alone.items():
        random.seed(seed + 1)
        over = [envs[seed].step(f"[{n}]")[2] for n in range(1, turns + 1)]
        assert over == [False] * (turns - 1) + [True]
    random.setstate(state)


def test_textarena_leaves_the_callers_random_generator_alone():
    env = guess()
    state = random.getstate()
    env.reset(seed=1)
    env.step("[3]")
    assert random.getstate() == state


def test_textarena_observations_have_only_what_is_new():
    env = guess(max_turns=30)
    prompt, _ = env.reset(seed=3)
    assert prompt.startswith("You are Player 0.")
    observation = env.step("[20]")[0]
    assert observation == "The target number is lower."


def test_textarena_a_game_that_raises_ends_its_episode_and_is_logged(caplog):
    env = guess()
    env.reset(seed=0)
    with caplog.at_level(logging.WARNING):
        _, reward, terminated, truncated, info = env.step(f"[{'9' * 5000}]")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["metrics"]["game_error"] == 1.0
    assert "Exceeds the limit" in caplog.text


def test_textarena_passes_the_checkers():
    pytest.importorskip("textarena", reason="textarena is not installed")
    for game in ("GuessTheNumber-v0", "2048-v0-ultra-easy", "TowerOfHanoi-v0"):
        findings = check_text_env(TextArenaEnv, config={"game": game}, max_turns=1000)
        assert not findings.errors, findings.errors
    check_env(guess(), skip_render_check=True)


def test_textarena_refuses_games_for_several():
    pytest.importorskip("textarena", reason="textarena is not installed")
    with pytest.raises(ValueError, match=r"game='TicTacToe-v0': .*players"):
        TextArenaEnv("TicTacToe-v0").reset(seed=0)


# verifiers, whose interface is small enough for a stand-in.


class SumTask:
    """Pays 1.0 for the right sum, and 0.1 for a number; as verifiers' tasks do it."""

    def __init__(self, a: int, b: int, **data: Any) -> None:
        self.answer = str(a + b)
        self.data = SimpleNamespace(prompt=f"{a}+{b}=", system_prompt=None)
        vars(self.data).update(data)

    async def score(self, trace: Any) -> None:
        trace.rewards.update(right=None, number=None)
        await asyncio.sleep(0)
        trace.record_metric("length", len(trace.last_reply))
        trace.record_reward("right", float(trace.last_reply == self.answer))
        trace.record_reward("number", float(trace.last_reply.isdigit()), 0.1)


SUMS = [SumTask(a, b) for a in range(5) for b in range(5)]


def solve(env: VerifiersEnv, seed: int) -> str:
    observation, _ = env.reset(seed=seed)
    text = observation if isinstance(observation, str) else observation[-1]["content"]
    return str(sum(map(int, text.rstrip("=").split("+"))))


@pytest.mark.parametrize("chat", [False, True])
def test_verifiers_a_task_is_a_prompt_a_reply_and_its_rewards(chat):
    env = VerifiersEnv(iter(SUMS), chat=chat)
    assert isinstance(env.observation_space, ChatMessages if chat else UnicodeText)
    for reply, reward in [(solve(env, 4), 1.1), ("30", 0.1), ("none", 0.0)]:
        env.reset(seed=4)
        _, got, terminated, _, info = env.step(f" {reply}\n")
        assert (got, terminated) == (pytest.approx(reward), True)
        assert info["is_success"] is (reward > 1)
        assert info["metrics"]["length"] == len(reply)
        assert info["metrics"]["number"] == pytest.approx(0.1 * reply.isdigit())
    with pytest.raises(RuntimeError, match="reset"):
        env.step("1")


@pytest.mark.parametrize("chat", [False, True])
def test_verifiers_passes_the_checkers(chat):
    env = VerifiersEnv(SUMS, chat=chat)
    findings = check_text_env(lambda: VerifiersEnv(SUMS, chat=chat), reward_range=(0, 1.1))
    assert not findings.errors, findings
    check_env(env, skip_render_check=True)
    assert len({str(env.reset(seed=seed)[0]) for seed in range(25)}) == env.num_problems == 25


def test_verifiers_system_prompts_and_dialogues_become_messages():
    dialogue = [{"role": "user", "content": "1"}, SimpleNamespace(role="assistant", content="2")]
    env = VerifiersEnv([SumTask(1, 2, prompt=dialogue, system_prompt="Count.")])
    assert env.reset(seed=0)[0] == [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
    ]


def test_verifiers_runs_where_a_loop_is_running():
    env = VerifiersEnv(SUMS, chat=False)

    async def episode() -> float:
        return env.step(solve(env, 0))[1]

    assert asyncio.run(episode()) == pytest.approx(1.1)


def test_verifiers_takes_as_many_of_endless_tasks_as_asked():
    endless = (SumTask(n, 1) for n in iter(int, 1))
    assert VerifiersEnv(endless, num_tasks=7).num_problems == 7


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ([], {}, "no tasks"),
        ([SumTask(1, 2, prompt=None)], {}, "one without a prompt"),
        ([SumTask(1, 2, prompt=[{"role": "user", "content": [{}]}])], {}, "not text"),
        ([SumTask(1, 2, system_prompt="x")], {"chat": False}, "chat=False: must be True"),
    ],
)
def test_verifiers_bad_task_sets_are_named(tasks, options, message):
    with pytest.raises(ValueError, match=message):
        VerifiersEnv(tasks, **options)


def test_verifiers_a_reward_that_was_not_given_is_an_error():
    class Unscored(SumTask):
        async def score(self, trace: Any) -> None:
            trace.rewards["needs_a_runtime"] = None

    env = VerifiersEnv([Unscored(1, 2)])
    env.reset(seed=0)
    with pytest.raises(ValueError, match="needs_a_runtime"):
        env.step("3")


@pytest.mark.parametrize("blocks", [True, False], ids=["blocks", "awaits"])
def test_verifiers_a_task_that_scores_for_ever_is_left_behind(blocks):
    until = threading.Event()

    class Endless(SumTask):
        async def score(self, trace: Any) -> None:
            if blocks:
                until.wait(60)
            while not until.is_set():
                await asyncio.sleep(0.01)

    env = VerifiersEnv([Endless(1, 2)], timeout_s=0.1)
    env.reset(seed=0)
    with pytest.raises(TimeoutError, match=r"timeout_s=0\.1"):
        env.step("3")
    until.set()
    with pytest.raises(ValueError, match="timeout_s=0"):
        VerifiersEnv(SUMS, timeout_s=0)


def test_verifiers_scores_tasks_of_the_real_package():
    vf = pytest.importorskip("verifiers.v1", reason="verifiers is not installed")

    class SumData(vf.TaskData):
        answer: str

    class RealSum(vf.Task[SumData, vf.State, vf.TaskConfig]):
        @vf.reward
        async def right(self, trace: Any) -> float:
            return float(trace.last_reply == self.data.answer)

        @vf.reward(weight=0.1)
        async def number(self, task: Any, trace: Any) -> float:
            return float(trace.assistant_messages[-1].content.strip().isdigit())

        @vf.metric
        async def length(self, trace: Any) -> float:
            return len(trace.last_reply)

    class Sums(vf.Taskset[RealSum, vf.TasksetConfig]):
        def load(self) -> Any:
            for n in range(9):
                data = SumData(prompt=f"{n}+{n}=", answer=str(2 * n), system_prompt="Add.")
                yield RealSum(data, self.config.task)

    env = VerifiersEnv(Sums(vf.TasksetConfig()))
    (system, _), _ = env.reset(seed=2)
    assert system == {"role": "system", "content": "Add."}
    _, reward, _, _, info = env.step(solve(env, 2))
    assert reward == pytest.approx(1.1)
    assert info["metrics"]["length"] in (1, 2)
    findings = check_text_env(lambda: VerifiersEnv(Sums(vf.TasksetConfig())), reward_range=(0, 1.1))
    assert not findings.errors, findings
