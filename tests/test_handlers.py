"""What may be a handler, what kind it is taken for, and what is said about everything that may not."""

import functools
import socketserver
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

import paceline
from paceline import handlers
from paceline.errors import TargetError
from paceline.handlers import HOOKS, Close, describe, echo, examine


def refusal(found: object, as_: str | None = None) -> str:
    with pytest.raises(TargetError) as caught:
        examine(found, "app:it", as_)
    assert caught.value.exit_code == 3
    text = str(caught.value)
    assert text.startswith("app:it") or "app:it" in text
    assert "\n" not in text
    return text


# functions


def one(message: bytes) -> bytes:
    return message


def two(message: bytes, connection: object) -> bytes:
    return message


def optional_connection(message: bytes, connection: object = None) -> bytes:
    return message


def optional_other(message: bytes, retries: int = 3) -> bytes:
    return message


def anything(*args: Any, **options: Any) -> Any:
    return args


def positional_only(message: bytes, /) -> bytes:
    return message


class Uncallable:
    pass


@pytest.mark.parametrize(
    ("found", "wants_connection"),
    [
        (one, False),
        (two, True),
        (optional_connection, True),
        (optional_other, False),
        (anything, False),
        (positional_only, False),
        (echo, False),
        (bytes.upper, False),  # written in C, with a signature
        (max, False),  # written in C, without one
        (lambda message: message, False),
        (functools.partial(two, connection=None), False),
        (functools.partial(optional_other, retries=5), False),
        (mock.Mock(), False),
    ],
)
def test_a_function_is_a_message_handler(found: Callable[..., Any], wants_connection: bool) -> None:
    handler = examine(found, "app:it")
    assert (handler.kind, handler.wants_connection, handler.hooks, handler.name) == (
        "message", wants_connection, {}, "app:it",
    )  # fmt: skip
    assert handler.call is found


def test_the_setting_makes_a_function_a_connection_handler() -> None:
    def workon(conn: Any) -> None: ...

    handler = examine(workon, "app:it", "connection")
    assert (handler.kind, handler.wants_connection) == ("connection", False)
    assert examine(workon, "app:it", "message").kind == "message"


def test_the_setting_wins_over_the_decorator() -> None:
    @handlers.connection
    def marked(conn: Any) -> None: ...

    assert examine(marked, "app:it").kind == "connection"
    assert examine(marked, "app:it", "message").kind == "message"


@pytest.mark.parametrize("name", ["conn", "connection", "sock", "client_socket"])
def test_a_function_over_a_socket_is_not_silently_given_bytes(name: str) -> None:
    made = eval(f"lambda {name}: None")  # the name of the parameter is what the rule looks at
    text = refusal(made)
    assert "--as connection" in text
    assert "--as message" in text
    made_for_accept = eval(f"lambda {name}, addr: None")
    assert "--as connection" in refusal(made_for_accept)


def test_wrong_arity_is_refused_with_the_right_one() -> None:
    def none() -> None: ...
    def three(a: bytes, b: bytes, c: bytes) -> None: ...
    def keyword(message: bytes, *, database: object) -> None: ...
    def classroom(conn: Any, addr: Any) -> None: ...

    assert "takes no arguments; a message handler takes the message" in refusal(none)
    assert "takes three arguments" in refusal(three)
    assert "def f(message, connection)" in refusal(three)
    assert "'database'" in refusal(keyword)
    assert "takes no arguments; a connection handler takes one" in refusal(none, "connection")
    assert "conn.getpeername()" in refusal(classroom, "connection")
    assert "takes three arguments" in refusal(three, "connection")
    assert "app:it(conn: Any, addr: Any)" in refusal(classroom, "connection")


def test_the_wrapper_counts_not_what_it_wraps() -> None:
    def with_database(message: bytes, database: object) -> bytes:
        return message

    @functools.wraps(with_database)
    def narrowed(message: bytes) -> bytes:
        return with_database(message, None)

    @functools.wraps(two)
    def passed_on(*args: Any) -> Any:
        return two(*args)

    assert not examine(narrowed, "app:it").wants_connection
    assert examine(passed_on, "app:it").wants_connection


