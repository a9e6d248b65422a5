"""report_html: a report as one page, which needs no other file: the pictures are in it.

Pictures are made by gnuplot; without it the page has the tables alone and says so. Knows of the plots only that each has a script and
a table."""
import base64
import html
import os
import shutil
import subprocess
import sys

import report_plots

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 960px; margin: 2em auto; padding: 0 1em }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.2em; border-bottom: 1px solid #d0d7de; padding-bottom: .2em }
table { border-collapse: collapse; font-size: 13px; margin: .7em 0 } td, th { padding: .2em .8em; border-bottom: 1px solid #d8dee4 }
td:not(:first-child), th:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums } th { text-align: left }
img { max-width: 100% } .warning { background: #fff1e5; border-left: 4px solid #bc4c00; padding: .6em 1em }
summary { cursor: pointer; color: #57606a }
"""
NO_GNUPLOT = "The pictures need gnuplot: install gnuplot-nox (Debian) and render the report again. The tables are complete."


def table(rows):
    def line(cells, tag):
        return "<tr>" + "".join("<%s>%s</%s>" % (tag, html.escape(str(text)), tag) for text in cells) + "</tr>"
    return "<table>" + line(rows[0], "th") + "".join(line(row, "td") for row in rows[1:]) + "</table>"


def folded(title, text):
    return "<details><summary>%s</summary>%s</details>" % (html.escape(title), text)


def warning(text):
    return '<p class="warning">%s</p>' % html.escape(text)


def picture(plot, name, folder):
    """The plot drawn, as an image with its data inside. Its script stays in the folder, to be changed and drawn again."""
    path = os.path.join(folder, name + ".gp")
    with open(path, "w") as file:
        file.write(plot.script)
    if not shutil.which("gnuplot"):
        return ""
    drawn = subprocess.run(["gnuplot", path], capture_output=True)
    if drawn.returncode != 0:
        print("%s: %s" % (path, drawn.stderr.decode(errors="replace").strip()), file=sys.stderr)
        return warning("gnuplot could not draw this.")
    data = base64.b64encode(drawn.stdout).decode()
    return '<img alt="%s" src="data:image/svg+xml;base64,%s">' % (html.escape(name), data)


def plot_sections(report, folder):
    """The sections of the page, and the titles of the plots for which there are no data."""
    sections, missing = [], []
    for name, title, words, make in report_plots.PLOTS:
        plot = make(report)
        if plot is None:
            missing.append(title)
            continue
        sections.append("<h2>%s</h2><p>%s</p>%s%s" % (
            html.escape(title), html.escape(words), picture(plot, name, folder), folded("the numbers", table(plot.table))))
    return sections, missing


def rows_section(report):
    rows = [["benchmark", "what", "start method", "unit", "limit", "procpool", "cost"]]
    for row in report_plots.series_rows(report):
        rows.append([row["benchmark"], row["what"], row["backend"], row["unit"],
                     *(report_plots.cell(report_plots.point_of(row, which)) for which in ("limit", "procpool", "cost"))])
    return "<h2>All rows</h2>" + table(rows)


def peers_section(report):
    rows = [["peer", "question", "setting", "unit", "median (min..max)", "rounds", "note"]]
    for answer in sorted(report["peers"], key=lambda answer: (answer["question"], answer["setting"], answer["peer"])):
        rows.append([answer["peer"], answer["question"], answer["setting"], answer["unit"],
                     report_plots.cell(report_plots.spread(answer["values"])), len(answer["values"]), answer.get("note", "")])
    return "<h2>All answers of the peers</h2>" + table(rows)


def missing_section(report, missing):
    rows = [["what", "why"]] + [["plot: " + title, "no data in this run"] for title in missing]
    rows += [[item["name"], item["why"]] for item in report["skipped"]]
    rows += [[run["name"], run["error"]] for run in report["runs"] if run["error"]]
    return "<h2>What is missing</h2>" + (table(rows) if len(rows) > 1 else "<p>Nothing.</p>")


def runs_section(report):
    rows = [["program", "seconds", "CPU taken by others"]]
    rows += [[run["name"], run["seconds"], "%.0f %%" % (100 * run["others"])] for run in report["runs"]]
    return "<h2>How quiet the machine was</h2>" + table(rows)


def head(report):
    machine = report["machine"]
    text = "<h1>procpool: benchmark report</h1><p>%s, %d s, %s, %d CPUs, Linux %s.</p>" % (
        html.escape(report["started"]), report["seconds"], html.escape(machine["cpu"]), machine["cpus"], html.escape(machine["kernel"]))
    text += "<p>A point is the median of the rounds, with bars from the smallest to the largest. Compare within this report alone: absolute " \
            "figures drift, ratios do not. What is measured and how: docs/performance.md.</p>"
    if report["quick"]:
        text += warning("A quick run, to see that it works. It is no measurement: nothing below says anything about speed.")
    if not shutil.which("gnuplot"):
        text += warning(NO_GNUPLOT)
    return text


def write(report, folder):
    """Write report.html into folder; returns its path."""
    plots = os.path.join(folder, "plots")
    os.makedirs(plots, exist_ok=True)
    sections, missing = plot_sections(report, plots)
    if not shutil.which("gnuplot"):
        print(NO_GNUPLOT, file=sys.stderr)
    body = "".join([head(report), *sections, missing_section(report, missing), rows_section(report), peers_section(report),
                    runs_section(report)])
    path = os.path.join(folder, "report.html")
    with open(path, "w") as file:
        file.write('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>procpool: benchmark report</title><style>%s</style>'
                   "</head><body>%s</body></html>\n" % (STYLE, body))
    return path
