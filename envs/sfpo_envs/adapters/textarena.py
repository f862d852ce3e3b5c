"""TextArena's single-player games as gymnasium environments; needs ``pip install textarena``."""

from __future__ import annotations

import importlib
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium

from sfpo_envs.spaces import MAX_TEXT_CHARS, UnicodeText

logger = logging.getLogger(__name__)


class TextArenaEnv(gymnasium.Env[str, str]):
    """One game, from its prompt to its end; the reward comes with the last step.

    Each observation is what the game has said since the last reply, without TextArena's wrappers,
    which repeat the whole dialogue. ``is_success`` is whether the reward is the full 1.0. The
    metrics are ``invalid_move`` and ``game_error``: games raise on some replies, which ends the
    episode with a reward of 0.0 and a logged warning.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (gymnasium declares it so)

    def __init__(self, game: str, **options: Any) -> None:
        """Create the environment.

        Args:
            game: TextArena's id, such as ``"GuessTheNumber-v0"``.
            **options: Of the game.
        """
        textarena = importlib.import_module("textarena")
        self._name = game
        self._game = textarena.make(game, **options)
        while isinstance(self._game, textarena.Wrapper):
            self._game = self._game.env
        self.observation_space = UnicodeText(MAX_TEXT_CHARS)
        self.action_space = UnicodeText(MAX_TEXT_CHARS)
        self._random_state: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start a game, which the seed decides.

        Raises:
            ValueError: The game needs more players than one.
        """
        super().reset(seed=seed, options=options)
        game_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._random_state = random.Random(game_seed).getstate()
        try:
            with self._own_random():
                self._game.reset(num_players=1, seed=game_seed)
        except AssertionError as error:
            raise ValueError(f"game={self._name!r}: is not for one alone; {error}") from error
        return self._news(), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Make a move."""
        if self._random_state is None:
            raise RuntimeError("no game is under way: call reset() before step()")
        try:
            with self._own_random():
                done, _ = self._game.step(action)
        except Exception as error:
            logger.warning("A game raised on a reply: %r", error, exc_info=error)
            return self._end(0.0, {"invalid_move": 1.0, "game_error": 1.0}, truncated=True)
        if not done:
            return self._news(), 0.0, False, False, {}
        rewards, info = self._game.close()
        metrics = {"invalid_move": float(info[0].get("invalid_move", False)), "game_error": 0.0}
        return self._end(float(rewards[0]), metrics)

    def _end(
        self, reward: float, metrics: dict[str, float], truncated: bool = False
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._random_state = None
        info = {"is_success": reward >= 1.0, "metrics": metrics}
        return "", reward, not truncated, truncated, info

    def _news(self) -> str:
        player, messages = self._game.get_observation()
        news = "\n".join(text for sender, text, _ in messages if sender != player)
        return news[:MAX_TEXT_CHARS]  # some games repeat the reply

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Let the game draw from Python's global generator, which it seeds, without a trace."""
        outside = random.getstate()
        random.setstate(self._random_state)
        try:
            yield
        finally:
            self._random_state = random.getstate()
            random.setstate(outside)
