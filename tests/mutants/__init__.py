"""Classical mistakes, put into the package one by one: each has a test that must notice it."""
