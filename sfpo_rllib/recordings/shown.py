"""A few replies for a person to read: at the terminal, and in TensorBoard's text."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from sfpo_rllib.reporting import tensorboard_writer

FOLDER = "replies"
NUM_SHOWN = 2
_MOST = {"prompt": 400, "reply": 1200}  # characters that are shown


def chosen(groups: Sequence[Any]) -> list[tuple[int, int]]:
    """Which replies are shown, as group and member: of two problems, where there are two."""
    if len(groups) >= NUM_SHOWN:
        return [(group, 0) for group in range(NUM_SHOWN)]
    return [(0, member) for member in range(min(len(groups[0]), NUM_SHOWN))] if groups else []


def as_text(row: Mapping[str, Any]) -> str:
    """A reply with what it was paid, after its prompt.

    Args:
        row: See `rows.row_of`.
    """
    messages = row["messages"]
    first = next(i for i, message in enumerate(messages) if message["turn"] >= 0)
    verdict = f", {row['verdict']}" if row["verdict"] else ""
    lines = [f"reward {row['reward']:g}{verdict}, problem {row['seed']}"]
    prompt = "\n".join(message["content"] for message in messages[:first])
    lines += _paragraph("prompt", prompt, keep_end=True)
    for message in messages[first:]:
        is_reply = message["turn"] >= 0
        lines += _paragraph("reply" if is_reply else message["role"], message["content"])
    return "\n".join(lines)


def _paragraph(name: str, text: str, *, keep_end: bool = False) -> list[str]:
    most = _MOST.get(name, _MOST["prompt"])
    if len(text) > most:
        left_out = f"[{len(text) - most} characters]"
        text = f"{left_out} {text[-most:]}" if keep_end else f"{text[:most]} {left_out}"
    return [f"  {name}:", textwrap.indent(printable(text), "    ", lambda line: True)]


def printable(text: str) -> str:
    """A text without the codes by which it could steer a terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


class ReplyDisplay:
    """Prints replies, and writes them for TensorBoard into a folder of their own.

    TensorBoard reads one file of a folder at a time, and the run's own folder has another.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._writer: SummaryWriter | None = None

    def show(self, iteration: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Shows replies of an iteration.

        Raises:
            OSError: If they cannot be written.
        """
        text = "\n".join(map(as_text, rows))
        tqdm.write(f"--- iteration {iteration}: what the model writes\n{text}\n---")
        if self._writer is None:
            # What was written of this iteration and later ones by a run that ended is hidden.
            self._writer = tensorboard_writer(self._folder, iteration)
        # As code, so that nothing in it is Markdown.
        self._writer.add_text(
            "replies", textwrap.indent(text, "    ", lambda line: True), iteration
        )
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
