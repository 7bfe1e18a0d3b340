"""Figures of a stored result: pure functions of the file, nothing solved here."""
