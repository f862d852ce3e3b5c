"""Whether a ray cluster can grow. Ray has no public name for that: its private ones stand here."""

import json
import time
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._private.state import state
from ray.autoscaler._private.util import format_readonly_node_type
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

FIRST_REPORT_S = 5.0  # a cluster that has just been started has reported nothing yet


def cluster_can_grow() -> bool:
    """Whether an autoscaler may add nodes to the cluster that this process is connected to."""
    if state.get_cluster_config() is not None:
        return True
    return has_named_types(_types_by_node())


def has_named_types(types: dict[str, str]) -> bool:
    """Whether nodes are of types that a config names; without one each is a type of its own.

    Args:
        types: By the id of the node.
    """
    return any(kind != format_readonly_node_type(node) for node, kind in types.items())


def _types_by_node() -> dict[str, str]:
    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        nodes = [*status.active_nodes, *status.idle_nodes]
        return {node.node_id: node.ray_node_type_name for node in nodes}
    deadline = time.monotonic() + FIRST_REPORT_S
    while not (report := _internal_kv_get(DEBUG_AUTOSCALING_STATUS)):
        if time.monotonic() > deadline:
            return {}
        time.sleep(0.2)
    reported: dict[str, Any] = json.loads(report).get("autoscaler_report") or {}
    return reported.get("node_type_mapping") or {}
