"""Images that are not what they say: a seeded stream of malformed inputs, each with the name of its kind."""

import functools
import io
import itertools
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.service import seams
from tests.service.tiffs import TILED, tiff, tiff_of_numbers, tiff_tile

MEGABYTE = 1 << 20
PNG_START = b"\x89PNG\r\n\x1a\n"
Named = tuple[str, bytes]


def hostile(seed: int, count: int) -> Iterator[Named]:
    """`count` inputs: first each crafted one and each cut once, in an order that the seed says, then mutations."""
    rng = random.Random(seed)
    first = list(fixed())
    rng.shuffle(first)
    yield from itertools.islice(itertools.chain(first, mutations(samples(), rng)), count)


@functools.cache
def fixed() -> tuple[Named, ...]:
    return (*crafted(), *modes(), *cuts(samples()))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def scene(width: int = 23, height: int = 17) -> Image.Image:
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    channels = [columns * 11, rows * 13, columns * rows]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


@functools.cache
def samples() -> dict[str, bytes]:
    """Small whole files of every accepted format, and of the variants that decoders treat apart."""
    picture = scene()
    frames = [scene(23 - i, 17).resize((23, 17)) for i in range(3)]
    exif = Image.Exif()
    exif[274] = 6
    exif[271] = "maker"
    files = {
        "jpeg": saved(picture, "JPEG", exif=exif),
        "jpeg progressive": saved(picture, "JPEG", progressive=True),
        "jpeg cmyk": saved(picture.convert("CMYK"), "JPEG"),
        "jpeg grey restarts": saved(picture.convert("L"), "JPEG", restart_marker_blocks=1),
        "mpo": saved(picture, "MPO", save_all=True, append_images=frames[1:2]),
        "png": saved(picture, "PNG", exif=exif),
        "png palette": saved(picture.quantize(16), "PNG", transparency=3),
        "png 16 bit": saved(Image.fromarray(np.arange(391, dtype=np.uint16).reshape(17, 23) * 167), "PNG"),
        "apng": saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "webp": saved(picture, "WEBP"),
        "webp lossless": saved(picture.convert("RGBA"), "WEBP", lossless=True),
        "webp animated": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], exif=exif),
        "bmp": saved(picture, "BMP"),
        "bmp palette": saved(picture.quantize(16), "BMP"),
        "bmp rle": bmp_rle(23, 17, b"".join(b"\x17" + bytes([row]) + b"\0\0" for row in range(17)) + b"\0\1"),
    }
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"tiff {compression}"] = saved(picture, "TIFF", compression=compression)
    return files


def modes() -> Iterator[Named]:
    """Every mode in every format that Pillow can write it to."""
    names = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]
    for mode, form in itertools.product([*names, "I", "I;16", "I;16B", "F"], seams.SEAMS):
        try:
            yield f"mode {mode} {form}", saved(Image.new(mode, (5, 3), 1 if len(mode) == 1 else None), form)
        except (OSError, ValueError, KeyError):
            continue


def cuts(whole: dict[str, bytes]) -> Iterator[Named]:
    """Each file cut at every structural point, and one byte before and after it."""
    for name, content in whole.items():
        points = {place + shift for place in seams.of(content) for shift in (-1, 0, 1)}
        for place in sorted(points & set(range(len(content)))):
            yield f"cut {name}", content[:place]


def mutations(whole: dict[str, bytes], rng: random.Random) -> Iterator[Named]:
    """Flipped bits, spliced files, moved parts and lying numbers, for ever."""
    kinds: list[Callable[[bytearray, random.Random], None]] = [flip, overwrite, lie, remove, repeat]
    files = list(whole.items())
    while True:
        name, content = rng.choice(files)
        kind = rng.choice(kinds)
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 5])):
            kind(changed, rng)
        yield f"{kind.__name__} {name}", bytes(changed)
        other = rng.choice(files)[1]
        yield "splice", content[: rng.randrange(len(content))] + other[rng.randrange(len(other)) :]
        yield "noise behind a signature", content[:12] + rng.randbytes(rng.randrange(300))


def flip(content: bytearray, rng: random.Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwrite(content: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(content) + 1)
    content[place : place + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, rng.randbytes(8)])


