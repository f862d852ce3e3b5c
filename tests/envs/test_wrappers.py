"""Limits, shaped rewards and formats over text environments."""

import re
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from sfpo_envs import (
    ArithmeticEnv,
    ChatMessages,
    FormatPenalty,
    RewardShaping,
    TokenLimit,
    TurnLimit,
    UnicodeText,
    check_text_env,
)

Infos = list[dict[str, Any]]


class Talk(gymnasium.Env):
    """Pays 0.25 a turn, and ends after some turns with a metric."""

    def __init__(self, turns: int = 3, as_messages: bool = False) -> None:
        self.observation_space = ChatMessages(100) if as_messages else UnicodeText(100)
        self.action_space = UnicodeText(100_000)
        self._turns, self._as_messages = turns, as_messages

    def _observation(self) -> Any:
        return [{"role": "user", "content": "12345"}] if self._as_messages else "12345"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._turn = 0
        return self._observation(), {}

    def step(self, action):
        self._turn += 1
        over = self._turn == self._turns
        info = {"is_success": True, "metrics": {"length": len(action)}} if over else {}
        return self._observation(), 0.25, over, False, info


def play(env: gymnasium.Env, *replies: str) -> tuple[list[float], Infos, str]:
    """Rewards and infos until the end, and what kind of an end it was."""
    env.reset(seed=0)
    rewards, infos, end = [], [], "none"
    for reply in replies:
        _, reward, terminated, truncated, info = env.step(reply)
        rewards.append(reward)
        infos.append(info)
        if terminated or truncated:
            end = "terminated" if terminated else "truncated"
            break
    return rewards, infos, end


def test_an_episode_is_cut_after_so_many_turns_and_says_so():
    env = TurnLimit(Talk(turns=5), max_turns=2)
    for _ in range(2):  # the count begins anew with each episode
        rewards, infos, end = play(env, "a", "b", "c")
        assert (rewards, end) == ([0.25, 0.25], "truncated")
        assert infos == [{}, {"is_success": False, "metrics": {"turn_limit": 1.0}}]


@pytest.mark.parametrize("max_turns", [3, 4])
def test_an_episode_that_ends_by_itself_is_not_cut(max_turns):
    _, infos, end = play(TurnLimit(Talk(turns=3), max_turns), "a", "b", "c")
    assert end == "terminated"
    assert infos[-1] == {"is_success": True, "metrics": {"turn_limit": 0.0, "length": 1}}


@pytest.mark.parametrize("as_messages", [False, True])
def test_a_dialogue_is_cut_when_it_is_so_long(as_messages):
    # 5 characters shown at first; each turn takes 3 of the reply and 5 of the answer to it.
    for max_tokens, turns in [(1, 1), (13, 1), (14, 2), (21, 2), (22, 3)]:
        env = TokenLimit(Talk(turns=9, as_messages=as_messages), max_tokens)
        for _ in range(2):
            _, infos, end = play(env, *["abc"] * 9)
            assert (len(infos), end) == (turns, "truncated")
            assert infos[-1]["metrics"] == {"token_limit": 1.0}
    _, infos, end = play(TokenLimit(Talk(turns=2), 22), "abc", "abc")
    assert end == "terminated"
    assert infos[-1]["metrics"]["token_limit"] == 0.0


def test_tokens_are_counted_by_the_function_given():
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text.split())

    _, infos, end = play(TokenLimit(Talk(turns=9), 6, count=count), *["a b"] * 9)
    assert (len(infos), end) == (2, "truncated")  # 1, and 3 more in each turn
    assert counted == ["12345", "a b", "12345", "a b", "12345"]


def test_metrics_are_added_with_weights_at_the_end():
    rewards, infos, _ = play(RewardShaping(Talk(), {"length": -0.5}), "a", "b", "cc")
    assert rewards == [0.25, 0.25, 0.25 - 0.5 * 2]
    assert infos[-1]["metrics"] == {"unshaped_reward": 0.75, "length": 2}


def test_a_function_shapes_every_reward():
    env = RewardShaping(Talk(), lambda reward, info: 2 * reward - info.get("is_success", False))
    for _ in range(2):
        rewards, infos, _ = play(env, "a", "b", "c")
        assert rewards == [0.5, 0.5, -0.5]
        assert infos[-1]["metrics"]["unshaped_reward"] == 0.75


def test_the_innermost_reward_stays_the_unshaped_one():
    env = RewardShaping(RewardShaping(Talk(), {"length": 1.0}), lambda reward, info: -reward)
    rewards, infos, _ = play(env, "a", "b", "c")
    assert rewards == [-0.25, -0.25, -1.25]
    assert infos[-1]["metrics"]["unshaped_reward"] == 0.75


def test_a_weight_of_no_metric_is_named():
    with pytest.raises(KeyError, match=r"lenght.*no such metric; there are length"):
        play(RewardShaping(Talk(turns=1), {"lenght": 1.0}), "a")
    # A cut episode has no metrics of its own.
    rewards, _, end = play(RewardShaping(TurnLimit(Talk(), 1), {"length": 1.0}), "a")
    assert (rewards, end) == ([0.25], "truncated")


@pytest.mark.parametrize(
    "accepts", [r"<a>.*</a>", re.compile(r"<a>[^$]*</a>"), lambda reply: reply.startswith(" <a>")]
)
def test_a_reply_without_the_format_costs(accepts):
    env = FormatPenalty(Talk(), accepts, penalty=0.5)
    for _ in range(2):
        rewards, infos, _ = play(env, " <a>x\ny</a>\n", "b</a>", "<b>")
        assert rewards == [0.25, -0.25, -0.25]
        assert [info["metrics"]["format_ok"] for info in infos] == [1.0, 1 / 2, 1 / 3]
        assert infos[-1]["metrics"]["length"] == 3


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda env: TurnLimit(env, 0), "max_turns=0: must be at least 1"),
        (lambda env: TokenLimit(env, 0), "max_tokens=0: must be at least 1"),
        (lambda env: FormatPenalty(env, "x", penalty=-1), "penalty=-1: must not be negative"),
        (lambda env: FormatPenalty(env, "(x", penalty=1), r"accepts='\(x': no regular expression"),
    ],
)
def test_bad_options_are_named(wrap, message):
    with pytest.raises(ValueError, match=message):
        wrap(Talk())


WRAPPED = [
    lambda env: TurnLimit(env, 2),
    lambda env: TokenLimit(env, 20),
    lambda env: RewardShaping(env, {"well_formed": 0.5}),
    lambda env: FormatPenalty(env, "-?[0-9]+", penalty=0.5),
]


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrapped_environments_pass_the_checkers(wrap):
    findings = check_text_env(lambda: wrap(ArithmeticEnv()), reward_range=(-0.5, 1.5))
    assert not findings.errors, "\n".join(map(str, findings.errors))
    check_env(wrap(ArithmeticEnv()), skip_render_check=True)


@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrapped_environments_can_be_made_again_from_their_spec(wrap):
    env = wrap(gymnasium.make("sfpo_envs:sfpo/Arithmetic-v0", disable_env_checker=True))
    twin = gymnasium.make(env.spec)
    assert type(env).__name__ in str(twin)
    assert twin.reset(seed=3)[0] == env.reset(seed=3)[0]
