"""The panel in nerfstudio's viewer: spectrum, PSNR, drift, and the choice of statistics to render with."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Set
from typing import Any, cast

from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import Tensor

from bn_field_plugin.nn import calibrate, running_norms
from bn_field_plugin.viewer import figures, probe
from bn_field_plugin.viewer.budget import TimeBudget
from bn_field_plugin.viewer.history import History
from bn_field_plugin.viewer.live import adopt
from bn_field_plugin.viewer.rendering import Buffers, Statistics, ViewedModel, norm_buffers
from bn_field_plugin.viewer.source import Source
from bn_field_plugin.viewer.twin import twin

PSNR_MEMORY = 0.9
"""Weight of earlier steps in the PSNR that is shown, which is a running mean over about ten steps."""

EXACT_SHARE = 0.05
"""Share of training time for making statistics exact, while pictures with exact statistics are shown."""

HINT = (
    "Statistics of the norms that pictures are rendered with. running: the model's own; exact: made exact "
    "over training rays, anew when the weights have moved (over fewer rays while training goes on); batch: "
    "those of each chunk of rays."
)


class NormPanel(ViewerControl):
    """Shows the network of a pipeline in the viewer, and costs nothing where there is no viewer.

    nerfstudio finds the panel on the pipeline and hands over its viewer (`_setup`), which then becomes a
    `LiveViewer`. During training, `after_step` redraws as often as a share of training time allows. It is
    called with the train lock held, as are the render threads and the callbacks of choices, so no two of them
    run at the same time.

    Args:
        source: the pipeline.
        share: share of training time for looking at the network, in [0, 1).
    """

    viewer: Any = None
    """nerfstudio's viewer, once there is one."""

    def __init__(self, source: Source, share: float) -> None:
        self._source = source
        self.budget = TimeBudget(share)
        """Training time that the panel has taken, and may take."""
        self.history = History()
        """PSNR in dB (`psnr`), and the largest drift of the norms of each network, by the network's name."""
        self.step = 0
        """The last training step that the panel was told of."""
        self._psnr: Tensor | float | None = None
        self._handles: dict[str, Any] = {}
        self._exact: tuple[tuple[int, bool], Buffers] | None = None
        self._shown_field: str | None = None
        self._rays: Any = None
        self._look: probe.Look | None = None
        self._problem = ""
        self._shown: dict[str, NormPanel] = {"": self}
        self._exact_budget = TimeBudget(EXACT_SHARE, shortest=0.0)

    def compare(self, other: NormPanel, names: tuple[str, str]) -> None:
        """Show another pipeline beside this one: its pictures in the split screen, its curves in the plots.

        Args:
            other: the other pipeline's panel, which itself is on no page.
            names: short names of this and of the other pipeline.
        """
        self._shown = {names[0]: self, names[1]: other}

    # ---------------------------------------------------------------------- called by the viewer

    def _setup(self, viewer: Any) -> None:
        """Adopt the viewer, put the panel on its page, and look at the network at once if nothing trains."""
        super()._setup(viewer)
        viewed = self._viewed_model()
        viewer.get_model = lambda: viewed
        name_real_port(viewer)
        adopt(viewer, viewed)
        # Between step and resolution and the tabs of controls, where it is in sight when the page opens.
        with viewer.viser_server.gui.add_folder("Network", order=viewer.stats_markdown.order + 0.5):
            self._fill(viewer.viser_server.gui)
        if viewer.trainer is None:
            self.refresh()

    def _viewed_model(self) -> ViewedModel:
        """The model that the viewer draws: this one, beside another one where two are compared."""

        def view_of(panel: NormPanel, beside: tuple[str, ViewedModel] | None = None) -> ViewedModel:
            return ViewedModel(
                lambda: panel._source.model,
                lambda: self.statistics,
                self._chosen,
                panel.exact,
                self._tell,
                beside,
            )

        others = {name: panel for name, panel in self._shown.items() if panel is not self}
        for name, panel in others.items():
            panel.viewer = self.viewer
            return view_of(self, beside=(name, view_of(panel)))
        return view_of(self)

    def _fill(self, gui: Any) -> None:
        """Make the choices and plots for this model; for instance, none of drift without norms."""
        fields = list(probe.networks(self._source.model))
        has_norms = any(running_norms(panel._source.model) for panel in self._shown.values())
        if has_norms:
            self._add_choice("statistics", gui, "Statistics", ("running", "exact", "batch"), "running", HINT)
        if fields:
            import bn_field_plugin.ntk.spectra  # noqa: F401  here, so that the first look need not wait for it

            self._shown_field = fields[-1]  # the last field is the one that renders
            if len(fields) > 1:
                hint = "The field whose kernel is shown."
                self._add_choice("field", gui, "Spectrum of", tuple(fields), fields[-1], hint)
            self._handles["spectrum"] = gui.add_plotly(self._spectrum_figure(), figures.ASPECT)
        if self.viewer.trainer is not None:
            self._handles["psnr"] = gui.add_plotly(self._psnr_figure(), figures.ASPECT)
        if has_norms:
            self._handles["drift"] = gui.add_plotly(self._drift_figure(), figures.TALL)
        self._handles["status"] = gui.add_markdown("")

    def _add_choice(
        self, name: str, gui: Any, label: str, options: tuple[str, ...], value: str, hint: str
    ) -> None:
        """Add a choice to the panel; a change is handled under the train lock, and redraws the picture."""
        handle = self._handles[name] = gui.add_dropdown(label, options, value, hint=hint)

        def follow(_: Any) -> None:
            with self.viewer.train_lock or contextlib.nullcontext():
                self._choice_changed()
            self.viewer._trigger_rerender()

        handle.on_update(follow)

    # ---------------------------------------------------------------------- called during training

    def note_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Take the PSNR of a training step into the running mean, if the metrics contain it."""
        if not self._handles or "psnr" not in metrics:
            return
        psnr = metrics["psnr"]
        psnr = psnr.detach() if isinstance(psnr, Tensor) else psnr
        before = psnr if self._psnr is None else self._psnr
        self._psnr = PSNR_MEMORY * before + (1 - PSNR_MEMORY) * psnr

    def after_step(self, step: int) -> None:
        """Redraw after a training step, if the budget allows it."""
        self.step = step
        if self._handles and self.budget.is_due():
            with self.budget.spending():
                self.refresh()

    # ---------------------------------------------------------------------- what it does

    @property
    def statistics(self) -> Statistics:
        """The statistics with which pictures are rendered."""
        handle = self._handles.get("statistics")
        return "running" if handle is None else cast(Statistics, handle.value)

    def refresh(self) -> None:
        """Look at the network, and update the plots."""
        for panel in self._shown.values():
            look = panel._look_at(self._shown_field)
        psnr = {} if self._psnr is None else {"psnr": float(self._psnr)}
        self.history.add(self.step, psnr | worst_of_networks(look.drift))
        for name, draw in (
            ("spectrum", self._spectrum_figure),
            ("psnr", self._psnr_figure),
            ("drift", self._drift_figure),
        ):
            if name in self._handles:
                self._handles[name].figure = draw()
        self._handles["status"].content = self.status

    def _look_at(self, field: str | None) -> probe.Look:
        """Look at this pipeline's network: at the field of that name, else at the last field."""
        if self._rays is None:
            num = probe.PATIENT_RAYS if self.viewer.trainer is None else probe.PROBE_RAYS
            self._rays = self._source.fixed_rays(num)
        fields = list(probe.networks(self._source.model))
        field = field if field in fields else fields[-1] if fields else None
        self._look = probe.look(self._source, self._rays, field)
        return self._look

    @property
    def status(self) -> str:
        """The main numbers of the plots, in lines of markdown."""
        lines = [f"**Shown:** {self._problem}"] if self._problem else []
        for name, panel in self._shown.items():
            lines += [f"{name} {line}" if name else line for line in panel._findings()]
        if self.budget.times:
            share = self.budget.spent / max(self.budget.elapsed, 1e-9)
            lines.append(f"**This panel:** {share:.1%} of training time")
        return "\n\n".join(lines)

    def _findings(self) -> list[str]:
        """The findings of the latest look at this pipeline's network, in lines of markdown."""
        found, lines = self._look, []
        if found is not None and found.problem:
            lines.append(f"**No spectrum:** {found.problem}")
        if found is not None and found.eigenvalues is not None:
            from bn_field_plugin.ntk.spectrum_statistics import statistics_of

            numbers = statistics_of(found.eigenvalues)
            lines.append(
                f"**Spectrum:** effective rank {numbers.effective_rank:.1f} of {len(found.eigenvalues)}, "
                f"largest share {numbers.top_share:.0%} of the trace"
            )
        if found is not None and found.drift:
            worst = max(found.drift, key=lambda name: found.drift[name])
            lines.append(f"**Drift:** at most {found.drift[worst]:.2g} sd ({short_name(worst)})")
        return lines

    def exact(self) -> Buffers:
        """Exact statistics for the present weights, over the rays that evaluation would use.

        Training has to wait for them. So while it runs, they are taken over fewer rays, and only as often as
        a share of training time allows.
        """
        trainer = None if self.viewer is None else self.viewer.trainer
        trains = trainer is not None and trainer.training_state == "training"
        key = self.step, trains
        if self._exact is None or (self._exact[0] != key and (not trains or self._exact_budget.is_due())):
            rays = [self._source.fixed_rays(probe.PATIENT_RAYS)] if trains else self._source.exact_rays()
            model = twin(self._source.model).train()
            with self._exact_budget.spending():
                calibrate(model, rays, lambda batch: self._source.pass_as_in_training(model, batch))
            self._exact = key, norm_buffers(model)
        return self._exact[1]

    def _chosen(self) -> Set[str]:
        """Names of the outputs that the viewer shows at present."""
        control = self.viewer.control_panel
        return {control.output_render, *([control.split_output_render] if control.split else [])}

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._handles["status"].content = self.status

    def _choice_changed(self) -> None:
        """Look at the network again if another field was chosen; the viewer renders again in any case."""
        handle = self._handles.get("field")
        if handle is not None and handle.value != self._shown_field:
            self._shown_field = handle.value
            self.refresh()

    def _spectrum_figure(self) -> Any:
        looks = {name: panel._look for name, panel in self._shown.items()}
        values = {name: None if look is None else look.eigenvalues for name, look in looks.items()}
        field = self._source.model.get_submodule(self._shown_field)
        title = f"NTK of the {probe.quantity(field)}, {self._shown_field}, step {self.step}"
        return figures.histogram(values, title)

    def _psnr_figure(self) -> Any:
        return figures.curves(self.history, {"psnr": "PSNR"}, "PSNR of training rays", "dB")

    def _drift_figure(self) -> Any:
        title, unit = "Drift of running statistics", "standard deviations"
        if self.viewer.trainer is not None:
            names = {name: name for name in self.history.names if name != "psnr"}
            return figures.curves(self.history, names, f"{title}, worst layer", "sd", log=True)
        drift = {
            f"{name} {short_name(norm)}".strip(): value
            for name, panel in self._shown.items()
            for norm, value in (panel._look.drift if panel._look is not None else {}).items()
        }
        return figures.bars(drift, title, unit)


def short_name(norm: str) -> str:
    """The name of a norm without the words that the names of all norms contain."""
    words = norm.removeprefix("field_").split(".")
    return ".".join(word for word in words if word not in ("layers", "norm", "mlp"))


def worst_of_networks(drift: Mapping[str, float]) -> dict[str, float]:
    """The largest drift of the norms of each network, by the network's short name."""
    worst: dict[str, float] = {}
    for norm, value in drift.items():
        network = short_name(norm).rpartition(".")[0]
        worst[network] = max(value, worst.get(network, 0.0))
    return worst


def name_real_port(viewer: Any) -> None:
    """Say at which port the viewer is, if another program uses the port that was asked for.

    viser then takes the next free port, but nerfstudio's message names the one that was asked for.
    """
    asked, real = viewer.config.websocket_port, viewer.viser_server.get_port()
    if asked is None or asked == real:
        return
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.print(f"port {asked} (--viewer.websocket-port) is in use: the viewer is at port {real} instead")
    viewer.viewer_info = [line.replace(f":{asked}", f":{real}") for line in viewer.viewer_info]
