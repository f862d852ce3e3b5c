"""`python -m sfpo_rllib` is the command `sfpo-rllib`."""

from sfpo_rllib.commands.app import main

if __name__ == "__main__":
    main()
