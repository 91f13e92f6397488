"""Break things around a server on purpose, and see what is lost: `paceline chaos`, and the rig of tests/faults.

A run starts a server, loads it with numbered messages that must come back, does something bad to it again and again, by
a plan that a seed repeats, and then asks: was every message answered once and in order, and if not, is it explained
by what was done to the process that had it?  Is nothing left behind?

    catalogue  the faults: what each does, and what may be lost by it        schedule  which one, when: from the seed
    messages   numbered messages, and what a reply says                      target    the application served
    judge      losses and wounds: what explains what                         result    what came out, what was broken
    report     the table at the end                                          plan      what was asked for

    rig        the server: its processes, its board, its log                 procfs    what /proc says of processes
    load       the process with all clients, clients.py its loop             crew      it, as seen from here
    scene      what a fault sees of all that                                 run       the order of things
    killing, stopping, starving, barren, renewing, ending, peers             the faults; drivers lists them

Abuses are faults by many: how many is on the command line, they are processes of their own, and figures are told.

    abusing, disturbing     the abuses      siege    one from its beginning to its end       figures  what is promised
    mob        the attackers' processes, attackers their loop, attacks what each kind does
"""
