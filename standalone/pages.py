"""Self-contained HTML pages with tables and with plots to zoom into.

Each page contains plotly, about 5 MB, so that it opens without a network and never changes.
"""

from __future__ import annotations

import base64
import html
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bn_field_plugin.files import write_whole
from standalone.networks import by_norm
from standalone.report import Cell, cell_text

DASHES = by_norm("dash", "solid", "dashdot", "dot", "longdashdot", others="longdash")
"""Line of each norm, by plotly's names: the same lines as in `standalone.plots.LINE_STYLES`."""

MOST_PIXELS = 3_000_000
"""Most pixels of all pictures of a plot together. Larger pictures are shrunk, so that a page has at most
about 15 MB."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { margin: 2em auto; max-width: 1300px; padding: 0 1em }
h1 { font-size: 1.5em; font-weight: 600 } h2 { font-size: 1.1em; font-weight: 600; margin: 1.8em 0 .3em }
p { color: #555; margin: .3em 0 } .wide { overflow-x: auto } footer { margin-top: 2em; font-size: .85em }
table { border-collapse: collapse; font-size: .9em } td, th { padding: .25em .8em; text-align: right }
tr:nth-child(even) { background: #f4f4f4 } th { border-bottom: 1px solid #999; font-weight: 600 }
td:first-child, th:first-child { text-align: left; padding-left: .3em }
"""


@dataclass(frozen=True)
class Part(ABC):
    """A part of a page."""

    title: str
    """Heading above the part."""

    @abstractmethod
    def lines(self) -> list[str]:
        """The HTML lines under the title."""


@dataclass(frozen=True)
class Plot(Part):
    """A plot of a page."""

    figure: Any
    """Figure of plotly."""
    note: str = ""
    """A sentence under the title."""

    def lines(self) -> list[str]:
        """HTML lines of the note and of the plot."""
        zooms = self.figure.layout.dragmode == "pan"
        options = {"responsive": True, "displaylogo": False, "scrollZoom": zooms}
        drawn = self.figure.to_html(full_html=False, include_plotlyjs=False, config=options)
        return [*([f"<p>{html.escape(self.note)}</p>"] if self.note else []), drawn]


@dataclass(frozen=True)
class Table(Part):
    """A table of a page."""

    rows: Sequence[Mapping[str, Cell]]
    """One mapping from column to cell for each row, as `standalone.report.write_table` takes them."""

    def lines(self) -> list[str]:
        """HTML lines of the table."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        rows = [[cell_text(row.get(column)) for column in columns] for row in self.rows]
        lines = ["".join(f"<th>{html.escape(column)}</th>" for column in columns)]
        lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        return ['<div class="wide"><table>', *(f"<tr>{line}</tr>" for line in lines), "</table></div>"]


@dataclass(frozen=True)
class Line:
    """A line of a plot."""

    name: str
    """Name in the legend, which shows each name once."""
    x: Sequence[float] | np.ndarray
    """Horizontal coordinates of the points."""
    y: Sequence[float] | np.ndarray
    """Values at the points; nan leaves a gap."""
    color: str
    """Colour, as HTML writes it."""
    dash: str = "solid"
    """Style of the line, by plotly's name."""
    hover: str = "%{x}: %{y:.4g}"
    """Text on a point under the mouse, as a hovertemplate of plotly."""
    more: Sequence[float] | np.ndarray | None = None
    """A third number of each point, which `hover` shows by `%{customdata}`."""
    is_histogram: bool = False
    """Whether the line is a histogram, with middles of bins as x and counts as y; it is drawn as steps."""


@dataclass(frozen=True)
class Heat:
    """A map of numbers above zero, coloured by their logarithms."""

    x: Sequence[float] | np.ndarray
    """Coordinates of the columns."""
    y: Sequence[str]
    """Names of the rows, from the bottom."""
    values: Float[np.ndarray, "y x"]
    """The numbers, row by row."""


