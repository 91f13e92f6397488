"""What a user may write as a handler, and what kind each thing is.  Pure.

    message      def f(message: bytes) -> bytes | None | Iterable[bytes] | Close   (a second parameter: the connection)
    connection   def f(conn): plain blocking code over the whole connection        (@connection, --as connection)
    class        instances are one of the two; built once per worker; may have the hooks of `HOOKS`

`examine` decides which of them an object is, or raises a TargetError that says what is wrong with it and what would be
right.  It runs in the worker, after the import, on the main thread; the supervisor never sees the object.  It calls
nothing of the user's but the constructor of a class (and what looking up an attribute calls).
"""

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from paceline.errors import TargetError

_Any = TypeVar("_Any", bound=Callable[..., Any])

HOOKS = {
    "start": 0,
    "stop": 0,
    "thread_start": 0,
    "thread_stop": 0,
    "connected": 1,
    "disconnected": 1,
}
"""The optional methods of a handler class and how many arguments Paceline calls each with.

start / stop: once per worker process, on its main thread, before the first and after the last call.
thread_start / thread_stop: once per thread, on that thread; threads come and go with the load (database handles).
connected / disconnected: once per connection, with the connection; what `connected` returns is sent as a greeting.
"""

MARK = "__paceline__"

AUTO = "auto"

KINDS = ("message", "connection")

_CONNECTION_NAMES = frozenset(
    {"conn", "connection", "sock", "socket", "client", "client_socket", "client_sock", "clientsocket"}
)
"""A single parameter with one of these names was not written to receive bytes."""


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 72


class Close:
    """A reply after which the connection is closed: `return Close(b"bye")`.  Without bytes it says nothing."""

    __slots__ = ("reply",)

    def __init__(self, reply: bytes | Iterable[bytes] | None = None) -> None:
        self.reply = reply

    def __repr__(self) -> str:
        return f"Close({self.reply!r})"


Reply = bytes | Iterable[bytes] | Close | None
"""What a message handler may return."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What a decorator notes on a handler; the command line, the environment and the file override it."""

    kind: str | None = None
    framing: object = None
    start: str | None = None
    timeout: object = AUTO
    """How long a call may take, as for `--timeout`: seconds, a text, None (as long as it likes), or AUTO: not said."""


@overload
def message(handler: _Any, /) -> _Any: ...
@overload
def message(*, framing: object = None, timeout: float | str | None = AUTO) -> Callable[[_Any], _Any]: ...
def message(handler: Any = None, /, *, framing: object = None, timeout: float | str | None = AUTO) -> Any:
    """Mark a function or class as a message handler, and say which framing it speaks unless told otherwise.

    `framing` is a framing object (`paceline.Lines(limit=65536)`, your own) or a text as for `--framing`.  `timeout` is
    how long a call may take unless told otherwise: seconds, a text as for `--timeout`, or None for as long as it likes.
    """
    if isinstance(handler, str):
        raise TargetError(f"@message({handler!r}): give the framing by name, @message(framing={handler!r})")
    return _mark(handler, Marks("message", framing=framing, timeout=timeout))


@overload
def connection(handler: _Any, /) -> _Any: ...
@overload
def connection(*, start: str | None = None, timeout: float | str | None = AUTO) -> Callable[[_Any], _Any]: ...
def connection(handler: Any = None, /, *, start: str | None = None, timeout: float | str | None = AUTO) -> Any:
    """Mark a function or class as a whole-connection handler: it gets a blocking socket and a thread of its own.

    `start` says when the thread is spent: "accept" (as soon as somebody connects) or "data" (when something arrives).
    `timeout` is how long it may take between two waits for its peer, unless told otherwise; as for `@message`.
    """
    if isinstance(handler, str) or start not in (None, "accept", "data"):
        given = repr(handler) if isinstance(handler, str) else f"start={start!r}"
        raise TargetError(f"@connection({given}): write @connection, or say when: start='accept' or start='data'")
    return _mark(handler, Marks("connection", start=start, timeout=timeout))


def _mark(handler: Any, marks: Marks) -> Any:
    if handler is None:
        return lambda later: _mark(later, marks)
    if not callable(handler):
        raise TargetError(f"@{marks.kind} stands before a function or a class, not before {_short(handler)}")
    # a staticmethod is unwrapped on its way out of the class, and what was noted on the wrapper stays behind
    noted = handler.__func__ if isinstance(handler, staticmethod) else handler
    try:
        setattr(noted, MARK, marks)
    except (AttributeError, TypeError):
        raise TargetError(
            f"@{marks.kind} cannot note anything on {_short(handler)}; wrap it in a function of your own"
        ) from None
    return handler


