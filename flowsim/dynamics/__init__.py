"""Equations of motion: landscapes, flows, sequential windows, gradient descent, and what they conserve."""
