"""The tags of a TIFF file, read without believing them: each number costs no more than its bytes in the file."""

import struct
from collections.abc import Iterator

from model.interface.formats.errors import CorruptImageError, damaged_header

MAX_TAGS = 4096
"""Most tags of a directory. Cameras write a hundred."""
MAX_DIRECTORIES = 16
"""Most further directories that are looked at."""
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""Types of whole numbers; 13 and 18 are places of directories. Some writers have signed ones."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SUB_DIRECTORIES = 330


class Directory:
    """The tags of one picture, by number.

    Args:
        content: the file, which begins as a TIFF or BigTIFF, with either byte order, also in its first number alone.
        place: where the directory begins; None for the first one.

    Raises:
        CorruptImageError: the directory is not wholly inside the file, or has more than `MAX_TAGS` tags.

    Attributes:
        order: `<` or `>`, as `struct` has it.
        place: where the directory begins.
    """

    def __init__(self, content: bytes, place: int | None = None) -> None:
        self._content = content
        self.order = "<" if content.startswith(b"II") else ">"
        self._large = content[2:4] in (b"+\0", b"\0+")
        offset, count, entry = ("Q", "Q", "HHQ") if self._large else ("I", "H", "HHI")
        self.place = place = self._read(offset, 8 if self._large else 4)[0] if place is None else place
        tags = self._read(count, place)[0]
        if tags > MAX_TAGS:
            raise CorruptImageError(
                f"The image is refused: it has more than {MAX_TAGS} tags. Save it anew and send that."
            )
        place += struct.calcsize(self.order + count)
        room = struct.calcsize(self.order + offset)
        self._tags: dict[int, tuple[int, int, int]] = {}
        for _ in range(tags):
            tag, kind, number = self._read(entry, place)
            value = place + struct.calcsize(self.order + entry)
            if number * _SIZES.get(kind, 0) > room:
                value = self._read(offset, value)[0]
            self._tags.setdefault(tag, (kind, number, value))
            place += struct.calcsize(self.order + entry) + room

    def __contains__(self, tag: int) -> bool:
        return tag in self._tags

    def numbers(self, tag: int, default: tuple[int, ...] = (), most: int = 16) -> tuple[int, ...]:
        """The first `most` whole numbers of a tag; `default` where it is absent or has none.

        Raises:
            CorruptImageError: the numbers are of another type, negative, or not in the file.
        """
        kind, count, place = self._tags.get(tag, (3, 0, 0))
        if not count:
            return default
        if kind not in _WHOLE:
            raise damaged_header()
        numbers = self._read(f"{min(count, most)}{_WHOLE[kind]}", place)
        if _WHOLE[kind].islower() and min(numbers) < 0:
            raise damaged_header()
        return numbers

    def number(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        return self.numbers(tag, (default,))[0]

    def hint(self, tag: int, known: tuple[int, ...]) -> int:
        """The first number of a tag that no picture needs; the first of `known` where it is damaged or unknown."""
        try:
            number = self.number(tag, known[0])
        except CorruptImageError:
            return known[0]
        return number if number in known else known[0]

    def count(self, tag: int) -> int:
        """How many values a tag says it has."""
        return self._tags.get(tag, (0, 0, 0))[1]

    def fractions(self, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
        """As many numbers as `default` has, from pairs of whole ones; NaN for those divided by zero."""
        kind, count, place = self._tags.get(tag, (5, 0, 0))
        if kind in _WHOLE:
            return tuple(map(float, self.numbers(tag, most=len(default)))) or default
        if kind != 5 or count < len(default):
            return default
        pairs = self._read(f"{2 * len(default)}I", place)
        return tuple(a / b if b else float("nan") for a, b in zip(pairs[::2], pairs[1::2], strict=True))

    def block(self, tag: int) -> bytes:
        """The bytes of a tag, empty where it is absent."""
        kind, count, place = self._tags.get(tag, (7, 0, 0))
        return self._content[place : place + count * _SIZES.get(kind, 0)]

    def others(self) -> Iterator["Directory"]:
        """The directories inside this picture, at most `MAX_DIRECTORIES`; damaged ones are passed over."""
        try:
            places = self.numbers(_SUB_DIRECTORIES, most=MAX_DIRECTORIES)
        except CorruptImageError:
            return
        for place in places:
            try:
                yield Directory(self._content, place)
            except CorruptImageError:
                continue

    def _read(self, form: str, place: int) -> tuple[int, ...]:
        if place + struct.calcsize(self.order + form) > len(self._content):
            raise damaged_header()
        return struct.unpack_from(self.order + form, self._content, place)