def echo(message: bytes) -> bytes:
    """The built-in target: every message is its own reply."""
    return message


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler that was found fit to serve."""

    call: Callable[..., Any]
    """What is called; for a class, the instance that was built."""
    kind: str
    """"message" or "connection"."""
    wants_connection: bool
    """A message handler with a second parameter."""
    marks: Marks
    hooks: dict[str, Callable[..., Any]]
    """The hooks it has, by their names in `HOOKS`."""
    name: str
    """How the user named it."""


def examine(found: object, name: str, as_: str | None = None) -> Handler:
    """Decide what `found` is, and build it if it is a class.  Raises TargetError.

    An exception of the constructor passes through: it is the user's, with the user's traceback.  `name` is how the user
    named the target; `as_` is the setting of that name, which overrides what a decorator says.
    """
    if not callable(found):
        what = "None" if found is None else _article(type(found).__name__)
        # what has no name of its own is called after its class
        named = _REPR.repr(found) if name == type(found).__qualname__ else name
        raise TargetError(f"{named} is {what}, which cannot be called; a handler is a function or a class")
    _refuse_coroutines(found, name)
    _refuse_servers(found, name)
    built = _build(found, name) if isinstance(found, type) else found
    marks = _marks_of(built)
    kind = as_ or marks.kind
    wants_connection = _wants_connection(built, kind, name)
    kind = kind or "message"
    if kind == "connection" and _is_generator(built):
        raise TargetError(
            f"{name} is a generator function (there is a `yield` in it): calling it would run none of its code; "
            f"a connection handler sends with conn.sendall(...)"
        )
    return Handler(
        call=built,
        kind=kind,
        wants_connection=wants_connection,
        marks=marks,
        hooks=_hooks_of(built, kind, name),
        name=name,
    )


def describe(got: object) -> str:
    """What a handler returned instead of a reply, for the log, with what would be right.  Never raises."""
    if inspect.iscoroutine(got):
        got.close()  # else Python warns, at some later time and place, that it was never awaited
        return "a coroutine (something in it is written with `async def`; Paceline calls plain functions)"
    if isinstance(got, str):
        return f"a str ({_REPR.repr(got)}; return text.encode())"
    return _short(got)


def _short(thing: object) -> str:
    """The type and a repr of bounded length; reprlib survives a __repr__ that raises."""
    shown = _REPR.repr(thing)
    kind = type(thing).__name__
    return shown if shown.lstrip("<").startswith(kind) or thing is None else f"{_article(kind)} ({shown})"


def _own(thing: object, name: str) -> Any:
    """An attribute that is really there, or None.  A proxy's or a mock's __getattr__ has an answer to every name."""
    if inspect.getattr_static(thing, name, None) is None:
        return None
    return getattr(thing, name, None)


def _call_of(thing: object) -> object:
    """The function that runs when `thing` is called: itself, or its class's __call__."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    if inspect.isroutine(thing):
        return thing
    return getattr(thing, "__call__", None)  # noqa: B004 - the method itself is looked at


def _marks_of(built: object) -> Marks:
    while isinstance(built, functools.partial):
        built = built.func
    found = (getattr(place, MARK, None) for place in (built, _call_of(built)))
    marks = next((marks for marks in found if isinstance(marks, Marks)), Marks())
    if marks.framing is None and not inspect.isroutine(built):
        marks = replace(marks, framing=_own(built, "framing"))
    if marks.timeout == AUTO and not inspect.isroutine(built):
        marks = replace(marks, timeout=_class_timeout(type(built)))
    return marks


def _class_timeout(kind: type) -> object:
    """`timeout = 5` in the body of a handler class.  What an instance or a method is called so is the user's own."""
    found = inspect.getattr_static(kind, "timeout", AUTO)
    return found if found is None or isinstance(found, int | float | str) else AUTO


def _refuse_coroutines(found: object, name: str) -> None:
    for function in (found, _call_of(found)):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TargetError(
                f"{name} is written with `async def`; Paceline runs plain blocking functions in threads: "
                f"write `def` and call blocking libraries, or serve it with asyncio"
            )


def _is_generator(built: object) -> bool:
    return inspect.isgeneratorfunction(built) or inspect.isgeneratorfunction(_call_of(built))


