"""`paceline bench`, the load generator.

    plan          ● what a run is to do
    pacing        ● which message is due when
    messages      ● what is sent                    replies      ● what has come, and whether it is right
    latency       ● histograms                      tally        ● counts                patience  ● when to give up
    troubles      ● errors by kind                  verdicts     ● what is to be said about figures
    result        ● JSON, its schema                report       ● text                  comparison  ● two results
    run             leads a run                     crew           the load processes, from outside
    member          one of them, from inside        engine         its loop: phases, time
    traffic         its messages and connections    fast           the part that is nearly all of the time
    dialling, link  connections                     progress, machine, effort, places, spoken

● pure.  To understand it, read plan, run, member, engine, traffic.
"""
