"""Whether what a config asks for is there: CPUs and GPUs of the cluster, memory of a device."""

import logging
from typing import TYPE_CHECKING

import ray
from ray.rllib.algorithms.algorithm import Algorithm

from sfpo_rllib.algorithms.grpo.validation import first_line, raise_problems
from sfpo_rllib.preflight.object_store import held_bytes, object_store_problems

if TYPE_CHECKING:
    from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig

logger = logging.getLogger(__name__)


def check_cluster_resources(algo_class: type[Algorithm], config: "GRPOConfig") -> None:
    """Compares what will be requested with what the cluster has, before any actor starts.

    Raises:
        ValueError: If it has too little of something, by name.
    """
    if ray.util.get_current_placement_group() is not None:
        return  # Tune has reserved it
    if not ray.is_initialized():
        ray.init()
    available = ray.cluster_resources()
    needed: dict[str, float] = {}
    for bundle in algo_class.default_resource_request(config).bundles:
        for name, amount in bundle.items():
            needed[name] = needed.get(name, 0.0) + amount
    missing = [
        f"{name}={amount:g}: the cluster has {available.get(name, 0.0):g}"
        for name, amount in needed.items()
        if amount > available.get(name, 0.0)
    ]
    if missing:
        raise ValueError(
            "More resources are asked for than the cluster has; ask for fewer num_env_runners, "
            "num_learners or GPUs, or start ray with more:\n" + "\n".join(missing)
        )


def check_memory(config: "GRPOConfig") -> None:
    """Logs what a learner and an engine need on their devices, before any weights are loaded.

    Raises:
        ValueError: If that is more than there is, with the largest setting that would fit. On a
            CPU it is only warned about.
    """
    try:
        estimate = config.preflight()
    except Exception as error:  # a model that cannot be built without its weights
        logger.warning("preflight: memory is not estimated: %s", first_line(error))
        return
    logger.info("Memory by device:\n%s", estimate)
    if config.num_env_runners > 0 and ray.is_initialized():
        needed = held_bytes(
            weights=estimate.settings.compute_bytes * estimate.model.trained_parameters,
            max_staleness=config.max_staleness,
            weight_transport=config.weight_transport,
        )
        for problem in object_store_problems(needed, ray.nodes()):
            logger.warning("%s", problem)
    problems = list(estimate.problems())
    if estimate.enforced:
        raise_problems(config, problems)
    elif problems:
        logger.warning("This may not fit into memory:\n%s", "\n".join(problems))
