"""peer_python.py LIBRARY QUESTION: Python's process pools. LIBRARY: multiprocessing, concurrent.futures or joblib.

Each library is a class with the same few methods; one that it lacks is a question without an answer."""
import json
import os
import sys
import tempfile
import time

WORKERS, WINDOW, PAYLOAD = 2, 1000, 1 << 20
CHUNKS = (1000, 10000, 50000)


def same(item):
    return item


def spin(us):
    end = time.process_time() + us / 1e6
    while time.process_time() < end:
        pass


def meet(where):
    """Until as many as are expected have come: so each worker comes once."""
    path, workers = where
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
    while os.stat(path).st_size < workers:
        time.sleep(0.0002)


class Multiprocessing:
    def __init__(self, workers):
        import multiprocessing
        self.pool = multiprocessing.Pool(workers)

    def map(self, function, items, chunk=None):
        return self.pool.map(function, items, chunk)

    def submit(self, function, item):
        return self.pool.apply_async(function, (item,)).get

    def close(self):
        self.pool.close()
        self.pool.join()


class Futures:
    def __init__(self, workers):
        from concurrent.futures import ProcessPoolExecutor
        self.pool = ProcessPoolExecutor(workers)

    def map(self, function, items, chunk=None):
        return list(self.pool.map(function, items, chunksize=chunk or 1))

    def submit(self, function, item):
        return self.pool.submit(function, item).result

    def close(self):
        self.pool.shutdown()


class Joblib:
    def __init__(self, workers):
        import joblib
        self.joblib, self.workers = joblib, workers

    def map(self, function, items, chunk=None):
        call = self.joblib.delayed(function)
        return self.joblib.Parallel(self.workers, batch_size=chunk or "auto")(call(item) for item in items)

    def close(self):
        self.joblib.externals.loky.get_reusable_executor().shutdown()


LIBRARIES = {"multiprocessing": Multiprocessing, "concurrent.futures": Futures, "joblib": Joblib}


def answer(question, setting, value, unit, note=""):
    print(json.dumps({"question": question, "setting": setting, "value": value, "unit": unit, "note": note}), flush=True)


def seconds(run, *args):
    start = time.perf_counter()
    run(*args)
    return time.perf_counter() - start


def rate(run, most=10_000_000):
    """run(count) for counts that grow until it takes 0.2 s: items a second of the last."""
    count = 1000
    while True:
        took = seconds(run, count)
        if took >= 0.2 or count >= most:
            return count / took
        count *= 10


def ask_map(pool):
    answer("map", "default", rate(lambda count: pool.map(same, range(count))) / 1e6, "M items/s")
    rates = {chunk: rate(lambda count: pool.map(same, range(count), chunk), 1_000_000) for chunk in CHUNKS}
    best = max(rates, key=rates.get)
    answer("map", "best chunk size", rates[best] / 1e6, "M items/s", "chunks of %d" % best)


def one_by_one(pool, count):
    for start in range(0, count, WINDOW):
        for get in [pool.submit(same, item) for item in range(start, min(start + WINDOW, count))]:
            get()


def ask_tasks(pool):
    if hasattr(pool, "submit"):
        answer("tasks", "default", rate(lambda count: one_by_one(pool, count)) / 1e6, "M/s", "1,000 at a time")
    else:
        answer("tasks", "default", rate(lambda count: pool.map(same, range(count), 1)) / 1e6, "M/s", "batches of 1")


def ask_roundtrip(pool):
    if not hasattr(pool, "submit"):
        return
    for _ in range(200):
        pool.submit(same, 1)()
    us = sorted(seconds(lambda: pool.submit(same, 1)()) * 1e6 for _ in range(2000))
    answer("roundtrip", "median", us[len(us) // 2], "us")
    answer("roundtrip", "99th percentile", us[len(us) * 99 // 100], "us")


def ask_start(library):
    for workers in (2,) if library is Joblib else (2, 16):  # joblib takes seconds for 16
        path = tempfile.mktemp()
        start = time.perf_counter()
        pool = library(workers)
        pool.map(meet, [(path, workers)] * workers, 1)
        answer("start", "%d workers" % workers, (time.perf_counter() - start) * 1e3, "ms")
        pool.close()
        os.unlink(path)


def ask_echo(pool):
    payload = bytes(PAYLOAD)
    send = (lambda: pool.submit(same, payload)()) if hasattr(pool, "submit") else (lambda: pool.map(same, [payload]))
    send()
    count = 40
    took = seconds(lambda: [send() for _ in range(count)])
    answer("echo", "1 MiB", 2 * PAYLOAD * count / took / 1e9, "GB/s")


def ask_uneven(pool):
    with open(os.environ["PEER_COSTS"]) as file:
        costs = [float(line) for line in file]
    ideal = max(sum(costs) / WORKERS, max(costs)) / 1e6
    pool.map(spin, [0.0] * WORKERS)
    if not isinstance(pool, Futures):  # whose default is one by one
        answer("uneven", "default", seconds(pool.map, spin, costs) / ideal, "x ideal")
    answer("uneven", "one by one", seconds(pool.map, spin, costs, 1) / ideal, "x ideal")


def main():
    library, question = LIBRARIES[sys.argv[1]], sys.argv[2]
    if question == "start":
        ask_start(library)
        return
    questions = {"map": ask_map, "tasks": ask_tasks, "roundtrip": ask_roundtrip, "echo": ask_echo, "uneven": ask_uneven}
    if question in questions:
        pool = library(1 if question in ("roundtrip", "echo") and library is not Joblib else WORKERS)
        pool.map(same, range(WORKERS))
        questions[question](pool)
        pool.close()


if __name__ == "__main__":
    main()
