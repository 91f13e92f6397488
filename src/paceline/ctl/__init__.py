"""The client side of `paceline ctl`: find a running server, look at it, ask it something.

    finding    which server is meant: the one that runs, or the one that was named
    looking    two looks at its scoreboard, and what the kernel says of its processes; nobody is asked
    picture    ● what these looks show: the workers, what is wrong, whether it is healthy
    asking     a conversation with its supervisor over the control socket
    rendering  ● all of it as text

`cli/ctl.py` puts them together.  Looking works while every thread of the server hangs and its supervisor is stopped,
because the scoreboard is memory that anybody may map who may look at the process.
"""
