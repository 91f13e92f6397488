"""What a target's text names, what is said when it names nothing, and whose traceback is shown when its code fails."""

import dataclasses
import inspect
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paceline import handlers
from paceline.errors import TargetError
from paceline.worker.target import current_directory, load_target, user_traceback

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what a test imports is forgotten afterwards."""
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) is None or str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def write(path: str, text: str = "def handle(message):\n    return message\n") -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    Path(path).write_text(textwrap.dedent(text), "utf-8")


def refusal(text: str) -> str:
    with pytest.raises(TargetError) as caught:
        load_target(text)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    return str(caught.value)


def called(text: str) -> Any:
    found: Any = load_target(text)
    return found(b"x")


# what can be named


def test_the_built_in() -> None:
    assert load_target("echo") is handlers.echo


def test_a_module_in_the_current_directory() -> None:
    write("app_m.py")
    write("web_m/__init__.py", "")
    write("web_m/deep.py", "class Box:\n    @staticmethod\n    def handle(message):\n        return message * 2\n")
    assert called("app_m:handle") == b"x"
    assert called("web_m.deep:Box.handle") == b"xx"
    assert sys.path[0] == os.getcwd()


def test_an_installed_module() -> None:
    assert load_target("paceline.handlers:echo") is handlers.echo
    assert load_target("json:dumps") is sys.modules["json"].dumps


@pytest.mark.parametrize("place", ["app_f.py", "./app_f.py", "sub/app_f.py", "sub/../app_f.py", "{here}/app_f.py"])
def test_a_file(place: str, here: Path) -> None:
    write("app_f.py")
    write("sub/app_f.py")
    assert called(f"{place.format(here=here)}:handle") == b"x"
    assert "app_f" in sys.modules
    assert sys.path[0] == str(here / "sub" if place.startswith("sub/app") else here)


def test_the_same_file_twice_runs_once() -> None:
    write("once.py", "runs = []\ndef handle(message): return message\nruns.append(1)\n")
    assert load_target("once.py:handle") is load_target("./once.py:handle")


def test_a_file_imports_its_neighbours() -> None:
    write("sub/alone.py", "import neighbour_a\nhandle = neighbour_a.handle\n")
    write("sub/neighbour_a.py")
    assert called("sub/alone.py:handle") == b"x"


def test_a_file_in_a_package_is_a_part_of_it(here: Path) -> None:
    write("outer_p/__init__.py", "")
    write("outer_p/inner/__init__.py", "")
    write("outer_p/inner/app.py", "from . import near\nfrom ..far import handle\nimport near_script\n")
    write("outer_p/inner/near.py", "")
    write("outer_p/inner/near_script.py", "")
    write("outer_p/far.py")
    assert called("outer_p/inner/app.py:handle") == b"x"
    assert "outer_p.inner.app" in sys.modules
    assert sys.path[0] == str(here)
    assert load_target("outer_p/__init__.py:inner") is sys.modules["outer_p.inner"]


def test_classes_of_a_file_can_be_pickled_inspected_and_made_dataclasses() -> None:
    for name in ("records.py", "my-records.py", "my.records.py", "random.py", "__main__.py"):
        write(
            name,
            """
            from __future__ import annotations
            import dataclasses

            @dataclasses.dataclass
            class Record:
                size: int
            """,
        )
        record: Any = load_target(f"{name}:Record")
        assert pickle.loads(pickle.dumps(record(3))) == record(3)
        assert "size: int" in inspect.getsource(record)
        assert [field.name for field in dataclasses.fields(record)] == ["size"]
    import random

    assert random.random() < 1, "the standard module is still the one that is imported"
    assert sys.modules["__main__"].__dict__.get("Record") is None


def test_the_current_directory_is_meant_textually(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("releases/1/app_t.py", "def handle(message): return b'one'\n")
    os.symlink("releases/1", "current")
    monkeypatch.chdir("current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    assert current_directory() == str(tmp_path / "current")
    assert called("app_t:handle") == b"one"
    assert sys.path[0] == str(tmp_path / "current")
    for stale in ("/nowhere", "relative", str(tmp_path)):
        monkeypatch.setenv("PWD", stale)
        assert current_directory() == str(tmp_path / "releases/1")


def test_a_current_directory_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "--chdir" in refusal("app:handle")


# what cannot: the form of the text


def test_a_missing_colon_is_proposed_from_what_is_there() -> None:
    write("app.py", "import sys\nsys.exit('must not run')\ndef handle(m): ...\n")
    write(
        "several.py",
        "def other(m): ...\nclass Greeter: ...\nasync def no(m): ...\ndef _own(m): ...\nserve = Greeter()\n",
    )
    write("marked.py", "import paceline\ndef handle(m): ...\n@paceline.connection\ndef talk(conn): ...\n")
    write("data.py", "size = 5\n")
    write("broken.py", "def handle(:\n")
    write("pkg/__init__.py")
    assert "did you mean app.py:handle?" in refusal("app.py")
    assert "did you mean app:handle?" in refusal("app")
    assert "did you mean app:handle?" in refusal("app:")
    assert "did you mean app:handle?" in refusal("app.handle")
    assert "did you mean pkg:handle?" in refusal("pkg")
    assert "in it are several.py:other, several.py:Greeter, several.py:serve" in refusal("several.py")
    assert "in it are marked.py:talk, marked.py:handle" in refusal("marked.py")
    assert "data.py defines no function or class" in refusal("data.py")
    assert "broken.py defines no function or class" in refusal("broken.py")
    assert "did you mean echo?" in refusal("Echo")
    assert "did you mean echo?" in refusal("eco")
    assert "no such file: ap.py" in refusal("ap.py")
    for nothing in ("", ":", " "):
        assert "is empty" in refusal(nothing)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unheard", "a target is module:attribute"),
        (":handle", "names no module before its colon"),
        ("app.py::handle", "did you mean app.py:handle?"),
        ("app.py:handle()", "did you mean app.py:handle?"),
        ("app.py:a b", "is not a name"),
        ("127.0.0.1:8888", "--bind"),
        ("app-x:handle", "neither a module's name nor a file"),
    ],
)
def test_texts_of_no_form_are_refused(text: str, said: str) -> None:
    assert said in refusal(text)


# what cannot: files


def test_no_such_file(here: Path) -> None:
    write("server.py")
    write("sub/other.py")
    os.mkdir("empty")
    assert "did you mean server.py:handle?" in refusal("sevrer.py:handle")
    assert refusal("sub/unlike.py:handle") == f"no such file: unlike.py in {here}/sub; there is other.py"
    write("pkg/__init__.py", "")
    assert "holds no Python file" in refusal("pkg/app.py:handle"), "a package is no file"
    for number in range(9):
        write(f"many/m{number}.py")
    os.mkdir("many/package.py")
    assert refusal("many/unlike.py:f").endswith("; there are m0.py, m1.py, m2.py, m3.py, m4.py, m5.py … and 3 more")
    write("short/syn.py")
    assert "; there is syn.py" in refusal("short/nope.py:f"), "that both end in .py is no likeness"
    write("short/my-app.py")
    assert "did you mean short/my-app.py:f?" in refusal("short/my_app.py:f")
    assert "holds no Python file" in refusal("empty/app.py:handle")
    assert "there is no directory" in refusal("nowhere/app.py:handle")
    assert "did you mean sub/other.py:handle?" in refusal("sub/other:handle")


def test_files_that_are_none(here: Path) -> None:
    write("script")
    write("both")
    write("both.py")
    write("bin/script")
    write("folder/app.py")
    write("app-x.py")
    os.mkfifo("pipe.py")
    assert "without .py" in refusal("script:handle")
    assert "without .py" in refusal("script")
    assert "without .py; Python imports" in refusal("bin/script:handle")
    assert "did you mean ./both.py:handle?" in refusal("./both:handle")
    assert "is a directory; name a file in it: folder/app.py:handle" in refusal("folder/")
    assert "is a directory; name a file in it: ./folder/app.py:handle" in refusal("./folder:handle")
    assert "is a directory" in refusal("folder")
    assert "not a regular file" in refusal("pipe.py:handle")
    assert "did you mean app-x.py:handle?" in refusal("app-x:handle")


UNREADABLE = """
import os, sys
from paceline.errors import TargetError
from paceline.worker.target import load_target
if os.geteuid() == 0:
    os.seteuid(65534)
