"""Closed forms of the flow, one file each."""
