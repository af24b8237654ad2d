"""Every claim of Cai et al. about kernels and frequencies, measured, with its verdict, as one document."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bn_field_plugin.files import write_whole
from bn_field_plugin.progress import Tracker, silent
from standalone.ntk.studies import dynamics, figure, frequency, scaling
from standalone.ntk.studies.common import Interval
from standalone.ntk.studies.dynamics import DynamicsConfig
from standalone.ntk.studies.figure import FigureConfig
from standalone.ntk.studies.frequency import FrequencyConfig
from standalone.ntk.studies.scaling import ScalingConfig
from standalone.ntk.studies.warning import warning_facts, warning_table, warning_verdict
from standalone.report import Cell, machine_facts, markdown_table

IN_ORDER = 0.8
"""Least rank correlation at which larger eigenvalues count as converging faster."""
EXACT = 0.1
"""Largest relative error at which the exponential law counts as right about training."""


@dataclass(frozen=True)
class ClaimsConfig:
    """The studies that the verdicts rest on."""

    document: Path = Path("docs/claims.md")
    """The document; its pictures go into the folder `images` beside it."""
    output_dir: Path = Path("outputs/ntk/claims")
    """Folder for the tables and numbers behind it."""
    figure: FigureConfig = field(default_factory=FigureConfig)
    """The study of claim C1."""
    dynamics: DynamicsConfig = field(default_factory=lambda: DynamicsConfig(seeds=5))
    """The study of claim C3."""
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    """The study of claims C4 and C5."""
    frequency: FrequencyConfig = field(default_factory=FrequencyConfig)
    """The study of claim C6."""
    warning_side: int = 14
    """Points along each axis of the grid, in the table of the warning."""


class Section(NamedTuple):
    """One claim in the document."""

    name: str
    claim: str
    verdict: str
    command: str
    picture: str
    """Name of its picture in `images`; empty if it has none."""
    text: str
    """What stands below the verdict, in Markdown."""


def make_claims(config: ClaimsConfig, command: str, tracker: Tracker = silent) -> None:
    """Run all studies and write the document, its pictures, and the tables behind it.

    Args:
        config: the studies.
        command: the command line, for the document.
        tracker: shows progress.
    """
    start = time.perf_counter()
    images = config.document.parent / "images"
    sections = [
        _histograms(config, images, tracker),
        _decay(config, images, tracker),
        *_scaling(config, images, tracker),
        _frequencies(config, images, tracker),
        _warning(config, tracker),
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    write_whole(config.document, document(sections, command, facts))


class Elsewhere(NamedTuple):
    """A claim about reconstructions, judged by tables of the benchmarks."""

    name: str
    claim: str
    verdict: str
    command: str
    tables: tuple[str, ...]
    """Their names in `benchmarks/results`, where the numbers behind the verdict are."""

    def links(self) -> str:
        """The tables, in Markdown, as seen from `docs`."""
        return ", ".join(f"[{table}](../benchmarks/results/{table}.md)" for table in self.tables)


MEASURED_ELSEWHERE = (
    Elsewhere(
        "C2",
        "2D reconstruction is better with batch norm",
        "holds with Adam at equal steps and the best learning rates of each side",
        "python -m benchmarks.image_fig2",
        ("image_fig2", "image_learning_rates"),
    ),
    Elsewhere(
        "C7",
        "images, shapes and radiance fields: better with batch norm than SIREN or ReLU",
        "over ReLU: holds on images and on shapes, and in part in radiance fields (at equal minutes behind a "
        "hash grid, not in a small NeRF); over SIREN: on images it does not hold for ReLU with batch norm, "
        "and holds for SIREN with batch norm in the mean, by less than half a decibel, while FINER stays "
        "ahead on one picture of six; it holds on shapes and in radiance fields",
        "python -m benchmarks.methods` and those of the tables, `bn-image compare --all",
        (
            "image_learning_rates",
            "image_rivals",
            "shape_networks_adam",
            "shape_equal_time",
            "equal_steps",
            "ngp_equal_time_240",
            "methods",
        ),
    ),
)
"""Claims about reconstructions. Their tables take hours, so their own commands make them, and not this
one."""


def document(sections: Sequence[Section], command: str, facts: dict[str, Cell]) -> str:
    """The document in Markdown."""
    rows: list[dict[str, Cell]] = [
        {
            "id": one.name,
            "claim": one.claim,
            "verdict": one.verdict,
            "command": f"`{one.command}`",
            "figure": f"[{one.picture}](images/{one.picture})" if one.picture else "",
        }
        for one in sections
    ]
    rows += [
        {
            "id": one.name,
            "claim": one.claim,
            "verdict": f"{one.verdict}: {one.links()}",
            "command": f"`{one.command}`",
            "figure": "",
        }
        for one in MEASURED_ELSEWHERE
    ]
    rows.sort(key=lambda row: str(row["id"]))
    parts = [
        "# Claims of Cai et al., measured",
        "Claims are those of Cai et al., *Batch Normalization Alleviates the Spectral Bias in Coordinate "
        "Networks* (CVPR 2024). Kernels are those of the whole batch's function at initialisation, in fp64: "
        "*coupled* means that batch statistics move with the parameters, *frozen* that they are held. "
        "Intervals are 95 % confidence intervals over seeds.",
        "`mlp` is a ReLU network on the coordinates themselves, `pemlp-K` one on sines and cosines of K "
        "octaves of them; `+batch` adds batch norm before each ReLU. 3 x 64 means 3 hidden layers of 64 "
        "units; `pytorch` and `he` are initialisations.",
        markdown_table(rows),
        f"`{command}` makes this page. C2 and C7 take hours; the commands of their tables make those.",
    ]
    for one in sections:
        picture = f"\n\n![{one.name}](images/{one.picture})" if one.picture else ""
        parts.append(f"## {one.name}: {one.claim}\n\n**Verdict: {one.verdict}**{picture}\n\n{one.text}")
    parts.append("; ".join(f"{key}: {value}" for key, value in facts.items()))
    return "\n\n".join(parts) + "\n"


def _histograms(config: ClaimsConfig, images: Path, tracker: Tracker) -> Section:
    spectra = figure.run(config.figure, tracker)
    command = "bn-ntk figure"
    figure.write(config.figure, spectra, config.output_dir / "figure", command)
    figure.draw(config.figure, spectra, images / "ntk.png")
    comparisons = figure.compare(spectra)
    coupled = [one for one in comparisons if one.statistics == "batch"]
    frozen = [one for one in comparisons if one.statistics == "frozen"]
    verdict = (
        f"{_all(one.holds for one in coupled)} coupled, {_all(one.holds for one in frozen)} frozen: "
        f"median/mean times {_span([one.median_to_mean for one in coupled])}, "
        f"max/trace times {_span([one.top_share for one in coupled])} (coupled)"
    )
    text = (
        "Factors by which batch norm changes numbers of the spectrum, each seed against the same seed "
        f"without norm ({_facts(figure.describe(config.figure))}). Median/mean is small where most "
        "eigenvalues are near zero; max/trace is the largest eigenvalue's share of their sum, and the tail "
        "share that of all but the largest tenth.\n\n"
        f"{markdown_table(figure.comparison_rows(comparisons))}"
    )
    claim = "batch norm moves the bulk of the NTK's eigenvalues from near zero upwards"
    return Section("C1", claim, verdict, command, "ntk.png", text)


def _decay(config: ClaimsConfig, images: Path, tracker: Tracker) -> Section:
    found = dynamics.run(config.dynamics, tracker)
    command = f"bn-ntk dynamics --seeds {config.dynamics.seeds}"
    dynamics.write(config.dynamics, found, config.output_dir / "dynamics", command)
    dynamics.draw_decay(config.dynamics, found, images / "ntk-dynamics.png")
    dynamics.draw_film(found, images / "ntk-film.png")
    agreements = dynamics.agreements(config.dynamics, found)
    steps, window = config.dynamics.steps, config.dynamics.refresh
    parts = []
    for what, good in (
        (
            "larger eigenvalue, faster convergence",
            [one.rank_correlation.low >= IN_ORDER for one in agreements],
        ),
        (
            f"exp(-eta lambda t) to {EXACT:.0%} over {window} steps",
            [a.early_error.high <= EXACT for a in agreements],
        ),
        (f"over all {steps} steps", [a.late_error.high <= EXACT for a in agreements]),
        ("with the kernel taken anew for each window", [a.window_error.high <= EXACT for a in agreements]),
    ):
        parts.append(f"{what}: {_all(good)} ({sum(good)} of {len(good)} networks)")
    text = (
        f"Full-batch gradient descent at {config.dynamics.rate:g} over the largest eigenvalue, {steps} "
        "steps, "
        f"{config.dynamics.side} x {config.dynamics.side} points, {config.dynamics.size.depth} x "
        f"{config.dynamics.size.width}, init {config.dynamics.size.init}, {config.dynamics.seeds} seeds. "
        "Errors are distances between predicted and true residual, relative to how far training has moved "
        "the outputs. *First kernel* predicts by the kernel at initialisation; *fresh kernels* predicts each "
        f"window of {window} steps by the kernel at its start. A network counts where the whole interval of "
        f"its rank correlation is at least {IN_ORDER:g}, or that of its error at most {EXACT:.0%}.\n\n"
        f"{markdown_table(dynamics.agreement_rows(agreements))}\n\nThe spectrum while training:\n\n"
        "![film](images/ntk-film.png)"
    )
    claim = "the error along an eigenvector decays as exp(-eta lambda t)"
    return Section("C3", claim, "; ".join(parts), command, "ntk-dynamics.png", text)


def _scaling(config: ClaimsConfig, images: Path, tracker: Tracker) -> list[Section]:
    result = scaling.run(config.scaling, tracker)
    command = "bn-ntk scaling"
    scaling.write(config.scaling, result, config.output_dir / "scaling", command)
    scaling.draw(config.scaling, result, images / "ntk-scaling.png", sweeps=("both",))
    about = (
        f"{config.scaling.depth} hidden layers, sizes {', '.join(map(str, config.scaling.sizes))}, "
        f"{config.scaling.seeds} seeds, uniform points in [-1, 1]^2. A verdict is *holds* where the interval "
        f"lies within the prediction, give or take {scaling.TOLERANCE:g}; *agrees within its spread* where "
        "it is wider and meets the prediction; *does not hold* where it lies outside; *undecided* where it "
        "meets the border alone."
    )
    without = [one for one in result.fits if one.norm == "none"]
    joint = [one for one in without if one.sweep == "both"]
    inside = sum(f.exponent.low <= (f.closed_form or 0) <= f.exponent.high for f in joint)
    normed = [one for one in result.fits if one.norm == "batch" and one.sweep == "both"]
    others = [one for one in result.fits if one.norm not in ("none", "batch") and one.sweep == "both"]
    single = [one for one in result.fits if one.norm != "none" and one.sweep != "both"]
    return [
        Section(
            "C4",
            "without norm: mean eigenvalue O(N), variance O(N^3), largest O(N^2)",
            _exponents(joint)
            + f"; the closed form at these sizes lies within {inside} of {len(joint)} intervals",
            command,
            "ntk-scaling.png",
            f"{about} The *closed form* is the infinite-width kernel at the same points.\n\n"
            f"{markdown_table(scaling.fit_rows(without))}",
        ),
        Section(
            "C5",
            "with batch norm: mean O(N), variance O(N), largest from O(N) to O(N^(3/2))",
            _exponents(normed),
            f"{command} --norms batch",
            "ntk-scaling.png",
            f"{about}\n\n{markdown_table(scaling.fit_rows(normed))}\n\nThe other norms, for which Cai et al. "
            f"predict nothing:\n\n{markdown_table(scaling.fit_rows(others))}\n\n"
            "One of width and samples alone:\n\n"
            f"{markdown_table(scaling.fit_rows(single))}",
        ),
    ]


def _frequencies(config: ClaimsConfig, images: Path, tracker: Tracker) -> Section:
    found = frequency.run(config.frequency, tracker)
    command = "bn-ntk frequency"
    frequency.write(config.frequency, found, config.output_dir / "frequency", command)
    frequency.draw(found, images / "ntk-frequency.png")
    speedups = frequency.speedups(config.frequency, found)
    size = config.frequency.size
    text = (
        f"Adam, {config.frequency.steps} full-batch steps, {size.depth} x {size.width}, init {size.init}, "
        f"{config.frequency.seeds} seeds; learning rates are those that suit each network's norm. Errors are "
        "relative, of the upper half of the frequencies, after the last step; a frequency is learned below "
        f"{frequency.LEARNED:g}, and one that is never learned counts as the last step.\n\n"
        f"{markdown_table(frequency.speedup_rows(speedups))}"
    )
    verdict = "; ".join(f"{one.network}, {one.task}: {one.verdict}" for one in speedups)
    claim = "with batch norm the high frequencies of a target are learned far earlier"
    return Section("C6", claim, verdict, command, "ntk-frequency.png", text)


def _warning(config: ClaimsConfig, tracker: Tracker) -> Section:
    side, seeds = config.warning_side, config.figure.seeds
    rows = warning_facts(side, seeds, tracker=tracker)
    text = (
        "Karakida et al. (NeurIPS 2019) prove that batch norm in the *last* layer removes the sharp "
        "eigenvalue; for hidden layers the theory is open. Absolute eigenvalues depend on the "
        f"initialisation, which therefore is named everywhere here ({side} x {side} grid, 3 x 64, "
        f"{seeds} seeds). The cases are the rows with batch norm; *over none* compares with the network "
        "without norm.\n\n"
        f"{markdown_table(warning_table(rows))}"
    )
    claim = "what batch norm lowers is the largest eigenvalue's share of the trace, not the eigenvalue"
    return Section("Warning", claim, warning_verdict(rows), "bn-ntk claims", "", text)


def _exponents(fits: Sequence[scaling.Fit]) -> str:
    """Verdicts of exponents in one line, quantity by quantity."""
    parts = []
    for quantity in scaling.QUANTITIES:
        own = [one for one in fits if one.quantity == quantity]
        cases = ", ".join(
            f"{one.verdict} ({one.init}{', ' + one.statistics if one.norm == 'batch' else ''}: "
            f"{one.exponent.mean:.2f} [{one.exponent.low:.2f}, {one.exponent.high:.2f}])"
            for one in own
        )
        parts.append(f"{quantity}: {cases}")
    return "; ".join(parts)


def _all(good: object) -> str:
    values = list(good)  # type: ignore[call-overload]
    return "holds" if all(values) else "does not hold" if not any(values) else "holds in part"


def _span(intervals: Sequence[Interval]) -> str:
    means = [one.mean for one in intervals]
    return f"{np.min(means):.2g} to {np.max(means):.2g}"


def _facts(facts: dict[str, Cell]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())
