"""The programs in C are compiled when they must be, and what is missing is said with the package that has it."""

import os
from pathlib import Path

import pytest

from benchmarks import compiled
from benchmarks.compiled import RECIPES, program
from benchmarks.running import MeasurementError


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a compiler may be put; there is no other one, and nothing was compiled yet."""
    monkeypatch.setattr(compiled, "BUILD", tmp_path / "build")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "gcc"


def put(compiler: Path, script: str) -> None:
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)


WRITES = 'echo "$@" >>"$0.calls"; for last; do :; done; echo made >"$last"'
NO_HEADER = "echo 'wire.h:37:10: fatal error: openssl/err.h: No such file or directory' >&2; exit 1"


def test_it_is_compiled_once_and_again_when_its_source_is_newer(compiler: Path) -> None:
    put(compiler, WRITES)
    target = Path(program("load"))
    assert program("load") == str(target)
    assert target.read_text() == "made\n"
    os.utime(target, (0, 0))
    program("load")
    assert len(compiler.with_suffix(".calls").read_text().splitlines()) == 2


def test_only_what_speaks_tls_is_linked_with_openssl() -> None:
    assert [name for name, recipe in RECIPES.items() if "-lssl" in recipe.words] == ["load_tls", "c_epoll_tls"]


def test_headers_that_are_missing_are_named_with_their_package(compiler: Path) -> None:
    put(compiler, NO_HEADER)
    with pytest.raises(MeasurementError, match=r"load_tls needs OpenSSL's headers.*apt-get install libssl-dev"):
        program("load_tls")


def test_without_a_compiler_its_package_is_named(compiler: Path) -> None:
    assert not compiler.exists()
    with pytest.raises(MeasurementError, match="apt-get install gcc"):
        program("load")


def test_what_the_compiler_says_is_passed_on(compiler: Path) -> None:
    put(compiler, "echo 'a semicolon' >&2; exit 1")
    with pytest.raises(MeasurementError, match="a semicolon"):
        program("load_tls")
