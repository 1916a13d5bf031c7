"""Runs: how their options become a config, what goes along with them, and what of them is found again."""
