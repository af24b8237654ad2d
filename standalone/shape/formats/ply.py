"""Polygon File Format (PLY), ASCII and binary of both byte orders.

This reader is our own, because trimesh cuts concave polygons into fans, which partly lie outside the polygon,
Open3D knows no triangle strips, and neither tells missing normals of a cloud from broken ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from standalone.shape.formats.content import MeshContent, check_corners
from standalone.shape.formats.polygons import triangulate

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4"},
    **{"uint32": "u4", "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8", "float16": "f2"},
}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class _Property:
    name: str
    kind: str
    count: str | None = None
    """Type of the number of items, where the property is a list."""


@dataclass
class _Element:
    name: str
    rows: int
    properties: list[_Property] = field(default_factory=list)


@dataclass
class _Lists:
    """Lists of different lengths, stored one after the other."""

    counts: np.ndarray
    items: np.ndarray


_Values = dict[str, "np.ndarray | _Lists"]


def read_ply(data: bytes) -> MeshContent:
    """Read the vertices with their normals, and the faces (polygons or triangle strips).

    Raises:
        ValueError: no PLY file, or one that ends early.
    """
    elements, order, start = _header(data)
    values = dict(_binary(elements, data, start, order) if order else _ascii(elements, data[start:]))
    vertex = values.get("vertex", {})
    if not {"x", "y", "z"} <= vertex.keys():
        raise ValueError("it has no vertices with x, y and z")
    vertices = _columns(vertex, ("x", "y", "z"))
    normals = _columns(vertex, ("nx", "ny", "nz")) if {"nx", "ny", "nz"} <= vertex.keys() else None
    faces = np.empty((0, 3), dtype=np.int64)
    if "face" in values:
        polygons = _first_lists(values["face"], ("vertex_indices", "vertex_index"))
        if polygons is not None:
            faces = triangulate(vertices, polygons.counts, polygons.items)
    if len(faces) == 0 and "tristrips" in values:
        strips = _first_lists(values["tristrips"], ("vertex_indices", "vertex_index"))
        if strips is not None:
            faces = _triangles_of_strips(strips)
            check_corners(faces, len(vertices))
    return MeshContent(vertices, faces, normals)


def _columns(values: _Values, names: tuple[str, ...]) -> np.ndarray:
    columns = [values[name] for name in names]
    if any(isinstance(column, _Lists) for column in columns):
        raise ValueError("its vertices have lists for coordinates")
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=-1)


def _first_lists(values: _Values, names: tuple[str, ...]) -> _Lists | None:
    """The lists with one of the names, else the element's only lists, if any."""
    lists = {name: value for name, value in values.items() if isinstance(value, _Lists)}
    for name in names:
        if name in lists:
            return lists[name]
    return next(iter(lists.values())) if len(lists) == 1 else None


def _header(data: bytes) -> tuple[list[_Element], str, int]:
    """Elements, byte order (empty for ASCII), and the position at which the values start."""
    if not data.startswith(b"ply"):
        raise ValueError("it does not begin with ply")
    end = data.find(b"end_header")
    if end < 0:
        raise ValueError("its header does not end")
    start = end + len(b"end_header")
    start += 2 if data[start : start + 2] == b"\r\n" else 1
    elements: list[_Element] = []
    order = None
    for line in data[:end].decode("latin-1").splitlines()[1:]:
        match line.split():
            case ["format", name, *_] if name in _FORMATS:
                order = _FORMATS[name]
            case ["element", name, rows]:
                if int(rows) < 0:
                    raise ValueError(f"it has {rows} rows of {name}")
                elements.append(_Element(name, int(rows)))
            case ["property", "list", count, kind, name] if elements:
                elements[-1].properties.append(_Property(name, _type(kind), _type(count)))
            case ["property", kind, name] if elements:
                elements[-1].properties.append(_Property(name, _type(kind)))
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise ValueError(f"its header has the line '{line[:40]}'")
    if order is None:
        raise ValueError("its header names no format")
    return elements, order, start


def _type(name: str) -> str:
    if name not in _TYPES:
        raise ValueError(f"its header has the type '{name}'")
    return _TYPES[name]


def _binary(elements: list[_Element], data: bytes, start: int, order: str) -> Iterator[tuple[str, _Values]]:
    for element in elements:
        values, start = _binary_element(element, data, start, order)
        yield element.name, values


