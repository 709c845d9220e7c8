"""Every kind of TIFF: right, or refused as a kind. The files are read by an independent decoder, too."""

import io
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model.interface import codec
from tests.model.interface.formats.tiff_files import PACKERS, SHORT, Tags, tiff_of
from tests.service.hostile import saved

pytestmark = pytest.mark.slow
tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")
HEIGHT, WIDTH = 21, 37
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3, 9: 3, 32803: 1, 34892: 3}
TYPES = {"unsigned": 1, "signed": 2, "float": 3}
TAKEN = {0: (1, 2, 4, 8, 12, 16), 1: (1, 2, 4, 8, 12, 16), 2: (1, 2, 4, 8, 12, 16), 3: (1, 2, 4, 8)}
TAKEN |= {5: (8, 16), 6: (8,)}
EXTRA = {0: 1, 1: 1, 2: 3, 3: 1, 5: 1, 6: 0}


class Kind(NamedTuple):
    photometric: int
    bits: int
    numbers: str
    extra: tuple[int, ...]
    planar: bool
    order: str
    compression: int
    predictor: int
    tile: bool
    big: bool

    @property
    def taken(self) -> bool:
        """As docs/http.md has it."""
        samples = COLOURS[self.photometric] + len(self.extra)
        premultiplied = 1 not in self.extra or self.photometric in (1, 2)
        kind = self.bits in TAKEN.get(self.photometric, ()) and len(self.extra) <= EXTRA.get(self.photometric, 0)
        return kind and self.numbers == "unsigned" and premultiplied and samples * self.bits <= 64


def kinds() -> Iterator[Kind]:
    """All kinds of samples, each packed in one way of many, or in three if it is taken."""
    rng = random.Random(1)
    ways = list(itertools.product([*PACKERS, 5, 50000], (1, 2), (False, True), (False, True)))
    extras = [(), (0,), (1,), (2,), (0, 0), (2, 0), (0, 0, 0)]
    for photometric, bits, extra in itertools.product(COLOURS, (1, 2, 4, 8, 12, 16, 32, 64), extras):
        for planar, order in itertools.product((False, True), "<>"):
            for numbers in ("unsigned", "signed", "float") if bits >= 16 and bits != 64 else ("unsigned", "signed"):
                if numbers != "unsigned" and bits not in (8, 16, 32, 64):
                    continue
                for compression, predictor, tile, big in rng.sample(ways, 3):
                    differs = predictor == 2 and compression in (5, 8, 32946, 34925, 50000)
                    predictor = 2 if differs and bits in (8, 16) and numbers != "float" else 1
                    kind = Kind(photometric, bits, numbers, extra, planar, order, compression, predictor, tile, big)
                    yield kind
                    if not kind.taken:
                        break


