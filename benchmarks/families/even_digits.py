"""A task of which a random model solves a part."""

from typing import Any

import gymnasium as gym

from benchmarks.families.models import ALPHABET


class EvenDigits(gym.Env):
    """One turn; the prompt is a few characters, and even digits in the reply are rewarded."""

    observation_space = gym.spaces.Text(16, min_length=1, charset=ALPHABET)
    action_space = gym.spaces.Text(64, min_length=0, charset=ALPHABET)

    def __init__(self, **kwargs: Any) -> None:
        """Takes no settings."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Writes 1 to 12 characters."""
        super().reset(seed=seed)
        length = int(self.np_random.integers(1, 13))
        return "".join(self.np_random.choice(list(ALPHABET), length)), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Rewards the share of even digits."""
        return "", sum(c in "02468" for c in action) / max(len(action), 1), True, False, {}
