"""Problems as a model is shown them, each with a reply and what it earns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfpo_envs.check.findings import Findings
from sfpo_envs.check.making import maker
from sfpo_envs.check.player import BrokenEnv, Player, TextEnv
from sfpo_envs.check.replies import known_replies

_ANY_REPLY = "1"


@dataclass(frozen=True)
class Episode:
    """One episode, with the same reply to everything.

    Attributes:
        seed: Of the problem.
        problem: The first observation.
        reply: The right answer if the environment knows it, else any.
        reward: The sum of its rewards; ``None`` if it could not be played.
        is_success: What the final info says.
        turns: How many replies it took.
        fault: Why it could not be played.
    """

    seed: int
    problem: Any
    reply: str
    reward: float | None = None
    is_success: bool = False
    turns: int = 0
    fault: str | None = None

    def __str__(self) -> str:
        shown = self.problem
        if not isinstance(shown, str):
            shown = "\n".join(f"{turn['role']}: {turn['content']}" for turn in shown)
        earned = f"reward {self.reward:g}" if self.reward is not None else f"broken: {self.fault}"
        success = ", success" if self.is_success else ""
        turns = f", {self.turns} turns" if self.turns > 1 else ""
        text = "\n".join(f"    {line}" for line in shown.splitlines())
        return f"seed {self.seed}\n{text}\n  reply {self.reply!r}: {earned}{success}{turns}"


def show_episodes(
    env: str | TextEnv | Callable[..., TextEnv],
    number: int,
    *,
    config: dict[str, Any] | None = None,
    max_turns: int = 64,
) -> list[Episode]:
    """Play the first problems.

    Args:
        env: See :func:`check_text_env`.
        number: How many.
        config: Keyword arguments for the id or callable.
        max_turns: An episode must be over after so many replies.
    """
    player = Player(Findings(), None, max_turns)
    made = maker(env, config or {})()
    return [_episode(player, made, seed) for seed in range(number)]


def _episode(player: Player, env: TextEnv, seed: int) -> Episode:
    problem, reply = "", _ANY_REPLY
    try:
        problem = player.reset(env, seed)
        known = known_replies(env, seed)
        # In which form an answer is read only the prompt says.
        tagged = [f"<answer>{answer}</answer>" for answer in known[:1]]
        for reply in (*known, *tagged) or (_ANY_REPLY,):
            steps = player.play(env, seed, reply)
            if steps[-1].is_success:
                break
    except BrokenEnv as error:
        return Episode(seed, problem, reply, fault=str(error))
    reward = sum(step.reward for step in steps)
    return Episode(seed, problem, reply, reward, steps[-1].is_success, len(steps))
