"""An environment checker for text environments.

:func:`check_text_env` tries what training will do to an environment, and what a model may say to
it, and returns what is wrong, each finding with what to change. It runs as a command, too:

    python -m sfpo_envs check sfpo/Arithmetic-v0 --config '{"num_digits": 3}'
"""

from sfpo_envs.check.checker import check_text_env
from sfpo_envs.check.episodes import Episode, show_episodes
from sfpo_envs.check.findings import Finding, Findings

__all__ = ["Episode", "Finding", "Findings", "check_text_env", "show_episodes"]
