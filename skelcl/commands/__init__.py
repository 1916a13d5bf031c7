"""Verbs of the command line, one file each; nothing else of skelcl imports from here."""
