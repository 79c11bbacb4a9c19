"""The report of a sweep: one HTML file that asks no other host for anything, with every number and its interval."""

from __future__ import annotations

import html
import io
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from lcbook.formats import Number, percent, short, tokens
from lcbook.plots import GREY, SMALL
from lcbook.plots.evaluation import MEANING, recall_grid, rules_on_curve
from lcbook.stats.clustered import (
    clustered_recall,
    effective_lengths,
    failure_counts,
    interval,
    length_of,
    summary,
)
from lcbook.stats.effective import HALF, RULES
from lcbook.stats.estimate import require_columns
from lcbook.store import write_bytes

NEEDED = (
    "task", "length", "depth", "sample", "correct", "total", "chance", "answers", "reply", "prompt_tokens",
    "completion_tokens", "computed", "seconds", "error",
)  # fmt: skip
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --pale: #d8dce1; --soft: #57606a; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15181c; --pale: #3b424b; --soft: #a9b1ba; --card: #20252b; }
}
body { margin: 0 auto; max-width: 46rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.4rem; } h3 { margin-top: 1.8rem; }
figure { margin: 1rem 0; background: #fff; color: #000; border-radius: 6px; padding: .4rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption, .note { color: var(--soft); font-size: .9rem; } figcaption { color: #4a4f55; padding: .2rem .4rem; }
.wide { overflow-x: auto; overflow-wrap: normal; } table { border-collapse: collapse; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--pale); padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top; }
.numbers td, .numbers th { white-space: nowrap; }
td { font-variant-numeric: tabular-nums; } th { font-weight: 600; }
details { margin: .8rem 0; background: var(--card); border-radius: 6px; padding: .4rem .8rem; }
summary { cursor: pointer; } nav a { margin-right: .9rem; } a { color: inherit; }
"""
HOW_TO_READ = (
    "Recall is the share of the asked words that the reply holds. A cell of a heat map is one length (prompt and reply "
    "together) and one depth of the needle in the context, 0 % at its start. Below the percent stand the ends of "
    "its 95 % Wilson interval, in which a sample counts once however many answers it asks for.",
    "The same sample is asked at every depth, with the same facts and haystack, so its requests are no "
    "independent evidence. Where depths are taken together, the requests count as many as independent ones would tell "
    "as much, judged by how samples vary (Korn and Graubard 1998): never more than were asked, and only as many as "
    "there are samples where all are right or all wrong.",
    "n50 is the length at which recall, corrected for chance, falls to one half. The other effective lengths take the "
    "longest length that passes a threshold. ≥ and ≤ mark what lies beyond the lengths tested. Two models whose "
    "intervals overlap widely have not been told apart.",
    "A request that failed has no answer: it stands in no average and is counted apart. An empty reply is an answer, "
    "and a wrong one. Chance is the recall of a guesser who knows what kind of word is asked for.",
    "The intervals hold the noise of the samples drawn, and nothing else: other wordings, other haystacks and other "
    "tasks may give another recall. A perfect needle map says little about the other tasks.",
)


def write_report(
    frame: pd.DataFrame,
    out: Path,
    *,
    title: str,
    about: Mapping[str, Any],
    price: tuple[Number, Number] | None = None,
) -> Path:
    """Write out/index.html about the requests in `frame` (as `sweep.read_requests` gives them), and return its path.

    `about` says what was asked, a row of a table each; `price` is in USD per million tokens of prompts and of replies.
    The page has no script and loads nothing. Raises ValueError for missing columns or no rows.
    """
    require_columns(frame, NEEDED)
    tasks = list(dict.fromkeys(frame["task"]))
    found = summary(frame)
    sections = [
        ("asked", "What was asked", _table([], about.items(), kind="words")),
        ("tasks", "By task", _by_task(found)),
        *((f"task-{i}", f"Task: {_words(task)}", _task(frame, found, task)) for i, task in enumerate(tasks)),
        ("failures", "Failures", _failures(frame)),
        ("cost", "Tokens, seconds, cost", _cost(frame, price)),
        ("read", "How to read this", "".join(f"<p>{_safe(text)}</p>" for text in HOW_TO_READ)),
    ]
    links = "".join(f'<a href="#{name}">{_safe(heading)}</a> ' for name, heading, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{_safe(head)}</h2>{text}</section>' for name, head, text in sections
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{_safe(title)}</title><style>{STYLE}</style></head><body><main><h1>{_safe(title)}</h1>"
        f"<p>{_safe(_sentence(frame))}</p><nav>{links}</nav>{body}</main></body></html>\n"
    )
    path = out / "index.html"
    write_bytes(path, page.encode("utf8", "replace"))
    return path


# Parts of the page


def _safe(value: Any) -> str:
    return html.escape(str(value))


def _words(task: str) -> str:
    return task.replace("_", " ")


def _table(head: Sequence[str], rows: Iterable[Iterable[Any]], *, kind: str = "numbers") -> str:
    """Return a table that scrolls by itself where it is too wide; its first column names the rows."""
    top = "".join(f'<th scope="col">{_safe(cell)}</th>' for cell in head)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{_safe(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{_safe(first)}</th>{cells}</tr>')
    head_row = f"<thead><tr>{top}</tr></thead>" if top else ""
    table = f'<table class="{kind}">{head_row}<tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="wide" tabindex="0">{table}</div>'


def _sentence(frame: pd.DataFrame) -> str:
    failed = int(frame["error"].notna().sum())
    empty = int((frame["error"].isna() & (frame["reply"].str.strip() == "")).sum())
    text = f"{len(frame) - failed} requests were answered"
    text += f", {empty} of them by an empty reply" if empty else ""
    return text + (f"; {failed} failed and stand in no average." if failed else "; none failed.")


def _by_task(found: pd.DataFrame) -> str:
    lengths = sorted(found["length"].unique())
    rows = []
    for task, part in found.groupby("task", sort=False):
        cells = {row["length"]: interval(row) for row in part.to_dict(orient="records")}
        chance = part["chance"].mean()
        rows.append(
            (
                _words(str(task)),
                "unknown" if math.isnan(chance) else percent(chance),
                *(cells.get(length, "not asked") for length in lengths),
                length_of(effective_lengths(part).get(HALF)),
            )
        )
    head = ["Task", "Chance", *(f"{tokens(length)} tokens" for length in lengths), "n50 (tokens)"]
    return "<p>Recall with its 95 % interval, all depths together.</p>" + _table(head, rows)


def _task(frame: pd.DataFrame, found: pd.DataFrame, task: str) -> str:
    """Return the section of a task: heat map, recall by length, effective lengths, numbers, wrong replies."""
    part = frame[frame["task"] == task]
    if not part["total"].sum():
        return "<p>No request of this task was answered.</p>"
    cells = _cells(part)
    caption = "Recall by length and depth of the needle; below each percent its 95 % interval."
    if not cells["total"].all():
        caption += " none: no request was answered there."
    shown = [_figure(_grid(cells, task), caption)]
    told = found[found["task"] == task]
    rules = effective_lengths(told)
    if rules:
        curve = rules_on_curve(told[told["total"] > 0].assign(seed=0))
        caption = "Recall by length, all depths together, and the effective length by each rule, with 95 % intervals."
        shown.append(_figure(curve, caption))
        named = [(MEANING[rule], length_of(rules[rule])) for rule in RULES]
        shown.append(_table(["Rule", "Effective length (tokens)"], named))
    else:
        shown.append("<p>n50 and effective lengths need answers at two lengths or more.</p>")
    numbers = [
        (tokens(row["length"]), percent(row["depth"]), interval(row), row["requests"], row["failed"])
        for row in cells.to_dict(orient="records")
    ]
    head = ["Length (tokens)", "Depth", "Recall [95 % interval]", "Samples", "Failed"]
    shown.append(f"<details><summary>Every cell in numbers</summary>{_table(head, numbers)}</details>")
    return "".join(shown) + _wrong(part)


def _cells(part: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each length and depth of one task, also where nothing was asked, with how many failed."""
    found = clustered_recall(part, ["length", "depth"]).set_index(["length", "depth"])
    failed = part["error"].notna().groupby([part["length"], part["depth"]]).sum().rename("failed")
    grid = pd.MultiIndex.from_product(
        [sorted(part["length"].unique()), sorted(part["depth"].unique())], names=["length", "depth"]
    )
    table = found.join(failed).reindex(grid)
    counts = ["correct", "total", "requests", "failed"]
    table[counts] = table[counts].fillna(0)
    return table.astype({"requests": int, "failed": int}).reset_index()


