"""Clips of your own, recognised."""