for text in ("secret_app.py:handle", "secret_app:handle"):
    try:
        load_target(text)
    except TargetError as error:
        print(error)
"""


def test_an_unreadable_file_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, which only its owner may enter
        os.chmod(folder, 0o755)
        path = Path(folder, "secret_app.py")
        path.write_text("")
        path.chmod(0)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PWD": folder}
        done = subprocess.run(
            [sys.executable, "-c", UNREADABLE],
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
    first, second = done.stdout.decode().splitlines()
    assert first.startswith("cannot read secret_app.py: Permission denied"), done.stderr
    assert second.startswith("cannot read the module 'secret_app' ("), done.stderr
    for line in (first, second):
        assert "Permission denied; it must be readable for user " in line


# what cannot: modules


def test_no_such_module(here: Path) -> None:
    write("server.py")
    write("src/inside.py")
    write("pkg/__init__.py", "")
    write("pkg/views.py")
    assert f"no module named 'sevrer' in {here} or among the installed packages" in refusal("sevrer:handle")
    assert "did you mean server:handle?" in refusal("sevrer:handle")
    assert "did you mean json:loads?" in refusal("jsn:loads")
    assert "did you mean pytest:handle?" in refusal("pytst:handle")
    assert "did you mean src/inside.py:handle?" in refusal("inside:handle")
    assert "there are pkg, server" in refusal("unlike:handle")
    assert "did you mean pkg.views:handle?" in refusal("pkg.view:handle")
    assert "no module named 'nothing'" in refusal("nothing.at.all:handle")
    assert "server is a module, not a package; did you mean server:handle.x?" in refusal("server.handle:x")


def test_a_module_that_imports_something_missing_is_the_users_failure() -> None:
    write("app_i.py", "import this_is_not_installed\n")
    write("pkg_i/__init__.py", "from . import absent\n")
    for text in ("app_i:handle", "app_i.py:handle", "pkg_i:handle", "pkg_i.sub:handle"):
        with pytest.raises(ImportError, match=r"this_is_not_installed|absent") as caught:
            load_target(text)
        assert not isinstance(caught.value, TargetError)
        assert "in <module>" in user_traceback(caught.value, text)


def test_a_package_whose_name_is_in_use() -> None:
    write("paceline/__init__.py", "")
    write("paceline/app.py")
    text = refusal("paceline/app.py:handle")
    assert "another module of that name is in use" in text
    assert os.path.join("src", "paceline", "__init__.py") in text


# what cannot: attributes


def test_no_such_attribute() -> None:
    write(
        "app_a.py",
        """
        from json import dumps
        def handle(message): return message
        def shout(message): return message
        class Greeter:
            def __call__(self, message): return message
        size = 5
        """,
    )
    write("only_data.py", "size = 5\n")
    write("pkg_a/__init__.py", "")
    write("pkg_a/views.py")
    assert "did you mean app_a.py:handle?" in refusal("app_a.py:handel")
    assert "did you mean app_a.py:Greeter?" in refusal("app_a.py:greeter")
    assert refusal("app_a.py:unlike") == "app_a.py has no 'unlike'; it defines handle, shout, Greeter"
    assert f"app_a ({os.getcwd()}/app_a.py) has no 'unlike'" in refusal("app_a:unlike")
    assert "has no 'Greeter.wave'" in refusal("app_a:Greeter.wave")
    assert "it defines no function or class" in refusal("only_data:handle")
    assert "pkg_a.views is a module" in refusal("pkg_a:views")
    assert "part of Python" in refusal("time:handle")


def test_a_folder_that_python_takes_for_a_package(here: Path) -> None:
    write("space/app_n.py")
    assert refusal("space:x") == "space is a directory; name a file in it: space/app_n.py:handle"
    assert refusal("space:app_n").startswith(f"space ({here}/space) has no 'app_n'; space.app_n is a module")


def test_a_module_that_is_hidden_by_another_of_its_name() -> None:
    write("json.py")
    write("time.py")
    for name in ("json", "time"):
        text = refusal(f"{name}:handle")
        assert f"your {name}.py has the same name" in text
        assert f"serve {name}.py:handle" in text
        assert called(f"{name}.py:handle") == b"x"


# the user's code fails


def failure(text: str) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the user's code raises
        load_target(text)
    assert not isinstance(caught.value, TargetError)
    return user_traceback(caught.value, text)


@pytest.mark.parametrize("text", ["bad_r.py:handle", "bad_r:handle", "pkg_r/app.py:handle", "pkg_r.app:handle"])
def test_the_report_begins_at_the_users_lines(text: str) -> None:
    write("pkg_r/__init__.py", "")
    for path in ("bad_r.py", "pkg_r/app.py"):
        write(path, "def early():\n    return 1 / 0\nvalue = early()\n")
    report = failure(text)
    lines = report.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("line 3, in <module>")
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "importlib" not in report
    assert os.path.join("worker", "target.py") not in report


def test_frames_of_ours_that_the_user_called_do_not_hide_the_users() -> None:
    write("bad_u.py", "from paceline.worker.target import load_target\nload_target('nothing_here:x')\n")
    text = refusal("bad_u.py:handle")  # a TargetError that passes through the user's code names the place
    assert text.endswith("(bad_u.py, line 2)")


def test_a_syntax_error_is_shown_with_its_line_only() -> None:
    write("bad_s.py", "def handle(message):\n    return message +\n")
    report = failure("bad_s.py:handle")
    assert report.lstrip().startswith("File ")
    assert "bad_s.py" in report.splitlines()[0]
    assert report.splitlines()[-1].startswith("SyntaxError")
    assert "Traceback" not in report
    write("uses_s.py", "import bad_s\n")
    assert "uses_s.py" in failure("uses_s.py:handle").splitlines()[1]


def test_chained_errors_and_groups_are_shown_whole() -> None:
    write(
        "bad_c.py",
        """
        try:
            import not_there
        except ImportError as error:
            raise RuntimeError("no database") from error
        """,
    )
    write("bad_g.py", "raise ExceptionGroup('several', [ValueError('one'), KeyError('two')])\n")
    report = failure("bad_c.py:handle")
    assert (
        report.index("ModuleNotFoundError") < report.index("direct cause") < report.index("RuntimeError: no database")
    )
    assert report.count("bad_c.py") == 2
    assert "importlib" not in report
    group = failure("bad_g.py:handle")
    assert "ValueError: one" in group
    assert "target.py" not in group


def test_an_error_before_any_line_of_the_users_is_shown_whole() -> None:
    def ours() -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError) as caught:
        ours()
    assert "in ours" in user_traceback(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nsys.exit(2)\n", "called sys.exit(2) while it was imported (ends.py, line 2)"),
        ("exit()\n", "called sys.exit() while it was imported (ends.py, line 1)"),
        ("raise SystemExit('no\\nway')\n", r"called sys.exit('no\nway')"),
        (
            "import argparse\nargparse.ArgumentParser().error('x')\n",
            "sys.exit(2) while it was imported (ends.py, line 2)",
        ),
        ("raise KeyboardInterrupt\n", "was interrupted (KeyboardInterrupt) while it was imported (ends.py, line 1)"),
    ],
)
@pytest.mark.parametrize("text", ["ends.py:handle", "ends:handle"])
def test_an_import_that_ends_the_process_is_told(
    code: str, said: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("ends.py", code)
    refused = refusal(text)
    assert said in refused
    assert '`if __name__ == "__main__":`' in refused
    assert "ends" not in sys.modules, "it may be imported again"


def test_a_decorator_in_a_wrong_place_names_the_line() -> None:
    write("wrong_d.py", "from paceline import handlers\n\n@handlers.connection(start='later')\ndef handle(conn): ...\n")
    assert "(wrong_d.py, line 3)" in refusal("wrong_d.py:handle")


# names that the standard library has too


def test_the_report_says_which_file_has_whose_name() -> None:
    write("shadows/app_n.py", "from linecache import mine\n")
    write("shadows/attr_n.py", "import linecache\nlinecache.mine\n")
    write("shadows/linecache.py", "mine = 1\n")
    for name in ("app_n", "attr_n"):
        last = failure(f"shadows/{name}.py:handle").splitlines()[-1]
        assert last.startswith(f"note: {os.getcwd()}/shadows/linecache.py has the name of a module of the standard")
    assert "note:" not in failure_of("import nothing_like_it\n")


def failure_of(code: str) -> str:
    write("plain.py", code)
    return failure("plain.py:handle")


HOSTILE = """
import sys
import paceline.worker.target as target
from paceline import events
import paceline.host.output

