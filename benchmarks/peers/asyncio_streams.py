"""asyncio as most of its users write it, with streams: `python -m benchmarks.peers.asyncio_streams HANDLER [WAY]`.

raw        the handler runs in the loop; what was read at once is a message
lines      the same, for each line
threads    for handlers that block: as raw, but the handler runs in a thread (run_in_executor), of which there are 64
"""

import asyncio
import sys
from asyncio import StreamReader, StreamWriter
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers import (
    BACKLOG,
    RECEIVE_BYTES,
    THREADS,
    handler_from_command_line,
    listen,
    say_listening,
    way_from_command_line,
)

HANDLER = handler_from_command_line()


async def answer(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(RECEIVE_BYTES):
        writer.write(HANDLER(data) if HANDLER else data)
        await writer.drain()
    writer.close()


async def answer_lines(reader: StreamReader, writer: StreamWriter) -> None:
    assert HANDLER is not None
    while line := await reader.readline():
        writer.write(HANDLER(line[:-1]) + b"\n")
        await writer.drain()
    writer.close()


async def answer_in_threads(reader: StreamReader, writer: StreamWriter) -> None:
    assert HANDLER is not None
    loop = asyncio.get_running_loop()
    while data := await reader.read(RECEIVE_BYTES):
        writer.write(await loop.run_in_executor(None, HANDLER, data))
        await writer.drain()
    writer.close()


WAYS = {"raw": answer, "lines": answer_lines, "threads": answer_in_threads}


async def serve(way: str) -> None:
    if way == "threads":
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    listener = listen()
    listener.setblocking(False)
    server = await asyncio.start_server(WAYS[way], sock=listener, backlog=BACKLOG)
    say_listening(listener)
    await server.serve_forever()


sys.exit(asyncio.run(serve(way_from_command_line(*WAYS))))
