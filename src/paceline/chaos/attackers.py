"""The main of a process of attackers: all of them in one loop, one thread.  mob.py starts it, and reaps it.

to it    {"order": …}      once, first: an Order
         {"calm": true}    they ask nothing more, and wait for what they have asked
         {"stop": true}    the end: they hang up
from it  {"progress": {"connected", "ended", "stand"}}    ten times a second, and at each change of the next two
         {"stand": true}   all stand
         {"over": true}    all are over
         {"calm": true}    all that was asked is answered
         {"result": …}     after "stop"; nothing follows
"""

import gc
import heapq
import json
import os
import random
import select
import signal
import socket
import sys
from collections import Counter, deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from paceline.chaos.attacks import KINDS, RESETS, UNREAD_BYTES, Kind, Peer, ask, cut_off, has_refused
from paceline.clock import now

TOLD_EVERY_S = 0.1
PER_SOURCE = 20_000
"""So many connections come from one address of loopback, then the next one is used: it has 28,000 ports for a place."""
_BIND_ADDRESS_NO_PORT = 24
"""The port is chosen when it connects, from those that are free for that place (ip(7))."""
DIAL_S = 20.0
FLOOD_OPEN = 2_000
WRONGS = 10


@dataclass(frozen=True, slots=True)
class Order:
    """What this process does.

    kind    a fault of the catalogue
    count   how many attackers; of `flood`, how many in a second
    first   the number of the first one
    net     they come from 127.NET.0.x
    """

    kind: str
    count: int
    first: int
    host: str
    port: int
    net: int
    seed: int
    hold_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Gang:
    """All attackers of this process."""

    def __init__(self, control: socket.socket, order: Order) -> None:
        self.control, self.order, self.kept = control, order, b""
        self.kind = KINDS.get(order.kind, Kind(lambda _gang, _peer: b""))
        self.chance = random.Random(f"{order.seed}/{order.first}")
        self.seed = order.seed
        self.ballast = b"y" * UNREAD_BYTES if order.kind == "early" else b""
        self.epoll = select.epoll()
        self.peers: dict[int, Peer] = {}
        self.timers: list[tuple[float, int, int]] = []
        self.started = self.dialling = self.connected = self.standing = 0
        self.lasted_s: list[float] = []
        self.begun_s: list[float] = []
        self.troubles: Counter[str] = Counter()
        self.wrongs: list[str] = []
        self.wrong_count = 0
        self.said: set[str] = set()
        self.told_s = 0.0
        self.is_stopped = self.is_calm = False
        self.dialled = self.answered = 0
        self.begins_s = now()
        self.epoll.register(control.fileno(), select.EPOLLIN)

    # The loop

    def run(self) -> None:
        if self.order.kind in ("churn", "tear"):
            self._cut_off_all()
        elif self.order.kind == "flood":
            self._flood()
        while not self.is_stopped:
            while self.started < self.order.count and self.dialling < self.kind.at_once:
                if self.kind.streams and len(self.peers) >= self.kind.at_once:
                    break
                self._dial()
            at_s = now()
            self._on_time(at_s)
            wait_s = TOLD_EVERY_S if not self.timers else max(0.0, min(self.timers[0][0] - at_s, TOLD_EVERY_S))
            for fd, flags in self.epoll.poll(wait_s, 512):
                if fd == self.control.fileno():
                    self._on_told()
                elif (peer := self.peers.get(fd)) is not None:
                    self._on_event(peer, flags, now())
            self._report()
        self._end()

    def _on_time(self, at_s: float) -> None:
        while self.timers and self.timers[0][0] <= at_s:
            due_s, fd, number = heapq.heappop(self.timers)
            peer = self.peers.get(fd)
            if peer is None or peer.number != number or peer.due_s != due_s:
                continue
            if peer.is_dialling:
                self.troubles["no connection in time"] += 1
                self._forget(peer)
            elif self.kind.on_time is not None and not self.is_calm:
                self.kind.on_time(self, peer, at_s)
                self._schedule(peer)

    def _schedule(self, peer: Peer) -> None:
        if peer.due_s and peer.socket.fileno() >= 0:
            heapq.heappush(self.timers, (peer.due_s, peer.socket.fileno(), peer.number))

    def _report(self) -> None:
        at_s, count = now(), self.order.count
        are_over = self.started - len(self.peers) >= count
        if not are_over and at_s - self.told_s < TOLD_EVERY_S:
            return
        if self.standing + len(self.lasted_s) + sum(self.troubles.values()) >= count and not self.kind.streams:
            self._say_once("stand")
        if are_over:
            self._say_once("over")
        if self.is_calm and all(peer.asked == peer.answered for peer in self.peers.values()):
            self._say_once("calm")
        if at_s - self.told_s >= TOLD_EVERY_S:
            self.told_s = at_s
            self.tell(progress={"connected": self.connected, "ended": len(self.lasted_s)})

    def _say_once(self, word: str) -> None:
        if word not in self.said:
            self.said.add(word)
            self.tell(**{word: True})

    def _on_told(self) -> None:
        self.kept += self.control.recv(1 << 12)
        self.is_stopped = not self.kept or b"stop" in self.kept
        if b"calm" in self.kept and not self.is_calm:
            self.is_calm = True
            # An error in place of bytes that are there makes no further event; the next bytes do.
            for peer in list(self.peers.values()):
                if not peer.is_dialling:
                    ask(self, peer, now())

    # One of them

    def _dial(self) -> None:
        number = self.order.first + self.dialled
        self.dialled += 1
        self.started += 1
        try:
            peer = Peer(number, socket.socket())
        except OSError as error:
            self.troubles[os.strerror(error.errno or 0)] += 1
            return
        peer.socket.setblocking(False)
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.kind.window:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.kind.window)
        self.bind(peer.socket, self._source(number))
        peer.socket.connect_ex((self.order.host, self.order.port))
        self.dialling += 1
        self.peers[peer.socket.fileno()] = peer
        self.epoll.register(peer.socket.fileno(), select.EPOLLOUT)
        peer.due_s = now() + DIAL_S
        self._schedule(peer)

    def bind(self, each: socket.socket, source: str) -> None:
        if source:
            each.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            each.bind((source, 0))

    def _source(self, number: int) -> str:
        if not self.order.host.startswith("127."):
            return ""
        return f"127.{self.order.net}.0.{1 + number // PER_SOURCE}"

    def _on_connected(self, peer: Peer, at_s: float) -> None:
        number = peer.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.troubles[os.strerror(number)] += 1
            self._forget(peer)
            return
        peer.is_dialling = False
        peer.begun_s, peer.due_s = at_s, 0.0
        self.dialling -= 1
        self.connected += 1
        self.epoll.modify(peer.socket.fileno(), self._mask(peer))
        opening = self.kind.opens(self, peer)
        if opening:
            self.send(peer, opening, at_s)
        if self.kind.stands_at_once:
            self.standing += 1
        self._schedule(peer)

    def _mask(self, peer: Peer) -> int:
        # Who does not read does not want to know of end-of-file either: only that it is over (EPOLLHUP, EPOLLERR).
        reads = not self.kind.is_deaf and not (peer.out and self.kind.waits)
        return (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if peer.out else 0)

    def send(self, peer: Peer, piece: bytes, at_s: float) -> None:
        """As far as it goes; the rest follows."""
        peer.out = memoryview(bytes(peer.out) + piece) if peer.out else memoryview(piece)
        self._flush(peer, at_s)

    def _flush(self, peer: Peer, at_s: float) -> None:
        try:
            while peer.out:
                peer.out = peer.out[peer.socket.send(peer.out) :]
        except BlockingIOError:
            pass
        except OSError:
            self._is_over(peer, at_s)
            return
        self.epoll.modify(peer.socket.fileno(), self._mask(peer))

    def _on_event(self, peer: Peer, flags: int, at_s: float) -> None:
        if peer.is_dialling:
            self._on_connected(peer, at_s)
            return
        if flags & (select.EPOLLHUP | select.EPOLLERR):
            self._is_over(peer, at_s)
            return
        if flags & select.EPOLLIN and not self._receive(peer, at_s):
            self._is_over(peer, at_s)
            return
        if flags & select.EPOLLOUT and peer.socket.fileno() >= 0:
            self._flush(peer, at_s)

    def _receive(self, peer: Peer, at_s: float) -> bool:
        """False: that was the end."""
        try:
            data = peer.socket.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data and self.kind.on_data is not None:
            stood = peer.stands
            self.kind.on_data(self, peer, data, at_s)
            self.standing += peer.stands and not stood and not self.kind.stands_at_once
        return bool(data)

    def drain(self, peer: Peer) -> None:
        """Read what has come before the end."""
        with suppress(OSError):
            while data := peer.socket.recv(1 << 16):
                peer.got += data

    def _is_over(self, peer: Peer, at_s: float) -> None:
        self.lasted_s.append(at_s - peer.begun_s)
        if peer.stands or self.kind.stands_at_once:
            self.standing -= 1
        if self.kind.on_over is not None:
            self.kind.on_over(self, peer, at_s)
        self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        self.dialling -= peer.is_dialling
        self.answered += peer.answered
        if self.kind.renews and not self.is_calm:
            self.started -= 1
        self.begun_s.append(peer.begun_s)
        del self.peers[peer.socket.fileno()]
        peer.socket.close()

    def wrong(self, what: str) -> None:
        """A promise was broken."""
        self.wrong_count += 1
        if len(self.wrongs) < WRONGS:
            self.wrongs.append(what)

    # Those who break off at once

    def _cut_off_all(self) -> None:
        place, poll = (self.order.host, self.order.port), select.poll()
        poll.register(self.control, select.POLLIN)
        chance = self.chance if self.order.kind == "tear" else None
        for number in range(self.order.count):
            if number % 64 == 0 and poll.poll(0):
                break
            try:
                cut_off(self, place, self._source(number % PER_SOURCE), chance)
                self.connected += 1
            except OSError as error:
                self.troubles[os.strerror(error.errno or 0)] += 1
            self.started += 1
            if number % 64 == 0:
                self._report()

    def _flood(self) -> None:
        """So many a second; the newest stay open, as far as the server lets them."""
        place, poll = (self.order.host, self.order.port), select.poll()
        poll.register(self.control, select.POLLIN)
        newest: deque[socket.socket] = deque()
        while (since_s := now() - self.begins_s) < self.order.hold_s and not poll.poll(0):
            due = int(self.order.count * since_s) - self.dialled
            if due <= 0:
                select.select([], [], [], 0.0005)
            for _ in range(min(due, 100)):
                self.dialled += 1
                each = socket.socket()
                try:
                    self.bind(each, self._source(0))
                    each.connect(place)
                except ConnectionResetError:  # refused before we were told that we are connected
                    self.lasted_s.append(0.0)
                    each.close()
                    continue
                except OSError as error:
                    self.troubles[os.strerror(error.errno or 0)] += 1
                    each.close()
                    continue
                newest.append(each)
                if len(newest) > FLOOD_OPEN:
                    self._count_refused(newest.popleft())
            self._report()
        while newest:
            self._count_refused(newest.popleft())
        self.connected, self.started = self.dialled, self.order.count

    def _count_refused(self, each: socket.socket) -> None:
        if has_refused(each):
            self.lasted_s.append(0.0)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        each.close()

    # The end

    def tell(self, **message: Any) -> None:
        self.control.sendall(json.dumps(message).encode() + b"\n")

    def _end(self) -> None:
        left = list(self.peers.values())
        for peer in left:
            self.begun_s.append(peer.begun_s)
            # A reset: an ordinary end of thousands would leave as many ports in TIME_WAIT (tcp(7)).
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
            peer.socket.close()
        self.tell(
            result={
                "connected": self.connected,
                "left": len(left),
                "lasted_s": sorted(self.lasted_s),
                "begun_s": sorted(begun for begun in self.begun_s if begun),
                "troubles": dict(self.troubles),
                "wrongs": self.wrongs,
                "wrong": self.wrong_count,
                "asked": sum(peer.asked for peer in left),
                "answered": self.answered + sum(peer.answered for peer in left),
            }
        )


def main(fd: int) -> int:
    """Until the parent says so, or has died: then the socket ends, which is the same."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    with socket.socket(fileno=fd) as control:
        kept = b""
        while b"\n" not in kept:
            piece = control.recv(1 << 16)
            if not piece:
                return 0
            kept += piece
        gang = Gang(control, Order(**json.loads(kept.partition(b"\n")[0])["order"]))
        with suppress(BrokenPipeError, ConnectionResetError):
            gang.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
