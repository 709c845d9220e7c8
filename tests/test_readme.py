"""The README is one page, with a picture of what one gets."""

from tests.pages import read
from tests.paths import ROOT


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 120
    assert (ROOT / "README.md").stat().st_size <= 9_000


def test_the_readme_shows_the_page() -> None:
    assert "](docs/page.jpg)" in read("README.md")
