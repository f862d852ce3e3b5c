"""Group rollouts: many episodes at once over one engine, stepped as their replies finish."""

import hashlib
import logging
import time
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
)
from sfpo_rllib.env_runners.prompts import PromptFormatter
from sfpo_rllib.env_runners.text_envs import EnvPool
from sfpo_rllib.token_trace import TokenTrace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RolloutJob:
    """What a runner is asked to sample.

    Attributes:
        seeds: One a group: every environment of the group is reset with it.
        weights_version: The version the engine must run.
        stream: What, besides seed, member and turn, the sampling seeds depend on, e.g. the run's
            seed and the iteration.
        evaluation: Whether to use the evaluation settings.
        timeout_s: After so long the groups that are not finished are given up.
    """

    seeds: tuple[int, ...]
    weights_version: int
    stream: tuple[int | str, ...]
    evaluation: bool
    timeout_s: float


@dataclass
class RolloutResult:
    """What came of a job. Every seed is in exactly one of the three.

    Attributes:
        groups: Whole groups by seed, members in order.
        dropped: Seeds whose environment or prompt failed, with the reason.
        unfinished: Seeds given up at the deadline, or all if the weights are stale.
        stale_version: Set, with nothing sampled, if the engine runs other weights.
        metrics: What callbacks logged in the runner.
    """

    groups: dict[int, list[SingleAgentEpisode]] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    unfinished: list[int] = field(default_factory=list)
    stale_version: int | None = None
    metrics: Any = None


def stable_hash(*parts: int | str) -> int:
    """A 63-bit number that depends on `parts` alone, in any process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Dialogue:
    """One running episode: environment, RLlib episode, and the dialogue as tokens."""

    def __init__(self, env: gym.Env, seed: int, member: int, formatter: PromptFormatter) -> None:
        self.env, self.seed, self.member = env, seed, member
        self._formatter = formatter
        observation, info = env.reset(seed=seed)
        self.episode = SingleAgentEpisode(len_lookback_buffer=0)
        self.episode.add_env_reset(observation=observation, infos=info)
        self.token_ids: list[int] = formatter.first(observation)
        self._loss_mask = [False] * len(self.token_ids)
        self._logprobs = [0.0] * len(self.token_ids)
        self._truncated = False
        self._cut_replies: list[tuple[int, int]] = []

    def take_reply(self, reply: Completion) -> bool:
        """Steps the environment with a reply. Returns whether the episode is over."""
        tokens: list[int] = reply.token_ids.tolist()
        self._extend(tokens, True, reply.logprobs.tolist())
        self._truncated |= reply.truncated
        if reply.truncated:
            end_of_reply = len(self.token_ids)
            self._cut_replies.append((end_of_reply - len(tokens), end_of_reply))
        action = self._formatter.decode(tokens)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.episode.add_env_step(
            observation=observation,
            action=action,
            reward=float(reward),
            infos=info,
            terminated=bool(terminated),
            truncated=bool(truncated),
        )
        if not self.episode.is_done:
            end = None if reply.truncated else tokens[-1]
            said = self._formatter.following(observation, end=end)
            self._extend(said, False, [0.0] * len(said))
        return self.episode.is_done

    def _extend(self, tokens: list[int], sampled: bool, logprobs: list[float]) -> None:
        self.token_ids += tokens
        self._loss_mask += [sampled] * len(tokens)
        self._logprobs += logprobs

    def finish(self, weights_version: int) -> SingleAgentEpisode:
        TokenTrace(
            token_ids=np.array(self.token_ids, np.int32),
            loss_mask=np.array(self._loss_mask, np.bool_),
            logprobs=np.array(self._logprobs, np.float32),
            seed=self.seed,
            member=self.member,
            weights_version=weights_version,
            truncated=self._truncated,
            cut_replies=tuple(self._cut_replies),
        ).attach(self.episode)
        return self.episode


class GroupRollout:
    """Runs one job to its end."""

    def __init__(
        self,
        job: RolloutJob,
        *,
        group_size: int,
        sampling: SamplingSettings,
        engine: RolloutEngine,
        formatter: PromptFormatter,
        envs: EnvPool,
    ) -> None:
        self._job = job
        self._group_size = group_size
        self._sampling = sampling
        self._engine = engine
        self._formatter = formatter
        self._envs = envs
        self._running: dict[int, _Dialogue] = {}  # by request id
        self._next_request = 0
        self._finished: dict[int, dict[int, SingleAgentEpisode]] = {s: {} for s in job.seeds}
        self._result = RolloutResult()

    def run(self) -> RolloutResult:
        """Samples every group of the job, up to its deadline."""
        deadline = time.monotonic() + self._job.timeout_s
        for seed in self._job.seeds:
            for member in range(self._group_size):
                if seed not in self._result.dropped:
                    self._start(seed, member)
        while self._running:
            for reply in self._engine.step():
                dialogue = self._running.pop(reply.request_id)
                if dialogue.seed in self._result.dropped:
                    self._envs.put_back(dialogue.env)
                else:
                    self._advance(dialogue, reply)
            if self._running and time.monotonic() > deadline:
                self._engine.abort()
                for dialogue in self._running.values():
                    self._envs.put_back(dialogue.env)
                self._running.clear()
        for seed, members in self._finished.items():
            if len(members) == self._group_size:
                self._result.groups[seed] = [members[m] for m in range(self._group_size)]
            elif seed not in self._result.dropped:
                self._result.unfinished.append(seed)
        return self._result

    def _start(self, seed: int, member: int) -> None:
        env = self._envs.take()
        try:
            dialogue = _Dialogue(env, seed, member, self._formatter)
            self._request(dialogue)
        except Exception as error:
            self._drop(seed, env, error)

    def _advance(self, dialogue: _Dialogue, reply: Completion) -> None:
        try:
            if not dialogue.take_reply(reply):
                self._request(dialogue)
                return
        except Exception as error:
            self._drop(dialogue.seed, dialogue.env, error)
            return
        episode = dialogue.finish(self._job.weights_version)
        self._finished[dialogue.seed][dialogue.member] = episode
        self._envs.put_back(dialogue.env)

    def _request(self, dialogue: _Dialogue) -> None:
        room = self._engine.max_model_len - len(dialogue.token_ids)
        if room < 1:
            raise ValueError(
                f"prompt of {len(dialogue.token_ids)} tokens: leaves no room for a reply in the "
                f"engine's context of {self._engine.max_model_len}"
            )
        turn = len(dialogue.episode)
        sampling = replace(self._sampling, max_tokens=min(self._sampling.max_tokens, room))
        self._engine.submit(
            GenerationRequest(
                request_id=self._next_request,
                prompt_ids=list(dialogue.token_ids),
                seed=stable_hash(*self._job.stream, dialogue.seed, dialogue.member, turn),
                sampling=sampling,
            )
        )
        self._running[self._next_request] = dialogue
        self._next_request += 1

    def _drop(self, seed: int, env: gym.Env, error: Exception) -> None:
        """Gives up a group: whatever a user's environment raises must not end the run."""
        logger.warning("Group with seed %d is dropped: %r", seed, error, exc_info=error)
        self._result.dropped[seed] = repr(error)
        env.close()