def lie(content: bytearray, rng: random.Random) -> None:
    """An extreme number where a header or a part begins."""
    place = rng.choice(seams.of(bytes(content))) + rng.randrange(12)
    number = rng.choice([0, 1, 2, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
    form = rng.choice([">I", "<I"] if number > 0xFFFF else [">I", "<I", ">H", "<H"])
    content[place : place + struct.calcsize(form)] = struct.pack(form, number)


def remove(content: bytearray, rng: random.Random) -> None:
    points = seams.of(bytes(content))
    begin = rng.choice(points)
    del content[begin : begin + rng.randrange(1, 40)]


def repeat(content: bytearray, rng: random.Random) -> None:
    points = sorted(rng.choices(seams.of(bytes(content)), k=2))
    content[points[1] : points[1]] = content[points[0] : points[1]] * rng.randrange(1, 20)


def crafted() -> Iterator[Named]:
    """Bombs, lies, other types, polyglots and sizes at the edge."""
    yield from bombs()
    yield from lies()
    yield from others()
    for width, height in [(1, 1), (1, 2), (1, 30_000), (30_000, 1), (65_535, 1), (1, 65_535)]:
        for form in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"):
            if max(width, height) < {"WEBP": 16_384, "JPEG": 65_501}.get(form, 65_536):
                yield f"size {width}x{height}", saved(Image.new("RGB", (width, height), (40, 80, 90)), form)


def bombs() -> Iterator[Named]:
    """Few bytes that ask for many, or for a long time."""
    packed = zlib.compress(bytes(48 * MEGABYTE), 9)
    small = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(4 * 13))
    yield "bomb png pixels", png((b"IHDR", small), (b"IDAT", packed))
    yield "bomb png icc", png((b"IHDR", small), (b"iCCP", b"x\0\0" + packed), (b"IDAT", pixels))
    yield "bomb png ztxt", png((b"IHDR", small), (b"zTXt", b"x\0\0" + packed), (b"IDAT", pixels))
    yield "bomb png itxt", png((b"IHDR", small), (b"iTXt", b"x\0\1\0\0\0" + packed), (b"IDAT", pixels))
    chunk = (b"zTXt", b"x\0\0" + zlib.compress(bytes(MEGABYTE - 1)))
    yield "bomb png 200 texts", png((b"IHDR", small), *[chunk] * 200, (b"IDAT", pixels))
    yield "bomb png texts behind", png((b"IHDR", small), (b"IDAT", pixels), *[chunk] * 200)
    image = gif_frame(1, 1)
    yield "bomb gif 5000 frames", GIF_HEAD + image * 5000 + b";"
    yield "bomb gif 300000 frames", GIF_HEAD + image * 300_000 + b";"
    yield "bomb gif frame beyond its screen", GIF_HEAD + gif_frame(65_535, 65_535) + b";"
    yield "bomb gif frame at the far corner", GIF_HEAD + gif_frame(1, 1, 65_534, 65_534) + b";"
    yield "bomb gif comments", GIF_HEAD + b"!\xfe\1A\0" * 400_000 + image + b";"
    yield "bomb gif comment of single bytes", GIF_HEAD + b"!\xfe" + b"\1A" * 1_000_000 + b"\0" + image + b";"
    yield "bomb tiff tile", tiff_tile(1, 1, 20_000)
    yield "bomb tiff tile in a photo", tiff_tile(640, 480, 12_000)
    yield "bomb tiff tiles of one pixel", tiff([*TILED, (324, 4, 1_000_000)], b"", counts={324: 1_000_000})
    yield "bomb tiff strips", tiff([*TILED[:6], (273, 4, 8)], b"", counts={273: 1_000_000})
    yield "bomb tiff tags", tiff([*TILED, *[(40_000, 4, 1)] * 20_000], b"")
    yield "bomb tiff of the other order", tiff_of_numbers(b"II\0*", 273, 4, 500_000)
    yield "bomb tiff of the other order, big", tiff_of_numbers(b"MM*\0", 273, 4, 500_000)
    yield "bomb tiff fractions", tiff_of_numbers(b"II*\0", 282, 5, 200_000)
    yield "bomb tiff sizes", tiff_of_numbers(b"II*\0", 279, 4, 500_000)
    yield "bomb jpeg exif", jpeg_exif(20_000)
    yield "bomb jpeg exif fractions", jpeg_fractions()
    yield "bomb png exif", png_exif(tiff_of_numbers(b"II*\0", 274, 5, 200_000))
    yield "bomb jpeg scans", jpeg_scans(6000, 6000, 20_000)
    jpeg = saved(scene(), "JPEG")
    yield "bomb jpeg comments", jpeg[:2] + b"\xff\xfe\0\2" * 500_000 + jpeg[2:]
    yield "bomb jpeg fill", jpeg[:2] + b"\xff" * 2_000_000 + jpeg[2:]
    whole = saved(scene(), "PNG")
    yield "bomb png chunks", whole[:33] + png((b"abAb", b""))[8:20] * 200_000 + whole[33:]
    yield "bomb bmp rle", bmp_rle(6000, 6000, b"\1\7" * 200_000)
    yield "bomb bmp rle jumps", bmp_rle(6000, 6000, b"\0\2\xff\xff" * 200_000)


def lies() -> Iterator[Named]:
    """Headers that promise what does not follow; sizes of zero; sizes beyond every limit."""
    jpeg, sof = saved(scene(), "JPEG"), b"\xff\xc0\x00\x11\x08"
    place = jpeg.index(sof) + len(sof)
    for height, width in [(600, 65_000), (6324, 6324), (65_535, 65_535), (0, 23), (17, 0), (0, 0), (1, 65_535)]:
        size = f"{width}x{height}"
        yield f"lie jpeg {size}", jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        yield f"lie png {size}", png((b"IHDR", header), (b"IDAT", zlib.compress(bytes(40))))
        yield f"lie gif {size}", b"GIF89a" + struct.pack("<HH", width, height) + GIF_HEAD[10:] + gif_frame(1, 1) + b";"
        bmp = saved(scene(), "BMP")
        yield f"lie bmp {size}", bmp[:18] + struct.pack("<ii", width, -height) + bmp[26:]
        canvas = struct.pack("<I", max(width, 1) - 1)[:3] + struct.pack("<I", max(height, 1) - 1)[:3]
        webp = saved(scene(), "WEBP")
        yield f"lie webp {size}", riff(b"VP8X" + struct.pack("<II", 10, 0) + canvas + webp[12:])
        animation = b"ANIM" + struct.pack("<IIH", 6, 0, 0)
        yield f"lie webp animated {size}", riff(b"VP8X" + struct.pack("<II", 10, 2) + canvas + animation)
        tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 99)]
        yield f"lie tiff {size}", tiff(tags, b"")
    yield "lie png 2^31", png((b"IHDR", struct.pack(">IIBBBBB", 1 << 31, 1, 8, 2, 0, 0, 0)))
    yield "lie png bad crc", saved(scene(), "PNG").replace(b"IHDR", b"IHDR", 1)[:20] + b"\xff" * 30
    yield "lie tiff loop of directories", tiff([(256, 4, 1)], b"", following=8)


