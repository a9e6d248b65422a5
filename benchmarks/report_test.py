"""report_test: what compare finds and what it does not, and that a page is made of whatever a run has. Needs neither gnuplot nor peers."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROW_SPREADS = {"map": (1.10, 1.00, 1.20), "64 under way": (4.0, 3.8, 4.4), "memory": (0.8, 0.8, 0.8)}


def row(what, cost):
    triple = dict(zip(("median", "min", "max"), cost))
    return {"benchmark": "x", "what": what, "backend": "fork", "unit": "us", "rounds": 7, "limit": triple, "procpool": triple,
            "cost": triple}


def report(rows, **more):
    return {"format": 1, "quick": False, "started": "now", "seconds": 1, "machine": {"cpu": "a <cpu>", "cpus": 2, "kernel": "k"},
            "rows": rows, "peers": [], "runs": [], "skipped": [], **more}


class InFolder(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name

    def put(self, name, value):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            json.dump(value, file)
        return path

    def run_script(self, name, *args, env=None):
        return subprocess.run([sys.executable, os.path.join(HERE, name), *args], capture_output=True, text=True, env=env)


class Compare(InFolder):
    def compared(self, changes, **more):
        spreads = {**ROW_SPREADS, **changes}
        run = self.put("run.json", report([row(what, cost) for what, cost in spreads.items() if cost], **more))
        base = os.path.join(self.folder, "base.json")
        first = self.put("first.json", report([row(what, cost) for what, cost in ROW_SPREADS.items()]))
        self.assertEqual(self.run_script("compare", "--write", base, first).returncode, 0)
        return self.run_script("compare", base, run)

    def test_run_like_the_baseline_passes(self):
        done = self.compared({})
        self.assertEqual((done.returncode, "3 same" in done.stdout), (0, True), done.stdout)

    def test_regression_is_found_and_named(self):
        done = self.compared({"map": (1.5, 1.4, 1.6)})
        self.assertEqual(done.returncode, 1)
        lines = [line for line in done.stdout.splitlines() if "REGRESSED" in line]
        self.assertTrue(any(line.startswith("x: map [fork]") for line in lines), done.stdout)

    def test_regression_of_a_row_without_spread_is_found(self):
        self.assertEqual(self.compared({"memory": (0.9, 0.9, 0.9)}).returncode, 1)

    def test_noise_is_no_regression(self):
        for cost in ((1.22, 1.0, 1.9), (1.18, 1.17, 1.3), (1.5, 1.05, 3.0)):
            self.assertEqual(self.compared({"map": cost}).returncode, 0, cost)

    def test_improvement_is_named_and_passes(self):
        done = self.compared({"64 under way": (2.0, 1.9, 2.2)})
        self.assertEqual((done.returncode, "better" in done.stdout), (0, True), done.stdout)

    def test_rows_of_one_side_are_named(self):
        done = self.compared({"map": None, "another": (1, 1, 1)})
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"x: map \[fork\] .*missing")
        self.assertRegex(done.stdout, r"x: another \[fork\] .*new")

    def test_quick_run_is_refused(self):
        done = self.compared({}, quick=True)
        self.assertEqual((done.returncode, "no measurement" in done.stderr), (2, True))

    def test_what_is_no_report_is_refused(self):
        path = self.put("other.json", {"rows": []})
        self.assertEqual(self.run_script("compare", path, path).returncode, 2)


class Page(InFolder):
    def page_of(self, value):
        self.put("report.json", value)
        done = self.run_script("report", "render", "--output", self.folder, env={"PATH": self.folder})  # where there is no gnuplot
        with open(os.path.join(self.folder, "report.html")) as file:
            return done, file.read()

    def test_without_gnuplot_the_tables_are_there_and_it_is_named(self):
        done, page = self.page_of(report([row("map & more", (1.5, 1.25, 1.75))]))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("gnuplot-nox", page)
        self.assertIn("1.5 (1.25..1.75)", page)
        self.assertIn("map &amp; more", page)
        self.assertNotIn("<img", page)

    def test_what_is_missing_is_named(self):
        _, page = self.page_of(report([], skipped=[{"name": "Some peer", "why": "not installed"}], quick=True))
        for words in ("plot: Throughput of a map", "Some peer", "not installed", "no measurement"):
            self.assertIn(words, page)

    def test_failed_benchmark_fails_the_report_but_not_the_page(self):
        done, page = self.page_of(report([], runs=[{"name": "map", "seconds": 1, "others": 0, "error": "ended with status 1"}]))
        self.assertEqual(done.returncode, 1)
        self.assertIn("ended with status 1", page)

    def test_run_gathers_rows_and_names_what_fails(self):
        programs = {"bench_good": "echo '%s'" % json.dumps(row("a row", (1, 1, 1))), "bench_bad": "echo why >&2; exit 3"}
        for name, text in programs.items():
            path = os.path.join(self.folder, name)
            with open(path, "w") as file:
                file.write("#!/bin/sh\n%s\n" % text)
            os.chmod(path, 0o700)
        paths = [os.path.join(self.folder, name) for name in programs]
        done = self.run_script("report", "run", "--output", self.folder, "--minutes", "1", *paths)
        self.assertEqual(done.returncode, 1)
        with open(os.path.join(self.folder, "report.json")) as file:
            got = json.load(file)
        self.assertEqual([one["what"] for one in got["rows"]], ["a row"])
        self.assertEqual([run["error"] for run in got["runs"]], [None, "ended with status 3: why"])


if __name__ == "__main__":
    unittest.main()
