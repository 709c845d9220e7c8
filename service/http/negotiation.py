"""Which form of answer a client wants (RFC 9110, section 12.5.1)."""

import functools

from service.errors import RequestError

FORMS = ("application/json", "image/png", "multipart/mixed", "application/zip")


@functools.lru_cache(256)
def choose_form(accept: str | None) -> str:
    """The form of FORMS that an Accept header likes best; the first of equals; JSON for none.

    Raises:
        RequestError: 406, it accepts none of them.
    """
    if not accept or not accept.strip():
        return FORMS[0]
    ranges = [parse_range(part) for part in accept.split(",") if part.strip()]
    best, best_quality = None, 0.0
    for form in FORMS:
        quality = quality_of(form, ranges)
        if quality > best_quality:
            best, best_quality = form, quality
    if best is None:
        raise RequestError(
            406, f"Accept: {accept[:200]} names no form of this answer. Accept one of {', '.join(FORMS)}."
        )
    return best


def parse_range(text: str) -> tuple[str, float]:
    """A media range and its weight; a weight that cannot be read counts as 0."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return media, quality


def quality_of(form: str, ranges: list[tuple[str, float]]) -> float:
    """The weight of the most specific range that covers the form; 0 where none does."""
    family = form.split("/")[0] + "/*"
    for wanted in (form, family, "*/*"):
        found = [quality for media, quality in ranges if media == wanted]
        if found:
            return max(found)
    return 0.0
