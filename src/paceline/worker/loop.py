"""The fast path: the leader polls and serves what it finds *itself*.

For each connection with plain input: receive once → cut messages → call the handler for each → join the replies → one
non-blocking send → park.  No lock, no clock, no allocation but the bytes themselves; one word is stored to the
scoreboard when the calls of a connection begin, everything else is counted per batch.  Whatever is not plain (unsent
bytes, end-of-file, an exception, a reply that is not bytes, the lead lost in a call) goes to serving.py, which owns the
connection from then on.

The polled batch lies in `ready`, which belongs to the worker: when this thread loses the lead in a call, the next
leader goes on with it.  A thread that lost the lead finishes the connection in hand and returns.

Reading *once* is enough for plain input: what arrives after our receive makes a new edge.  It is not when the receive
filled its buffer; then the rest has no edge of its own.

This file is the one source of the fast path; it is uglier than the others for speed (local names for everything, no
functions), and benchmarks/ shows what that buys.
"""

from collections.abc import Callable, Sequence

from paceline.host import streams
from paceline.host.poller import IN, MOST_EVENTS
from paceline.host.streams import RECEIVE_BYTES
from paceline.scoreboard.fields import ThreadState
from paceline.wire import Broken, Raw
from paceline.wire.hello import BEGINS as TLS_BEGINS
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.gate import Shut
from paceline.worker.serving import Reading, Serving
from paceline.worker.worker import Worker

_POLLING, _SERVING = int(ThreadState.POLLING), int(ThreadState.SERVING)


