"""Does SFPO's update help PPO? CartPole-v1, against plain PPO and PPO with as many steps."""
