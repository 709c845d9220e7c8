"""Which format a file has, by its own bytes."""

from model.interface.formats import claims

FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "MPO", "GIF")
"""Accepted formats, as they are told to clients. MPO is JPEG with more pictures behind the first."""
PNG = b"\x89PNG\r\n\x1a\n"
DIB_HEADERS = (*range(16, 65), 108, 124, 12)
"""Bytes that the second header of a BMP can have: 12 to 64 in OS/2's, 40 to 124 in Windows'."""


def format_of(content: bytes) -> str | None:
    """One of `FORMATS` but MPO; None for all else, such as a sound in RIFF or a text that begins with "BM"."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(PNG):
        return "PNG"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WebP"
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in DIB_HEADERS:
        return "BMP"
    if content.startswith((b"GIF87a", b"GIF89a")) and not _is_text(content[6:13]):
        return "GIF"
    return "TIFF" if content.startswith(claims.TIFF) else None


def _is_text(content: bytes) -> bool:
    """Whether bytes could be a text's. A GIF of text's would have sides of over 2 500 pixels and an odd aspect."""
    return content.isascii() and "".join(content.decode("ascii").split()).isprintable()
