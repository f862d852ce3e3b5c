"""Groups that stay where they were sampled: the driver has a reference and a digest of each.

A runner's answer is one object and one more for each group. They belong to the driver, so that they
outlive the runner; they travel to the learner that trains on them, and nowhere else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import ray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.annotations import override

from sfpo_rllib.env_runners.digest import EpisodeDigest
from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult

Group = Sequence[SingleAgentEpisode]  # its episodes, members in order


class RemoteGroup(Sequence[SingleAgentEpisode]):
    """A group that is fetched when somebody looks at an episode, and not kept then.

    Attributes:
        ref: Refers to the list of its episodes.
        digests: Theirs.
    """

    def __init__(self, ref: ray.ObjectRef, digests: Sequence[EpisodeDigest]) -> None:
        self.ref = ref
        self.digests = tuple(digests)

    @override(Sequence)
    def __len__(self) -> int:
        return len(self.digests)

    @overload
    def __getitem__(self, index: int) -> SingleAgentEpisode: ...
    @overload
    def __getitem__(self, index: slice) -> list[SingleAgentEpisode]: ...
    @override(Sequence)
    def __getitem__(self, index: int | slice) -> SingleAgentEpisode | list[SingleAgentEpisode]:
        episodes: list[SingleAgentEpisode] = ray.get(self.ref)
        return episodes[index]

    @override(Sequence)
    def __iter__(self) -> Iterator[SingleAgentEpisode]:
        yield from self[:]


def digests_of(group: Group) -> Sequence[EpisodeDigest]:
    """The digests of a group's episodes, which need not be fetched for them."""
    if isinstance(group, RemoteGroup):
        return group.digests
    return [EpisodeDigest.of(episode) for episode in group]


def ref_of(group: Group) -> ray.ObjectRef:
    """A reference to the list of a group's episodes."""
    return group.ref if isinstance(group, RemoteGroup) else ray.put(list(group))


def num_parts(arguments: Mapping[str, Any]) -> int:
    """How many groups a call with these arguments may come to."""
    return sum(len(value.seeds) for value in arguments.values() if isinstance(value, RolloutJob))


def apart(value: Any, count: int) -> tuple[Any, list[Any]]:
    """Parts the groups from what else a runner answers.

    Args:
        value: The answer.
        count: Of the parts to be returned.

    Returns:
        The answer, in which the digests stand for the groups; and the groups, with None behind
        them.
    """
    groups: list[Any] = []
    if isinstance(value, RolloutResult):
        groups = list(value.groups.values())
        digests: Any = {seed: digests_of(group) for seed, group in value.groups.items()}
        value = replace(value, groups=digests)
    return value, groups + [None] * (count - len(groups))


def joined(value: Any, refs: Iterable[ray.ObjectRef]) -> Any:
    """Undoes `apart`, with references for the groups."""
    if not isinstance(value, RolloutResult):
        return value
    items = zip(value.groups.items(), refs, strict=False)
    groups: Any = {seed: RemoteGroup(ref, digests) for (seed, digests), ref in items}
    return replace(value, groups=groups)
