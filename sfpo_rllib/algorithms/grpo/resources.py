"""Whether what a config asks for is there: CPUs and GPUs of the cluster, memory of a device."""

import logging
from collections.abc import Iterator, Mapping, Sequence

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.algorithms.grpo.autoscaling import cluster_can_grow
from sfpo_rllib.core.checks import first_line, raise_problems
from sfpo_rllib.env_runners.env_values import described
from sfpo_rllib.preflight.object_store import object_store_problems
from sfpo_rllib.ray_start import start_ray

logger = logging.getLogger(__name__)


def check_cluster_resources(algo_class: type[Algorithm], config: AlgorithmConfig) -> None:
    """Compares what will be requested with what the cluster has, before any actor starts.

    Of a cluster that can grow what is missing is only warned about: Ray waits for new nodes.

    Raises:
        ValueError: If it has too little of something, by name.
        RayDidNotStart: If there is none yet, and none starts.
    """
    if ray.util.get_current_placement_group() is not None:
        return  # Tune has reserved it
    if not ray.is_initialized():
        start_ray()
    processes = algo_class.default_resource_request(config).bundles
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    missing = "\n".join(shortages(processes, nodes))
    if not missing:
        return
    if cluster_can_grow():
        logger.warning(
            "The cluster has less than is asked for; processes wait until it has grown:\n%s",
            missing,
        )
        return
    raise ValueError(
        "More resources are asked for than the cluster has; ask for fewer num_env_runners, "
        f"num_learners or GPUs, or start ray with more:\n{missing}"
    )


def shortages(
    processes: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]
) -> Iterator[str]:
    """What the nodes have too little of, each as `name=amount: what there is`.

    Args:
        processes: What each of them needs, all of it on one node.
        nodes: What each of them has.
    """
    short = set()
    for name in dict.fromkeys(name for process in processes for name in process):
        needs = [process[name] for process in processes if process.get(name)]
        has = [node.get(name, 0.0) for node in nodes]
        if sum(needs) > sum(has):
            short.add(name)
            yield f"{name}={sum(needs):g}: the cluster has {sum(has):g}"
            continue
        for size in sorted(set(needs), reverse=True):
            at_least = sum(need >= size for need in needs)
            room = sum(_num_of_size(size, amount, name) for amount in has)
            if at_least > room:
                short.add(name)
                yield (
                    f"{name}={size:g} for each of {at_least} processes: the cluster's nodes, with "
                    f"{', '.join(f'{amount:g}' for amount in has)}, have room for {room}"
                )
                break
    for process in processes:
        if short.isdisjoint(process) and not any(
            all(node.get(name, 0.0) >= amount for name, amount in process.items()) for node in nodes
        ):
            yield f"{dict(process)} for one process: no node of the cluster has all of it"
            return


def _num_of_size(size: float, amount: float, name: str) -> int:
    """How many shares of a size an amount can be cut into."""
    if name == "GPU" and size < 1:  # a share is of one GPU
        return int(amount) * _num_of_size(size, 1.0, "")
    return int(amount / size + 1e-9)


def check_memory(config: AlgorithmConfig) -> None:
    """Logs what a learner and an engine need on their devices, before any weights are loaded.

    Raises:
        ValueError: If that is more than there is, with the largest setting that would fit. On a
            CPU it is only warned about.
    """
    try:
        estimate = config.preflight()
    except Exception as error:  # a model that cannot be built without its weights
        logger.warning("preflight: memory is not estimated: %s", first_line(described(error)))
        return
    logger.info("Memory by device:\n%s", estimate)
    if config.num_env_runners > 0 and ray.is_initialized():
        for problem in object_store_problems(estimate.stored, ray.nodes()):
            logger.warning("%s", problem)
    problems = list(estimate.problems())
    if estimate.enforced:
        raise_problems(problems, of=type(config).__name__)
    elif problems:
        logger.warning("This may not fit into memory:\n%s", "\n".join(problems))
