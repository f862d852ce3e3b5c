"""GRPO and SFPO on a pretrained model of 135M parameters."""
