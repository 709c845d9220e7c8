"""Why an image file is refused."""


class ImageError(Exception):
    """An image is refused; the message is for the client."""


class UnsupportedImageError(ImageError):
    """The bytes are not a format that is accepted, or a kind of one that is not decoded."""


class CorruptImageError(ImageError):
    """The format is accepted, but these bytes cannot be decoded."""


class ImageTooLargeError(ImageError):
    """More pixels than allowed, by the file's own header."""


def damaged_header() -> CorruptImageError:
    """The refusal of a file of an accepted format whose picture cannot even be measured."""
    return CorruptImageError("The image is damaged: its header cannot be read. Send the whole file.")


def damaged() -> CorruptImageError:
    """The refusal of a file whose pixels are not there, or not as they were written."""
    return CorruptImageError("The image cannot be decoded: it is truncated or damaged. Send the whole file.")


def unsupported(form: str, kind: str) -> UnsupportedImageError:
    """The refusal of a sound file, by the name of its kind: `unsupported("JPEG", "12 bits a sample")`."""
    return UnsupportedImageError(f"This kind of {form} is not supported: {kind}. Send it as an 8-bit PNG or JPEG.")
