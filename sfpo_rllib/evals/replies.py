"""The replies of an evaluation: a line each, written as it comes, in a folder that resumes."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sfpo_rllib.folder_lock import FolderInUse, FolderLock
from sfpo_rllib.reporting import write_json

REPLIES, RECORD, LOCK = "replies.jsonl", "evaluation.json", "evaluation.lock"


@dataclass(frozen=True)
class Reply:
    """One reply, graded.

    Attributes:
        task: Its name.
        problem: The seed that the environment was reset with.
        sample: Which of the replies to the problem, from 0 on.
        prompt: What the environment showed: text or chat messages.
        reply: The text that the environment judged; of several turns the last one.
        dialogue: Of several turns, what was said after the prompt, replies and observations in
            turn; else None.
        gold: The right answer, where the environment says it.
        answer: What the grader found in the reply, where the environment says it.
        verdict: What the environment says of it in `info["verdict"]`.
        success: `info["is_success"]`, from 0 to 1; 0 of a dialogue that was cut before there was
            one; None if the environment gives none.
        reward: The episode's return.
        num_tokens: That were sampled.
        truncated: Whether it was cut at max_tokens or the end of the context.
    """

    task: str
    problem: int
    sample: int
    prompt: Any
    reply: str
    dialogue: list[Any] | None
    gold: str | None
    answer: str | None
    verdict: str | None
    success: float | None
    reward: float
    num_tokens: int
    truncated: bool

    @property
    def key(self) -> tuple[str, int, int]:
        """Which one it is."""
        return self.task, self.problem, self.sample


class ReplyStore:
    """A folder with the replies of one model under one set of settings, for one process at a time.

    Attributes:
        folder: Where it is.
        replies: Those that there are, by `Reply.key`.
    """

    def __init__(self, folder: str | Path, record: Mapping[str, Any]) -> None:
        """Opens the folder; it is made if it does not exist.

        Args:
            folder: A local path.
            record: What the replies depend on, as JSON has it: whatever is in both this and the
                folder's own must be equal, but for paths.

        Raises:
            ValueError: If the folder has replies of other settings, is not an evaluation's, or
                another process writes there.
        """
        self.folder = Path(folder).resolve()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"output={str(folder)!r}: must be a folder, not a file")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = FolderLock(self.folder / LOCK)
        except FolderInUse:
            raise self._refusal("must be a folder that no other process evaluates in") from None
        try:
            self._check_record(record)
            self.replies = {reply.key: reply for reply in self._kept()}
            self._file = open(self.folder / REPLIES, "a")  # noqa: SIM115
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._lock.release()

    def add(self, reply: Reply) -> None:
        """Writes a reply: from then on no kill loses it."""
        self._file.write(json.dumps(asdict(reply)) + "\n")
        self._file.flush()
        self.replies[reply.key] = reply

    def of_task(self, task: str, num_problems: int, samples: int) -> list[Reply]:
        """The replies to the first problems of a task, of each the first samples, in order."""
        found = (r for r in self.replies.values() if r.task == task)
        wanted = [r for r in found if r.problem < num_problems and r.sample < samples]
        return sorted(wanted, key=lambda reply: reply.key)

    def _check_record(self, record: Mapping[str, Any]) -> None:
        """Compares the record with the folder's own, and writes what is known of both."""
        so_far = self._record_so_far()
        if differing := [*_differences("", record, so_far)]:
            raise self._refusal(
                "has replies of other settings; give another --output, or the same settings: "
                + "; ".join(differing)
            )
        tasks = {**so_far.get("tasks", {}), **record["tasks"]}
        write_json(self.folder / RECORD, {**so_far, **record, "tasks": tasks})

    def _record_so_far(self) -> dict[str, Any]:
        """Empty if there are no replies yet: nothing is lost then."""
        record, replies = self.folder / RECORD, self.folder / REPLIES
        has_replies = replies.exists() and replies.stat().st_size > 0
        if not record.is_file():
            if has_replies:
                raise self._refusal(
                    f"must be a new folder or an evaluation's; it has a {REPLIES} and no {RECORD}"
                )
            return {}
        try:
            content = json.loads(record.read_text())
            if not isinstance(content.get("tasks"), dict):
                raise ValueError("it names no tasks")
        except (ValueError, AttributeError) as error:
            raise self._refusal(
                f"must be a new folder or an evaluation's; its {RECORD} is none ({error})"
            ) from error
        return dict(content) if has_replies else {}

    def _refusal(self, why: str) -> ValueError:
        return ValueError(f"output={str(self.folder)!r}: {why}")

    def _kept(self) -> Iterator[Reply]:
        """The replies in the file, from which what a kill has cut is cut away."""
        path = self.folder / REPLIES
        if not path.exists():
            return
        with open(path, "rb+") as file:
            whole = 0
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                try:
                    yield Reply(**json.loads(line))
                except (ValueError, TypeError) as error:
                    raise self._refusal(
                        f"line {number} of its {REPLIES} is no reply ({error}); take it away"
                    ) from error
            if whole < path.stat().st_size:
                os.ftruncate(file.fileno(), whole)


def read_replies(folder: Path) -> list[Reply]:
    """The replies of an evaluation, to be looked at.

    Raises:
        ValueError: If a line is none.
    """
    lines = (folder / REPLIES).read_text().split("\n")[:-1]  # the last one may be cut
    try:
        return [Reply(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / REPLIES}: has a line that is no reply ({error})") from error


def _differences(name: str, here: Any, there: Any) -> Iterator[str]:
    """What is in both and differs, as `field=value: must be ...`."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in here:
            if key in there and (name, key) != ("model", "path"):  # it may have been moved
                yield from _differences(_field(name, key), here[key], there[key])
        if name.startswith("tasks."):  # an option that only one of them has is another one
            for key in {*here} ^ {*there}:
                yield f"{name}.{key}={here.get(key)!r}: must be {there.get(key)!r}"
    elif name == "model.digest" and here != there:
        yield "model: must be the one that the replies are of, and its files differ"
    elif here != there:
        yield f"{name}={here!r}: must be {there!r}"


def _field(within: str, key: str) -> str:
    return key if within in ("", "settings") else f"{within}.{key}"
