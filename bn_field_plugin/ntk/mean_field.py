"""The kernel of wide ReLU networks without norm, in closed form.

Weights are independent with mean 0 and variance sigma_w^2 / fan_in, biases with variance sigma_b^2, in the
*standard* parameterisation: as in torch's layers, the weights themselves are learned, so the kernel grows
with the width. (In the NTK parameterisation of Jacot et al. weights are sigma_w / sqrt(fan_in) times the
learned numbers, and the kernel has a limit; a layer's share there is sigma_w^2 / fan_in times the share
here.)

Sources: arc-cosine kernels, Cho & Saul 2009; moments of the spectrum, Karakida et al., AISTATS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bn_field_plugin.errors import UserError

Initialisation = Literal["pytorch", "he"]
"""`pytorch`: uniform in +-1/sqrt(fan_in), so sigma_w^2 = 1/3 and sigma_b^2 = 1 / (3 fan_in); `he`:
sigma_w^2 = 2, biases zero at first. Biases are learned in both."""


@dataclass(frozen=True)
class MeanField:
    """Moments of the spectrum of n points that the mean-field theory predicts."""

    mean: float
    """Mean eigenvalue, alpha kappa_1 M."""
    variance: float
    """Variance of the eigenvalues: their mean square less the square of their mean."""
    maximum: float
    """Largest eigenvalue, alpha ((n - 1) kappa_2 + kappa_1) M."""
    kappa1: float
    """Self moment: the mean of the kernel's diagonal over alpha M."""
    kappa2: float
    """Cross moment: the mean of its other entries over alpha M."""


def closed_form_ntk(
    features: Float[np.ndarray, "n d"], width: int, depth: int, init: Initialisation = "pytorch"
) -> Float[np.ndarray, "n n"]:
    """The kernel of one output by the formula for large widths, at a given width, standard parameterisation.

    It is the sum of `(fan_in_l qhat_{l-1} + 1) qtilde_l` over linear layers l. The 1 stands for the bias;
    `qhat` is the second moment of a layer's inputs, `qtilde` that of the gradients in its products.

    Args:
        features: what the first layer sees (encoded points).
        width: units M of each hidden layer.
        depth: hidden layers.
        init: whose variances.

    Raises:
        UserError: an initialisation without a mean field of its own.
    """
    fan_ins = [features.shape[1]] + [width] * depth
    input_moments = [features @ features.T / features.shape[1]]
    slopes = []
    for fan_in in fan_ins[:-1]:
        weight_variance, bias_variance = variances(init, fan_in)
        moment = weight_variance * input_moments[-1] + bias_variance
        activated, slope = relu_moments(moment)
        input_moments.append(activated)
        slopes.append(slope)
    gradient = np.ones_like(input_moments[0])
    total: np.ndarray = fan_ins[-1] * input_moments[-1] + 1
    for layer in range(depth - 1, -1, -1):
        # Go back through the linear layer above, whose weights have that layer's variance, and the ReLU.
        gradient = gradient * variances(init, fan_ins[layer + 1])[0] * slopes[layer]
        total = total + (fan_ins[layer] * input_moments[layer] + 1) * gradient
    return total


def mean_field(
    features: Float[np.ndarray, "n d"],
    width: int,
    depth: int,
    out_dim: int = 1,
    init: Initialisation = "pytorch",
) -> MeanField:
    """Predicted mean, variance and largest eigenvalue of a ReLU network without norm.

    Moments of pairs of points are averaged over the given points, while the theory assumes inputs of equal
    norm. Each output of a point has a kernel of its own, and these are equal in the limit, so the mean and
    the largest eigenvalue do not depend on the number of outputs.

    Args:
        features: what the first layer sees (encoded points).
        width: units M of each hidden layer.
        depth: hidden layers.
        out_dim: number of outputs at a point; only alpha depends on it.
        init: whose variances.
    """
    kernel = closed_form_ntk(features, width, depth, init)
    n = len(kernel)
    own = float(np.trace(kernel)) / n
    cross = (float(kernel.sum()) - n * own) / (n * (n - 1))
    square = (n - 1) * cross**2 + own**2
    weights = features.shape[1] * width + (depth - 1) * width**2 + width * out_dim
    scale = weights / width  # alpha M, alpha = sum alpha_l alpha_{l-1}
    return MeanField(
        mean=own,
        variance=square - own**2,
        maximum=(n - 1) * cross + own,
        kappa1=own / scale,
        kappa2=cross / scale,
    )


def relu_moments(moment: Float[np.ndarray, "n n"]) -> tuple[np.ndarray, np.ndarray]:
    """Moments of ReLU and of its slope for Gaussian inputs of a given covariance.

    Args:
        moment: covariance q of the inputs at each pair of points.

    Returns:
        `E[relu(u) relu(v)] = s/(2 pi) (sqrt(1 - c^2) + c (pi - arccos c))` with s the geometric mean of the
        two variances and c the correlation, and `E[relu'(u) relu'(v)] = (pi - arccos c) / (2 pi)`.
    """
    deviation = np.sqrt(np.diagonal(moment))
    scale = np.outer(deviation, deviation)
    cosine = np.clip(moment / np.where(scale > 0, scale, 1), -1, 1)
    np.fill_diagonal(cosine, 1)
    angle = np.pi - np.arccos(cosine)
    activated = scale / (2 * np.pi) * (np.sqrt(1 - cosine**2) + cosine * angle)
    return activated, angle / (2 * np.pi)


def variances(init: str, fan_in: int) -> tuple[float, float]:
    """sigma_w^2 (fan_in times the variance of the weights) and sigma_b^2 of an initialisation.

    Raises:
        UserError: the initialisation is not one for ReLU.
    """
    if init == "pytorch":
        return 1 / 3, 1 / (3 * fan_in)
    if init == "he":
        return 2.0, 0.0
    raise UserError(f"there is no mean field for the initialisation {init!r}: choose pytorch or he")