def _binary_element(element: _Element, data: bytes, start: int, order: str) -> tuple[_Values, int]:
    """Values of an element, and the position at which the next element starts.

    Rows are read all at once if their lists are as long as those of the first row, else one by one.
    """
    if element.rows == 0:
        return {
            p.name: _Lists(*(np.empty(0, np.int64),) * 2) if p.count else np.empty(0)
            for p in element.properties
        }, start
    lengths, _ = _row(element, data, start, order)
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
    for index, (one, length) in enumerate(zip(element.properties, lengths, strict=True)):
        if one.count is not None:
            fields.append((f"count{index}", order + one.count))
        fields.append((f"items{index}", order + one.kind, (length,) if one.count is not None else ()))
    dtype = np.dtype(fields)
    end = start + dtype.itemsize * element.rows
    if end <= len(data):
        table = np.frombuffer(data, dtype, element.rows, start)
        lists = [index for index, one in enumerate(element.properties) if one.count is not None]
        if all((table[f"count{index}"] == lengths[index]).all() for index in lists):
            values: _Values = {}
            for index, one in enumerate(element.properties):
                items = table[f"items{index}"]
                values[one.name] = items
                if one.count is not None:
                    counts = np.full(element.rows, lengths[index], dtype=np.int64)
                    values[one.name] = _Lists(counts, items.reshape(-1).astype(np.int64))
            return values, end
    return _row_by_row(element, data, start, order)


def _row(element: _Element, data: bytes, start: int, order: str) -> tuple[list[int], int]:
    """Number of items of each property in the row that starts at `start`, and the position of its end."""
    lengths = []
    for one in element.properties:
        length = 1
        if one.count is not None:
            kind = np.dtype(order + one.count)
            if start + kind.itemsize > len(data):
                raise ValueError("it ends early")
            length = int(np.frombuffer(data, kind, 1, start)[0])
            if length < 0:
                raise ValueError("a list has a negative length")
            start += kind.itemsize
        start += length * np.dtype(one.kind).itemsize
        lengths.append(length)
    if start > len(data):
        raise ValueError("it ends early")
    return lengths, start


def _row_by_row(element: _Element, data: bytes, start: int, order: str) -> tuple[_Values, int]:
    counts: dict[str, list[int]] = {one.name: [] for one in element.properties}
    parts: dict[str, list[np.ndarray]] = {one.name: [] for one in element.properties}
    plan = [
        (one.name, None if one.count is None else np.dtype(order + one.count), np.dtype(order + one.kind))
        for one in element.properties
    ]
    for _ in range(element.rows):
        for name, count_type, kind in plan:
            length = 1
            if count_type is not None:
                if start + count_type.itemsize > len(data):
                    raise ValueError("it ends early")
                length = int(np.frombuffer(data, count_type, 1, start)[0])
                start += count_type.itemsize
            if length < 0 or start + length * kind.itemsize > len(data):
                raise ValueError("it ends early")
            parts[name].append(np.frombuffer(data, kind, length, start))
            counts[name].append(length)
            start += length * kind.itemsize
    values: _Values = {}
    for one in element.properties:
        items = np.concatenate(parts[one.name])
        is_list = one.count is not None
        values[one.name] = _Lists(np.array(counts[one.name]), items.astype(np.int64)) if is_list else items
    return values, start


def _ascii(elements: list[_Element], data: bytes) -> Iterator[tuple[str, _Values]]:
    words = np.array(data.split(), dtype=np.float64) if data.strip() else np.empty(0)
    start = 0
    for element in elements:
        if not any(one.count is not None for one in element.properties):
            width = len(element.properties)
            end = start + width * element.rows
            if end > len(words):
                raise ValueError("it ends early")
            table = words[start:end].reshape(element.rows, width)
            yield element.name, {one.name: table[:, i] for i, one in enumerate(element.properties)}
        else:
            values, end = _ascii_lists(element, words, start)
            yield element.name, values
        start = end


def _ascii_lists(element: _Element, words: np.ndarray, start: int) -> tuple[_Values, int]:
    counts: dict[str, list[int]] = {one.name: [] for one in element.properties}
    parts: dict[str, list[np.ndarray]] = {one.name: [] for one in element.properties}
    for _ in range(element.rows):
        for one in element.properties:
            length = 1
            if one.count is not None:
                length = int(words[start]) if start < len(words) else -1
                start += 1
            if length < 0 or start + length > len(words):
                raise ValueError("it ends early")
            parts[one.name].append(words[start : start + length])
            counts[one.name].append(length)
            start += length
    values: _Values = {}
    for one in element.properties:
        items = np.concatenate([np.empty(0), *parts[one.name]])
        is_list = one.count is not None
        values[one.name] = (
            _Lists(np.array(counts[one.name], dtype=np.int64), items.astype(np.int64)) if is_list else items
        )
    return values, start


def _triangles_of_strips(strips: _Lists) -> np.ndarray:
    """Triangles of strips of vertices; -1 ends a strip, and every other triangle is turned."""
    triangles = [np.empty((0, 3), dtype=np.int64)]
    ends = np.cumsum(strips.counts)
    for start, end in zip(ends - strips.counts, ends, strict=True):
        items = strips.items[start:end]
        for strip in np.split(items, np.flatnonzero(items < 0)):
            strip = strip[strip >= 0]
            if len(strip) < 3:
                continue
            three = np.stack([strip[:-2], strip[1:-1], strip[2:]], axis=-1)
            three[1::2] = three[1::2, ::-1]
            triangles.append(three)
    return np.concatenate(triangles)
