"""Sweeps: W&B's files, read, checked and run without an account."""