@pytest.mark.parametrize("thing", [None, 5, "text", ModuleType("web"), Uncallable()])
def test_what_cannot_be_called_is_refused(thing: object) -> None:
    text = refusal(thing)
    assert "cannot be called; a handler is a function or a class" in text
    if thing is None:
        assert "is None," in text


def test_async_is_refused_by_name() -> None:
    async def coroutine(message: bytes) -> bytes:
        return message

    async def generator(message: bytes) -> AsyncIterator[bytes]:
        yield message

    class Instance:
        async def __call__(self, message: bytes) -> bytes:
            return message

    class Hooked:
        async def start(self) -> None: ...
        def __call__(self, message: bytes) -> bytes:
            return message

    for found in (coroutine, generator, functools.partial(coroutine), Instance, Instance(), Hooked):
        assert "`async def`" in refusal(found)
    assert "app:it.start" in refusal(Hooked)


def test_a_generator_function_replies_with_messages_but_cannot_be_a_connection() -> None:
    def pieces(message: bytes) -> Iterator[bytes]:
        yield message

    class Pieces:
        def __call__(self, message: bytes) -> Iterator[bytes]:
            yield message

    assert examine(pieces, "app:it").kind == "message"
    assert examine(Pieces, "app:it").kind == "message"
    assert "yield" in refusal(pieces, "connection")
    assert "yield" in refusal(Pieces, "connection")


# classes


class Greeter:
    framing = "line"

    def __init__(self) -> None:
        self.log: list[str] = []

    def start(self) -> None: ...
    def thread_stop(self) -> None: ...
    def connected(self, connection: object) -> bytes:
        return b"hello\n"

    def __call__(self, message: bytes, connection: object) -> bytes:
        return message


def test_a_class_is_built_and_its_hooks_are_found() -> None:
    handler = examine(Greeter, "app:it")
    assert isinstance(handler.call, Greeter)
    assert handler.kind == "message"
    assert handler.wants_connection
    assert sorted(handler.hooks) == ["connected", "start", "thread_stop"]
    assert handler.hooks["start"] == handler.call.start
    assert handler.marks.framing == "line"


def test_an_instance_is_served_as_it_is() -> None:
    greeter = Greeter()
    handler = examine(greeter, "app:it")
    assert handler.call is greeter
    assert sorted(handler.hooks) == ["connected", "start", "thread_stop"]


def test_a_bound_method_has_no_hooks() -> None:
    class Several:
        def start(self) -> None: ...
        def shout(self, message: bytes) -> bytes:
            return message

    handler = examine(Several().shout, "app:it")
    assert (handler.kind, handler.hooks) == ("message", {})


def test_attributes_that_only_happen_to_have_a_hooks_name_are_left_alone() -> None:
    class Timed:
        connected = 0

        def __init__(self) -> None:
            self.start = 12.5

        def __call__(self, message: bytes) -> bytes:
            return message

    assert examine(Timed, "app:it").hooks == {}


def test_a_proxy_with_an_answer_to_every_name_has_no_hooks_and_no_framing() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            return lambda *args: None

        def __call__(self, message: bytes) -> bytes:
            return message

    handler = examine(Proxy, "app:it")
    assert (handler.hooks, handler.marks.framing) == ({}, None)


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_a_hook_with_the_wrong_arity_is_refused(hook: str) -> None:
    def call(self: object, message: bytes) -> bytes:
        return message

    def wrong(self: object, a: object, b: object) -> None: ...

    text = refusal(type("It", (), {"__call__": call, hook: wrong}))
    assert f"app:it.{hook}(a: object, b: object) -> None cannot be called with" in text


def test_hooks_of_a_connection_handler() -> None:
    @handlers.connection
    class Served:
        def start(self) -> None: ...
        def __call__(self, conn: Any) -> None: ...

    @handlers.connection
    class Greeting(Served):
        def connected(self, connection: object) -> None: ...

    handler = examine(Served, "app:it")
    assert (handler.kind, sorted(handler.hooks)) == ("connection", ["start"])
    assert "hook connected" in refusal(Greeting)