def write_page(
    path: Path, title: str, parts: Sequence[Part], command: str = "", notes: Sequence[str] = ()
) -> None:
    """Write a page, whole or not at all.

    Args:
        path: the file.
        title: title of the page.
        parts: plots and tables of the page, from top to bottom.
        command: the command line that makes the page.
        notes: sentences at the end of the page.
    """
    from plotly.offline import get_plotlyjs

    body = [f"<h1>{html.escape(title)}</h1>"]
    for part in parts:
        body += [f"<h2>{html.escape(part.title)}</h2>", *part.lines()]
    foot = [f"<p>{html.escape(note)}</p>" for note in notes]
    foot += [f"<p>Made by <code>{html.escape(command)}</code></p>"] if command else []
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script>"
    )
    text = "\n".join([*body, "<footer>", *foot, "</footer>"])
    write_whole(
        path, f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{text}\n</body>\n</html>\n'
    )


def shades(number: int) -> list[str]:
    """Colours, from dark to light, for a number of things in an order."""
    from matplotlib import colormaps, colors

    return [str(colors.to_hex(colormaps["viridis"](index / max(1, number - 1)))) for index in range(number)]


def line_panels(
    panels: Mapping[str, Sequence[Line]],
    x: Sequence[str],
    y: Sequence[str],
    *,
    columns: int = 3,
    log: str = "",
    height: int = 340,
) -> Any:
    """A plot of panels of lines with one legend, where a click hides the lines of a name in all panels.

    Args:
        panels: the lines of each panel, by its title.
        x: titles of the panels' x axes, one for all or one for each.
        y: titles of the panels' y axes, one for all or one for each.
        columns: largest number of panels side by side.
        log: logarithmic axes: "" for none, "x", "y" or "xy".
        height: height of a row of panels, in pixels.
    """
    figure = _grid(list(panels), columns, height, horizontal=0.07)
    seen: set[str] = set()
    columns = min(columns, len(panels))
    for index, lines in enumerate(panels.values()):
        row, column = index // columns + 1, index % columns + 1
        for line in lines:
            style = {"color": line.color, "dash": line.dash}
            figure.add_scatter(
                x=np.asarray(line.x).tolist(),
                y=[float(value) if math.isfinite(value) else None for value in line.y],
                mode="lines" if len(line.x) > 1 and not line.is_histogram else "lines+markers",
                line=style | ({"shape": "hvh"} if line.is_histogram else {}),
                marker_size=4,
                customdata=None if line.more is None else np.asarray(line.more).tolist(),
                marker_color=line.color,
                name=line.name,
                legendgroup=line.name,
                showlegend=line.name not in seen,
                hovertemplate=f"{line.hover}<extra>{html.escape(line.name)}</extra>",
                row=row,
                col=column,
            )
            seen.add(line.name)
        figure.update_xaxes(title_text=x[index % len(x)], row=row, col=column)
        figure.update_yaxes(title_text=y[index % len(y)], row=row, col=column)
    for axis, update in (("x", figure.update_xaxes), ("y", figure.update_yaxes)):
        if axis in log:
            update(type="log", tickformat="~g")  # plotly would else write 0.05 as "5"
    figure.update_layout(hovermode="closest")
    return figure


