"""Groups that stay where they were sampled."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

import ray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.digest import EpisodeDigest
from sfpo_rllib.env_runners.remote_group import (
    RemoteGroup,
    apart,
    digests_of,
    joined,
    num_parts,
    ref_of,
)
from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.summary import (
    has_equal_rewards,
    num_cut_replies,
    num_sampled_tokens,
    summarize,
)
from sfpo_rllib.token_trace import TokenTrace


def episode(seed: int, member: int, num_tokens: int, **info: Any) -> SingleAgentEpisode:
    made = SingleAgentEpisode(
        observations=["2+2=", ""],
        actions=["4"],
        rewards=[float(member)],
        infos=[{}, info],
        terminated=True,
        len_lookback_buffer=0,
    )
    trace = TokenTrace(
        token_ids=np.ones(num_tokens, np.int32),
        loss_mask=np.arange(num_tokens) >= 3,
        logprobs=np.zeros(num_tokens, np.float32),
        seed=seed,
        member=member,
        weights_version=0,
        truncated=member == 1,
    )
    trace.attach(made)
    return made


def groups(num_tokens: int = 9) -> dict[int, list[SingleAgentEpisode]]:
    return {
        seed: [
            episode(seed, m, num_tokens, is_success=m == 1, metrics={"steps": seed})
            for m in range(2)
        ]
        for seed in (7, 5, 9)
    }


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Stands for the object store; references are places in it."""
    held: list[Any] = []
    monkeypatch.setattr(ray, "get", lambda ref: pickle.loads(pickle.dumps(held[ref])))
    return held


def travelled(result: RolloutResult, count: int, store: list[Any]) -> RolloutResult:
    light, parts = apart(result, count)
    store[:] = parts
    return joined(pickle.loads(pickle.dumps(light)), list(range(count)))


def test_a_result_comes_back_with_the_groups_it_had(store):
    result = RolloutResult(groups=groups(), dropped={1: "why"}, unfinished=[2], metrics={"a": 1})
    back = travelled(result, 5, store)
    assert list(back.groups) == [7, 5, 9]
    assert (back.dropped, back.unfinished, back.metrics) == ({1: "why"}, [2], {"a": 1})
    for seed, group in back.groups.items():
        assert [TokenTrace.of(e).seed for e in group] == [seed, seed]
        assert [TokenTrace.of(e).member for e in group] == [0, 1]
        assert TokenTrace.of(group[-1]).token_ids.tolist() == [1] * 9
    assert store[3:] == [None, None]  # of seeds that came to nothing


def test_numbers_are_the_same_whether_a_group_is_here_or_not(store):
    here = list(groups().values())
    there = list(travelled(RolloutResult(groups=groups()), 3, store).groups.values())
    store.clear()  # nobody fetches an episode for them
    assert summarize(there) == summarize(here)
    assert num_sampled_tokens(there) == num_sampled_tokens(here) == 36
    assert num_cut_replies(there) == num_cut_replies(here) == 3
    assert [has_equal_rewards(g) for g in there] == [has_equal_rewards(g) for g in here]
    assert [d.num_tokens for g in there for d in digests_of(g)] == [9] * 6


def test_what_the_driver_holds_does_not_grow_with_the_tokens():
    sizes = []
    for num_tokens in (10, 32_000):
        light, parts = apart(RolloutResult(groups=groups(num_tokens)), 3)
        sizes.append(len(pickle.dumps(light)))
        assert len(pickle.dumps(parts)) > 9 * num_tokens
    assert sizes[1] <= sizes[0] + 100  # the integers are longer
    assert sizes[1] < 6 * 1000


def test_other_answers_have_no_parts():
    job = RolloutJob((1, 2, 3), 0, (0,), False, 1.0)
    assert num_parts({"job": job}) == 3 and num_parts({"state": {}}) == 0
    stale = RolloutResult(unfinished=[1, 2, 3], stale_version=4)
    light, parts = apart(stale, 3)
    assert joined(light, parts) == stale and parts == [None] * 3
    assert apart(None, 0) == (None, []) and joined(None, []) is None


def test_a_dialogue_cut_before_the_verdict_is_no_success_where_others_have_one():
    made = episode(1, 0, 5)
    assert EpisodeDigest.of(made).is_success is None
    made.is_terminated, made.is_truncated = False, True
    digest = EpisodeDigest.of(made)
    assert digest.is_success == 0.0 and not digest.gives_success


def test_a_group_is_referred_to_once(ray_cluster):
    group = groups()[7]
    ref = ref_of(group)
    assert [TokenTrace.of(e).member for e in ray.get(ref)] == [0, 1]
    assert ref_of(RemoteGroup(ref, digests_of(group))) is ref
