"""report_run: runs the benchmarks and the peers, one program at a time, and gathers what they print.

Every program has a time limit of its own and all of them together have one, so that a report ends when it was promised to end;
what did not run is named with the reason. A program that fails or hangs costs its own rows and nothing else.

Peers are asked question by question, round after round, so that all of them and the library (which is asked the same
questions by a program of the same kind, peers/peer_procpool.c) see the same machine.

This file knows nothing of what the rows mean."""
import json
import os
import platform
import random
import resource
import signal
import subprocess
import tempfile
import time

FORMAT = 1
# Benchmarks whose answer depends on the start method run with each; the others with the default.
BY_START_METHOD = ("start", "recover", "memory")
START_METHODS = ("fork", "spawn", "forkserver")
PEER_QUESTIONS = ("map", "tasks", "roundtrip", "start", "echo", "uneven")
PEER_ROUNDS = 5
PEER_SHARE = 0.35  # of the time, at least, is for the peers
PROGRAM_SECONDS, ANSWER_SECONDS = 180, 40
SHARES = 3  # no program takes more of the time that is left than three times its share


class Clock:
    """How much time is left; and who else used the CPUs meanwhile."""

    def __init__(self, seconds):
        self.start = time.monotonic()
        self.end = self.start + seconds

    def left(self):
        return self.end - time.monotonic()

    def elapsed(self):
        return time.monotonic() - self.start


def busy_seconds():
    """CPU time of the whole machine that was neither idle nor waiting, that stolen by other machines included."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Interference:
    """The share of the CPUs that went to others than the programs run here, since it was made."""

    def __init__(self):
        self.before = time.monotonic(), busy_seconds() - own_seconds()

    def share(self):
        seconds, foreign = time.monotonic() - self.before[0], busy_seconds() - own_seconds() - self.before[1]
        return round(max(0.0, foreign / max(seconds, 0.01) / os.cpu_count()), 3)


def output_of(command, limit_s, env=None):
    """What a program prints, and why it failed (None: it did not). It and all that it started end with the limit."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True)
        except OSError as error:
            return "", str(error)
        try:
            status = process.wait(max(limit_s, 0.1))
            error = None if status == 0 else "ended with status %d" % status
        except subprocess.TimeoutExpired:
            error = "was ended after %.0f s" % limit_s
        try:
            os.killpg(process.pid, signal.SIGKILL)  # what it left behind, too
        except ProcessLookupError:
            pass
        process.wait()
        out.seek(0)
        err.seek(0)
        words = err.read().strip().splitlines()
        return out.read(), error + (": " + words[-1] if words else "") if error else None


def objects_in(text):
    """The JSON objects among the lines; a line that was cut off or is something else is none."""
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


# ---- benchmarks -------------------------------------------------------------------------------------------------------------


def benchmark_runs(programs):
    for program in programs:
        name = os.path.basename(program).replace("bench_", "", 1)
        for method in START_METHODS if name in BY_START_METHOD else ("forkserver",):
            yield name + (", " + method if name in BY_START_METHOD else ""), [program, "--json", "--backend", method]


def run_benchmarks(programs, clock, limit_s, quick, report):
    runs = list(benchmark_runs(programs))
    for number, (name, command) in enumerate(runs):
        left = limit_s - clock.elapsed()
        left = min(PROGRAM_SECONDS, left, left * SHARES / (len(runs) - number))
        if left <= 0:
            report["skipped"].append({"name": name, "why": "the time was up"})
            continue
        print("  %s" % name, flush=True)
        others, start = Interference(), time.monotonic()
        text, error = output_of(command + ["--quick"] * quick, left)
        report["rows"] += list(objects_in(text))
        report["runs"].append({"name": name, "seconds": round(time.monotonic() - start, 1), "others": others.share(), "error": error})


# ---- peers ------------------------------------------------------------------------------------------------------------------


def pareto_costs(count):
    """Costs in microseconds, Pareto 1.5 with a mean of 1 ms: its quantiles, in an order that is always the same."""
    costs = [(1 - (i + 0.5) / count) ** (-1 / 1.5) for i in range(count)]
    random.Random(1).shuffle(costs)
    return [cost * 1000 * count / sum(costs) for cost in costs]


def ask(peer, question, clock, env):
    text, error = output_of(peer["command"] + [question], min(ANSWER_SECONDS, clock.left()), env)
    return [answer for answer in objects_in(text) if answer.get("question") == question], error


def add_answer(answers, peer, answer):
    """Answers to the same question in other rounds come together: their values become a list."""
    key = peer["name"], answer["question"], answer["setting"]
    if key not in answers:
        answers[key] = {"peer": peer["name"], "values": [], **{k: v for k, v in answer.items() if k != "value"}}
    answers[key]["values"].append(answer["value"])


def run_round(peers, clock, env, answers, broken):
    for question in PEER_QUESTIONS:
        for peer in peers:
            if clock.left() <= 0 or (peer["name"], question) in broken:
                continue
            found, error = ask(peer, question, clock, env)
            if error and clock.left() > 0:
                broken[peer["name"], question] = error
            for answer in [] if error else found:
                add_answer(answers, peer, answer)


def run_peers(folder, clock, quick, report):
    with open(os.path.join(folder, "peers.json")) as file:
        peers = list(objects_in(file.read()))
    report["skipped"] += [{"name": peer["name"], "why": "not installed: " + peer["missing"]} for peer in peers if "missing" in peer]
    peers = [peer for peer in peers if "command" in peer]
    answers, broken = {}, {}
    with tempfile.NamedTemporaryFile("w", prefix="costs") as costs:
        costs.write("".join("%.1f\n" % us for us in pareto_costs(200 if quick else 2000)))
        costs.flush()
        env = dict(os.environ, PEER_COSTS=costs.name)
        others, start = Interference(), time.monotonic()
        for number in range(1 if quick else PEER_ROUNDS):
            if clock.left() <= 0:
                report["skipped"].append({"name": "round %d of the peers" % (number + 1), "why": "the time was up"})
                continue
            print("  peers, round %d" % (number + 1), flush=True)
            run_round(peers, clock, env, answers, broken)
        report["runs"].append({"name": "peers", "seconds": round(time.monotonic() - start, 1), "others": others.share(), "error": None})
    report["peers"] = list(answers.values())
    report["skipped"] += [{"name": "%s, %s" % key, "why": error} for key, error in broken.items()]


# ---- all of it --------------------------------------------------------------------------------------------------------------


def cpu_model():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def run(programs, peers, seconds, quick):
    clock = Clock(seconds)
    report = {
        "format": FORMAT, "quick": quick, "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "machine": {"cpu": cpu_model(), "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release()},
        "rows": [], "peers": [], "runs": [], "skipped": [],
    }
    run_benchmarks(programs, clock, seconds * (1 - PEER_SHARE if peers else 1), quick, report)
    if peers:
        run_peers(peers, clock, quick, report)
    else:
        report["skipped"].append({"name": "all peers", "why": "configured without PROCPOOL_PEERS"})
    report["seconds"] = round(clock.elapsed(), 1)
    return report
