"""Rooted trees and B-series: the order conditions of any method that evaluates f at combinations of its slopes.

A tree is the sorted tuple of its children. A series holds one coefficient for each tree, so that with elementary
differentials F it stands for Σ φ(t)/σ(t)·F(t)·h^|t|; that of h·f(g) has the products of g's coefficients at the
children (Hairer, Lubich & Wanner 2006, ch. III).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

Array = np.ndarray
Tree = tuple


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with that many nodes."""
    if order == 1:
        return ((),)
    found = set()

    def extend(left: int, largest: int, children: tuple[Tree, ...]) -> None:
        if left == 0:
            found.add(tuple(sorted(children)))
        for size in range(min(left, largest), 0, -1):
            for child in trees(size):
                extend(left - size, size, (*children, child))

    extend(order - 1, order - 1, ())
    return tuple(sorted(found))


def nodes(tree: Tree) -> int:
    return 1 + sum(map(nodes, tree))


def density(tree: Tree) -> int:
    """γ(t): the exact solution has coefficient 1/γ."""
    return nodes(tree) * math.prod(map(density, tree))


def symmetry(tree: Tree) -> int:
    """σ(t)."""
    return math.prod(math.factorial(tree.count(child)) * symmetry(child) ** tree.count(child) for child in set(tree))


class Series:
    """B-series up to an order; coefficients are arrays (..., number of trees)."""

    def __init__(self, order: int) -> None:
        self.trees = [tree for size in range(1, order + 1) for tree in trees(size)]
        self.place = {tree: i for i, tree in enumerate(self.trees)}
        self.order = np.array([nodes(tree) for tree in self.trees])
        self.density = np.array([density(tree) for tree in self.trees], dtype=float)
        self.symmetry = np.array([symmetry(tree) for tree in self.trees], dtype=float)
        widest = max(len(tree) for tree in self.trees)
        # Missing children point to a coefficient that is always 1.
        self._children = np.full((len(self.trees), widest), len(self.trees))
        for i, tree in enumerate(self.trees):
            self._children[i, : len(tree)] = [self.place[child] for child in tree]

    def slope(self, g: Array) -> Array:
        """The series of h·f(g)."""
        extended = np.concatenate([g, np.ones((*g.shape[:-1], 1), g.dtype)], axis=-1)
        return extended[..., self._children].prod(-1)

    def tall(self, order: int) -> int:
        """Place of the tree without branches, whose coefficient is that of z^order in the stability function."""
        tree: Tree = ()
        for _ in range(order - 1):
            tree = (tree,)
        return self.place[tree]
