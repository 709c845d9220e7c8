"""Photos segmented and written: a PNG of ids for each and, where they are wanted, a picture of its segments."""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from PIL import Image

from model.command import write
from model.interface import codec
from model.interface.overlay import draw_overlay
from model.interface.panoptic import Panoptic, Pixels, Segment
from model.predict.journal import Entry
from model.predict.photos import Photo
from model.predictor import Predictor
from model.read_ahead import read_ahead

AHEAD = 16
"""Photos that are decoded, or wait for others of their size, at a time."""
Colors = Mapping[int, tuple[int, int, int]]


@dataclass(frozen=True)
class Options:
    """The command line's choices of how photos are segmented.

    Attributes:
        archive: path of the archive.
        out: folder to write.
        overlay: whether pictures are drawn too.
        batch: most photos in one call of the network; they share a padded size.
        threads: number of threads that decode.
        max_pixels: largest photo that is decoded.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32, float16 or bfloat16.
    """

    archive: Path
    out: Path
    overlay: bool
    batch: int
    threads: int
    max_pixels: int
    device: str
    precision: str

    def read(self, photo: Photo) -> Pixels:
        """The pixels of a photo.

        Raises:
            codec.ImageError: it cannot be decoded.
            OSError: it cannot be read.
        """
        return codec.decode(photo.path.read_bytes(), self.max_pixels)


class PhotoSegmenter:
    """An archive, loaded, that segments photos and writes their files.

    Args:
        options: the command line's choices.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._predictor = Predictor(options.archive, options.device, options.precision)

    def segment(self, photos: Iterable[Photo]) -> Iterator[Entry]:
        """Write each photo's files and yield its entry, or one with `photo` and `error` where it cannot be decoded."""
        waiting: defaultdict[tuple[int, int], list[tuple[Photo, Pixels]]] = defaultdict(list)

        def flush(size: tuple[int, int]) -> Iterator[Entry]:
            ready = waiting.pop(size)
            answers = self._predictor.predict([pixels for _, pixels in ready])
            return (self._write(photo, pixels, found) for (photo, pixels), found in zip(ready, answers, strict=True))

        for photo, decoding in read_ahead(photos, self._options.read, AHEAD, self._options.threads):
            try:
                pixels = decoding.result()
            except (codec.ImageError, OSError) as error:
                yield fault(photo, error)
                continue
            size = self._predictor.padded_size(*pixels.shape[:2])
            waiting[size].append((photo, pixels))
            if len(waiting[size]) >= self._options.batch:
                yield from flush(size)
            elif sum(map(len, waiting.values())) >= AHEAD:  # bounded memory
                yield from flush(max(waiting, key=lambda size: len(waiting[size])))
        for size in list(waiting):
            yield from flush(size)

    def _write(self, photo: Photo, pixels: Pixels, found: Panoptic) -> Entry:
        """Write one photo's files; the journal's entry for it."""
        write(png_path(self._options.out, photo), codec.encode_png(found.segment_ids))
        if self._options.overlay:
            write_overlay(self._options.out, photo, pixels, found, self._predictor.categories.colors)
        return {
            "photo": str(photo.path),
            "model": self._predictor.served.name,
            "id": photo.number,
            "name": photo.name,
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "segments_info": [{**asdict(segment), "iscrowd": 0} for segment in found.segments],
        }


def fault(photo: Photo, error: Exception | str) -> Entry:
    """What is told of a photo for which nothing is written."""
    return {"photo": str(photo.path), "error": str(error)}


def png_path(out: Path, photo: Photo) -> Path:
    """Where the ids of a photo are written."""
    return out / "panoptic" / f"{photo.name}.png"


def write_overlay(out: Path, photo: Photo, pixels: Pixels, found: Panoptic, colors: Colors) -> None:
    """Draw the segments over a photo and write the picture."""
    file = io.BytesIO()
    Image.fromarray(draw_overlay(pixels, found, colors)).save(file, "JPEG", quality=90)
    write(out / "overlay" / f"{photo.name}.jpg", file.getvalue())


def draw(photos: Iterable[tuple[Photo, Entry]], options: Options, colors: Colors) -> Iterator[Entry]:
    """Write the overlays of photos that are done, without the network: each one's entry, or one with an `error`."""

    def read(done: tuple[Photo, Entry]) -> tuple[Pixels, Panoptic]:
        photo, entry = done
        return options.read(photo), read_answer(png_path(options.out, photo), entry)

    for (photo, entry), reading in read_ahead(photos, read, AHEAD, options.threads):
        try:
            pixels, found = reading.result()
        except (codec.ImageError, OSError) as error:
            yield fault(photo, error)
            continue
        if pixels.shape[:2] != found.segment_ids.shape:
            png = png_path(options.out, photo)
            yield fault(photo, f"it has another size than its answer. To have that made again, delete {png}.")
            continue
        write_overlay(options.out, photo, pixels, found, colors)
        yield entry


def read_answer(png: Path, entry: Entry) -> Panoptic:
    """An answer as it was written.

    Raises:
        codec.ImageError: the PNG is damaged.
        OSError: it cannot be read.
    """
    ids = codec.decode(png.read_bytes(), entry["height"] * entry["width"])[..., 0]  # there are fewer than 256
    names = [field.name for field in fields(Segment)]
    segments = (Segment(**{name: segment[name] for name in names}) for segment in entry["segments_info"])
    return Panoptic(ids, tuple(segments))
