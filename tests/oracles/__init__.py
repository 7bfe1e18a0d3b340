"""Independent implementations that the package is held against."""
