"""Whatever an environment does, its group is dropped for it, by name, and no other is harmed."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from scripted import Bench, Reply
from transformers import AutoTokenizer

from sfpo_rllib.env_runners.summary import summarize

BAD = 5  # the seed that environments misbehave for
SEEDS = [7, BAD, 9]


class Sloppy(gym.Env):
    """One turn, paid 1.0, unless `reset` or `step` says what to return, or do, for one seed."""

    def __init__(
        self,
        reset: Callable[[], Any] | None = None,
        step: Callable[[], Any] | None = None,
        close: Callable[[], Any] | None = None,
        bad: tuple[int, ...] = (BAD,),
    ) -> None:
        self._reset, self._step, self._close, self._bad = reset, step, close, bad
        self.num_steps = 0
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._is_bad = seed in self._bad
        if self._reset is not None and self._is_bad:
            return self._reset()
        return f"{seed}=", {}

    def step(self, action: str) -> Any:
        self.num_steps += 1
        if self._step is not None and self._is_bad:
            return self._step()
        return fine()

    def close(self) -> None:
        self.closed = True
        if self._close is not None:
            self._close()


def fine(**changes: Any) -> tuple:
    turn = {"observation": "", "reward": 1.0, "terminated": True, "truncated": False, "info": {}}
    return tuple((turn | changes).values())


def raises(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


class Unshowable:
    def __repr__(self) -> str:
        raise OSError("not now")


class UnshowableError(Exception):
    def __str__(self) -> str:
        raise OSError("not now")


class Exits:
    def __reduce__(self) -> Any:
        raise SystemExit(1)


def for_ever() -> None:
    return for_ever()


@pytest.fixture
def bench(tokenizer) -> Callable[..., Bench]:
    def make(reply: Reply = lambda request: ("1", False), **kwargs: Any) -> Bench:
        return Bench(tokenizer, reply, env_class=Sloppy, **kwargs)

    return make


def dropped_for(b: Bench, *words: str) -> None:
    """Runs a job; the one bad group is dropped for what the words say, without its siblings."""
    result = b.run(SEEDS, group_size=3)
    assert set(result.groups) == {7, 9}
    assert all(len(group) == 3 for group in result.groups.values())
    (reason,) = result.dropped.values()
    for word in words:
        assert word in reason, reason
    assert all(e.get_return() == 1.0 for group in result.groups.values() for e in group)
    summarize(list(result.groups.values()))


STEPS = {
    "reward is NaN": (fine(reward=math.nan), "reward=nan: must be a finite number"),
    "reward is infinite": (fine(reward=-math.inf), "reward=-inf: must be a finite number"),
    "reward is a text": (fine(reward="1.0"), "reward='1.0': must be a finite number"),
    "reward is a numpy text": (fine(reward=np.array("1.0")), "reward=array('1.0'"),
    "reward is None": (fine(reward=None), "reward=None"),
    "reward is complex": (fine(reward=1 + 0j), "reward=(1+0j)"),
    "reward is a numpy complex": (fine(reward=np.complex64(1)), "reward="),
    "reward is two": (fine(reward=np.ones(2)), "reward=array"),
    "reward is two, in torch": (fine(reward=torch.ones(2)), "reward=tensor"),
    "reward is a list": (fine(reward=[1.0]), "reward=[1.0]"),
    "reward is a NaN tensor": (fine(reward=torch.tensor(math.nan)), "reward=tensor(nan)"),
    "reward is a NaN Decimal": (fine(reward=Decimal("sNaN")), "reward=Decimal"),
    "reward is beyond floats": (fine(reward=10**400), "reward=1000"),
    "reward's square is beyond floats": (fine(reward=1e30), "reward=1e+30"),
    "is_success is None": (fine(info={"is_success": None}), "info['is_success']=None"),
    "is_success is a text": (fine(info={"is_success": "no"}), "info['is_success']='no'"),
    "is_success is 7": (fine(info={"is_success": 7}), "info['is_success']=7"),
    "metric is a text": (fine(info={"metrics": {"a": "b"}}), "info['metrics']['a']='b'"),
    "metric is None": (fine(info={"metrics": {"a": None}}), "info['metrics']['a']=None"),
    "metric is NaN": (fine(info={"metrics": {"a": math.nan}}), "info['metrics']['a']=nan"),
    "metric has a number for its name": (fine(info={"metrics": {1: 2}}), "info['metrics'][1]=2"),
    "metrics are a list": (fine(info={"metrics": [1]}), "info['metrics']=[1]"),
    "info is a text": (fine(info="ok"), "info='ok': must be a dictionary"),
    "info has a lock": (fine(info={"lock": threading.Lock()}), "['lock'] cannot be pickled"),
    "info has a generator": (fine(info={"g": (i for i in "ab")}), "['g'] cannot be pickled"),
    "observation is a number": (fine(observation=4), "showed 4", "of type int"),
    "observation is bytes": (fine(observation=b"4"), "showed b'4'"),
    "observation is an array": (fine(observation=np.ones(2)), "of type ndarray"),
    "observation is a generator": (fine(observation=(c for c in "ab")), "of type generator"),
    "observation goes on, as None": (fine(observation=None, terminated=False), "showed None"),
    "message has no role": (fine(observation=[{"content": "x"}]), "'role'"),
    "message has a lock": (
        fine(
            observation=[{"role": "user", "content": "", "x": threading.Lock()}], terminated=False
        ),
        "an observation cannot be pickled",
    ),
    "observation is half a character": (fine(observation="\ud800", terminated=False), ""),
    "step of async": (asyncio.sleep, "step() returned <function sleep"),
    "info pickles by exiting": (fine(info={"a": Exits()}), "SystemExit"),
    "reward cannot be shown": (fine(reward=Unshowable()), "reward=<Unshowable>"),
    "message has parts": (fine(observation=[{"role": "user", "content": ["x"]}]), "'content'"),
    "terminated is a text": (fine(terminated="False"), "terminated='False': must be a bool"),
    "truncated is None": (fine(truncated=None), "truncated=None: must be a bool"),
    "step of the old gym": (("", 1.0, True, {}), "must be (observation, reward, terminated"),
    "step returns nothing": (None, "step() returned None"),
}


@pytest.mark.parametrize(("result", "words"), [(r, w) for r, *w in STEPS.values()], ids=list(STEPS))
@pytest.mark.parametrize("timeout_s", [None, 60.0], ids=["no time-out", "time-out"])
def test_a_step_that_returns_what_it_must_not_drops_its_group(bench, result, words, timeout_s):
    b = bench(step=lambda: result, timeout_s=timeout_s)
    dropped_for(b, *words)
    # Two of the three were not generated for any more, and none of the three stepped but one.
    assert len(b.engine.aborted) == 2
    assert sum(env.num_steps for env in b.made) == 7


RESETS = {
    "bare observation": ("7=", "reset() returned '7='"),
    "observation is a number": ((7, {}), "reset() showed 7"),
    "observation is None": ((None, {}), "reset() showed None"),
    "nothing to reply to": (("", {}), "prompt of 0 tokens"),
    "half a character": (("\ud800", {}), ""),
    "info is a list": (("7=", []), "reset(): info=[]"),
    "info has a lock": (("7=", {"lock": threading.Lock()}), "cannot be pickled"),
}


@pytest.mark.parametrize(("result", "words"), RESETS.values(), ids=list(RESETS))
def test_a_reset_that_returns_what_it_must_not_drops_its_group_before_a_request(
    bench, result, words
):
    b = bench(reset=lambda: result)
    dropped_for(b, words)
    assert len(b.engine.requests) == 6


ERRORS = {
    "an error": (OSError("the tool broke"), "raised OSError: the tool broke"),
    "an exit": (SystemExit(3), "raised SystemExit: 3"),
    "a cancellation": (asyncio.CancelledError(), "raised CancelledError"),
    "a group of errors": (BaseExceptionGroup("x", [SystemExit()]), "raised BaseExceptionGroup"),
    "a time-out of its own": (TimeoutError("server"), "raised TimeoutError: server"),
    "an error that cannot be shown": (UnshowableError(), "raised UnshowableError"),
    "an end of iteration": (StopIteration(3), "raised StopIteration: 3"),
    "no more memory": (MemoryError(), "raised MemoryError"),
}


@pytest.mark.parametrize(("error", "words"), ERRORS.values(), ids=list(ERRORS))
@pytest.mark.parametrize("where", ["reset", "step"])
@pytest.mark.parametrize("timeout_s", [None, 60.0], ids=["no time-out", "time-out"])
def test_what_an_environment_raises_drops_its_group(bench, error, words, where, timeout_s):
    dropped_for(bench(**{where: raises(error)}, timeout_s=timeout_s), where, words)


def test_a_recursion_without_end_drops_its_group(bench):
    dropped_for(bench(step=for_ever), "RecursionError")


def test_an_interrupt_that_an_environment_raises_itself_drops_its_group_in_a_thread(bench):
    dropped_for(bench(step=raises(KeyboardInterrupt()), timeout_s=60.0), "KeyboardInterrupt")


def test_a_close_that_raises_costs_nothing_more(bench, caplog):
    b = bench(step=raises(OSError("step")), close=raises(OSError("connection is gone")))
    dropped_for(b, "step")
    b.pool.close()
    assert all(env.closed for env in b.made)
    tracebacks = [r for r in caplog.records if r.exc_info and "close()" in r.getMessage()]
    assert len(tracebacks) == 1


def test_a_close_that_exits_costs_nothing_more(bench):
    b = bench(step=raises(OSError("step")), close=raises(SystemExit(1)))
    dropped_for(b, "step")
    b.pool.close()


# What is unusual, and fine.


REWARDS = [
    1, True, np.float32(1), np.float64(1), np.int64(1), np.bool_(True), np.array(1.0),
    np.array([1.0]), np.array([[1]]), torch.tensor(1.0), torch.tensor([1.0], requires_grad=True),
    torch.tensor(1.0, dtype=torch.bfloat16), Decimal("1.0"), Fraction(1),
]  # fmt: skip


@pytest.mark.parametrize("reward", REWARDS, ids=repr)
def test_a_reward_may_be_a_number_of_any_kind(bench, reward):
    result = bench(step=lambda: fine(reward=reward)).run(SEEDS)
    assert set(result.groups) == set(SEEDS)
    (values,) = {tuple(e.get_rewards()) for e in result.groups[BAD]}
    assert values == (1.0,) and type(values[0]) is float


INFOS = [
    None, {}, {"is_success": np.bool_(True)}, {"is_success": torch.tensor(True)},
    {"is_success": 1.0, "metrics": None}, {"is_success": np.array([1]), "metrics": {}},
    {"metrics": {"a": np.float32(2), "b": torch.tensor([2.0]), "c": True, "d": Decimal(2)}},
    {"callback": lambda: 3},
]  # fmt: skip


@pytest.mark.parametrize("info", INFOS, ids=[*map(repr, INFOS[:-1]), "a callback"])
def test_an_info_may_be_any_dictionary_that_travels(bench, info):
    result = bench(step=lambda: fine(info=info)).run([BAD])
    numbers = summarize(list(result.groups.values()))
    if info and "is_success" in info:
        assert numbers["accuracy"] == 1.0
    if info and info.get("metrics"):
        assert numbers["env_metrics/a"] == 2.0 and numbers["env_metrics/b"] == 2.0


def test_the_last_observation_may_be_none(bench):
    result = bench(step=lambda: fine(observation=None)).run([BAD])
    assert [e.get_observations(-1) for e in result.groups[BAD]] == ["", ""]


def test_what_an_environment_changes_later_has_been_taken_down(tokenizer):
    class Mutates(gym.Env):
        """Two turns with one list of messages and one info, both of which it goes on writing."""

        def reset(self, *, seed=None, options=None):
            self.messages = [{"role": "user", "content": "1="}]
            self.info = {"turn": 0, "said": []}
            return self.messages, self.info

        def step(self, action):
            self.info["turn"] += 1
            self.info["said"].append(action)
            self.messages[0]["content"] = f"+{self.info['turn']}="
            self.messages.append({"role": "user", "content": "="})
            return self.messages, 1.0, self.info["turn"] == 2, False, self.info

    tokenizer = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    b = Bench(tokenizer, lambda request: ("1", False), env_class=Mutates)
    (episode,) = b.run([3], group_size=1).groups[3]
    assert [len(o) for o in episode.get_observations()] == [1, 2, 3]
    assert [o[0]["content"] for o in episode.get_observations()] == ["1=", "+1=", "+2="]
    assert [i["turn"] for i in episode.get_infos()] == [0, 1, 2]
    assert [len(i["said"]) for i in episode.get_infos()] == [0, 1, 2]


# Logs.


def test_each_kind_of_fault_has_one_traceback_and_each_group_a_line(bench, caplog):
    seeds = tuple(range(6))
    b = bench(step=raises(OSError("the tool broke")), bad=seeds)
    with caplog.at_level(logging.WARNING):
        b.run(seeds)
        b.run([BAD])
    lines = [r for r in caplog.records if "is dropped" in r.getMessage()]
    assert sorted(r.getMessage().split()[3] for r in lines) == ["0", "1", "2", "3", "4", "5", "5"]
    (first,) = [r for r in lines if r.exc_info]
    assert isinstance(first.exc_info[1], OSError)


# Groups.


class IgnoresItsSeed(gym.Env):
    """Shows another problem at each reset of any instance."""

    count = 0

    def reset(self, *, seed=None, options=None):
        IgnoresItsSeed.count += 1
        return f"{IgnoresItsSeed.count}=", {}

    def step(self, action):
        return fine()


def test_members_that_are_shown_different_problems_drop_their_group_before_a_reply(tokenizer):
    b = Bench(tokenizer, lambda request: ("1", False), env_class=IgnoresItsSeed)
    result = b.run([3, 4], group_size=4)
    assert set(result.dropped) == {3, 4}
    assert "python -m sfpo_envs check" in result.dropped[3]
    assert "'1='" in result.dropped[3] and "'2='" in result.dropped[3]
    assert b.engine.aborted == [0, 1]  # the first member's of each, in flight by then


# Constructors.


def test_a_constructor_that_raises_drops_its_group_and_no_other(tokenizer):
    b = Bench(tokenizer, lambda request: ("1", False), env_class=Sloppy)
    make, count = b.pool._make, iter(range(100))

    def sometimes() -> gym.Env:
        if next(count) == 4:
            raise SystemExit("too many open files")
        return make()

    b.pool._make = sometimes
    result = b.run([7, 5, 9], group_size=3)
    assert set(result.groups) == {7, 9}
    assert "its constructor raised SystemExit: too many open files" in result.dropped[5]
    assert b.run([1, 2]).groups.keys() == {1, 2}


def test_accuracy_counts_a_dialogue_that_was_cut_before_its_verdict_as_no_success(tokenizer):
    class Verdict(gym.Env):
        def reset(self, *, seed=None, options=None):
            self.turn = 0
            return "1=", {}

        def step(self, action):
            self.turn += 1
            over = self.turn == 2
            return "=", 1.0, over, False, {"is_success": True} if over else {}

    def reply(request):
        return ("1" * (8 if request.request_id == 0 else 1), False)

    b = Bench(tokenizer, reply, env_class=Verdict, max_model_len=12)
    numbers = summarize([b.run([1], group_size=4).groups[1]])
    assert (numbers["truncated_fraction"], numbers["accuracy"]) == (0.25, 0.75)