def test_a_class_that_cannot_be_built_is_refused() -> None:
    class Needy:
        def __init__(self, database: object) -> None: ...
        def __call__(self, message: bytes) -> bytes:
            return message

    class Abstract(ABC):
        @abstractmethod
        def reply(self) -> bytes: ...
        def __call__(self, message: bytes) -> bytes:
            return self.reply()

    assert "'database'" in refusal(Needy)
    assert "make an instance in the module" in refusal(Needy)
    assert "abstract" in refusal(Abstract)
    assert "reply" in refusal(Abstract)
    assert "__call__(self, message)" in refusal(Uncallable)
    assert "__call__(self, message)" in refusal(int)


def test_an_exception_of_the_constructor_is_the_users_own() -> None:
    class Broken:
        def __init__(self) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        examine(Broken, "app:it")


def test_what_other_servers_serve_is_refused_by_name() -> None:
    def wsgi(environ: dict[str, object], start_response: Callable[..., Any]) -> list[bytes]:
        return []

    class Framework:
        def __call__(self, environ: dict[str, object], start_response: Callable[..., Any]) -> list[bytes]:
            return []

    assert "socketserver server" in refusal(socketserver.TCPServer)
    for found in (wsgi, Framework, Framework()):
        assert "WSGI" in refusal(found)


# Handlers of socketserver


class Upper(socketserver.StreamRequestHandler):
    timeout = 5  # that of its socket, as the standard library has it

    def handle(self) -> None: ...


@pytest.mark.parametrize("as_", [None, "socketserver"])
@pytest.mark.parametrize("found", [Upper, functools.partial(Upper), functools.partial(functools.partial(Upper))])
def test_a_handler_class_of_socketserver_is_one_and_is_not_built(found: Any, as_: str | None) -> None:
    handler = examine(found, "app:it", as_)
    assert (handler.kind, handler.call, handler.holds) == ("socketserver", found, True)
    assert (handler.marks.start, handler.marks.timeout, handler.hooks) == ("data", "auto", {})


def test_it_may_be_marked_to_speak_first() -> None:
    @paceline.connection(start="accept", timeout=7)
    class Greeter(socketserver.StreamRequestHandler):
        def handle(self) -> None: ...

    handler = examine(Greeter, "app:it")
    assert (handler.kind, handler.marks.start, handler.marks.timeout) == ("socketserver", "accept", 7)


def test_one_that_cannot_be_served_is_refused_with_the_reason() -> None:
    class Empty(socketserver.StreamRequestHandler):
        pass

    class Later(socketserver.BaseRequestHandler):
        async def handle(self) -> None: ...  # type: ignore[override]

    class Datagrams(socketserver.DatagramRequestHandler):
        def handle(self) -> None: ...

    assert "has no handle() of its own" in refusal(Empty)
    assert "has no handle() of its own" in refusal(socketserver.BaseRequestHandler)
    assert "app:it.handle is written with `async def`" in refusal(Later)
    assert "datagrams (UDP)" in refusal(Datagrams)
    for as_ in ("message", "connection"):
        with pytest.raises(TargetError, match=f"served as such: leave out --as {as_}"):
            examine(Upper, "app:it", as_)
    with pytest.raises(TargetError, match=r"app:it is no socketserver handler, a subclass of socketserver\.Base"):
        examine(echo, "app:it", "socketserver")


def test_what_is_no_handler_is_named_as_it_was_given() -> None:
    assert refusal(5).startswith("app:it is an int, which cannot be called; ")
    with pytest.raises(TargetError, match=r"^5 is an int, which cannot be called; a handler is a function or a class$"):
        examine(5, "int")  # how the worker names what has no name of its own
    with pytest.raises(TargetError) as caught:
        examine(list(range(1000)), "list")
    assert len(str(caught.value)) < 150


def test_a_function_of_a_client_and_its_address_is_told_both_at_once() -> None:
    def alone(client: Any) -> None: ...

    def pair(conn: Any, addr: Any) -> None: ...

    assert "--as connection" in refusal(alone)
    assert "conn.getpeername()" not in refusal(alone)
    text = refusal(pair)
    assert "--as connection" in text
    assert text.endswith("; it then takes one argument, and the address is conn.getpeername(): def f(conn)")


# decorators


