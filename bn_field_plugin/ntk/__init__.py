"""The neural tangent kernel of coordinate networks, with the coupling that batch norm brings."""

from bn_field_plugin.ntk.kernel import Jacobian, jacobian, ntk
from bn_field_plugin.ntk.mean_field import MeanField, closed_form_ntk, mean_field
from bn_field_plugin.ntk.points import grid, random_points
from bn_field_plugin.ntk.spectra import Spectrum, eigenvalues, spectrum
from bn_field_plugin.ntk.spectrum_statistics import SpectrumStatistics, statistics_of

__all__ = [
    "Jacobian",
    "MeanField",
    "Spectrum",
    "SpectrumStatistics",
    "closed_form_ntk",
    "eigenvalues",
    "grid",
    "jacobian",
    "mean_field",
    "ntk",
    "random_points",
    "spectrum",
    "statistics_of",
]
