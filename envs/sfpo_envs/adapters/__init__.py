"""Environments of other packages behind the gymnasium API.

Each module imports its package when an environment is made, so none of them is needed otherwise.
"""