def heat_panels(
    panels: Mapping[str, Heat], x: str, y: str, legend: str, *, low: float, high: float, columns: int = 4
) -> Any:
    """Maps side by side, on one scale of colours.

    Args:
        panels: the map of each panel, by its title.
        x: title of the x axes.
        y: title of the first y axis of each row.
        legend: name of the numbers, beside the scale of colours.
        low: number with the darkest colour, which all numbers below have too.
        high: number with the brightest colour.
        columns: largest number of panels side by side.
    """
    figure = _grid(list(panels), columns, 300)
    columns = min(columns, len(panels))
    for index, heat in enumerate(panels.values()):
        figure.add_heatmap(
            x=np.asarray(heat.x).tolist(),
            y=list(heat.y),
            z=np.log10(np.clip(heat.values, low, high)).tolist(),
            customdata=heat.values.tolist(),
            coloraxis="coloraxis",
            hovertemplate="%{y} at %{x}: %{customdata:.3g}<extra></extra>",
            row=index // columns + 1,
            col=index % columns + 1,
        )
        figure.update_xaxes(title_text=x, row=index // columns + 1, col=index % columns + 1)
        if index % columns == 0:
            figure.update_yaxes(title_text=y, row=index // columns + 1, col=1)
    figure.update_yaxes(type="category", tickfont_size=9)
    ticks = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    bar = {"title": legend, "tickvals": list(ticks), "ticktext": [f"{10.0**tick:g}" for tick in ticks]}
    scale = {"colorscale": "magma", "cmin": math.log10(low), "cmax": math.log10(high), "colorbar": bar}
    figure.update_layout(coloraxis=scale)
    return figure


def picture_panels(
    panels: Mapping[str, Mapping[str, UInt8[np.ndarray, "h w c"]]], *, columns: int = 3, width: int = 1240
) -> Any:
    """Pictures of one size side by side, which the mouse zooms (wheel) and moves (dragging) together.

    Args:
        panels: by the panel's title, its pictures by name, with 1 (grey), 3 or 4 channels. All panels have
            pictures of the same names; if there are several, buttons choose one name for all panels.
        columns: largest number of panels side by side.
        width: width of the whole plot, in pixels.
    """
    names = list(next(iter(panels.values())))
    columns = min(columns, len(panels))
    first = next(iter(next(iter(panels.values())).values()))
    shrink = math.ceil(math.sqrt(first.shape[0] * first.shape[1] * len(panels) * len(names) / MOST_PIXELS))
    side = width / columns * first.shape[0] / first.shape[1]
    figure = _grid(list(panels), columns, round(min(max(side, 120), 900)), vertical=30, horizontal=0.01)
    for index, (title, shown) in enumerate(panels.items()):
        for name in names:
            figure.add_image(
                source=data_uri(shown[name], shrink),
                x0=(shrink - 1) / 2,
                dx=shrink,
                y0=(shrink - 1) / 2,
                dy=shrink,
                visible=name == names[0],
                hovertemplate="%{x}, %{y}: %{color}<extra>" + html.escape(title) + "</extra>",
                row=index // columns + 1,
                col=index % columns + 1,
            )
    figure.update_xaxes(matches="x", visible=False)
    figure.update_yaxes(matches="y", visible=False)
    figure.update_layout(dragmode="pan", margin={"l": 0, "r": 0, "t": 30, "b": 0}, showlegend=False)
    if len(names) > 1:
        buttons = [
            {
                "label": name,
                "method": "restyle",
                "args": [{"visible": [n == name for n in names] * len(panels)}],
            }
            for name in names
        ]
        place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 32}}
        figure.update_layout(
            updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, **place}],
            margin_t=80,
            height=figure.layout.height + 50,
        )
    return figure


def _grid(
    titles: Sequence[str], columns: int, height: int, vertical: int = 90, horizontal: float = 0.05
) -> Any:
    """An empty plot with a panel for each title.

    Args:
        titles: titles above the panels.
        columns: largest number of panels side by side.
        height: height of a panel, in pixels.
        vertical: gap between two rows, in pixels.
        horizontal: gap between two columns, as a share of the width.
    """
    from plotly.subplots import make_subplots

    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    total = rows * (height + vertical)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[html.escape(title) for title in titles],
        horizontal_spacing=horizontal,
        vertical_spacing=vertical / total if rows > 1 else 0,
    )
    figure.update_annotations(font_size=13)
    figure.update_layout(
        template="plotly_white",
        height=total,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": -90 / total, "yanchor": "top"},
    )
    return figure


def data_uri(image: UInt8[np.ndarray, "h w c"], shrink: int = 1) -> str:
    """A picture as PNG in a data URI.

    Args:
        image: 8-bit picture of 1 (grey), 3 or 4 channels.
        shrink: whole number by which the picture's sides are divided.
    """
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if shrink > 1:
        size = -(-picture.width // shrink), -(-picture.height // shrink)
        picture = picture.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