class Loop:
    """What the leader does.  `accept(fd, me)` takes new connections from a listener that is ready."""

    def __init__(
        self,
        worker: Worker,
        serving: Serving,
        accept: Callable[[int, Member], None],
        listener_events: Sequence[tuple[int, int]],
    ) -> None:
        self.worker = worker
        self.serving = serving
        self.accept = accept
        self.listener_events = tuple(listener_events)
        framing = worker.framing
        self.is_plain = isinstance(framing, Raw) and framing.limit >= RECEIVE_BYTES
        """Each receive is one message, and each reply goes out as it is."""

    def lead(self, me: Member) -> None:
        """Lead until the lead is lost, or nobody leads any more."""
        worker = self.worker
        serving = self.serving
        roles = worker.crew.roles
        tables = worker.tables
        ready, parked, pending, timed = tables.ready, tables.parked, tables.pending, tables.timed
        popleft, take = ready.popleft, parked.pop
        receive, send = streams.receive, streams.send
        cut, join, is_plain = worker.framing.cut, worker.framing.join, self.is_plain
        cut_bytes, most_bytes = serving.fast_bytes, serving.calls.batch_bytes
        call, wants_connection, holds = worker.handler.call, worker.handler.wants_connection, worker.holds
        estimate, is_stale = worker.estimate, serving.ending.is_stale
        secures, secrecy = worker.certificates is not None, None
        words, calls = me.words, me.calls
        messages_in = bytes_in = bytes_out = 0
        words[me.state] = _SERVING
        if Shut.SATURATED in worker.gate.reasons:
            worker.gate.open(Shut.SATURATED)
        if worker.watch_asleep:
            worker.watch_asleep = False
            worker.wake_watcher()
        turns = 0
        while roles.leader is me:
            if turns <= 0 or not ready:
                # All that lay in `ready` has had its turn: what has come meanwhile is next, not who came back for more.
                if bytes_in:
                    words[me.messages] += messages_in
                    words[me.bytes_in] += bytes_in
                    words[me.bytes_out] += bytes_out
                    messages_in = bytes_in = bytes_out = 0
                self._poll(me)
                turns = len(ready)
                continue
            if holds or estimate.blocking or worker.sample_due:
                # The careful way, one by one: there calls are measured, and somebody is promoted before they block.
                self._serve_next(me)
                turns -= 1
                continue
            count = words[calls]
            most_calls = estimate.most_calls
            limit_s = worker.shed_after_s  # in an overload; when it begins, `ready` is made to say so
            # Whatever is not plain leaves this loop for serving.py, and comes back to the top.
            while turns > 0:
                turns -= 1
                try:
                    fd, flags = popleft()
                except IndexError:  # somebody else leads by now, and took it
                    break
                connection = take(fd, None)
                if limit_s is not None and connection is not None and is_stale(connection):
                    serving.ending.shed(connection, me)
                    break
                if connection is None or flags != IN or connection.busy:
                    self._serve_odd(connection, fd, flags, me)
                    break
                try:
                    received = receive(fd, RECEIVE_BYTES)
                except OSError as error:
                    serving.on_receive_error(connection, error, me)
                    break
                if not received:
                    serving.on_end_of_file(connection, me)
                    break
                bytes_in += len(received)
                if secures:
                    secrecy = connection.secrecy
                    if secrecy is not None:
                        is_whole = len(received) < RECEIVE_BYTES
                        received = secrecy.open(received)
                        if not received or secrecy.is_odd or not is_whole:
                            serving.on_opened(connection, received, me)
                            break
                if not connection.messages and received.startswith(TLS_BEGINS):
                    serving.on_tls(connection)
                if is_plain:
                    messages: Sequence[bytes] = (received,)
                    many = 1
                else:
                    if len(received) > cut_bytes:
                        serving.take_in(connection, received, _further(received), me)
                        break
                    kept = connection.rest
                    try:
                        messages, rest = cut(kept, received)
                        if type(messages) is not list:
                            messages = list(messages)  # of the user's: what raises in there raises here
                        many = len(messages)
                    except BaseException as error:  # noqa: BLE001 - a framing of the user's
                        serving.on_cut_error(connection, error, me)
                        break
                    if rest is not None or kept is not None:
                        serving.keep(connection, rest, 0 if messages or kept is None else len(received))
                        if rest is not None:
                            timed[fd] = connection
                    if many > most_calls or type(rest) is Broken:
                        serving.finish(connection, [], messages, _further(received), me)
                        break
                replies: list[bytes] = []
                # A batch is announced as one call: it is short, and a counter that stands still says that one of them
                # takes long.  What all replies together may have is divided among them.
                if many:
                    words[calls] = count + 1
                most_each = most_bytes // (many or 1)
                first = connection.messages
                waiting = iter(messages)
                for message in waiting:
                    try:
                        if wants_connection:
                            connection.messages += 1
                            reply = call(message, connection)
                        else:
                            reply = call(message)
                        if type(reply) is bytes:
                            if len(reply) <= most_each and roles.leader is me:
                                replies.append(reply)
                                continue
                        elif reply is None and roles.leader is me:
                            continue
                        failure = None
                    except BaseException as error:  # noqa: BLE001 - whatever user code raises ends there
                        reply, failure = None, error
                    left = list(waiting)
                    made = many - len(left)
                    connection.messages = first + made
                    words[calls] = count = count + made
                    messages_in += made
                    serving.on_reply(connection, reply, failure, replies, me)
                    serving.finish(connection, replies, left, _further(received), me)
                    break
                else:
                    connection.messages = first + many
                    messages_in += many
                    count += many
                    if many > 1:
                        words[calls] = count
                    try:
                        out = join(replies) if replies else b""
                        if out and secrecy is not None:
                            # What is sealed is sent as it is, once: the next record counts on it.
                            out = connection.out = secrecy.seal(out)
                            replies = []
                            if secrecy.error is not None:
                                raise secrecy.error  # noqa: TRY301 - as if it could not be sent
                        sent = send(fd, out) if out else 0
                        unsent = len(out) - sent
                    except BaseException:  # noqa: BLE001 - done again there, and handled
                        serving.finish(connection, replies, [], _further(received), me)
                        break
                    bytes_out += sent
                    if secrecy is not None:
                        connection.out = None
                    if unsent:
                        connection.out = memoryview(bytes(out))[sent:]  # one of the user's may use its buffer again
                        serving.work(connection, Reading.NOT, me)
                        break
                    if len(received) == RECEIVE_BYTES:
                        serving.work(connection, Reading.DRY, me)
                        break
                    # What `Tables.park` does, without the call.
                    parked[fd] = connection
                    if pending and fd in pending:
                        serving.on_pending(fd, me)
                        break
                    continue
                break
        words[me.messages] += messages_in
        words[me.bytes_in] += bytes_in
        words[me.bytes_out] += bytes_out

    def _poll(self, me: Member) -> None:
        """Wait for events, but not while somebody waits in `ready`; they are behind those afterwards.  Accept first."""
        worker = self.worker
        me.words[me.state] = _POLLING
        if worker.crew.roles.leader is not me:
            return  # lost since the caller looked; whoever took it polls
        ready = worker.tables.ready
        events = worker.poller.wait(0 if ready else None, MOST_EVENTS)
        me.rounds += 1
        # In this order: the watcher says that it sleeps before it looks at our state for the last time.
        me.words[me.state] = _SERVING
        if worker.watch_asleep:
            worker.watch_asleep = False
            worker.wake_watcher()
        listening = [event for event in self.listener_events if event in events]
        for event in listening:
            events.remove(event)
        ready.extend(events)  # before anything that can fail: these edges are reported to nobody else
        for fd, _flags in listening:
            self.accept(fd, me)
        if worker.crew.roles.leader is not me:
            # Two polled for a moment, and the other one may wait in vain for these edges.
            worker.wakeup.wake()

    def _serve_next(self, me: Member) -> None:
        try:
            fd, flags = self.worker.tables.ready.popleft()
        except IndexError:  # taken by another leader, or nothing came but a listener
            return
        connection = self.worker.tables.parked.pop(fd, None)
        if connection is not None and self.serving.ending.is_stale(connection):
            self.serving.ending.shed(connection, me)
        else:
            self._serve_odd(connection, fd, flags, me)

    def _serve_odd(self, connection: Connection | None, fd: int, flags: int, me: Member) -> None:
        """An event that is not plain input for a quiet connection."""
        if connection is None:
            tables = self.worker.tables
            if fd not in tables.open:
                return  # the wake-up, or an event that is older than the end of its connection
            # Somebody else owns it.  Noted first and looked at again: see tables.py.
            tables.pending.add(fd)
            self.serving.on_pending(fd, me)
        else:
            self.serving.on_event(connection, flags, me)


def listener_event(fd: int) -> tuple[int, int]:
    """What a listener that is ready looks like in a batch; nothing else does, for the descriptor is its own."""
    return fd, IN


def _further(received: bytes) -> Reading:
    """A receive that filled its buffer may have left something that has no edge of its own."""
    return Reading.DRY if len(received) == RECEIVE_BYTES else Reading.NOT