def _refuse_servers(found: object, name: str) -> None:
    """What other servers serve, and this version does not."""
    kind = found if isinstance(found, type) else type(found)
    bases = {base.__name__ for base in kind.__mro__ if base.__module__ == "socketserver"}
    if "BaseServer" in bases:
        raise TargetError(
            f"{name} is a socketserver server, which binds and listens by itself; Paceline is the server: "
            f"give it the handler"
        )
    if bases:
        raise TargetError(
            f"{name} is a socketserver handler class, which this version does not serve; "
            f"write a function of the connection, def f(conn), and serve it with --as connection"
        )
    signature = _signature(_call_of(found))
    if signature is not None and list(signature.parameters)[-2:] == ["environ", "start_response"]:
        raise TargetError(f"{name} is a WSGI application, which this version does not serve; it serves TCP, not HTTP")


def _build(found: type, name: str) -> Any:
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise TargetError(f"{name} is an abstract class: it leaves {missing} to its subclasses; serve one of those")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise TargetError(
            f"{name}() must be buildable without arguments (once per worker): {error}; give its parameters defaults, "
            f"or make an instance in the module and serve that"
        ) from None
    except ValueError:
        pass  # a class written in C may have no signature; the call itself will tell
    built = found()
    if not callable(built):
        raise TargetError(
            f"instances of {name} cannot be called; give the class a method __call__(self, message), "
            f"or __call__(self, conn) together with @connection before the class"
        )
    return built


def _signature(function: object) -> inspect.Signature | None:
    """What it may be called with; None when nobody knows (written in C): then it is called with one argument.

    A decorator made with functools.wraps shows the signature of what it wraps, also where its own differs; its own is
    what counts, unless it is *args.
    """
    try:
        own = inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
        if any(p.kind is p.VAR_POSITIONAL for p in own.parameters.values()):
            return inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return own


def _wants_connection(call: object, kind: str | None, name: str) -> bool:
    """Whether a message handler takes a second argument; refuses what cannot be called as its kind is called.

    `kind` None: nobody chose; it is a message handler if it does not look like the other.
    """
    signature = _signature(call)
    if signature is None:
        return False
    named = f"{name}{signature}"
    parameters = signature.parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    most = 2 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if keywords:
        raise TargetError(
            f"{named} needs the keyword argument {keywords[0]!r}, which Paceline does not pass; give it a default"
        )
    if kind is None and positional and positional[0].name in _CONNECTION_NAMES:
        address = "; it then takes one argument, and the address is conn.getpeername(): def f(conn)"
        raise TargetError(
            f"{named} seems to be written over the whole connection; say so with --as connection (or @connection "
            f"before it), or with --as message if {positional[0].name!r} is to be the bytes of one message"
            f"{address if len(required) == 2 else ''}"
        )
    if kind == "connection":
        if most < 1 or len(required) > 1:
            address = ", and its address is conn.getpeername()" if len(required) == 2 else ""
            raise TargetError(
                f"{named} takes {_count(len(required))}; a connection handler takes one, the connection: "
                f"def f(conn){address}"
            )
        return False
    if most < 1 or len(required) > 2:
        raise TargetError(
            f"{named} takes {_count(len(required))}; a message handler takes the message, and the connection "
            f"if it wants it: def f(message) or def f(message, connection)"
        )
    return len(required) == 2 or (len(positional) > 1 and positional[1].name in ("connection", "conn"))


def _hooks_of(built: object, kind: str, name: str) -> dict[str, Callable[..., Any]]:
    if inspect.isroutine(built):
        return {}
    hooks = {}
    for hook, arguments in HOOKS.items():
        method = _own(built, hook)
        if not callable(method):  # `self.start = now()` is nothing of ours
            continue
        if kind == "connection" and arguments:
            raise TargetError(
                f"{name} has the hook {hook}, but as a connection handler its call is the whole connection: "
                f"greet and clean up there"
            )
        _refuse_coroutines(method, f"{name}.{hook}")
        signature = _signature(method)
        try:
            if signature is not None:
                signature.bind(*[None] * arguments)
        except TypeError:
            given = _count(arguments) + (", the connection" if arguments else "")
            raise TargetError(f"{name}.{hook}{signature} cannot be called with {given}, as Paceline does") from None
        hooks[hook] = method
    return hooks


def _count(arguments: int) -> str:
    words = ("no", "one", "two", "three")
    return f"{words[arguments] if arguments < 4 else arguments} argument{'' if arguments == 1 else 's'}"


def _article(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"
