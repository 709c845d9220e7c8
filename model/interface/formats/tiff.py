"""Which TIFF files are decoded."""

from PIL import Image, TiffImagePlugin

from model.interface.formats.errors import ImageTooLargeError


def check_tile(image: Image.Image, max_pixels: int) -> None:
    """Refuse a TIFF with tiles larger than any image may be: a tile is decoded whole, however small the image.

    Raises:
        ImageTooLargeError: its tiles have more pixels than allowed.
    """
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    width, height = tags.get(322, 0), tags.get(323, 0)
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"Image has tiles of {width} x {height}; the limit is {max_pixels / 1e6:g} Mpx. Save it with smaller tiles."
        )
