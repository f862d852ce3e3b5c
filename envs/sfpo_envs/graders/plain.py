r"""Words and numbers without the LaTeX around them: ``1\text{ hour}`` is "1 hour"."""

from __future__ import annotations

import re

from sfpo_envs.graders.spelling import TEXT_COMMAND

_TEXT = re.compile(rf"{TEXT_COMMAND}\s*\{{([^{{}}]*)\}}")
_SPACE = re.compile(r"(?:\\[,;:! ]|\\q?quad(?![A-Za-z])|[\s~$])+")


def in_plain(text: str) -> str:
    """Return an answer with its words out of LaTeX, single spaces, and no point at its end."""
    return _SPACE.sub(" ", _TEXT.sub(r" \1 ", text)).strip(" .")
