"""Colours of all figures and charts."""

from typing import Final

COLOURS: Final[dict[str, str]] = {
    "factual": "#0072B2",
    "toxicity": "#D55E00",
    "bias": "#E69F00",
    "sycophancy": "#CC79A7",
    "reasoning": "#009E73",
    "refusal": "#56B4E9",
    "deception": "#000000",
    "overrefusal": "#999933",
    "bench": "#7F7F7F",
}
"""One colour a behavior, told apart by colour-blind readers too (Okabe & Ito 2008; olive from Tol 2021)."""
ACCENTS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
"""For series that are not behaviors."""
GREY: Final = "#595959"
DIVERGING: Final = "PuOr"
"""Colour map for signed values: orange below zero, purple above, white at zero."""
