"""The frozen records that pass between the layers.

Letters of the axes, the same in every signature: n images, c classes, d embedding, p patches, m negatives,
s support images, t templates, w windows, h w rows and columns of a grid.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vlm_ood.digests import digest_of
from vlm_ood.errors import TaskError, VectorError

UNIT: Final = 1e-6  # how far a length may be from 1; dividing by an fp32 length leaves 4e-7 up to d = 8192


def unit_rows(vectors: Shaped[Tensor, "... d"], what: str) -> Float[Tensor, "... d"]:
    """The vectors in fp32 at length 1, in new memory.

    A row whose length is within `UNIT` of 1 keeps its bits, so that slicing, joining, moving and storing what was
    normalised once changes nothing, on any device.

    Raises:
        VectorError: when a row is not finite or has no length; the message names the rows.
    """
    vectors = vectors.float().contiguous()  # a sum along strided rows is less exact
    length = vectors.norm(dim=-1, keepdim=True)
    bad = ~(length.isfinite() & (length > 0)).squeeze(-1)
    if bad.any():
        rows = bad.reshape(len(vectors), -1).any(dim=1).nonzero().flatten().tolist()
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise VectorError(
            f"{what}: {len(rows)} of {len(vectors)} rows are not finite or have length zero (rows {shown}); "
            "leave them out or encode them again"
        )
    unit = vectors / _divisor(length)
    again = _divisor(unit.norm(dim=-1, keepdim=True))
    if (again != 1).any():  # squares of numbers below 1e-19 underflow, and the length is rough
        unit = unit / again
    return unit


def _divisor(length: Float[Tensor, "... 1"]) -> Float[Tensor, "... 1"]:
    """The length, or exactly 1 where it is 1 but for rounding."""
    return torch.where((length - 1).abs() > UNIT, length, 1.0)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What an encoder saw in n images.

    Args:
        pooled: (n, d), one vector per image; any float dtype and length, kept in fp32 at length 1.
        patches: (n, p, d) in the joint space, row by row of `grid`, kept in fp32 at length 1; or None.
        grid: (h, w) of the patches, h * w = p.
        stages: {block number: (n, p, width)}, tokens after that block, row by row, as the network gives them.
        windows: {side in patches: (n, w, d)} in the joint space, one vector per square window of the grid, row by row
            of the places of its upper left corner, kept in fp32 at length 1.
        stage_grids: {block number: (h, w)} of the stages; by default `grid`, which holds for every vision transformer.
            The stages of a convolutional network have grids of their own.

    Raises:
        VectorError: rows that are not finite or have no length, axes that don't agree.
    """

    pooled: Float[Tensor, "n d"]
    patches: Float[Tensor, "_ p _"] | None = None
    grid: tuple[int, int] | None = None
    stages: Mapping[int, Float[Tensor, "_ _ _"]] = field(default_factory=dict)
    windows: Mapping[int, Float[Tensor, "_ _ _"]] = field(default_factory=dict)
    stage_grids: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pooled.ndim != 2:
            raise VectorError(f"pooled features must have the axes (n, d), got {tuple(self.pooled.shape)}")
        object.__setattr__(self, "pooled", unit_rows(self.pooled, "pooled features"))
        n, d = self.pooled.shape
        if self.patches is not None:
            _check_axes("patches", self.patches, (n, d), self.grid)
            object.__setattr__(self, "patches", unit_rows(self.patches, "patch features"))
        grids = {number: self.stage_grids.get(number, self.grid) for number in self.stages}
        for number, tokens in self.stages.items():
            _check_axes(f"stage {number}", tokens, (n, None), grids[number])
        object.__setattr__(self, "stage_grids", grids)
        for side, vectors in self.windows.items():
            _check_axes(f"windows of {side}", vectors, (n, d), window_grid(self.grid, side))
        unit = {side: unit_rows(vectors, f"windows of {side}") for side, vectors in self.windows.items()}
        object.__setattr__(self, "windows", unit)

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> "ImageFeatures":
        if isinstance(rows, Sequence):
            rows = torch.as_tensor(rows, dtype=torch.long)
        chosen = rows
        return self._each(lambda tensor: tensor[chosen])

    def to(self, device: torch.device | str) -> "ImageFeatures":
        """The same features on another device."""
        if self.pooled.device == torch.device(device):
            return self
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, function: Callable[[Tensor], Tensor]) -> "ImageFeatures":
        return replace(
            self,
            pooled=function(self.pooled),
            patches=None if self.patches is None else function(self.patches),
            stages={number: function(tokens) for number, tokens in self.stages.items()},
            windows={side: function(vectors) for side, vectors in self.windows.items()},
        )

    @staticmethod
    def concatenate(parts: "Sequence[ImageFeatures]") -> "ImageFeatures":
        """Several batches as one, in order.

        Raises:
            VectorError: when there is no batch, or when batches hold different things.
        """
        if not parts:
            raise VectorError("no features to join: every image failed or none was given")
        first = parts[0]
        if any(part._shape != first._shape for part in parts):
            raise VectorError("features with different patches, stages, windows or grids can't be joined: encode again")
        return ImageFeatures(
            torch.cat([part.pooled for part in parts]),
            None if first.patches is None else torch.cat([part.patches for part in parts if part.patches is not None]),
            first.grid,
            {number: torch.cat([part.stages[number] for part in parts]) for number in first.stages},
            {side: torch.cat([part.windows[side] for part in parts]) for side in first.windows},
            first.stage_grids,
        )

    @property
    def digest(self) -> str:
        """Of every value and grid."""
        stages = [(number, *self.stage_grids[number], digest_of(self.stages[number])) for number in sorted(self.stages)]
        windows = [(side, digest_of(self.windows[side])) for side in sorted(self.windows)]
        patches = None if self.patches is None else digest_of(self.patches)
        return digest_of(self.pooled, patches, self.grid, stages, windows)

    @property
    def _shape(self) -> tuple[object, ...]:
        """Everything but the number of images."""
        return self.patches is None, self.grid, dict(self.stage_grids), set(self.windows)


