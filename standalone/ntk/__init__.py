"""The neural tangent kernel of coordinate networks, with the coupling that batch norm brings.

`ntk`, `eigenvalues` and `mean_field` are what the commands of `bn-ntk` are made of.
"""

from standalone.ntk.kernel import Jacobian, eigenvalues, jacobian, ntk, parameter_gram
from standalone.ntk.mean_field import MeanField, closed_form_ntk, mean_field
from standalone.ntk.points import grid, random_points
from standalone.ntk.spectrum import SpectrumStatistics, statistics_of

__all__ = [
    "Jacobian",
    "MeanField",
    "SpectrumStatistics",
    "closed_form_ntk",
    "eigenvalues",
    "grid",
    "jacobian",
    "mean_field",
    "ntk",
    "parameter_gram",
    "random_points",
    "statistics_of",
]
