"""Models whose layers carry a state from token to token."""

from transformers import DynamicCache, PreTrainedModel


def is_recurrent(model: PreTrainedModel) -> bool:
    """Whether there is a layer that does, instead of attending to what is there."""
    layers = DynamicCache(config=model.config).layers
    return model._is_stateful or any(hasattr(layer, "recurrent_states") for layer in layers)
