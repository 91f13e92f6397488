"""What a user may write as a handler, and what kind each thing is.  Pure.

    message      def f(message: bytes) -> bytes | None | Iterable[bytes] | Close   (a second parameter: the connection)
    connection   def f(conn): plain blocking code over the whole connection        (@connection, --as connection)
    socketserver a subclass of socketserver.BaseRequestHandler, unmodified; or functools.partial of one
    class        instances are one of the first two; built once per worker; may have the hooks of `HOOKS`

`examine` decides which of them an object is, or raises a TargetError that says what is wrong with it and what would be
right.  It runs in the worker, after the import, on the main thread; the supervisor never sees the object.  It calls
nothing of the user's but the constructor of a class (and what looking up an attribute calls).
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from paceline.errors import TargetError
from paceline.handlers.marks import AUTO, HOOKS, MARK, REPR, Marks, article, described

KINDS = ("message", "connection", "socketserver")

_CONNECTION_NAMES = frozenset(
    {"conn", "connection", "sock", "socket", "client", "client_socket", "client_sock", "clientsocket"}
)
"""A single parameter with one of these names was not written to receive bytes."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler that was found fit to serve."""

    call: Callable[..., Any]
    """What is called; for a class, the instance that was built."""
    kind: str
    """One of `KINDS`."""
    wants_connection: bool
    """A message handler with a second parameter."""
    marks: Marks
    hooks: dict[str, Callable[..., Any]]
    """The hooks it has, by their names in `HOOKS`."""
    name: str
    """How the user named it."""

    @property
    def holds(self) -> bool:
        """A call is a whole connection."""
        return self.kind != "message"


def examine(found: object, name: str, as_: str | None = None) -> Handler:
    """Decide what `found` is, and build it if it is a class.  Raises TargetError.

    An exception of the constructor passes through: it is the user's, with the user's traceback.  `name` is how the user
    named the target; `as_` is the setting of that name, which overrides what a decorator says.
    """
    if not callable(found):
        what = "None" if found is None else article(type(found).__name__)
        # what has no name of its own is called after its class
        named = REPR.repr(found) if name == type(found).__qualname__ else name
        raise TargetError(f"{named} is {what}, which cannot be called; a handler is a function or a class")
    _refuse_coroutines(found, name)
    _refuse_servers(found, name)
    if (requests := request_class(found)) is not None:
        return _request_handler(found, requests, name, as_)
    if as_ == "socketserver":
        raise TargetError(
            f"{name} is no socketserver handler, a subclass of socketserver.BaseRequestHandler, as --as socketserver "
            f"says; leave that out"
        )
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
        return f"a str ({REPR.repr(got)}; return text.encode())"
    return described(got)


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


def request_class(found: object) -> type | None:
    """The socketserver handler class that it is, or whose functools.partial it is; recognised without an import."""
    while isinstance(found, functools.partial):
        found = found.func
    return found if isinstance(found, type) and "BaseRequestHandler" in _bases(found) else None


def _bases(kind: type) -> set[str]:
    return {base.__name__ for base in kind.__mro__ if base.__module__ == "socketserver"}


def _request_handler(found: Any, kind: type, name: str, as_: str | None) -> Handler:
    """Of the standard library's servers.  Not built: there is an instance for each connection."""
    if as_ in ("message", "connection"):
        raise TargetError(f"{name} is a socketserver handler class, and is served as such: leave out --as {as_}")
    if "DatagramRequestHandler" in _bases(kind):
        raise TargetError(f"{name} is a handler for datagrams (UDP), and Paceline serves connections (TCP)")
    handle = inspect.getattr_static(kind, "handle")
    if getattr(handle, "__module__", "") == "socketserver":
        raise TargetError(f"{name} has no handle() of its own, so it would do nothing; write def handle(self)")
    _refuse_coroutines(handle, f"{name}.handle")
    marks = getattr(kind, MARK, None)
    noted = marks if isinstance(marks, Marks) else Marks()
    return Handler(
        call=found,
        kind="socketserver",
        wants_connection=False,
        marks=replace(noted, kind="socketserver", start=noted.start or "data"),
        hooks={},
        name=name,
    )


def _refuse_servers(found: object, name: str) -> None:
    """What other servers serve, and this version does not."""
    kind = found if isinstance(found, type) else type(found)
    if "BaseServer" in _bases(kind):
        handler = getattr(found, "RequestHandlerClass", None)
        its = f", {handler.__name__}" if isinstance(handler, type) else ""
        raise TargetError(
            f"{name} is a socketserver server, which binds and listens by itself; Paceline is the server: "
            f"give it the handler class{its}"
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
