"""Which form of answer a client wants (RFC 9110, section 12.5.1)."""

import functools
import re

from service.errors import RequestError
from service.http.forms import FORMS, MEDIA_TYPES, AnswerForm

QUOTED = re.compile(r'"(?:\\.|[^"\\])*(?:"|\\?$)')
"""A quoted string, which may hold commas and semicolons, or one without end."""


@functools.lru_cache(256)
def choose_form(accept: str | None) -> AnswerForm:
    """The form that an Accept header likes best; the first of equals; the first of all without a header.

    Args:
        accept: the header's lines, joined by commas.

    Raises:
        RequestError: 406, it accepts none of them.
    """
    plain = QUOTED.sub('""', accept or "")
    ranges = [parse_range(part) for part in plain.split(",") if part.strip()]
    if not ranges:
        return FORMS[0]
    best, best_quality = None, 0.0
    for form in FORMS:
        quality = quality_of(form.media_type, ranges)
        if quality > best_quality:
            best, best_quality = form, quality
    if best is None:
        raise RequestError.not_acceptable(accept or "", MEDIA_TYPES)
    return best


def parse_range(text: str) -> tuple[str, float]:
    """A media range and its weight; a weight that cannot be read counts as 0. `*` is how old Java writes `*/*`."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return "*/*" if media == "*" else media, quality


def quality_of(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """The weight of the most specific range that covers a media type; 0 where none does."""
    family = media_type.split("/")[0] + "/*"
    for wanted in (media_type, family, "*/*"):
        found = [quality for media, quality in ranges if media == wanted]
        if found:
            return max(found)
    return 0.0
