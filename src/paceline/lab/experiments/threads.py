"""What is a thread?  Another stack in the same process: what one changes, all see, whether or not it was meant so.

Memory is read from /proc/self/status while more and more threads wait: VmSize is what is reserved in the address space,
VmRSS what was touched and lies in memory.  What a thread takes is the slope from the first step to the last one; what
the first threads make for all (allocator arenas) is before that, and the first round, which is not kept, made the rest.

Updates are lost when a thread is switched between its read and its write.  CPython from 3.10 on looks for a request to
switch only at calls and at the ends of loops, so a plain `+= 1` seldom loses any under the GIL; that is no promise of
the language.  So the gap that other code has by itself, a call between read and write, is put there on purpose.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.fitting import STEPS, limits, make_as_many
from paceline.lab.plots import Axis, Bar, Bars, Lines, Plot, Series
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same
from paceline.stats.spread import Spread

WRITERS = 4
"""So many threads add to one counter."""
MOST_QUICK, MOST_FULL, MARGIN = 1_000, 4_000, 200
"""No more threads than that are made, and so many less than the lowest limit: others on this machine need some, too."""
TOUCHED = 0.1
"""Predicted: of its stack, a thread that waits has touched less than this share."""

SHARED, LIMITS, START, FIT = "shared", "limits", "start", "fit"
PLAIN, GAP, LOCK = "plain", "gap", "lock"
WAYS = {
    PLAIN: Text("counter += 1, no lock", "counter += 1，无锁"),
    GAP: Text("read, let others run, write; no lock", "读、让出、写，无锁"),
    LOCK: Text("read, let others run, write; with a lock", "读、让出、写，有锁"),
}


class Counter:
    """What all threads share."""

    value = 0


def add_plainly(counter: Counter, _lock: Lock, times: int) -> None:
    """What one writes without a thought."""
    for _ in range(times):
        counter.value += 1


def add_with_a_gap(counter: Counter, _lock: Lock, times: int) -> None:
    """The same in three steps; in the middle one, others may run."""
    from paceline.clock import sleep

    for _ in range(times):
        seen = counter.value
        sleep(0)
        counter.value = seen + 1


def add_with_a_lock(counter: Counter, lock: Lock, times: int) -> None:
    """The same three steps, but nobody else is between them."""
    from paceline.clock import sleep

    for _ in range(times):
        with lock:
            seen = counter.value
            sleep(0)
            counter.value = seen + 1


def change_from_a_thread() -> dict[str, bool]:
    """A thread changes a list of ours; what is seen afterwards, and whether it was the same process."""
    import os
    import threading

    shared = ["before"]
    pids: list[int] = []
    natives: list[int] = []

    def change() -> None:
        shared[0] = "changed by the thread"
        pids.append(os.getpid())
        natives.append(threading.get_native_id())

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    return {
        "seen": shared == ["changed by the thread"],
        "same_pid": pids == [os.getpid()],
        "own_kernel_id": natives != [threading.get_native_id()],
    }


# Measuring


def measure(study: Study) -> None:
    study.note(SHARED, 1, **change_from_a_thread())
    found = limits()
    study.note(LIMITS, 1, limits=found)
    study.part(0, 0.1)
    for round_, _ in study.rounds([START], quick=10, full=40):
        study.note(START, round_, start_us=[_start_us() for _ in range(20)])
    study.part(0.1, 0.6)
    most = max(STEPS, min(MOST_QUICK if study.quick else MOST_FULL, min(found.values(), default=MOST_FULL) - MARGIN))
    for round_, _ in study.rounds([FIT], quick=2, full=5):
        steps, made, why = make_as_many(most)
        counts, rss, size = zip(*steps, strict=True) if steps else ((), (), ())
        study.note(FIT, round_, asked=most, made=made, why=why, threads=counts, rss_bytes=rss, size_bytes=size)
    study.part(0.6, 1)
    scale = 1 if study.quick else 5
    ways: dict[str, tuple[Callable[[Counter, Lock, int], None], int]] = {
        PLAIN: (add_plainly, 50_000 * scale),
        GAP: (add_with_a_gap, 500 * scale),
        LOCK: (add_with_a_lock, 500 * scale),
    }
    for round_, case in study.rounds(ways, quick=3, full=8):
        add, times = ways[case]
        value, took_s = _add_together(add, times if round_ else times // 5)
        expected = WRITERS * times
        study.note(case, round_, expected=expected, value=value, lost=expected - value, took_s=took_s)


def _start_us() -> float:
    """From the call to start a thread until it returns; by then the thread runs."""
    import threading

    from paceline.clock import now_ns

    thread = threading.Thread(target=int)
    begun = now_ns()
    thread.start()
    took = now_ns() - begun
    thread.join()
    return took / 1e3


def _add_together(add: Callable[[Counter, Lock, int], None], times: int) -> tuple[int, float]:
    """What the counter says after four threads have added so many times each, and how long that took."""
    from paceline.clock import now
    from paceline.lab.crew import Crew

    counter, lock = Counter(), Lock()
    with Crew([lambda: add(counter, lock, times)] * WRITERS) as crew:
        begun_s = now()
        crew.begin()
        crew.answers()
        return counter.value, now() - begun_s


# What the samples say


def per_thread(samples: Samples, quantity: str) -> Spread | None:
    """How many bytes each further thread takes, of `rss_bytes` or `size_bytes`: the slope of each round."""
    slopes = []
    for sample in samples.of(FIT):
        threads, sizes = sample["threads"], sample[quantity]
        if len(threads) > 1:
            slopes.append((sizes[-1] - sizes[0]) / (threads[-1] - threads[0]))
    return Spread.of(slopes)


def lost_share(samples: Samples, case: str) -> Spread | None:
    """In percent of all updates."""
    return Spread.of(sample["lost"] / sample["expected"] * 100 for sample in samples.of(case))


def predict(machine: Machine) -> Prediction:
    plain = _PLAIN_GIL if machine.has_gil else _PLAIN_FREE
    return Prediction(
        joined(
            Text(
                "A change made by a thread is seen by all. Each thread reserves a whole stack of address space (on "
                "Linux as a rule 8 MiB), but one that waits has touched less than {touched:.0%} of it: so {most:,} "
                "fit. Where a thread may be switched between reading and writing, updates are lost; with a lock, none.",
                "一个线程所做的改动，所有线程都能看到。每个线程保留一整块栈的地址空间（Linux 上通常是 8 MiB），"
                "但处于等待中的线程用到的不到 {touched:.0%}，因此 {most:,} 个线程放得下。"
                "如果线程可能在读和写之间被切换，就会丢失更新；有锁则一次也不丢。",
            ).filled(touched=TOUCHED, most=MOST_QUICK),
            plain,
        ),
        {"touched share": TOUCHED, "fit": MOST_QUICK, "lost with a lock": 0.0},
    )


_PLAIN_GIL = Text(
    "Whether a plain += 1 loses any is not predicted: under the GIL it seldom does, and nothing promises it.",
    "单纯的 += 1 会不会丢失，这里不作预测：有 GIL 时很少丢失，但谁也没有保证它不会。",
)
_PLAIN_FREE = Text(
    "Without a GIL a plain += 1 loses some, too, if there is more than one core.",
    "没有 GIL 时，只要不止一个核，单纯的 += 1 也会丢失。",
)


def judge(machine: Machine, samples: Samples) -> Verdict:
    shared, fit = samples.of(SHARED), samples.of(FIT)
    rss, size = per_thread(samples, "rss_bytes"), per_thread(samples, "size_bytes")
    shares = {case: lost_share(samples, case) for case in WAYS}
    plain, gap, lock = shares[PLAIN], shares[GAP], shares[LOCK]
    if not shared or not fit or plain is None or gap is None or lock is None:
        return Verdict.unknown()
    is_seen, made = all(sample["seen"] for sample in shared), min(sample["made"] for sample in fit)
    is_light = rss is not None and size is not None and rss.median < TOUCHED * size.median
    is_plain_so = machine.has_gil or machine.cores == 1 or plain.highest > 0
    held = is_seen and is_light and made >= MOST_QUICK and gap.lowest > 0 and lock.highest == 0 and is_plain_so
    same_pid, own_id = (all(sample[name] for sample in shared) for name in ("same_pid", "own_kernel_id"))
    fits = joined(_fit_text(fit, rss, size), _limit_text(samples))
    text = Text(
        "{how} here: the thread's change {seen}; it was {pid} process, with {own} number in the kernel. {fit} Of "
        "{gap_of:,} updates with a gap {gap:,} were lost, of {lock_of:,} with a lock {lock}; a plain += 1 lost "
        "{plain:,} of {plain_of:,}.",
        "在这台机器上{how_zh}：线程的改动{seen_zh}；它与我们{pid_zh}，在内核中{own_zh}。{fit_zh}"
        "读写之间有空隙时，{gap_of:,} 次更新丢失了 {gap:,} 次；有锁时，{lock_of:,} 次{lock_zh}；"
        "单纯的 += 1 在 {plain_of:,} 次中丢失 {plain:,} 次。",
    ).filled(
        **how(held),
        seen="was seen" if is_seen else "was not seen", seen_zh="看得到" if is_seen else "看不到",
        pid="the same" if same_pid else "another", pid_zh="同属一个进程" if same_pid else "不在同一个进程",
        own="a" if own_id else "no", own_zh="有自己的编号" if own_id else "没有自己的编号",
        fit=fits.en, fit_zh=fits.zh, gap=_sum(samples, GAP, "lost"),
        gap_of=_sum(samples, GAP, "expected"), lock_of=_sum(samples, LOCK, "expected"),
        lock="none" if lock.highest == 0 else f"{_sum(samples, LOCK, 'lost'):,}",
        lock_zh="一次也没丢" if lock.highest == 0 else f"丢失 {_sum(samples, LOCK, 'lost'):,} 次",
        plain=_sum(samples, PLAIN, "lost"), plain_of=_sum(samples, PLAIN, "expected"),
    )  # fmt: skip
    figures = {"lost with a gap %": gap.median, "lost with a lock %": lock.median, "lost plainly %": plain.median}
    if rss is not None and size is not None:
        figures |= {"touched KiB": rss.median / 1024, "reserved KiB": size.median / 1024}
    checks = [
        (is_light, _HEAVY),
        (gap.lowest > 0, _NO_LUCK),
        (lock.highest == 0, _LOCK_FAILED),
        (is_plain_so, _PLAIN_LUCK),
    ]
    reasons = [why for is_so, why in checks if not is_so]
    return Verdict(held, joined(text, *reasons), {**figures, "made": made})


_HEAVY = Text(
    "A thread that waits touched more of its stack than predicted: the smaller the stack (ulimit -s), the larger that "
    "share.",
    "等待中的线程用到的栈比预测的多：栈越小（ulimit -s），这个比例就越大。",
)
_NO_LUCK = Text(
    "In one round with the gap nothing was lost: nobody was switched to within it.",
    "有一轮在有空隙的情况下也没有丢失：没有线程在空隙中被切换进来。",
)
_LOCK_FAILED = Text(
    "That a lock lost updates must not be: please report it, with this page.",
    "有锁还丢失更新，这是不应该发生的：请附上本页报告这个问题。",
)
_PLAIN_LUCK = Text(
    "That a plain += 1 lost nothing without a GIL was luck of this run.",
    "没有 GIL 时单纯的 += 1 也没有丢失，是这次运气好。",
)


def _limit_text(samples: Samples) -> Text:
    """Which limit would be met first."""
    found: dict[str, int] = next((sample["limits"] for sample in samples.of(LIMITS)), {})
    if not found:
        return same("")
    lowest = min(found, key=found.__getitem__)
    return Text(
        "The lowest limit here would be met at {count:,} ({lowest}).", "这里最低的限制是 {count:,} 个（{lowest}）。"
    ).filled(count=found[lowest], lowest=lowest)


def _sum(samples: Samples, case: str, quantity: str) -> int:
    return sum(sample[quantity] for sample in samples.of(case))


def _fit_text(fit: Sequence[Any], rss: Spread | None, size: Spread | None) -> Text:
    """How many were made, and what each took."""
    least = min(fit, key=lambda sample: sample["made"])
    made, asked = least["made"], least["asked"]
    if made < asked:
        count = Text(
            "Of {asked:,} threads {made:,} could be made: then the system refused ({why}), so a limit on threads or "
            "memory is lower here.",
            "要创建 {asked:,} 个线程，只创建了 {made:,} 个，系统就拒绝了（{why}）：这里对线程数或内存的限制更低。",
        ).filled(asked=asked, made=made, why=least["why"])
    else:
        count = Text(
            "All {made:,} threads that were asked for were there at once; more were not tried.",
            "要求的 {made:,} 个线程全部同时存在；没有再尝试更多。",
        ).filled(made=made)
    if rss is None or size is None:
        return count
    each = Text(
        "Each reserved {size:,.0f} KiB and touched {rss:,.1f} KiB.", "每个保留 {size:,.0f} KiB，用到 {rss:,.1f} KiB。"
    ).filled(size=size.median / 1024, rss=rss.median / 1024)
    return joined(count, each)


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    plots: list[Plot] = []
    if any(samples.of(case) for case in WAYS):
        plots.append(
            Bars(
                Text(
                    f"Updates lost by {WRITERS} threads that add to one counter",
                    f"{WRITERS} 个线程同加一个计数器时丢失的更新",
                ),
                Axis(Text("lost, of all updates", "丢失的更新所占比例"), "%"),
                [Bar(name, lost_share(samples, case)) for case, name in WAYS.items()],
            )
        )
    reserved, touched = _by_count(samples, "size_bytes"), _by_count(samples, "rss_bytes")
    if reserved:
        title = Text("Memory of the process while more and more threads wait", "等待的线程越来越多时进程的内存")
        x = Axis(Text("threads", "线程数"))
        y = Axis(Text("memory", "内存"), "MiB", is_log=True)
        names = Text("reserved (VmSize)", "保留的（VmSize）"), Text("touched (VmRSS)", "实际用到的（VmRSS）")
        plots.append(Lines(title, x, y, [Series(names[0], reserved), Series(names[1], touched)]))
    if (start := samples.spread(START, "start_us")) is not None:
        title = Text("What it costs to start a thread", "启动一个线程的开销")
        axis = Axis(Text("until start() returns", "到 start() 返回为止的时间"), "µs")
        plots.append(Bars(title, axis, [Bar(Text("start a thread", "启动线程"), start)]))
    return plots


def _by_count(samples: Samples, quantity: str) -> list[tuple[float, Spread]]:
    """In MiB, by how many threads there were."""
    found: dict[int, list[float]] = {}
    for sample in samples.of(FIT):
        for count, size in zip(sample["threads"], sample[quantity], strict=True):
            found.setdefault(count, []).append(size / (1 << 20))
    return [(float(count), spread) for count, sizes in found.items() if (spread := Spread.of(sizes)) is not None]


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [Text("what", "项目"), Text("median (lowest … highest)", "中位数（最小 … 最大）"), Text("of", "个数")]
    size, rss = per_thread(samples, "size_bytes"), per_thread(samples, "rss_bytes")
    quantities: list[tuple[Text, Spread | None, int]] = [
        (Text("start a thread, µs", "启动一个线程，微秒"), samples.spread(START, "start_us"), 1),
        (Text("reserved by a thread, KiB", "每个线程保留的内存，KiB"), size and size / 1024, 0),
        (
            Text("touched by a thread, KiB (not in the kernel)", "每个线程用到的内存，KiB（不含内核部分）"),
            rss and rss / 1024,
            1,
        ),
        (Text("threads at once", "同时存在的线程数"), samples.spread(FIT, "made"), 0),
    ]
    for sample in samples.of(LIMITS):
        quantities += [
            (joined(Text("limit of threads:", "线程数的限制："), same(name)), Spread.exactly(count), 0)
            for name, count in sorted(sample["limits"].items(), key=lambda it: int(it[1]))
        ]
    for case, name in WAYS.items():
        lost = joined(Text("lost, %:", "丢失，%："), name)
        quantities.append((lost, lost_share(samples, case), 2))
    for case, name in WAYS.items():
        each = Spread.of(sample["took_s"] / sample["expected"] * 1e6 for sample in samples.of(case))
        quantities.append((joined(Text("an update, µs:", "一次更新，微秒："), name), each, 2))
    rows = [
        [name, same(spread.text(digits)), same(f"{spread.count:,}")]
        for name, spread, digits in quantities
        if spread is not None
    ]
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="threads",
    question=Text("What is a thread?", "什么是线程？"),
    explains=Text(
        "A thread is a second stream of instructions in the same process. It has a stack and an identity of its own in "
        "the kernel; everything else, all variables and open files, it shares with the others. That makes it cheap, "
        "and dangerous: `counter += 1` is a read, an addition and a write, and if another thread comes between them, "
        "its addition is overwritten. How many fit is a matter of limits and of memory: those of this machine are in "
        "the figures. Four threads add to one counter here: plainly; with sleep(0) between the read "
        "and the write, which lets the others run, as any call may; and so with a lock around it. Under the GIL "
        "today's CPython switches threads only at certain places, so the plain way mostly loses nothing, by luck of "
        "the implementation: a test that passes is no proof that the lock is not needed.",
        "线程是同一个进程里的另一条指令流。它有自己的栈，在内核中有自己的编号；除此之外的一切，所有变量和打开的文件，"
        "都与其他线程共享。所以线程便宜，也所以危险：`counter += 1` 其实是读、加、写三步，如果另一个线程插在中间，它加"
        "的那一次就会被覆盖。能容纳多少线程取决于各种限制和内存：本机的限制列在数据中。这里让四个线程加同一个计数器："
        "直接加；在读与写之间放一个 sleep(0)，让别的线程运行（任何一次函数调用都可能如此）；以及再用锁把它包起来。有 "
        "GIL 时，如今的 CPython 只在某些位置切换线程，所以直接加多半不会丢失，但这只是实现上的巧合：测试通过并不能证明"
        "不需要锁。",
    ),
    shown=(change_from_a_thread, add_plainly, add_with_a_gap, add_with_a_lock, make_as_many),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=2.0,
    full_s=15.0,
)