assert target.load_target(sys.argv[1])(b"x") == b"x"
try:
    target.load_target("fails.py:handle")
except ZeroDivisionError as error:
    assert "ZeroDivisionError" in target.user_traceback(error, "fails.py:handle")
try:
    target.load_target("fails")
except target.TargetError as error:
    assert "fails:handle" in str(error)
events.json_line("", "", events.TABLE["drained"], {})
paceline.host.output.Log("worker 0").say("bug", where="x", error="y", detail="z")
"é.example".encode("idna")  # what getaddrinfo does with a name
"""


@pytest.mark.parametrize("target", ["app.py:handle", "app:handle", "random.py:handle", "socket.py:handle"])
def test_nothing_of_ours_ever_gets_a_file_of_the_users(target: str, here: Path) -> None:
    """A folder with a file for each name of the standard library, each of which gives itself away when it is run."""
    for name in sys.stdlib_module_names:
        write(f"{name}.py", f"raise SystemExit('{name} of the user was imported')\n")
    for name in ("app", "random", "socket"):
        write(f"{name}.py")
    write("fails.py", "def handle(message): ...\n1 / 0\n")
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PWD": str(here)}
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, target], cwd=here, env=environment, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


# the examples


@pytest.mark.parametrize(
    ("text", "as_", "kind", "hooks"),
    [
        ("echo.py:echo", None, "message", set()),
        ("workon.py:workon", "connection", "connection", set()),
        ("shout.py:shout", None, "message", set()),
        ("greet.py:Greeter", None, "message", {"start", "connected", "disconnected"}),
    ],
)
def test_the_examples_load(text: str, as_: str | None, kind: str, hooks: set[str]) -> None:
    handler = handlers.examine(load_target(f"{EXAMPLES}/{text}"), text, as_)
    assert handler.kind == kind
    assert set(handler.hooks) == hooks
