# python.py ROW [COUNT] -- the work of each row of the bench, by CPython's multiprocessing. Prints one number, in
# the unit of the row (see run.lua).
import multiprocessing as mp
import os
import sys
import threading
import time

mp.set_start_method("fork", force=True)  # also where a spawned child imports this file
now = time.monotonic


def putter(q, gate, message, n):
    gate.wait()
    for _ in range(n):
        q.put(message)


def getter(q, gate, n):
    gate.wait()
    for _ in range(n):
        q.get()


def start_all(targets):
    processes = [mp.Process(target=f, args=args) for f, *args in targets]
    for p in processes:
        p.start()
    time.sleep(0.05)
    return processes


def join_all(processes):
    for p in processes:
        p.join()


def queue(message, n, users=1, size=0):
    q, gate = mp.Queue(size), mp.Event()
    targets = [(putter, q, gate, message, n // users) for _ in range(users)]
    if users > 1:
        targets += [(getter, q, gate, n // users) for _ in range(users)]
    processes = start_all(targets)
    start = now()
    gate.set()
    if users == 1:
        getter(q, gate, n)
        took = now() - start
        join_all(processes)
    else:
        join_all(processes)
        took = now() - start
    return took / n


def echo(c):
    while True:
        message = c.recv()
        if message is None:
            return
        c.send(message)


# Batches of a hundred, at most n of them or for two seconds; the median batch is what it takes while both run.
def round_trip(n):
    a, b = mp.Pipe()
    processes = start_all([(echo, b)])
    took, end = [], now() + 2
    while len(took) < n and now() < end:
        start = now()
        for i in range(100):
            a.send(i)
            a.recv()
        took.append((now() - start) / 100)
    a.send(None)
    join_all(processes)
    return sorted(took)[len(took) // 2]


def late_putter(q, n):
    for _ in range(n):
        t = now()
        while now() - t < 0.0005:
            pass
        q.put(now())


def wake(n):
    q = mp.SimpleQueue()
    processes = start_all([(late_putter, q, n)])
    took = []
    for _ in range(n):
        sent = q.get()
        took.append(now() - sent)
    join_all(processes)
    return sorted(took)[n // 2]


def lock(n):
    held = mp.Lock()
    start = now()
    for _ in range(n):
        held.acquire()
        held.release()
    return (now() - start) / n


def increment(gate, v, n):
    gate.wait()
    held = v.get_lock()
    for _ in range(n):
        with held:
            v.value += 1


def counter(n):
    gate, v = mp.Event(), mp.Value("q", 0)
    processes = start_all([(increment, gate, v, n // 2)] * 2)
    start = now()
    gate.set()
    join_all(processes)
    took = now() - start
    assert v.value == n // 2 * 2
    return took / n


def value(n):
    v, total = mp.Value("d", 0.0), 0.0
    start = now()
    for _ in range(n):
        total += v.value
    return (now() - start) / n


def nothing():
    pass


def process(n, new=mp.Process):
    start = now()
    for _ in range(n):
        p = new(target=nothing)
        p.start()
        p.join()
    return (now() - start) / n


def interpreters(n):
    """Threads with an interpreter each, as mp.Thread has: a plain thread shares one."""
    import _xxsubinterpreters as sub

    def work():
        i = sub.create()
        sub.run_string(i, "None")
        sub.destroy(i)

    return process(n, lambda target: threading.Thread(target=work))


def square(x):
    return x * x


def pool_map(n, chunksize):
    with mp.Pool(2) as pool:
        pool.map(square, range(100))
        start = now()
        result = pool.map(square, range(n), chunksize=chunksize)
        took = now() - start
        assert result[n - 1] == (n - 1) ** 2
    return took / n


def pool_apply(n):
    with mp.Pool(2) as pool:
        pool.apply(square, (3,))
        start = now()
        for i in range(n):
            pool.apply(square, (i,))
        return (now() - start) / n


def mandel_row(row, size=300):
    inside = 0
    for col in range(size):
        cr, ci, zr, zi, k = 2 * col / size - 1.5, 2 * row / size - 1, 0.0, 0.0, 0
        while k < 100 and zr * zr + zi * zi < 4:
            zr, zi = zr * zr - zi * zi + cr, 2 * zr * zi + ci
            k += 1
        inside += k == 100
    return inside


def computing(size):
    took, inside = [], []
    for workers in (1, 2):
        with mp.Pool(workers) as pool:
            pool.map(square, range(100))
            start = now()
            inside.append(sum(pool.map(mandel_row, range(size), chunksize=5)))
            took.append(now() - start)
    assert inside[0] == inside[1]
    return took[0] / took[1]


def dict_set(n):
    with mp.Manager() as m:
        d = m.dict()
        start = now()
        for i in range(n):
            d["k%03d" % (i % 1000)] = 1.5
        return (now() - start) / n


def dict_get(n):
    with mp.Manager() as m:
        d, total = m.dict({"k%03d" % i: 1.5 for i in range(1000)}), 0
        start = now()
        for i in range(n):
            total += d["k%03d" % (i % 1000)]
        return (now() - start) / n


def manager(n):
    with mp.Manager() as m:
        calls = m.list([1, 2, 3])
        start = now()
        for _ in range(n):
            len(calls)
        return (now() - start) / n


def memory():
    go = mp.Queue()
    p = mp.Process(target=go.get)
    p.start()
    time.sleep(0.2)
    kb = 0
    with open("/proc/%d/smaps_rollup" % p.pid) as f:
        for line in f:
            if line.startswith(("Private_Clean", "Private_Dirty")):
                kb += int(line.split()[1])
    go.put(1)
    p.join()
    return kb / 1024


FOOD = {"id": 1, "name": "food", "n": 3.5}
ROWS = {
    "queue_int": (1e9, lambda n: queue(1, n), 200000),
    "queue_table": (1e9, lambda n: queue(FOOD, n), 150000),
    "queue_1m": (1, lambda n: 1048576e-9 / queue("x" * 1048576, n, size=8), 400),
    "queue_4_4": (1e9, lambda n: queue(1, n, 4), 120000),
    "queue_many": (1e9, lambda n: queue(1, n), 200000),
    "round_trip": (1e6, round_trip, 200),
    "wake": (1e6, wake, 600),
    "lock": (1e9, lock, 4000000),
    "counter": (1e9, counter, 500000),
    "value": (1e9, value, 4000000),
    "process": (1e6, process, 300),
    "process_spawn": (1e6, lambda n: process(n, mp.get_context("spawn").Process), 10),
    "thread": (1e6, interpreters, 100),
    "table_3": (1e9, lambda n: queue([1, 2, 3], n), 150000),
    "table_100": (1e6, lambda n: queue(list(range(1, 101)), n), 50000),
    "table_100k": (1e3, lambda n: queue(list(range(1, 100001)), n), 100),
    "pool_map_1": (1e6, lambda n: pool_map(n, 1), 15000),
    "pool_map": (1e9, lambda n: pool_map(n, None), 1500000),
    "pool_apply": (1e6, pool_apply, 4000),
    "computing": (1, computing, 300),
    "dict_set": (1e9, dict_set, 10000),
    "dict_get": (1e9, dict_get, 10000),
    "manager": (1e6, manager, 10000),
    "memory": (1, lambda n: memory(), 1),
}

# Curves (curves.lua): the third argument is where on the curve.
X = int(sys.argv[3]) if len(sys.argv) > 3 else 1


def backlog(n):
    q, start = mp.Queue(), now()
    for _ in range(max(1, n // X)):
        for _ in range(X):
            q.put(1)
        for _ in range(X):
            q.get()
    return (now() - start) / (max(1, n // X) * X)


def blocked(q):
    q.get()


def processes():
    q, start = mp.SimpleQueue(), now()
    started = [mp.Process(target=blocked, args=(q,)) for _ in range(X)]
    for p in started:
        p.start()
    for _ in range(X):
        q.put(1)
    join_all(started)
    return (now() - start) / X


ROWS.update(
    size=(1, lambda n: X * 1e-9 / queue("x" * X, n, size=max(8, min(1000, (64 << 20) // X))), 1000),
    users=(1e9, lambda n: queue(1, n, X), 40000),
    backlog=(1e9, backlog, 20000),
    processes=(1e6, lambda n: processes(), 1),
)

if __name__ == "__main__":  # spawn imports this file again
    unit, f, count = ROWS[sys.argv[1]]
    if len(sys.argv) > 2:
        count = int(sys.argv[2])
    print("%.6g" % (unit * f(count)), flush=True)
