"""cli/config.py: which file counts, and what is said of one that cannot be used."""

import os
from pathlib import Path

import pytest

from paceline.cli.config import LARGEST_FILE, ConfigFile, found, named
from paceline.errors import SettingError


def write(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_no_file_is_no_source(folder: Path) -> None:
    assert found() is None


def test_paceline_toml_comes_before_pyproject_toml(folder: Path) -> None:
    write(folder / "pyproject.toml", "[tool.paceline]\nthreads = 2\n")
    source = found()
    assert source is not None
    assert (source.name, source.values) == ("[tool.paceline] of pyproject.toml", {"threads": 2})
    write(folder / "paceline.toml", "threads = 1\n")
    source = found()
    assert source is not None
    assert (source.name, source.values) == ("paceline.toml", {"threads": 1})


@pytest.mark.parametrize("text", ["", "[project]\n", "[tool.other]\n", "tool = 1\n"])
def test_a_project_without_our_table_is_no_source(folder: Path, text: str) -> None:
    write(folder / "pyproject.toml", text)
    assert found() is None


def test_a_named_file_counts_whatever_else_is_there(folder: Path) -> None:
    write(folder / "paceline.toml", "threads = 1\n")
    write(folder / "other.toml", b"\xef\xbb\xbfthreads = 3\n")  # with the mark that some editors put in front
    assert named("other.toml", "--config other.toml").values == {"threads": 3}


def test_a_named_project_file_means_its_table(folder: Path) -> None:
    path = folder / "pyproject.toml"
    write(path, "[tool.paceline]\nthreads = 2\n")
    assert named(str(path), f"--config {path}").values == {"threads": 2}


def _complaint(path: str) -> str:
    with pytest.raises(SettingError) as caught:
        named(path, f"--config {path}")
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.toml", "threads = 1\nbind =\n", "--config a.toml, line 2, column 7: this is not TOML: invalid value"),
        ("a.toml", "threads = [", "--config a.toml, end of document: this is not TOML: invalid value"),
        ("a.toml", b"threads = 1\n# \xff\n", "--config a.toml, line 2: the byte 0xff is not UTF-8"),
        ("a.toml", "threads = " + 5000 * "9", "--config a.toml: this is not TOML: exceeds the limit"),
        ("a.toml", "x = " + 50_000 * "[", "--config a.toml: arrays or tables are nested too deeply"),
        ("a.toml", LARGEST_FILE * "#" + "\n", "--config a.toml: the file has more than 1,048,576 bytes"),
        ("a.toml", "thread = 1", "a.toml: there is no setting 'thread'; did you mean threads?"),
        ("a.toml", "[tool]\n", "a.toml: there is no setting 'tool'; "),
        (
            "a.toml",
            "[tool.paceline]\nthreads = 1\n",
            "--config a.toml: in this file the settings stand at the top, without a table; take the line [tool.paceli",
        ),
        (
            "a.toml",
            "[paceline]\n",
            "--config a.toml: in this file the settings stand at the top, without a table; take the line [paceline] aw",
        ),
        ("pyproject.toml", "[project]\n", "--config pyproject.toml: the file has no table [tool.paceline]"),
        ("pyproject.toml", "tool.paceline = 1\n", "--config pyproject.toml: tool.paceline must be a table"),
        (
            "pyproject.toml",
            "[tool.paceline]\nthread = 1\n",
            "[tool.paceline] of pyproject.toml: there is no setting 'thread'; did you mean threads?",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name_and_line(
    folder: Path, name: str, text: str | bytes, complaint: str
) -> None:
    write(folder / name, text)
    assert _complaint(name).startswith(complaint)


def test_a_file_that_cannot_be_read_is_refused(folder: Path) -> None:
    assert _complaint("gone.toml") == (
        "--config gone.toml: the file cannot be read: No such file or directory; "
        "give the name of a TOML file that this user can read"
    )
    assert "Is a directory" in _complaint(".")
    assert _complaint("") == "--config : must be the name of a file"
    assert "must be the name of a file" in _complaint("a\0b")


def test_a_file_that_is_there_and_cannot_be_read_is_not_skipped(folder: Path) -> None:
    (folder / "paceline.toml").symlink_to("gone")
    with pytest.raises(
        SettingError, match=r"^paceline.toml: .*: No such file.*; mend that, or name another one with --config FILE$"
    ):
        found()
    os.unlink("paceline.toml")
    os.mkdir("pyproject.toml")
    with pytest.raises(SettingError, match=r"^pyproject.toml: the file cannot be read: Is a directory"):
        found()


# From the start of a server on


def says(file: ConfigFile) -> dict[str, object] | None:
    source = file.read()
    return None if source is None else source.values


@pytest.mark.parametrize("name", [None, "c.toml"])
def test_the_file_that_counted_counts_again(folder: Path, name: str | None) -> None:
    path = folder / (name or "paceline.toml")
    write(path, "threads = 1\n")
    write(folder / "pyproject.toml", "[tool.paceline]\nthreads = 9\n")
    file = ConfigFile(name, f"--config {name}")
    assert says(file) == {"threads": 1}
    file.settle()
    write(path, "threads = 2\n")
    assert says(file) == {"threads": 2}
    for text, complaint in (("", "there are no settings in it any more"), ("threads =", "this is not TOML")):
        write(path, text)
        with pytest.raises(SettingError, match=complaint):
            file.read()
    path.unlink()
    with pytest.raises(
        SettingError, match=f"{path.name}: the file cannot be read any more: No such file.*; put it back"
    ):
        file.read()
    os.mkfifo(path)
    with pytest.raises(SettingError, match=f"{path.name}: that is no regular file any more; put it back, or restart"):
        file.read()
    path.unlink()
    write(path, "threads = 3\n")
    assert says(file) == {"threads": 3}


def test_one_that_is_found_later_counts_when_it_is_settled(folder: Path) -> None:
    file = ConfigFile(None, "")
    assert says(file) is None
    file.settle()
    write(folder / "paceline.toml", "threads = 1\n")
    assert says(file) == {"threads": 1}
    os.unlink("paceline.toml")
    assert says(file) is None, "it was refused, by whoever looked at what it says"
    write(folder / "paceline.toml", "threads = 1\n")
    assert says(file) == {"threads": 1}
    file.settle()
    os.unlink("paceline.toml")
    with pytest.raises(SettingError, match="cannot be read any more"):
        file.read()


def test_one_without_settings_is_nothing_to_miss(folder: Path) -> None:
    write(folder / "paceline.toml", "# none\n")
    file = ConfigFile(None, "")
    assert says(file) == {}
    file.settle()
    os.unlink("paceline.toml")
    assert says(file) is None
    null = ConfigFile("/dev/null", "--config /dev/null")
    assert says(null) == {}
    null.settle()
    assert (says(null), null.read_once) == ({}, "")


def test_a_pipe_is_read_once() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"threads = 1\n")
    os.close(writer)
    file = ConfigFile(f"/dev/fd/{reader}", "--config")
    assert says(file) == {"threads": 1}
    assert file.read_once == "", "nobody goes by it yet"
    file.settle()
    os.close(reader)
    assert (says(file), file.read_once) == ({"threads": 1}, f"/dev/fd/{reader}")