def _grid(cells: pd.DataFrame, task: str) -> Axes:
    """Draw the heat map of one task; a cell without an answer says so."""
    ax = recall_grid(cells, title=f"{_words(task)}: recall, 95 % interval")
    columns, rows = sorted(cells["length"].unique()), sorted(cells["depth"].unique())
    for row in cells[cells["total"] == 0].to_dict(orient="records"):
        at = columns.index(row["length"]) + 0.5, rows.index(row["depth"]) + 0.5
        ax.text(*at, "none", ha="center", va="center", color=GREY, fontsize=SMALL)
    return ax


def _figure(ax: Axes, caption: str) -> str:
    """Return the figure of `ax` as inline SVG under its alt text, and close it."""
    figure, alt, file = ax.get_figure(root=True), str(ax.get_label()), io.StringIO()
    assert figure is not None  # an axes that was drawn on belongs to a figure
    with mpl.rc_context({"svg.hashsalt": alt, "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)
    text = re.sub(r"<!--.*?-->", "", file.getvalue()[file.getvalue().index("<svg") :], flags=re.DOTALL)
    # The ids of one figure are not those of another on the same page.
    own = f"f{zlib.crc32(alt.encode()):x}-"
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}", text)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{_safe(alt)}" ', 1)
    return f"<figure>{text}<figcaption>{_safe(caption)}</figcaption></figure>"


def _wrong(part: pd.DataFrame) -> str:
    """Return the first replies that lack an answer, cut short."""
    wrong = part[(part["total"] > 0) & (part["correct"] < part["total"])]
    if wrong.empty:
        return ""
    rows = [
        (
            tokens(row["length"]),
            percent(row["depth"]),
            ", ".join(row["answers"]),
            _cut(row["reply"]) or "(empty)",
        )
        for row in wrong.head(5).to_dict(orient="records")
    ]
    head = ["Length (tokens)", "Depth", "Asked for", "Reply"]
    count = f"The first {len(rows)} of {len(wrong)} replies that lack an answer"
    return f"<details><summary>{count}</summary>{_table(head, rows, kind='words')}</details>"


def _cut(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"


def _failures(frame: pd.DataFrame) -> str:
    counts = failure_counts(frame)
    if not counts:
        return "<p>No request failed.</p>"
    rows = [(count, why) for why, count in counts]
    return (
        "<p>These requests have no answer and stand in no average. The same command asks them again.</p>"
        + _table(["Requests", "Why (the first of its kind)"], rows, kind="words")
    )


def _cost(frame: pd.DataFrame, price: tuple[Number, Number] | None) -> str:
    sums = frame[["prompt_tokens", "completion_tokens", "computed", "seconds"]].sum()
    read, written, computed = (int(sums[name]) for name in ("prompt_tokens", "completion_tokens", "computed"))
    rows: list[tuple[str, str]] = [
        ("Requests", f"{len(frame)}"),
        ("Prompt tokens", _grouped(read)),
        (
            "Prompt tokens computed anew",
            f"{_grouped(computed)} (the others were reused)",
        ),
        ("Reply tokens", _grouped(written)),
        (
            "Seconds",
            f"{sums['seconds']:.1f}, added over requests, some of which may have run at the same time",
        ),
    ]
    if price is not None:
        cost = (price[0] * read + price[1] * written) / 1e6
        told = f"{short(price[0])} USD a million prompt tokens, {short(price[1])} USD a million reply tokens"
        rows.append(("Cost", f"{cost:.4g} USD at {told}; attempts that failed are not in it"))
    return _table([], rows, kind="words")


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")
