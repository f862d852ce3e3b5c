"""Open seeds as a state: what was sampled ahead is part of a checkpoint."""

import dataclasses
from typing import Any

from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.stream.ledger import Outcome
from sfpo_rllib.token_trace import TokenTrace


def pack(outcomes: list[tuple[int, Outcome]]) -> list[dict[str, Any]]:
    """Outcomes as dicts, with nothing of a class of our own."""
    return [
        {
            "seed": seed,
            **dataclasses.asdict(dataclasses.replace(outcome, group=None)),
            "group": outcome.group and [_pack(episode) for episode in outcome.group],
        }
        for seed, outcome in outcomes
    ]


def unpack(states: list[dict[str, Any]]) -> list[tuple[int, Outcome]]:
    """Undoes `pack`."""
    result = []
    for state in states:
        values = {name: value for name, value in state.items() if name != "seed"}
        values["group"] = values["group"] and [_unpack(episode) for episode in values["group"]]
        result.append((state["seed"], Outcome(**values)))
    return result


def _pack(episode: SingleAgentEpisode) -> dict[str, Any]:
    trace = TokenTrace.of(episode)
    fields = {field.name: getattr(trace, field.name) for field in dataclasses.fields(trace)}
    state = episode.get_state()
    rest = {key: value for key, value in state["custom_data"].items() if value is not trace}
    return {"trace": fields, "episode": {**state, "custom_data": rest}}


def _unpack(state: dict[str, Any]) -> SingleAgentEpisode:
    episode = SingleAgentEpisode.from_state(state["episode"])
    TokenTrace(**state["trace"]).attach(episode)
    return episode
