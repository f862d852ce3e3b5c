"""The driver's side of sampling: seeds in order, jobs for the runners, what comes of them."""

from sfpo_rllib.env_runners.remote_group import Group
from sfpo_rllib.env_runners.stream.collection import Collection, collect
from sfpo_rllib.env_runners.stream.curriculum import Curriculum, ProblemChooser
from sfpo_rllib.env_runners.stream.fleet import Fleet
from sfpo_rllib.env_runners.stream.saved import pack, unpack
from sfpo_rllib.env_runners.stream.settings import StreamSettings
from sfpo_rllib.env_runners.stream.stream import Batch, GroupStream

__all__ = [
    "Batch",
    "Collection",
    "Curriculum",
    "Fleet",
    "Group",
    "GroupStream",
    "ProblemChooser",
    "StreamSettings",
    "collect",
    "pack",
    "unpack",
]
