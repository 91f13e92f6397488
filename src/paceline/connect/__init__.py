"""The client for people: a terminal to talk to a server, and a pipe to talk through.

    escapes        ● bytes as text that a terminal can be trusted with, and typed text as bytes
    commands       ● what a typed line asks for
    session        ● what is awaited, and how long it took
    rendering      ● replies as lines on the screen
    endings        ● how a connection ended, in a sentence
    translation    ● what a pipe sends for its input, and writes for the replies

    conversation   the thread that has the connection, while somebody types
    dialogue       what each typed line does; the same for both kinds of prompt
    prompting      the prompt with prompt-toolkit
    plain          the prompt without it
    history        the file of what was typed
    pipe           standard input to the server, its replies to standard output

(● pure.)  Nothing is imported here: `paceline.cli.connect` takes what it needs.
"""
