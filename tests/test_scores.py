"Ratings and their files: whose they are, what becomes of them when bits, data or people change."

import os
from pathlib import Path

import pytest

from datarater.support import DataRaterError, write_atomically


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_that_open_gives(tmp_path, umask):
    old = os.umask(umask)
    try:
        (tmp_path / "plain").open("w").close()
        write_atomically(tmp_path / "ours", "new")
        (tmp_path / "private").touch(0o600)
        write_atomically(tmp_path / "private", "an old file keeps its mode")
    finally:
        os.umask(old)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {"plain": 0o666 & ~umask, "ours": 0o666 & ~umask, "private": 0o600 & ~umask}


@pytest.mark.parametrize("content", ["old", None])
def test_a_symbolic_link_is_written_through(tmp_path, content):
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    target.parent.mkdir()
    if content:
        target.write_text(content)
    link.symlink_to(Path("there", "target"))
    write_atomically(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert os.listdir(tmp_path / "there") == ["target"]


def test_a_file_made_meanwhile_stays(tmp_path, monkeypatch):
    def no_links(*paths):
        raise PermissionError

    file = tmp_path / "theirs"
    for link in (os.link, no_links):  # FAT has none
        monkeypatch.setattr(os, "link", link)
        write_atomically(file, "theirs", overwrite=False)
        with pytest.raises(DataRaterError, match="made by another program meanwhile"):
            write_atomically(file, "ours", overwrite=False)
        assert file.read_text() == "theirs" and os.listdir(tmp_path) == ["theirs"]
        file.unlink()
