"""The learner connector: whole groups of episodes to a token batch with advantages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib import GRPOConfig
from sfpo_rllib.connectors import GroupRelativeAdvantages, TokenBatch
from sfpo_rllib.core import ADVANTAGES, group_relative_advantages
from sfpo_rllib.core.advantages import equal_reward_groups
from sfpo_rllib.env_runners.summary import has_equal_rewards, num_sampled_tokens, summarize
from sfpo_rllib.token_trace import TokenTrace


def episode(
    seed: int,
    member: int,
    *,
    prompt: Sequence[int] = (4, 5),
    reply: Sequence[int] = (6, 1),
    rewards: Sequence[float] = (1.0,),
    info: dict[str, Any] | None = None,
    truncated: bool = False,
) -> SingleAgentEpisode:
    """An episode of one turn a reward, whose tokens are one prompt and one reply."""
    result = SingleAgentEpisode(len_lookback_buffer=0)
    result.add_env_reset(observation="?", infos={})
    for turn, reward in enumerate(rewards):
        last = turn == len(rewards) - 1
        result.add_env_step(
            observation="?",
            action="!",
            reward=reward,
            infos=(info or {}) if last else {},
            terminated=last,
        )
    TokenTrace(
        token_ids=np.array([*prompt, *reply], np.int32),
        loss_mask=np.array([False] * len(prompt) + [True] * len(reply)),
        logprobs=np.array([0.0] * len(prompt) + [-0.5 * (i + 1) for i in range(len(reply))]),
        seed=seed,
        member=member,
        weights_version=0,
        truncated=truncated,
    ).attach(result)
    return result


GROUPS = [
    episode(7, 0, prompt=[4, 5], reply=[6, 1], rewards=[1.0]),
    episode(7, 1, prompt=[4, 5], reply=[6, 6, 0, 0], rewards=[0.0], truncated=True),
    episode(9, 0, prompt=[8], reply=[1], rewards=[0.25, 0.25]),
    episode(9, 1, prompt=[8, 8, 8], reply=[2, 1], rewards=[-1.0, 0.0, 3.0]),
]


def token_batch(episodes: list[SingleAgentEpisode], group_size: int = 2) -> dict[str, torch.Tensor]:
    connector = TokenBatch(group_size=group_size)
    return connector(rl_module=None, batch={}, episodes=episodes)[DEFAULT_MODULE_ID]


def test_traces_are_padded_on_the_right_in_the_order_of_the_episodes():
    batch = token_batch(GROUPS)
    assert batch["input_ids"].tolist() == [
        [4, 5, 6, 1, 0, 0],
        [4, 5, 6, 6, 0, 0],
        [8, 1, 0, 0, 0, 0],
        [8, 8, 8, 2, 1, 0],
    ]
    # By length, not by value: tokens of id 0 are there in the second row.
    assert batch["attention_mask"].sum(dim=1).tolist() == [4, 6, 2, 5]
    assert (batch["attention_mask"].int().diff(dim=1) <= 0).all()
    assert batch["loss_mask"].tolist() == [
        [False, False, True, True, False, False],
        [False, False, True, True, True, True],
        [False, True, False, False, False, False],
        [False, False, False, True, True, False],
    ]
    assert batch["behaviour_logp"].tolist() == [
        [0.0, 0.0, -0.5, -1.0, 0.0, 0.0],
        [0.0, 0.0, -0.5, -1.0, -1.5, -2.0],
        [0.0, -0.5, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, -0.5, -1.0, 0.0],
    ]
    dtypes = {name: column.dtype for name, column in batch.items()}
    assert dtypes == {
        "input_ids": torch.int32,
        "attention_mask": torch.bool,
        "loss_mask": torch.bool,
        "behaviour_logp": torch.float32,
    }


@pytest.mark.parametrize("advantages", ADVANTAGES)
def test_the_pipeline_of_the_config_adds_each_episodes_advantage_over_its_group(advantages):
    config = GRPOConfig().training(group_size=2, advantages=advantages)
    pipeline = config.build_learner_connector(None, None)
    batch = pipeline(rl_module=None, batch={}, episodes=GROUPS)[DEFAULT_MODULE_ID]
    returns = torch.tensor([[1.0, 0.0], [0.5, 2.0]])  # sums over turns
    expected, _ = group_relative_advantages(returns, advantages)
    assert torch.equal(batch["advantages"], expected.flatten())
    assert batch["input_ids"].shape == (4, 6)


def test_advantages_are_of_the_episodes_of_one_group():
    batch = {DEFAULT_MODULE_ID: {}}
    connector = GroupRelativeAdvantages(group_size=2, advantages="group_mean")
    connector(rl_module=None, batch=batch, episodes=GROUPS)
    assert batch[DEFAULT_MODULE_ID]["advantages"].tolist() == [0.5, -0.5, -0.75, 0.75]


@pytest.mark.parametrize("how", ["keep", "drop"])
def test_no_token_of_a_group_of_equal_rewards_counts_if_it_is_dropped(how):
    equal = [episode(3, 0, reply=[6, 1]), episode(3, 1, reply=[6, 6, 1])]
    config = GRPOConfig().training(group_size=2, equal_reward_groups=how)
    pipeline = config.build_learner_connector(None, None)
    batch = pipeline(rl_module=None, batch={}, episodes=[*equal, *GROUPS[:2]])[DEFAULT_MODULE_ID]
    counted = batch["loss_mask"].sum(dim=1).tolist()
    assert counted == ([2, 3, 2, 4] if how == "keep" else [0, 0, 2, 4])
    assert batch["advantages"][:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([], "0 episodes: must be whole groups of 2"),
        (GROUPS[:3], "3 episodes: must be whole groups of 2"),
        ([GROUPS[i] for i in (0, 3, 2, 1)], "episodes 0 to 1: not one whole group"),
        ([*GROUPS[:2], GROUPS[2], GROUPS[2]], "episodes 2 to 3: not one whole group"),
        (GROUPS, "episodes 0 to 3: not one whole group of 4"),
    ],
)
def test_what_is_not_whole_groups_is_refused(episodes, message):
    size = 4 if message.endswith("of 4") else 2
    with pytest.raises(ValueError, match=message):
        token_batch(episodes, group_size=size)


def test_members_of_a_group_may_stand_in_any_order():
    swapped = token_batch([GROUPS[1], GROUPS[0]])
    assert torch.equal(swapped["input_ids"], token_batch(GROUPS[:2])["input_ids"].flip(0))


def test_an_episode_of_another_runner_is_refused():
    stranger = SingleAgentEpisode(len_lookback_buffer=0)
    with pytest.raises(ValueError, match="has no token trace"):
        token_batch([stranger, stranger])


# Summaries.


def test_a_summary_is_the_means_and_the_ends_over_all_episodes():
    groups = [GROUPS[:2], GROUPS[2:]]
    assert num_sampled_tokens(groups) == 2 + 4 + 1 + 2
    assert summarize(groups) == {
        "episode_return_mean": (1.0 + 0.0 + 0.5 + 2.0) / 4,
        "episode_len_mean": (1 + 1 + 2 + 3) / 4,
        "completion_length_mean": 9 / 4,
        "episode_return_min": 0.0,
        "episode_return_max": 2.0,
        "episode_len_min": 1,
        "episode_len_max": 3,
        "completion_length_min": 1,
        "completion_length_max": 4,
        "truncated_fraction": 1 / 4,
        "num_groups_equal_reward": 0,
    }


def test_a_summary_has_the_accuracy_and_metrics_that_environments_give():
    right = {"is_success": True, "metrics": {"steps": 3, "has_answer": 1.0}}
    wrong = {"is_success": False, "metrics": {"steps": 4}}
    group = [episode(1, 0, info=right), episode(1, 1, info=wrong), episode(1, 2)]
    summary = summarize([group])
    assert summary["accuracy"] == 0.5
    assert summary["env_metrics/steps"] == 3.5
    assert summary["env_metrics/has_answer"] == 1.0
    assert summary["num_groups_equal_reward"] == 1
    assert has_equal_rewards(group)
    assert not has_equal_rewards(GROUPS[:2])


def test_rewards_are_equal_where_the_learner_takes_them_for_equal() -> None:
    rewards = [0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1]
    assert rewards[0] != rewards[1]
    group = [episode(1, member, rewards=[reward]) for member, reward in enumerate(rewards)]
    assert has_equal_rewards(group)
    assert equal_reward_groups(torch.tensor([rewards])).all()
