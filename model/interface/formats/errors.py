"""Why an image file is refused."""


class ImageError(Exception):
    """An image is refused; the message is for the client."""


class UnsupportedImageError(ImageError):
    """The bytes are not a format that is accepted."""


class CorruptImageError(ImageError):
    """The format is accepted, but these bytes cannot be decoded."""


class ImageTooLargeError(ImageError):
    """More pixels than allowed, by the file's own header."""
