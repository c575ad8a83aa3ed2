"""What the dashboard carries of others is what they published."""

from __future__ import annotations

from tests.dashboard import vendoring


def test_every_file_is_listed_with_its_digest() -> None:
    """A file that was changed, or that nobody listed, is found."""
    digests = {file["name"]: file["sha256"] for package in vendoring.listed() for file in package["file"]}
    found = {path.name: vendoring.digest_of(path) for path in vendoring.FOLDER.iterdir() if path != vendoring.LIST}
    assert found == digests


def test_every_package_has_a_version_and_its_licence() -> None:
    """Name, version and licence stand in the list, and the licence's text beside the files."""
    for package in vendoring.listed():
        assert package["name"]
        assert package["version"].count(".") == 2
        assert package["licence"] in {"0BSD", "Apache-2.0", "MIT"}
        assert any(file["name"].endswith(".LICENSE") for file in package["file"])
