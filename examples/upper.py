r"""A program of socketserver, unchanged: `python examples/upper.py` serves it as ever, on port 9999, a thread for each.

    paceline serve examples/upper.py:Upper
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'hello\nworld\n' >&3; head -n 2 <&3"

Served by Paceline it runs in worker processes × threads, with limits, and can be reloaded; a client that says nothing
holds no thread.
"""

import socketserver


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


if __name__ == "__main__":
    with socketserver.ThreadingTCPServer(("127.0.0.1", 9999), Upper) as server:
        server.serve_forever()