def window_grid(grid: tuple[int, int] | None, side: int) -> tuple[int, int] | None:
    """Rows and columns of the places of a square window of `side` patches that moves by one patch over the grid."""
    return None if grid is None else (grid[0] - side + 1, grid[1] - side + 1)


def _check_axes(what: str, tensor: Tensor, ends: tuple[int, int | None], grid: tuple[int, int] | None) -> None:
    """(n, cells of the grid, d); d may be None for any."""
    n, d = ends
    if tensor.ndim != 3 or len(tensor) != n or d not in {None, tensor.shape[2]}:
        raise VectorError(f"{what} must have the axes ({n}, p, {d or 'width'}), got {tuple(tensor.shape)}")
    if grid is None or grid[0] * grid[1] != tensor.shape[1]:
        raise VectorError(f"the grid {grid} of {what} doesn't hold the {tensor.shape[1]} vectors per image")


@dataclass(frozen=True, eq=False)
class TextBank:
    """Names and one unit vector each: class names, mined negatives, negated prompts, tuned prompts.

    Args:
        names: c names, in the order of the rows.
        embeddings: (c, d), any float dtype and length, kept in fp32 at length 1.
        digest: what made it; by default the digest of names and values.
    """

    names: tuple[str, ...]
    embeddings: Float[Tensor, "c d"]
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if self.embeddings.ndim != 2:
            raise VectorError(f"a text bank has the axes (c, d), got {tuple(self.embeddings.shape)}")
        if len(self.names) != len(self.embeddings):
            raise VectorError(f"{len(self.names)} names for {len(self.embeddings)} embeddings: give one vector a name")
        object.__setattr__(self, "embeddings", unit_rows(self.embeddings, "text bank"))
        if not self.digest:
            object.__setattr__(self, "digest", digest_of(list(self.names), self.embeddings))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def dim(self) -> int:
        """d, the length of the joint space."""
        return self.embeddings.shape[1]

    def to(self, device: torch.device | str) -> "TextBank":
        """The same bank on another device."""
        if self.embeddings.device == torch.device(device):
            return self
        return replace(self, embeddings=self.embeddings.to(device))

    def take(self, rows: Sequence[int]) -> "TextBank":
        """The bank of these rows, in this order."""
        index = torch.as_tensor(rows, dtype=torch.long, device=self.embeddings.device)
        return TextBank(tuple(self.names[row] for row in rows), self.embeddings[index])


@dataclass(frozen=True, eq=False)
class Support:
    """A few labelled in-distribution images.

    Args:
        features: of s images.
        labels: (s,) rows of the class bank, integers of any dtype, kept in int64.

    Raises:
        VectorError: other labels than images.
    """

    features: ImageFeatures
    labels: Int[Tensor, " s"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.labels.long())
        if self.labels.shape != (len(self.features),):
            raise VectorError(
                f"{len(self.features)} support images need as many labels, got {tuple(self.labels.shape)}"
            )

    def to(self, device: torch.device | str) -> "Support":
        """The same images on another device."""
        if self.labels.device == self.features.pooled.device == torch.device(device):
            return self
        return Support(self.features.to(device), self.labels.to(device))

    @property
    def digest(self) -> str:
        """Of all that the features hold, and of the labels."""
        return digest_of(self.features.digest, self.labels)


_TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "negatives": "negatives",
        "no": "negated prompts",
        "support": "labelled images",
        "background": "a background of ordinary images",
    }
)


def titles(parts: Iterable[str]) -> str:
    """Return what messages call these parts of a task, such as "negated prompts and labelled images"."""
    return " and ".join(_TITLES[part] for part in sorted(parts))


REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "negatives": "negatives=vo.mine_negatives(...)",
        "no": "no=vo.no_bank(...)",
        "support": "support=vo.Support(features, labels)",
        "background": "background=mean_vector",
    }
)
"""How a caller in Python gives each part of a task beyond its classes."""


@dataclass(frozen=True, eq=False)
class Background:
    """Where ordinary images and words lie in the space of an encoder, whatever the classes of a task.

    Args:
        images: (d,), the mean of the unit vectors of a few diverse ordinary photographs; not brought to length 1.
        words: (d,), the mean of the unit vectors of everyday words; or None.
        digest: what made them; by default the digest of their values.

    Raises:
        VectorError: a vector with other axes or with a value that is not finite, or two of different dimension.
    """

    images: Float[Tensor, " d"]
    words: Float[Tensor, " d"] | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        for name, vector in (("images", self.images), ("words", self.words)):
            if vector is None:
                continue
            if vector.shape != (len(self.images),) or not vector.isfinite().all():
                raise VectorError(f"background {name} must be one finite vector (d,), got {tuple(vector.shape)}")
            object.__setattr__(self, name, vector.float())
        if not self.digest:
            object.__setattr__(self, "digest", digest_of(self.images, self.words))


@dataclass(frozen=True, eq=False)
class Task:
    """The ID classes, and what a method may need besides.

    Args:
        classes: the in-distribution classes.
        negatives: words for what is OOD (NegLabel, CSP, NegPrompt).
        no: negated prompts, one row per class, from a tower or templates that negate it (CLIPN).
        support: labelled ID images.
        background: ordinary images, whatever the classes; a vector alone is their mean, as in `Background.images`.

    Raises:
        VectorError: dimensions that don't agree, or a `no` bank with other rows than `classes`.
    """

    classes: TextBank
    negatives: TextBank | None = None
    no: TextBank | None = None
    support: Support | None = None
    background: Background | Float[Tensor, " d"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.background, Tensor):
            object.__setattr__(self, "background", Background(self.background))
        if self.ordinary is not None and len(self.ordinary.images) != self.classes.dim:
            raise VectorError(
                f"the background has dimension {len(self.ordinary.images)}, classes {self.classes.dim}: encode both "
                "with one encoder"
            )
        for part, bank in (("negatives", self.negatives), ("no", self.no)):
            if bank is not None and bank.dim != self.classes.dim:
                raise VectorError(
                    f"{titles([part])} have dimension {bank.dim}, classes {self.classes.dim}: "
                    "encode both with one encoder"
                )
        if self.no is not None and len(self.no) != len(self.classes):
            raise VectorError(f"{len(self.no)} negated prompts for {len(self.classes)} classes: give one per class")
        if self.support is not None:
            if self.support.features.pooled.shape[1] != self.classes.dim:
                raise VectorError("support images and classes come from encoders of different dimension")
            if len(self.support.labels) and not 0 <= int(self.support.labels.min()) <= int(
                self.support.labels.max()
            ) < len(self.classes):
                raise VectorError(f"support labels must be rows of the {len(self.classes)} classes")

    @property
    def ordinary(self) -> Background | None:
        """The background, also where it was given as a vector alone."""
        return self.background if isinstance(self.background, Background) else None

    def require(self, method: str, needs: frozenset[str]) -> None:
        """Raise a TaskError that names each part in `needs` that is missing."""
        missing = sorted(part for part in needs if getattr(self, part) is None)
        if missing:
            wanted = ", ".join(REMEDIES[part] for part in missing)
            raise TaskError(f"{method} needs {titles(missing)}: vo.Task(classes=..., {wanted})")

    @property
    def digest(self) -> str:
        """Of everything in the task."""
        parts = [self.classes, self.negatives, self.no, self.support]
        digests = [None if part is None else part.digest for part in parts]
        # Only where there is one, so that calibrations made before tasks had a background still hold.
        return digest_of(digests if self.ordinary is None else [*digests, self.ordinary.digest])
