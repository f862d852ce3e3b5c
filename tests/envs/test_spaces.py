"""The space of chat messages; the text space is in test_envs_package."""

import copy
import json
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from sfpo_envs import ChatMessages, UnicodeText


def message(content: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": content}


class ChatEnv(gymnasium.Env):
    """Asks in chat messages, a system message first."""

    def __init__(self) -> None:
        self.observation_space = ChatMessages(200, min_messages=0)
        self.action_space = UnicodeText(200)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        number = int(self.np_random.integers(10**6))
        return [message("数を返せ \x00", "system"), message(str(number))], {}

    def step(self, action):
        return [], float(len(action) % 2), True, False, {}


@pytest.mark.parametrize(
    "content", ["", " \n\t", "數學 ±√2 \U0001f600", "\ud800", "\x00", "x" * 20]
)
@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_any_content_of_any_role_is_contained(content, role):
    assert [message(content, role)] in ChatMessages(20)


@pytest.mark.parametrize(
    "stranger",
    [
        "text",
        None,
        (message("a tuple"),),
        [],
        [message("x")] * 4,
        [message("x" * 11)],
        [message("x" * 6), message("x" * 5, "assistant")],
        [{"role": "user"}],
        [{"role": "user", "content": "x", "name": "y"}],
        [message("x", "wizard")],
        [{"role": "user", "content": None}],
        [{"role": ["user"], "content": "x"}],
        ["x"],
    ],
)
def test_what_is_no_list_of_messages_within_the_bounds_is_not_contained(stranger):
    assert stranger not in ChatMessages(10, max_messages=3)


def test_samples_are_members_repeatable_and_reach_the_bounds():
    space, twin = (ChatMessages(30, max_messages=5, min_messages=2, seed=3) for _ in range(2))
    samples = [space.sample() for _ in range(300)]
    assert samples == [twin.sample() for _ in range(300)]
    assert all(sample in space for sample in samples)
    assert {len(sample) for sample in samples} == {2, 3, 4, 5}
    assert ChatMessages(0, max_messages=0, min_messages=0).sample() == []
    with pytest.raises(ValueError, match="mask"):
        space.sample(mask=np.ones(1))


def test_spaces_compare_by_their_bounds_and_survive_pickling():
    space = ChatMessages(30, max_messages=5)
    for twin in (pickle.loads(pickle.dumps(space)), copy.deepcopy(space), eval(repr(space))):
        assert twin == space
    for other in (
        ChatMessages(31, max_messages=5),
        ChatMessages(30, max_messages=6),
        ChatMessages(30, max_messages=5, min_messages=0),
        UnicodeText(30),
    ):
        assert other != space


def test_members_go_through_json():
    space = ChatMessages(30, seed=1)
    samples = [[message("±\ud800\x00")], space.sample()]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))) == samples


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"max_length": -1}, "max_length=-1"),
        ({"max_length": 1, "max_messages": 2, "min_messages": 3}, "min_messages=3"),
        ({"max_length": 1, "min_messages": -1}, "min_messages=-1"),
    ],
)
def test_bounds_that_leave_nothing_are_refused(bounds, text):
    with pytest.raises(ValueError, match=text):
        ChatMessages(**bounds)


def test_gymnasiums_own_checker_passes():
    check_env(ChatEnv(), skip_render_check=True)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_vectorised_environments_return_each_ones_messages(asynchronous):
    makers = [ChatEnv, ChatEnv]
    single = ChatEnv()
    envs = AsyncVectorEnv(makers, shared_memory=False) if asynchronous else SyncVectorEnv(makers)
    try:
        observations, _ = envs.reset(seed=[4, 5])
        assert list(observations) == [single.reset(seed=4)[0], single.reset(seed=5)[0]]
        observations, rewards, terminated, _, _ = envs.step(("a", "bb"))
        assert list(observations) == [[], []]
        assert rewards.tolist() == [1.0, 0.0]
        assert terminated.all()
    finally:
        envs.close()