def sample_numbers(kind: Kind, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Gradients with noise; colours that are multiplied by alpha are not above it."""
    shape = HEIGHT, WIDTH, COLOURS[kind.photometric] + len(kind.extra)
    most = (1 << kind.bits) - 1
    part = rng.random(shape)
    if 1 in kind.extra:
        alpha = COLOURS[kind.photometric] + kind.extra.index(1)
        part[:, :, : COLOURS[kind.photometric]] *= part[:, :, alpha, None]
    if kind.numbers == "float":
        return part.astype(f"f{kind.bits // 8}")
    size = 1 if kind.bits <= 8 else kind.bits // 8 if kind.bits != 12 else 2
    if kind.numbers == "signed":
        return ((part - 0.5) * most * 0.99).astype(f"i{size}")
    return np.minimum(part * most, np.nextafter(float(most), 0)).astype(f"u{size}")


def to_eight(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.clip(np.rint(part * 255), 0, 255)


def truth(kind: Kind, numbers: npt.NDArray[Any], palette: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """From the numbers, with floating point."""
    if kind.photometric == 3:
        return palette[:, numbers[:, :, 0]].transpose(1, 2, 0) >> 8
    part = numbers / ((1 << kind.bits) - 1)
    colours = part[:, :, : COLOURS[kind.photometric]]
    if 1 in kind.extra:
        alpha = part[:, :, COLOURS[kind.photometric] + kind.extra.index(1), None]
        colours = np.where(alpha == 0, 0, colours / np.where(alpha == 0, 1, alpha))
    if kind.photometric == 0:
        colours = 1 - colours
    if kind.photometric == 5:
        colours = (1 - colours[:, :, :3]) * (1 - colours[:, :, 3:])
    if kind.photometric == 6:
        luma, blue, red = np.moveaxis(colours * 255 - [0, 128, 128], 2, 0)
        colours = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 2) / 255
    return to_eight(np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours)


def file_of(kind: Kind, numbers: npt.NDArray[Any], palette: npt.NDArray[Any]) -> bytes:
    more: Tags = {339: (SHORT, (TYPES[kind.numbers],) * numbers.shape[2])}
    if kind.extra:
        more[338] = SHORT, kind.extra
    if kind.photometric == 3:
        more[320] = SHORT, tuple(palette.ravel().tolist())
    if kind.photometric == 6:
        more[530] = SHORT, (1, 1)
    packing = {"planar": kind.planar, "compression": kind.compression, "order": kind.order, "big": kind.big}
    tile = (16, 16) if kind.tile else None
    return tiff_of(
        numbers, kind.photometric, kind.bits, **packing, predictor=kind.predictor, tile=tile, rows=8, more=more
    )


def read_by_tifffile(content: bytes) -> npt.NDArray[Any] | None:
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        try:
            stored = page.asarray()
        except (ValueError, NotImplementedError):
            return None
        stored = stored.reshape(HEIGHT, WIDTH) if stored.size == HEIGHT * WIDTH else stored
        planar = page.planarconfig == 2 and stored.ndim == 3
        return np.atleast_3d(stored.transpose(1, 2, 0) if planar else stored)


def test_every_kind_is_right_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKERS, 5, imagecodecs.lzw_encode)
    monkeypatch.setitem(PACKERS, 50000, imagecodecs.zstd_encode)
    rng, seen, wrong = np.random.default_rng(1), Counter[str](), []
    for kind in kinds():
        numbers, palette = sample_numbers(kind, rng), rng.integers(0, 65536, (3, 1 << min(kind.bits, 8)))
        content = file_of(kind, numbers, palette)
        independent = read_by_tifffile(content) if kind.photometric < 9 else None
        seen["confirmed"] += independent is not None
        if independent is not None and not np.array_equal(independent, numbers):
            wrong.append(f"{kind} is not what tifffile reads")
        try:
            pixels = codec.decode(content, 10_000)
        except codec.UnsupportedImageError as error:
            seen["refused"] += 1
            if kind.taken or not str(error).startswith("This kind of TIFF is not supported: "):
                wrong.append(f"{kind}: {error}")
        except Exception as error:
            wrong.append(f"{kind}: {error!r}")
        else:
            seen["decoded"] += 1
            off = np.abs(pixels - truth(kind, numbers, palette)).max()
            if not kind.taken or off > 1:
                wrong.append(f"{kind}: {off} levels off")
    print(f"\n{dict(seen)}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong", *wrong[:20]])
    assert seen["decoded"] > 1000
    assert seen["confirmed"] > 1200


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize(
    ("photometric", "planar", "subsampling"),
    [
        *((photometric, False, (1, 1)) for photometric in ("minisblack", "miniswhite", "rgb")),
        ("rgb", True, (1, 1)),
        *(("ycbcr", False, subsampling) for subsampling in ((1, 1), (2, 1), (2, 2), (4, 1))),
    ],
)
def test_jpeg_is_what_tifffile_reads(
    order: str, tile: tuple[int, int] | None, photometric: str, planar: bool, subsampling: tuple[int, int]
) -> None:
    grey = photometric.startswith("min")
    rows, columns = np.mgrid[:61, :83]
    numbers = np.stack([columns * 3, rows * 4, rows + columns], axis=2).clip(0, 255).astype(np.uint8)
    numbers = numbers[:, :, 0] if grey else numbers.transpose(2, 0, 1) if planar else numbers
    options: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": 16}
    if photometric == "ycbcr":
        options["subsampling"] = subsampling
    if not grey:
        options["planarconfig"] = "separate" if planar else "contig"
    file = io.BytesIO()
    tifffile.imwrite(file, numbers, photometric=photometric, compression="jpeg", byteorder=order, **options)
    read = tifffile.imread(io.BytesIO(file.getvalue())).astype(int)
    read = read.transpose(1, 2, 0) if planar else np.stack([read] * 3, axis=2) if grey else read
    read = 255 - read if photometric == "miniswhite" else read
    assert np.abs(codec.decode(file.getvalue(), 10_000) - read).max() <= 3


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("rows", [8, 61])
def test_fax_is_what_tifffile_reads(compression: str, photometric: int, rows: int) -> None:
    black = np.add.outer(np.arange(61) // 5, np.arange(83) // 3) % 2 == 0
    content = saved(Image.fromarray(black), "TIFF", compression=compression, tiffinfo={262: photometric, 278: rows})
    read = tifffile.imread(io.BytesIO(content))
    assert np.array_equal(codec.decode(content, 10_000)[:, :, 0] == 255, read if photometric else ~read)
