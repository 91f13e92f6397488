r"""The function that every course on sockets has, unchanged: it gets the connection and does everything itself.

    paceline serve examples/workon.py:workon --as connection
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'hello\n' >&3; head -n 1 <&3"

Each connection has a thread of its own for as long as the function runs (up to --threads in each worker process).
"""

# mypy: allow-untyped-defs


def workon(conn):
    while True:
        data = conn.recv(1024)
        if not data:
            break
        conn.send(data)
    conn.close()
