"""Operations on triangles that need no coordinates: edges, repeated faces, and faces' directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Faces = Int[np.ndarray, "f 3"]


@dataclass(frozen=True)
class Edges:
    """Edges of triangles. Each triangle uses three edges, in the direction in which its corners run."""

    ends: Int[np.ndarray, "e 2"]
    """The two vertices, the lower first."""
    index: Int[np.ndarray, "3 f"]
    """Edges of each face: from its first to its second corner, and so on."""
    forward: Bool[np.ndarray, "3 f"]
    """Whether the face goes from the lower vertex to the higher."""

    @property
    def uses(self) -> Int[np.ndarray, " e"]:
        """Number of faces at each edge."""
        return np.bincount(self.index.reshape(-1), minlength=len(self.ends))

    @property
    def balance(self) -> Int[np.ndarray, " e"]:
        """Number of faces that use an edge forward, less those backward; 0 on a closed surface."""
        signs = np.where(self.forward, 1, -1).reshape(-1)
        return np.rint(np.bincount(self.index.reshape(-1), signs, len(self.ends))).astype(np.int64)


def edges_of(faces: Faces) -> Edges:
    """The edges of faces with three different corners."""
    start, end = faces.T, np.roll(faces, -1, axis=1).T
    low, high = np.minimum(start, end), np.maximum(start, end)
    stride = int(faces.max(initial=0)) + 1
    keys, index = np.unique((low * stride + high).reshape(-1), return_inverse=True)
    ends = np.stack([keys // stride, keys % stride], axis=-1)
    return Edges(ends, index.reshape(3, len(faces)), start < end)


class Doubles(NamedTuple):
    """Result of `without_doubles`."""

    faces: Faces
    """The faces that are left."""
    repeated: int
    """Number of removed faces that repeated another one, in the same direction."""
    opposed: int
    """Number of removed pairs of faces back to back."""


def without_doubles(faces: Faces) -> Doubles:
    """Keep one of several faces with the same corners and direction, and none of two faces back to back.

    A pair back to back bounds nothing, such as the wall between two bodies that touch. But if all faces of a
    connected part have another behind them, as in exports that write front and back, one of each pair is
    kept.
    """
    if len(faces) == 0:
        return Doubles(faces, 0, 0)
    # The corners are sorted; the direction is whether their order was an even or an odd permutation.
    order = np.argsort(faces, axis=1)
    even = (order[:, 1] - order[:, 0]) % 3 == 1
    first, index = _same_rows(np.sort(faces, axis=1))
    ways = np.stack([np.bincount(index, even), np.bincount(index, ~even)])
    net = ways[0] - ways[1]
    kept_even = np.where(net != 0, net > 0, even[first])
    part = _parts(faces)
    whole = np.bincount(part[first], net != 0) == 0  # parts in which every face has another behind it
    keep = (net != 0) | whole[part[first]]
    chosen = np.sort(faces[first], axis=1)
    chosen = np.where(kept_even[:, None], chosen, chosen[:, ::-1])[keep]
    pairs = np.minimum(ways[0], ways[1])
    if len(first) == len(faces):
        return Doubles(faces, 0, 0)
    repeated = len(faces) - int(2 * pairs.sum()) - int(np.count_nonzero(net))
    # In the order of the file.
    return Doubles(chosen[np.argsort(first[keep], kind="stable")], repeated, int(pairs.sum()))


def _same_rows(rows: Int[np.ndarray, "f 3"]) -> tuple[Int[np.ndarray, " u"], Int[np.ndarray, " f"]]:
    """For distinct rows: the index of the first row of each kind; and for each row its kind."""
    stride = int(rows.max(initial=0)) + 1
    # Two columns are joined in one number; with millions of vertices, three would not fit into 64 bits.
    pairs = np.unique(rows[:, 0] * stride + rows[:, 1], return_inverse=True)[1].reshape(-1)
    _, first, index = np.unique(pairs * stride + rows[:, 2], return_index=True, return_inverse=True)
    return first, index.reshape(-1)


def _parts(faces: Faces) -> Int[np.ndarray, " f"]:
    """The connected part of each face, over common corners."""
    count = int(faces.max()) + 1
    a, b, c = faces.T
    ones = np.ones(2 * len(faces), dtype=np.int8)
    graph = coo_matrix((ones, (np.concatenate([a, b]), np.concatenate([b, c]))), shape=(count, count))
    labels = connected_components(graph, directed=False)[1][a]
    parts: np.ndarray = np.unique(labels, return_inverse=True)[1]
    return parts


@dataclass(frozen=True)
class Turned:
    """Result of `turned_alike`."""

    faces: Faces
    """The faces, turned where needed."""
    patch: Int[np.ndarray, " f"]
    """Number of each face's patch: faces are in one patch if they meet at edges that have two faces."""
    turned: int
    """Number of faces that were turned."""
    one_sided: int
    """Number of faces in patches that cannot be turned alike, such as a Moebius band."""


