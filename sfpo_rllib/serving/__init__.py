"""A trained model on its way out: from a checkpoint to a folder, and to vLLM's server."""

from sfpo_rllib.serving.exporting import Exported, export_model
from sfpo_rllib.serving.server import servable, serve_command

__all__ = ["Exported", "export_model", "servable", "serve_command"]
