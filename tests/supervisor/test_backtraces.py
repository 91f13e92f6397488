"""supervisor/backtraces.py: the thread that crashed first, the user's lines, equal places once, what is left out."""

from paceline.supervisor.backtraces import readable

OURS, BIRTH = "/lib/paceline/", "/lib/paceline/supervisor/child.py"


def thread(number: int, *frames: str, current: bool = False) -> str:
    heading = f"{'Current thread' if current else 'Thread'} 0x{number} (most recent call first):"
    return "\n".join([heading, *frames])


def frame(file: str, line: int = 1) -> str:
    return f'  File "{file}", line {line} in f'


LED = (frame(f"{OURS}worker/calls.py"), frame(f"{OURS}worker/crew.py"), frame("/lib/threading.py"))


def read(*paragraphs: str, most: int = 10_000) -> list[str]:
    text = "\n\n".join(paragraphs) + "\n"
    return readable(text, [OURS, "/lib/threading.py"], [BIRTH], most).split("\n\n")


def test_the_thread_that_crashed_comes_first_and_its_stack_ends_at_the_users_first_line() -> None:
    shown = read(
        "Fatal Python error: Segmentation fault",
        thread(1, frame("poll.py"), *LED),
        thread(2, frame("/lib/ctypes.py"), frame("app.py", 3), *LED, current=True),
        "Extension modules: _cffi (total: 1)",
    )
    assert shown == [
        "Fatal Python error: Segmentation fault",
        thread(2, frame("/lib/ctypes.py"), frame("app.py", 3), current=True),
        thread(1, frame("poll.py")),
        "Extension modules: _cffi (total: 1)",
    ]


def test_what_calls_our_code_from_the_users_stays() -> None:
    """A connection handler that receives: the innermost frame is ours, and is no lead."""
    stack = (frame(f"{OURS}worker/held.py"), frame("app.py"))
    assert read(thread(1, *stack, *LED)) == [thread(1, *stack)]


def test_a_stack_that_is_all_ours_is_shown_whole() -> None:
    assert read(thread(1, *LED)) == [thread(1, *LED)]


def test_a_stack_ends_where_the_worker_was_born() -> None:
    born = (frame("watcher.py"), frame(BIRTH), frame("user-of-the-supervisor.py"))
    assert read(thread(1, *born)) == [thread(1, frame("watcher.py"))]


def test_threads_at_the_same_place_share_a_paragraph_but_not_with_the_one_that_crashed() -> None:
    here = (frame("app.py", 3),)
    shown = read(thread(1, *here), thread(2, *here, current=True), thread(3, *here), thread(4, frame("app.py", 4)))
    assert shown == [
        thread(2, *here, current=True),
        "Thread 0x1 and 1 more (most recent call first):\n" + here[0],
        thread(4, frame("app.py", 4)),
    ]


def test_that_faulthandler_stops_at_a_hundred_threads_is_said() -> None:
    shown = read("Fatal Python error: Aborted", thread(1, frame("app.py"), "  ..."), "...")
    assert shown[1].endswith("  ...")
    said = "faulthandler shows no more than 100 threads; there were others"
    assert shown[2] == f"{said}, and the one that crashed is among those"
    assert read(thread(1, frame("app.py")), "...")[1] == said, "it was asked, and has not crashed"


def test_where_only_the_one_that_crashed_was_asked_for_that_is_said() -> None:
    stack = f"Stack (most recent call first):\n{frame('app.py', 3)}"
    title, crashed, why = read("Fatal Python error: Aborted", "\n".join([stack, *LED]))
    assert (title, crashed) == ("Fatal Python error: Aborted", stack)
    assert why.startswith("only the thread that crashed is shown")


def test_what_has_no_room_is_counted() -> None:
    many = [thread(number, frame("app.py", number)) for number in range(100)]
    crashed = thread(100, frame("app.py", 7), current=True)
    shown = read("Fatal Python error: Aborted", *many, crashed, most=1000)
    assert shown[1] == crashed
    assert shown[-1] == f"… threads at {100 - (len(shown) - 3)} other places are left out"
    assert len("\n\n".join(shown)) <= 1100


def test_what_is_no_report_is_shown_as_it_is() -> None:
    assert read("") == [""]
    assert read("Timeout (0:01:10)!") == ["Timeout (0:01:10)!"]
    assert read("x" * 5000, most=1000) == ["x" * 1000]