def turned_alike(faces: Faces, areas: Float[np.ndarray, " f"]) -> Turned:
    """Turn faces in the direction of their neighbours; in each patch, those with the smaller area are turned.

    Neighbours are the faces of an edge that has exactly two. Where more faces meet, none count as neighbours.
    """
    edges = edges_of(faces)
    flat, owner = edges.index.reshape(-1), np.tile(np.arange(len(faces)), 3)
    order = np.argsort(flat, kind="stable")
    pair = np.flatnonzero(edges.uses == 2)
    place = np.searchsorted(flat[order], pair)
    one, two = order[place], order[place + 1]
    f, g = owner[one], owner[two]
    alike = edges.forward.reshape(-1)[one] != edges.forward.reshape(-1)[two]
    # A graph has each face twice, as it is and turned; states of neighbours that agree are connected.
    count = len(faces)
    rows = np.concatenate([f, f + count])
    columns = np.concatenate([np.where(alike, g, g + count), np.where(alike, g + count, g)])
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(2 * count, 2 * count))
    labels = connected_components(graph, directed=False)[1]
    kept, turned = labels[:count], labels[count:]
    weight = np.bincount(kept, areas, minlength=2 * count)
    flip = (weight[kept] < weight[turned]) | ((weight[kept] == weight[turned]) & (kept > turned))
    result = np.where(flip[:, None], faces[:, ::-1], faces)
    patch = np.unique(np.minimum(kept, turned), return_inverse=True)[1]
    return Turned(result, patch, int(flip.sum()), int((kept == turned).sum()))


def closed_patches(faces: Faces, patch: Int[np.ndarray, " f"]) -> Bool[np.ndarray, " p"]:
    """Tell which patches are closed by themselves."""
    edges = edges_of(faces)
    count = int(patch.max(initial=-1)) + 1
    keys = edges.index * count + patch[None]
    unique, index = np.unique(keys.reshape(-1), return_inverse=True)
    balance = np.rint(np.bincount(index, np.where(edges.forward, 1, -1).reshape(-1), len(unique)))
    closed: np.ndarray = np.bincount(unique % count, balance != 0, minlength=count) == 0
    return closed


def boundary_loops(faces: Faces) -> list[list[int]]:
    """Rings of vertices along which caps would close the surface; no ring has a vertex twice.

    The unbalanced edges of any triangles can be cut into such rings, also where three faces meet at one.
    """
    edges = edges_of(faces)
    balance = edges.balance
    follow: dict[int, list[int]] = {}
    gaps = np.flatnonzero(balance)
    for (low, high), net in zip(edges.ends[gaps].tolist(), balance[gaps].tolist(), strict=True):
        start, end = (high, low) if net > 0 else (low, high)
        follow.setdefault(start, []).extend([end] * abs(net))
    loops = []
    for start in list(follow):
        while follow[start]:
            path, places = [start], {start: 0}
            while follow[path[-1]]:
                following = follow[path[-1]].pop()
                if following in places:
                    loops.append(path[places[following] :])
                    for vertex in path[places[following] + 1 :]:
                        del places[vertex]
                    del path[places[following] + 1 :]
                else:
                    places[following] = len(path)
                    path.append(following)
    return loops
