"""Recordings of your own: what pose estimators, tables and arrays hold, in the joints of a layout."""
