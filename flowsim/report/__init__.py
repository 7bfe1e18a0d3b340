"""Pictures of a stored result."""
