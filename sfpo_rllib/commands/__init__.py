"""The command `sfpo-rllib`: one file a command, each a thin face of a function of the package."""
