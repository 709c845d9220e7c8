"""Values from a JSON that others wrote, taken only where they are what they claim to be.

Each function takes the words that name the value in its message, and raises a ValueError with one line.
"""

import json
import re
from typing import Any

EXACT = 2**53
"""Numbers beyond are not told apart as floats."""


def show(value: Any) -> str:
    """A value in a message: as JSON writes it, or what kind of container it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:80] + "..."


def get(entry: Any, name: str, what: str) -> Any:
    """A field that an object must have."""
    if not isinstance(entry, dict):
        raise ValueError(f"{what} is {show(entry)}; expected an object")
    if name not in entry:
        raise ValueError(f"{what} has no {name}")
    return entry[name]


def entries(value: Any, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {show(value)}; expected a list")
    return value


def whole(value: Any, what: str, lowest: int = -EXACT, highest: int = EXACT) -> int:
    """A whole number within bounds, also one that is written `7.0` or `"7"`."""
    written = isinstance(value, str) and re.fullmatch("-?[0-9]{1,20}", value)
    number = int(value) if written or (isinstance(value, float) and value.is_integer()) else value
    if type(number) is not int or not lowest <= number <= highest:
        limits = f" from {lowest} to {highest}" if lowest > -EXACT else ""
        raise ValueError(f"{what} is {show(value)}; expected a whole number{limits}")
    return number


def real(value: Any, what: str) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not -EXACT <= value <= EXACT:
        raise ValueError(f"{what} is {show(value)}; expected a number")
    return float(value)


def flag(value: Any, what: str) -> bool:
    """What is written as 0, 1, true or false."""
    if type(value) not in (int, bool) or value not in (0, 1):
        raise ValueError(f"{what} is {show(value)}; expected 0, 1, true or false")
    return bool(value)


def text(value: Any, what: str) -> str:
    """Text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {show(value)}; expected text")
    return value


def identity(value: Any, what: str) -> int | str:
    """What an image is known by: a whole number, or text."""
    if isinstance(value, str):
        return text(value, what)
    if type(value) not in (int, float):
        raise ValueError(f"{what} is {show(value)}; expected a whole number or text")
    return whole(value, what)
