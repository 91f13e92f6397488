"""The control socket: what `paceline ctl` asks is put to the supervisor, and its answers are brought back.

    a line  →  a request  →  an event with the asker's number  →  the roster decides  →  Answer  →  a line

Used by the supervisor's loop, on its one thread: it waits for `sources`, no longer than until `next_at`, and calls
`on_time`.  requests.py says what can be asked, clients.py looks after one connection, stacktaking.py after a dump.

Nobody who connects can make the supervisor wait, or end it: a client that sends garbage gets a sentence, one that stops
in the middle of a line or does not read is dropped, one too many is told so, and an answer to somebody who has left is
dropped.  Only root and the user whose server this is are listened to: the mode of the socket's file sees to that, and
SO_PEERCRED (unix(7)), should somebody have changed the mode.
"""

import os
import select
import socket
import struct
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from paceline import __version__
from paceline.errors import SettingError
from paceline.events import counted
from paceline.supervisor.clients import Client
from paceline.supervisor.requests import Request, RequestError, answer, parse
from paceline.supervisor.seats import Seat, Sources
from paceline.supervisor.sentences import span_text
from paceline.supervisor.vocabulary import Answer, DrainAsked, Event, ScaleAsked, StopAsked

if TYPE_CHECKING:
    from paceline.supervisor.loop import Supervisor
    from paceline.supervisor.stacktaking import Stacktaking
    from paceline.worker.messages import Dumped

