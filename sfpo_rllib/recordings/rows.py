"""An episode as a row of plain values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.digest import EpisodeDigest
from sfpo_rllib.env_runners.env_values import short
from sfpo_rllib.recordings.token_texts import TokenTexts
from sfpo_rllib.token_trace import TokenTrace

_MAX_INFO = 10_000  # characters of an info that are kept


@dataclass(frozen=True)
class LearnerNumbers:
    """What the learner computed of an episode, at the start of the batch.

    Attributes:
        advantage: Over its group.
        logprobs: Of its tokens, NaN on those that are not trained on, float32, shape (T,).
        entropies: Of the policy there, nats, likewise.
    """

    advantage: float
    logprobs: np.ndarray | None = None
    entropies: np.ndarray | None = None


def row_of(
    episode: SingleAgentEpisode, texts: TokenTexts, learner: LearnerNumbers | None = None
) -> dict[str, Any]:
    """The values of `store.SCHEMA` that are the episode's own.

    Args:
        episode: With its trace.
        texts: Of the model's tokens.
        learner: What the learner computed. None: it was not trained on.
    """
    trace, digest = TokenTrace.of(episode), EpisodeDigest.of(episode)
    info = dict(episode.get_infos(-1) or {})
    verdict = info.get("verdict")
    versions = trace.versions or ((0, trace.weights_version),)
    return {
        "seed": trace.seed,
        "member": trace.member,
        "reward": digest.episode_return,
        "rewards": [float(reward) for reward in episode.get_rewards()],
        "is_success": digest.is_success,
        "verdict": None if verdict is None else _text(str(verdict)),
        "advantage": None if learner is None else learner.advantage,
        "truncated": digest.truncated,
        "weights_versions": [version for _, version in versions],
        "weights_version_starts": [start for start, _ in versions],
        "messages": messages_of(episode, trace),
        "token_ids": trace.token_ids,
        "tokens": texts(trace.token_ids.tolist()),
        "sampled": trace.loss_mask,
        "logprobs": trace.logprobs,
        "old_logps": None if learner is None else learner.logprobs,
        "entropies": None if learner is None else learner.entropies,
        "metrics": [(_text(name), value) for name, value in digest.metrics.items()],
        "info": _as_json({k: v for k, v in info.items() if k != "metrics"}),
    }


def messages_of(episode: SingleAgentEpisode, trace: TokenTrace) -> list[dict[str, Any]]:
    """The dialogue: what the environment said, and between it the policy's replies.

    Each message has `role`, `content`, `turn` (of its reply; -1: it is the environment's), and of a
    reply `start` and `end`, where its tokens are in the trace. These are 0 where replies follow
    each other without a token of the environment's, as nothing tells then where one ends.
    """
    observations, replies = episode.get_observations(), episode.get_actions()
    spans = runs_of(trace.loss_mask)
    if len(spans) != len(replies):
        spans = [(0, 0)] * len(replies)
    messages = _said(observations[0])
    following = zip(replies, spans, observations[1:], strict=True)
    for turn, (reply, (start, end), observation) in enumerate(following):
        messages.append(_message("assistant", str(reply), turn, start, end))
        messages += _said(observation)
    return messages


def runs_of(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where each run of True begins and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _said(observation: str | Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The messages of an observation; none of a blank one."""
    if isinstance(observation, str):
        return [_message("user", observation)] if observation else []
    return [_message(message["role"], message["content"]) for message in observation]


def _message(
    role: str, content: str, turn: int = -1, start: int = 0, end: int = 0
) -> dict[str, Any]:
    where = {"turn": turn, "start": start, "end": end}
    return {"role": _text(role), "content": _text(content), **where}


def _text(text: str) -> str:
    """A text without halves of characters, which no file takes."""
    return text.encode("utf-8", "replace").decode()


def _as_json(info: Mapping[str, Any]) -> str:
    """An info as JSON, what JSON does not know as a person is shown it; a long one is left out."""
    text = json.dumps({str(key): _plain(value) for key, value in info.items()})
    if len(text) > _MAX_INFO:
        return json.dumps({"left_out": f"{len(text)} characters"})
    return text


def _plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, default=short, allow_nan=False))
    except Exception:  # e.g. keys that are tuples, or what contains itself
        return short(value)