def others() -> Iterator[Named]:
    """What is no image, or an image and something else."""
    jpeg, whole = saved(scene(), "JPEG"), saved(scene(), "PNG")
    texts = [b"", b"\0", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n", b"{}", b"GIF", b"BM"]
    for content in [*texts, b"PK\3\4" + bytes(60), b"\x7fELF" + bytes(90), b"P6 9 9 255\n" + bytes(243), bytes(5000)]:
        yield "type", content
    for form in ("ICO", "PPM", "TGA", "PCX", "JPEG2000", "AVIF", "EPS", "DDS", "ICNS"):
        yield f"type {form}", saved(scene().resize((16, 16)), form)
    yield "polyglot jpeg and png", jpeg + whole
    yield "polyglot png and zip", whole + b"PK\5\6" + bytes(18)
    yield "polyglot jpeg and html", jpeg[:2] + b"\xff\xfe\x00\x20<script>alert(1)</script>-->\r\n" + jpeg[2:]
    yield "polyglot gif and script", b"GIF89a=1;/*" + bytes(30) + b"*/alert(1)"
    yield "polyglot bmp and jpeg", saved(scene(), "BMP") + jpeg
    yield (
        "polyglot png in a jpeg comment",
        jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(whole) + 2) + whole + jpeg[2:],
    )
    yield "polyglot tiff and pdf", b"II*\0" + b"%PDF-1.7" + bytes(40)


GIF_HEAD = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(3) + b"\xff" * 3


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in [*chunks, (b"IEND", b"")]
    ]
    return PNG_START + b"".join(parts)


def riff(content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


def gif_frame(width: int, height: int, left: int = 0, top: int = 0) -> bytes:
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02\x02\x44\x01\x00"


def bmp_rle(width: int, height: int, runs: bytes) -> bytes:
    palette = bytes(value for i in range(256) for value in (i, i, i, 0))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + header + palette + runs


def jpeg_exif(pieces: int) -> bytes:
    """A small JPEG whose Exif comes in so many pieces."""
    jpeg = saved(scene(), "JPEG")
    return jpeg[:2] + (b"\xff\xe1" + struct.pack(">H", 300) + b"Exif\0\0" + bytes(292)) * pieces + jpeg[2:]


def jpeg_fractions() -> bytes:
    """A small JPEG whose Exif is full of fractions, as often as a segment may hold them."""
    block = tiff_of_numbers(b"MM\0*", 282, 5, 8_000)
    jpeg = saved(scene(), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + jpeg[2:]


def png_exif(block: bytes) -> bytes:
    """A small PNG with a block of Exif."""
    whole = saved(scene(), "PNG")
    return whole[:33] + png((b"eXIf", block))[8 : 20 + len(block)] + whole[33:]


def jpeg_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive file whose last scan, over the whole picture, comes again and again."""
    content = saved(Image.new("L", (width, height), 90), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + content[-2:]