def test_the_decorators_note_and_give_the_function_back() -> None:
    framing = object()

    @handlers.message(framing=framing)
    def marked(message: bytes) -> bytes:
        return message

    @handlers.connection(start="data")
    def held(conn: Any) -> None: ...

    @handlers.message
    def bare(message: bytes) -> bytes:
        return message

    assert marked(b"x") == b"x"
    assert examine(marked, "app:it").marks == handlers.Marks("message", framing)
    assert examine(held, "app:it").marks == handlers.Marks("connection", start="data")
    assert examine(held, "app:it").kind == "connection"
    assert examine(bare, "app:it").kind == "message"
    assert examine(functools.partial(marked), "app:it").marks.framing is framing


def test_the_decorators_note_how_long_a_call_may_take() -> None:
    """As it was said; what is wrong with it is found where the limit is made (worker/overdue.py)."""

    @handlers.message(timeout=5)
    def quick(message: bytes) -> bytes:
        return message

    @handlers.connection(timeout=None)
    def long(conn: Any) -> None: ...

    @handlers.message(timeout="2m")
    class Says:
        timeout = 7

        def __call__(self, message: bytes) -> bytes:
            return message

    assert examine(quick, "app:it").marks.timeout == 5
    assert examine(long, "app:it").marks.timeout is None
    assert examine(Says, "app:it").marks.timeout == "2m"
    assert examine(len, "len").marks.timeout == handlers.AUTO


@pytest.mark.parametrize(
    ("value", "noted"), [(7, 7), ("7s", "7s"), (None, None), (lambda self: 7, "auto"), (property(), "auto")]
)
def test_what_the_body_of_a_class_says_counts_if_it_can_be_a_time(value: object, noted: object) -> None:
    found = type("Found", (), {"timeout": value, "__call__": lambda self, message: message})
    assert examine(found, "app:Found").marks.timeout == noted


def test_the_decorators_work_on_classes_their_methods_and_static_methods() -> None:
    @handlers.connection(start="data")
    class Whole:
        framing = "line"

        def __call__(self, conn: Any) -> None: ...

    class ByMethod:
        framing = "line"

        @handlers.connection
        def __call__(self, conn: Any) -> None: ...

    class Namespace:
        @handlers.connection
        @staticmethod
        def outside(conn: Any) -> None: ...

        @staticmethod
        @handlers.connection
        def inside(conn: Any) -> None: ...

        @handlers.connection
        def bound(self, conn: Any) -> None: ...

    class Heir(Whole):
        pass

    for found in (Whole, ByMethod, Namespace.outside, Namespace.inside, Namespace().bound, Heir):
        assert examine(found, "app:it").kind == "connection"
    assert examine(Whole, "app:it").marks == handlers.Marks("connection", "line", "data")
    assert examine(ByMethod, "app:it").marks == handlers.Marks("connection", "line", None)


def test_decorators_in_the_wrong_place_say_so() -> None:
    wrong: Any = handlers  # what a type checker would have refused already
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: wrong.message("line"), "framing='line'"),
        (lambda: wrong.connection("data"), "start='data'"),
        (lambda: wrong.connection(start="later"), "start='later'"),
        (lambda: wrong.message(5), "not before an int (5)"),
        (lambda: wrong.connection(len), "wrap it in a function"),
    ]
    for mistaken, said in mistakes:
        with pytest.raises(TargetError) as caught:
            mistaken()
        assert said in str(caught.value)


# what was returned


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError("no")


async def forgotten() -> None: ...


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ("hello", "a str ('hello'; return text.encode())"),
        (5, "an int (5)"),
        (None, "None"),
        (bytearray(b"x"), "bytearray(b'x')"),
        (Unspeakable(), "<Unspeakable instance at"),
        (forgotten, "<function forgotten"),
        (Close, "a type (<class 'paceline.handlers.marks.Close'>)"),
    ],
)
def test_what_a_handler_returned_is_described(got: object, said: str) -> None:
    assert describe(got).startswith(said)


def test_a_long_repr_is_cut() -> None:
    assert len(describe("x" * 100_000)) < 150
    assert len(describe(list(range(100_000)))) < 150


def test_a_coroutine_is_closed_without_a_warning() -> None:
    assert "async def" in describe(forgotten())


def test_close_shows_what_it_holds() -> None:
    assert repr(Close(b"bye")) == "Close(b'bye')"
    assert Close().reply is None
