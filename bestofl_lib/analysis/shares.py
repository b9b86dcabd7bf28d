"""Equal shares of a budget, in expectation over which languages get one more where it does not divide."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np

Array = np.ndarray


def over_shares(factor: Callable[[int, int], Array], n_languages: int, ks: Array) -> Array:
    """(entries, budgets) mean of Π_l factor(l, k_l) over the random equal shares of each budget.

    The coefficient of y^r in Π_l (factor(l, q) + y factor(l, q + 1)), over C(L, r).
    """
    columns: list[Array | None] = [None] * len(ks)
    for q in np.unique(ks // n_languages):
        at = np.flatnonzero(ks // n_languages == q)
        extra = ks[at] % n_languages
        top = int(extra.max())
        product: list[Array] = []
        for position in range(n_languages):
            low = factor(position, int(q))
            high = factor(position, int(q) + 1) if top else low
            if not product:
                product = [low, high][: top + 1]
                continue
            longer = len(product) <= top
            tail = product[-1] * high if longer else None
            for r in range(len(product) - 1, 0, -1):
                product[r] = product[r] * low + product[r - 1] * high
            product[0] = product[0] * low
            if tail is not None:
                product.append(tail)
        for column, r in zip(at, extra, strict=True):
            columns[column] = product[r] / comb(n_languages, int(r))
    return np.stack([c for c in columns if c is not None], 1)
