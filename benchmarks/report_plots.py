"""report_plots: which pictures a report has, and what of it each of them shows.

A plot is a function from the report to a Plot: the gnuplot script that draws it, its data inside, and the table of the same
numbers. It gives None when the report has no such data (a benchmark or a peer that did not run); the page then names the plot as
missing. Which rows a plot takes is decided by the names that the benchmarks give them: the one thing that this file and they
have to agree about.

Points have the median with bars from the smallest to the largest of the rounds. Rates and durations are on logarithmic axes,
since the peers differ by factors of thousands."""
import re
from collections import namedtuple

# table: a row of headings and the rows below. height in pixels.
Plot = namedtuple("Plot", "script table height")
Series = namedtuple("Series", "label colour points")  # points: {name: (median, min, max)}

PROCPOOL, LIMIT, PEER = "#1f6feb", "#8c959f", "#bc4c00"
METHOD_COLOURS = {"fork": ("#1a7f37", "#a7d8b2"), "spawn": ("#bc4c00", "#f0c2a2"), "forkserver": ("#1f6feb", "#a8c8f8")}
WIDTH = 900


def spread(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return median, ordered[0], ordered[-1]


def number(value):
    """Three digits that count."""
    return "%d" % round(value) if abs(value) >= 100 else "%.3g" % value


def cell(point):
    return "%s (%s..%s)" % tuple(map(number, point)) if point else ""


# ---- what is in a report ----------------------------------------------------------------------------------------------------


def series_rows(report, benchmark=None):
    """The rows with a limit, the library and the cost; benchmark None: of all."""
    return [row for row in report["rows"] if "cost" in row and benchmark in (None, row["benchmark"])]


def point_of(row, which):
    return tuple(row[which][key] for key in ("median", "min", "max"))


def peer_points(report, question, setting):
    found = [answer for answer in report["peers"] if answer["question"] == question and answer["setting"] == setting]
    return {answer["peer"]: spread(answer["values"]) for answer in found}


def by_number(report, benchmark, pattern, which):
    """[(the number that pattern finds in a row's name, median, min, max)], sorted."""
    found = [(re.search(pattern, row["what"]), row) for row in series_rows(report, benchmark)]
    return sorted((float(match.group(1).replace(",", "")),) + point_of(row, which) for match, row in found if match)


# ---- gnuplot ----------------------------------------------------------------------------------------------------------------


def quoted(text):
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"').replace("_", "\\_")


def block(name, rows):
    return "$%s << EOD\n%s\nEOD\n" % (name, "\n".join(" ".join("%.6g" % value for value in row) for row in rows))


HEAD = """set terminal svg size %d,%d dynamic enhanced font 'Helvetica,13' background '#ffffff'
set border 3 lc rgb '#57606a'
set tics nomirror
set grid lc rgb '#d0d7de' lw 1 dt 2
set key outside top center horizontal
set bars 0.4
"""


def script(height, settings, blocks, curves):
    return HEAD % (WIDTH, height) + settings + "".join(blocks) + "plot " + ", \\\n     ".join(curves) + "\n"


def dots(series, axis, settings="set logscale x\n"):
    """One line for each name, best first; in it a point for each series that knows the name."""
    names = sorted({name for one in series for name in one.points},
                   key=lambda name: max(one.points[name][0] for one in series if name in one.points), reverse=True)
    height = 110 + 26 * len(names)
    ticks = ", ".join("%s %d" % (quoted(name), i) for i, name in enumerate(names))
    blocks, curves = [], []
    for i, one in enumerate(series):
        shift = (i - (len(series) - 1) / 2) * 0.25
        blocks.append(block("d%d" % i, [one.points[name] + (at + shift,) for at, name in enumerate(names) if name in one.points]))
        curves.append("$d%d using 1:4:2:3 with xerrorbars pt 7 ps 0.7 lw 1.5 lc rgb '%s' title %s" % (i, one.colour, quoted(one.label)))
    settings += "set yrange [%d.6:-0.6]\nset ytics (%s)\nset xlabel %s\n" % (len(names) - 1, ticks, quoted(axis))
    table = [["", *(one.label for one in series)]]
    table += [[name, *(cell(one.points.get(name)) for one in series)] for name in names]
    return Plot(script(height, settings, blocks, curves), table, height)


def lines(series, x_axis, y_axis, settings="set logscale xy\n"):
    """Points as {label: [(x, median, min, max)]} with their colours, joined by lines."""
    blocks, curves = [], []
    for i, (label, colour, points) in enumerate(series):
        blocks.append(block("d%d" % i, points))
        curves.append("$d%d using 1:2 with lines lw 2 lc rgb '%s' notitle" % (i, colour))
        curves.append("$d%d using 1:2:3:4 with yerrorbars pt 7 ps 0.7 lw 1.5 lc rgb '%s' title %s" % (i, colour, quoted(label)))
    places = sorted({point[0] for _, _, points in series for point in points})
    table = [[x_axis, *(label for label, _, _ in series)]]
    table += [[number(x), *(cell({p[0]: p[1:] for p in points}.get(x)) for _, _, points in series)] for x in places]
    settings += "set xlabel %s\nset ylabel %s\nset offsets graph 0.03, graph 0.03\n" % (quoted(x_axis), quoted(y_axis))
    return Plot(script(420, settings, blocks, curves), table, 420)


def peer_dots(report, question, settings_colours, axis, more=()):
    series = [Series(setting, colour, peer_points(report, question, setting)) for setting, colour in settings_colours]
    series = [one for one in [*series, *more] if one.points]
    return dots(series, axis) if series else None


# ---- the plots --------------------------------------------------------------------------------------------------------------


def costs(report):
    rows = series_rows(report)
    points = {"%s: %s [%s]" % (row["benchmark"], row["what"], row["backend"]): point_of(row, "cost") for row in rows}
    settings = "set logscale x\nset arrow 1 from 1, graph 0 to 1, graph 1 nohead lw 1.5 lc rgb '%s'\n" % PEER
    return dots([Series("procpool", PROCPOOL, points)], "times slower than the limit", settings) if rows else None


def map_rates(report):
    limit = {"the limit: pipes, nothing called": point_of(row, "limit") for row in series_rows(report, "map") if row["what"] == "map"}
    return peer_dots(report, "map", [("default", PROCPOOL), ("best chunk size", PEER)], "million items a second",
                     [Series("no library", LIMIT, limit)])


def windows(report):
    limit, pool = (by_number(report, "tasks", r"^([\d,]+) under way$", which) for which in ("limit", "procpool"))
    return lines([("procpool", PROCPOOL, pool), ("frames through pipes", LIMIT, limit)], "tasks under way",
                 "million tasks a second") if pool else None


def task_rates(report):
    return peer_dots(report, "tasks", [("default", PROCPOOL)], "million tasks a second, one by one")


def latency(report):
    rows = [row for row in report["rows"] if "procpool_quantiles" in row]
    if not rows:
        return None
    blocks, curves, table = [], [], [["quantile"]]
    tails = [(fraction, i) for i, fraction in enumerate(rows[0]["fractions"]) if fraction < 1]
    for kind, dash in (("procpool", 1), ("limit", 2)):
        for at, row in enumerate(rows):
            name, values = "%s%d" % (kind, at), row[kind + "_quantiles"]
            blocks.append("$%s << EOD\n%s\nEOD\n" % (name, "\n".join("%g %g" % (values[i], 1 - fraction) for fraction, i in tails)))
            curves.append("$%s using 1:(-log10($2)) with lines lw 2 dt %d lc %d title %s" % (
                name, dash, at + 1, quoted("%s, %s" % (kind, row["what"]))))
            table[0].append("%s, %s" % (kind, row["what"]))
    for fraction, i in tails:
        table.append(["%g %%" % (100 * fraction), *(number(row[kind + "_quantiles"][i]) for kind in ("procpool", "limit") for row in rows)])
    settings = ("set logscale x\nset ytics ('0' 0, '50 %%' 0.301, '90 %%' 1, '99 %%' 2, '99.9 %%' 3, '99.99 %%' 4)\n"
                "set xlabel 'microseconds for a round trip'\nset ylabel 'so many were faster'\n")
    height = 340 + 21 * len(curves)  # a line of the key for each
    return Plot(script(height, settings, blocks, curves), table, height)


def trips(report):
    return peer_dots(report, "roundtrip", [("median", PROCPOOL), ("99th percentile", PEER)], "microseconds for one task and its result")


def starts(report):
    series = []
    for method, (colour, pale) in METHOD_COLOURS.items():
        own = {"rows": [row for row in report["rows"] if row["backend"] == method]}
        for which, shade in (("procpool", colour), ("limit", pale)):
            small = [(0,) + point[1:] for point in by_number(own, "start", r"^(16) working$", which)]
            large = by_number(own, "start", r"^16 working, parent ([\d,]+) MiB$", which)
            if small + large:
                series.append(("%s, %s" % (method, which), shade, small + large))
    return lines(series, "MiB that the parent has touched", "ms until 16 workers work", "set logscale y\n") if series else None


def peer_starts(report):
    return peer_dots(report, "start", [("2 workers", PROCPOOL), ("16 workers", PEER)], "ms until each worker has answered")


def echoes(report):
    limit = {"the limit: pipes": point_of(row, "limit") for row in series_rows(report, "echo") if row["what"] == "1 MiB"}
    return peer_dots(report, "echo", [("1 MiB", PROCPOOL)], "GB/s there and back", [Series("no library", LIMIT, limit)])


def makespans(report):
    series = [Series(s, c, peer_points(report, "uneven", s)) for s, c in (("default", PROCPOOL), ("one by one", PEER))]
    series = [one for one in series if one.points]
    return dots(series, "time until all is done, over the ideal", "") if series else None


def timeline(report):
    rows = [row for row in report["rows"] if row.get("timeline")]
    if not rows:
        return None
    row = rows[0]
    workers = sorted({item[0] for item in row["timeline"]})
    items = [(start, end, worker - 0.35, worker + 0.35) for worker, start, end in row["timeline"]]
    settings = ("set style fill solid 0.55 border lc rgb '#ffffff'\nset yrange [%g:%g]\nset ytics 1\nset xlabel 'ms'\nset ylabel 'worker'\n"
                % (workers[-1] + 0.5, workers[0] - 0.5))
    curve = "$d using 1:3:1:2:3:4 with boxxyerror lc rgb '%s' title %s" % (PROCPOOL, quoted(row["what"]))
    table = [["worker", "items", "busy ms", "last ended at ms"]]
    for worker in workers:
        own = [(start, end) for who, start, end in row["timeline"] if who == worker]
        table.append([str(worker), str(len(own)), number(sum(end - start for start, end in own)), number(max(end for _, end in own))])
    height = 130 + 50 * len(workers)
    return Plot(script(height, settings, [block("d", items)], [curve]), table, height)


def by_workers(report):
    limit, pool = (by_number(report, "scale", r"^([\d,]+) workers?", which) for which in ("limit", "procpool"))
    return lines([("procpool", PROCPOOL, pool), ("limit", LIMIT, limit)], "workers", "million tasks a second") if pool else None


def by_queue(report):
    pool = by_number(report, "scale", r"([\d,]+) queued", "procpool")
    return lines([("procpool", PROCPOOL, pool)], "tasks queued", "us of the parent's CPU for a task",
                 "set logscale x\nset yrange [0:*]\n") if pool else None


# name, title, what to see, how it is made
PLOTS = [
    ("costs", "Everything beside its limit", "1 is what the kernel does with no library at all; left of it the library is faster than that "
     "program.", costs),
    ("map", "Throughput of a map", "A map of a function that does nothing over 64-bit items, two workers.", map_rates),
    ("windows", "Throughput of single tasks, by how many are under way", "Two workers, tasks that do nothing.", windows),
    ("tasks", "Throughput of single tasks beside the peers", "Submitted one by one and collected, two workers.", task_rates),
    ("latency", "Distribution of round trips", "One task that does nothing, one worker, by where the two processes run.", latency),
    ("roundtrip", "Round trips beside the peers", "One task that does nothing, one worker, wherever the kernel puts it.", trips),
    ("start", "Start-up against the parent's memory", "From nothing to 16 workers that work.", starts),
    ("peer-start", "Start-up beside the peers", "From nothing to an answer of each worker; small parent.", peer_starts),
    ("echo", "Payloads of 1 MiB", "There and back, one after another, one worker.", echoes),
    ("uneven", "Uneven work beside the peers", "2,000 items, Pareto 1.5 with a mean of 1 ms, two workers; the ideal is the larger of half of all "
     "and the longest item.", makespans),
    ("timeline", "Uneven work: what each worker did when", "Every rectangle is an item.", timeline),
    ("workers", "Scaling with workers", "Tasks that do nothing, one by one, 1,000 or more under way.", by_workers),
    ("queue", "Scaling with queued tasks", "What a task costs the parent while so many are queued.", by_queue),
]