MOST_CLIENTS = 16
MOST_AT_ONCE = 16
"""Connections that are taken, and requests of one client that are done, before anybody else is heard."""
DEAF_S = 1.0
"""How long nobody is taken after there was no descriptor left for a connection."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""
_QUIET = frozenset({"ping", "dump", "config"})
"""What changes nothing is not logged."""


class Control:
    """The socket's clients, and who waits for what.  The listener belongs to whoever made it."""

    def __init__(self, listener: socket.socket | None, server: "Supervisor") -> None:
        self.listener = listener
        """None: there is no control socket, and all of this costs nothing."""
        if listener is not None:
            listener.setblocking(False)
        self.server = server
        self.clients: list[Client] = []
        self._last_asker = 0
        self._deaf_until = 0.0
        self._dumps: Stacktaking | None = None  # made when somebody asks for the first

    # For the loop

    def fds(self) -> list[int]:
        """The clients': no worker may keep them."""
        return [client.socket.fileno() for client in self.clients if client.is_open]

    def sources(self) -> Sources:
        """What is waited for: descriptor → poll(2) mask, who hears, None."""
        self.clients = [client for client in self.clients if client.is_open]
        found = {client.socket.fileno(): client for client in self.clients}
        sources: Sources = {fd: (client.mask, partial(self._on_client, client), None) for fd, client in found.items()}
        if self.listener is not None and self.server.now() >= self._deaf_until:
            sources[self.listener.fileno()] = (select.POLLIN, self._on_listener, None)
        return sources

    @property
    def next_at(self) -> float | None:
        """When `on_time` is to be called although nothing has happened."""
        times = [client.ends_at for client in self.clients]
        times += [0.0 for client in self.clients if client.is_free and client.requests]
        times += [self._deaf_until or None, self._dumps.next_at if self._dumps else None]
        return min((at for at in times if at is not None), default=None)

    def on_time(self) -> Iterator[Event]:
        """Time has passed: patience may have ended, and what had to wait may begin."""
        now = self.server.now()
        if now >= self._deaf_until:
            self._deaf_until = 0.0
        for client in list(self.clients):
            client.on_time(now)
            if client.requests or client.at_end:
                yield from self._guarded(client, self._serve)
        if self._dumps is not None:
            for asker, workers in self._dumps.step(now):
                self._reply(asker, counted(len(workers), "worker"), workers=workers)

    def on_answer(self, said: Answer) -> None:
        """Bring it to whoever asked, if he is still there."""
        client = self._client_of(said.asker)
        if client is not None:
            client.asker = 0 if said.is_last else said.asker
            client.send(answer(said.text, said.detail, ok=said.ok, is_last=said.is_last), self.server.now())

    def on_dumped(self, seat: Seat, message: "Dumped") -> None:
        """A worker has said where its threads are."""
        if self._dumps is not None:
            self._dumps.on_message(seat, message)

    @property
    def is_dumping(self) -> bool:
        return self._dumps is not None and self._dumps.next_at is not None

    def fd_of(self, asker: int) -> int:
        """The descriptor of the connection on which it was asked; -1: there is none any more."""
        client = self._client_of(asker)
        return -1 if client is None else client.socket.fileno()

    def part(self, asker: int) -> None:
        """Another program takes over in this process: who is not this asker has his connection ended, and hears why."""
        now = self.server.now()
        for client in self.clients:
            if client.asker != asker or not asker:
                client.send(answer("the server is just being upgraded in place; ask once more", ok=False), now)
                client.close()

    def adopt(self, fd: int) -> int:
        """Go on with the connection of whoever asked for the upgrade by which this program has taken over.

        Returns the asker's number; 0: nobody asked (`fd` is -1).
        """
        if fd < 0:
            return 0
        connection = socket.socket(fileno=fd)
        client = Client(connection, "process {} (uid {})".format(*_peer_of(connection)), self.server.now())
        self.clients.append(client)
        self._last_asker += 1
        client.asker = self._last_asker
        text = f"Paceline {__version__} has taken over in process {os.getpid()}; its workers follow"
        self.on_answer(Answer(client.asker, text, is_last=False))
        return client.asker

    def close(self) -> None:
        """At the end: what can still be sent is sent."""
        for client in self.clients:
            client.end(self.server.now())
            client.close()
        self.clients = []

    # Clients

    def _on_listener(self, _seat: Seat | None) -> Iterator[Event]:
        assert self.listener is not None
        for _ in range(MOST_AT_ONCE):
            try:
                connection = self.listener.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError:
                self._deaf_until = self.server.now() + DEAF_S
                break
            self._welcome(connection)
        yield from ()

    def _welcome(self, connection: socket.socket) -> None:
        now = self.server.now()
        pid, uid = _peer_of(connection)
        client = Client(connection, f"process {pid} (uid {uid})", now)
        why_not = ""
        if uid not in (0, os.geteuid()):
            why_not = (
                f"this server belongs to uid {os.geteuid()}; only that user and root may ask, and you are uid {uid}"
            )
        elif len([client for client in self.clients if client.is_open]) >= MOST_CLIENTS:
            why_not = f"busy: {MOST_CLIENTS} clients are connected to the control socket; try again when one has left"
        if why_not:
            client.send(answer(why_not, ok=False), now)
            client.close()
        else:
            self.clients.append(client)

    def _on_client(self, client: Client, _seat: Seat | None) -> Iterator[Event]:
        client.on_event(self.server.now())
        yield from self._guarded(client, self._serve)

    def _guarded(self, client: Client, do: Callable[[Client], Iterator[Event]]) -> Iterator[Event]:
        """A bug of ours costs the client."""
        try:
            yield from do(client)
        except Exception as error:  # noqa: BLE001 - a bug of ours
            client.close()
            detail = "".join(traceback.format_exception(error))
            self.server.log.say("supervisor-bug", where="the control socket", error=repr(error), detail=detail)

    def _serve(self, client: Client) -> Iterator[Event]:
        """Do what it has asked, as far as its turn has come."""
        for _ in range(MOST_AT_ONCE):
            if not (client.is_free and client.requests):
                break
            try:
                request = parse(client.requests.popleft())
            except RequestError as error:
                client.send(answer(str(error), ok=False), self.server.now())
                continue
            self._last_asker += 1
            client.asker = self._last_asker
            if request.do not in _QUIET:
                self.server.log.say("control-asked", request=str(request), asker=client.who)
            yield from self._do(request, client.asker)
        if client.is_over:
            client.close()

    # Requests

    def _do(self, request: Request, asker: int) -> Iterator[Event]:
        server = self.server
        match request.do:
            case "ping":
                self._reply(asker, f"Paceline {__version__}, pid {os.getpid()}", pid=os.getpid(), paceline=__version__)
            case "config":
                self._show_settings(asker)
            case "dump":
                self._dump(asker)
            case "stop":
                yield from self._stop(asker, at_once=request.now)
            case "reload":
                yield from server.changing.ask_reload(asker)
            case "upgrade":
                server.changing.ask_upgrade(asker)
            case "scale":
                yield ScaleAsked(asker, request.workers, request.by)
            case "drain":
                yield DrainAsked(asker, request.slot)

    def _stop(self, asker: int, *, at_once: bool) -> Iterator[Event]:
        roster = self.server.roster
        if at_once:
            self._reply(asker, "the server ends at once; calls that run are cut")
        elif roster.stopping.urgency is not None:
            self._reply(asker, "the server stops already; stop --now does not wait for the calls that run")
            return
        else:
            self._reply(asker, f"the server stops; calls have {span_text(roster.posts.limits.drain_s)} to finish")
        # Two names, because the same one twice within a moment is taken for an echo (stopping.py).
        yield StopAsked("the control socket (now)" if at_once else "the control socket", at_once)

    def _dump(self, asker: int) -> None:
        if self._dumps is None:
            from paceline.supervisor.stacktaking import Stacktaking  # only a dump pays for it

            self._dumps = Stacktaking(self.server)
        self._dumps.ask(asker)

    def _show_settings(self, asker: int) -> None:
        from paceline.settings.manual import print_settings  # only who asks pays for it

        settings = self.server.hands.settings_for(self.server.roster.posts.generation)
        try:
            self._reply(asker, "the settings that count now", toml=print_settings(settings))
        except SettingError as error:
            self.on_answer(Answer(asker, str(error), ok=False))

    def _client_of(self, asker: int) -> Client | None:
        """Who waits for the answer, if he is still there."""
        return next((client for client in self.clients if asker and client.asker == asker), None)

    def _reply(self, asker: int, text: str, **more: object) -> None:
        """The one answer to a request, with what only this command says."""
        client = self._client_of(asker)
        if client is not None:
            client.asker = 0
            client.send(answer(text, more=more), self.server.now())


def _peer_of(connection: socket.socket) -> tuple[int, int]:
    """(process, user) that connected (unix(7), SO_PEERCRED); 0 for a process of another namespace."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid
