r"""The smallest server: a function from the bytes that arrived to the bytes that go back.

    paceline serve examples/echo.py:echo
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'hello\n' >&3; head -n 1 <&3"

The line comes back.  Nothing here knows of sockets, threads or processes; as many of them work as are needed.
"""


def echo(message: bytes) -> bytes:
    return message
