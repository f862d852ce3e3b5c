"""Environments live one level further down, so that their gymnasium ids have dots."""
