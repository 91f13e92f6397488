"""What `paceline.serve` takes, for type checkers and editors.  Nothing here runs."""

import os
from typing import TypedDict


class Keywords(TypedDict, total=False):
    """The keyword arguments of `paceline.serve`, for type checkers and editors: the rows of the table."""

    bind: str | list[str] | tuple[str, ...]
    as_: str | None
    framing: str | None
    start: str | None
    proxy_protocol: str | list[str] | tuple[str, ...] | None
    allow: str | list[str] | tuple[str, ...] | None
    deny: str | list[str] | tuple[str, ...] | None
    max_connections_per_address: int | str | None
    max_connection_rate: float | str | None
    tls_cert: "str | os.PathLike[str] | list[str] | tuple[str, ...] | None"
    tls_key: "str | os.PathLike[str] | list[str] | tuple[str, ...] | None"
    tls_key_password_file: "str | os.PathLike[str] | None"
    tls_ca: "str | os.PathLike[str] | None"
    tls_client_cert: str
    alpn: str | list[str] | tuple[str, ...] | None
    tls_min: str
    workers: int | str | None
    max_workers: int | str | None
    threads: int
    switch_interval: float | str
    max_connections: int | str | None
    backlog: int
    max_message: int | str
    max_buffer: int | str
    max_buffered: int | str | None
    first_byte_timeout: float | str | None
    message_timeout: float | str | None
    min_rate: int | str | None
    proxy_timeout: float | str
    handshake_timeout: float | str
    write_timeout: float | str
    idle_timeout: float | str | None
    keepalive: float | str | None
    timeout: float | str | None
    queue_timeout: float | str | None
    max_messages: int | str | None
    max_messages_jitter: float | str
    max_rss: int | str | None
    max_age: float | str | None
    boot_timeout: float | str
    drain_timeout: float | str
    heartbeat: float | str
    probe: str | None
    probe_reply: str | None
    user: str | int | None
    group: str | int | None
    umask: str | None
    socket_mode: str | None
    socket_owner: str | int | None
    no_new_privs: str | None
    pid: "str | os.PathLike[str] | None"
    control: "str | os.PathLike[str] | None"
    chdir: "str | os.PathLike[str] | None"
    log_format: str
