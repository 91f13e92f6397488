r"""A protocol of lines: the function gets one whole line at a time, without its end, however the bytes arrived.

    paceline serve examples/shout.py:shout
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'hello\nworld\n' >&3; head -n 2 <&3"

`framing` says what a message is; `--framing` on the command line says it too, and then the decorator is not needed.
"""

import paceline


@paceline.message(framing="line")
def shout(line: bytes) -> bytes:
    return line.upper()  # the end of the line is put back on its way out
