"""One running episode: environment, RLlib episode, and the dialogue as tokens."""

from typing import Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.engines import Completion
from sfpo_rllib.env_runners.env_values import Turn
from sfpo_rllib.env_runners.guarded_env import GuardedEnv
from sfpo_rllib.env_runners.prompts import Observation, PromptFormatter
from sfpo_rllib.token_trace import TokenTrace


class Dialogue:
    """An episode under way.

    Attributes:
        env: The environment.
        seed: It was reset with.
        member: Index in the group.
        episode: What RLlib will see of it.
        token_ids: The dialogue so far, which the next reply continues.
    """

    def __init__(
        self,
        env: GuardedEnv,
        episode: SingleAgentEpisode,
        start: tuple[Observation, dict[str, Any]],
        *,
        seed: int,
        member: int,
        formatter: PromptFormatter,
        max_model_len: int,
    ) -> None:
        """Begins the episode.

        Args:
            env: The environment.
            episode: A new one.
            start: What its reset returned.
            seed: What it was reset with.
            member: Index in the group.
            formatter: Turns text into tokens and back.
            max_model_len: The engine's context, in tokens.

        Raises:
            ValueError: If the prompt is empty, or leaves no room for a reply.
        """
        self.env, self.seed, self.member = env, seed, member
        self._formatter, self._max_model_len = formatter, max_model_len
        observation, info = start
        self.episode = episode
        self.episode.add_env_reset(observation=observation, infos=info)
        self.token_ids: list[int] = formatter.first(observation)
        if not self.token_ids:
            raise ValueError("prompt of 0 tokens: a model needs something to reply to")
        if self.room < 1:
            raise ValueError(
                f"prompt of {len(self.token_ids)} tokens: leaves no room for a reply in the "
                f"engine's context of {max_model_len}"
            )
        self._loss_mask = [False] * len(self.token_ids)
        self._logprobs = [0.0] * len(self.token_ids)
        self._truncated = False
        self._cut_replies: list[tuple[int, int]] = []
        self._versions: list[tuple[int, int]] = []  # where each begins, and which it is

    @property
    def first_observation(self) -> Any:
        """The problem."""
        return self.episode.get_observations(0)

    @property
    def room(self) -> int:
        """Tokens that the context has left."""
        return self._max_model_len - len(self.token_ids)

    def take_reply(self, reply: Completion, weights_version: int) -> str:
        """Appends a reply. Returns what the environment is to be stepped with.

        Args:
            reply: The reply.
            weights_version: What it was sampled from, if the engine does not say.
        """
        tokens: list[int] = reply.token_ids.tolist()
        for start, version in reply.versions or ((0, weights_version),):
            if not self._versions or self._versions[-1][1] != version:
                self._versions.append((len(self.token_ids) + start, version))
        self._extend(tokens, True, reply.logprobs.tolist())
        self._truncated |= reply.truncated
        if reply.truncated:
            end_of_reply = len(self.token_ids)
            self._cut_replies.append((end_of_reply - len(tokens), end_of_reply))
        self._reply, self._action = reply, self._formatter.decode(tokens)
        return self._action

    def take_turn(self, turn: Turn) -> bool:
        """Appends what the environment answered. Returns whether the episode is over.

        It is, too, where what the environment says leaves no room for another reply: the episode
        is then truncated, with the rewards it has.
        """
        self.episode.add_env_step(
            observation=turn.observation,
            action=self._action,
            reward=turn.reward,
            infos=turn.info,
            terminated=turn.terminated,
            truncated=turn.truncated,
        )
        if not self.episode.is_done:
            end = None if self._reply.truncated else int(self._reply.token_ids[-1])
            said = self._formatter.following(turn.observation, end=end)
            if len(said) < self.room:
                self._extend(said, False, [0.0] * len(said))
            else:  # what nobody replies to stays out: the learner's context is as long
                self._truncated = self.episode.is_truncated = True
        return self.episode.is_done

    def _extend(self, tokens: list[int], sampled: bool, logprobs: list[float]) -> None:
        self.token_ids += tokens
        self._loss_mask += [sampled] * len(tokens)
        self._logprobs += logprobs

    def finish(self) -> SingleAgentEpisode:
        """The episode, with its trace."""
        TokenTrace(
            token_ids=np.array(self.token_ids, np.int32),
            loss_mask=np.array(self._loss_mask, np.bool_),
            logprobs=np.array(self._logprobs, np.float32),
            seed=self.seed,
            member=self.member,
            weights_version=self._versions[0][1],
            truncated=self._truncated,
            cut_replies=tuple(self._cut_replies),
            versions=tuple(self._versions) if len(self._versions) > 1 else None,
        ).attach(self.episode)
        return self.episode
