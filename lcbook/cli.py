"""The command line: list the chapters, run one without Jupyter, print the ledger, time recall, ask a real model.

python -m lcbook chapters | run 01 --scale smoke | confirm 01 | replicate P1a | claims | bench recall | recall
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence

import matplotlib

from lcbook import claims, notebooks, page, references, runtime
from lcbook.claims import Verdict
from lcbook.evaluation import bench, command
from lcbook.evidence import confirm

FULL = ("full", "gpu")  # scales at which results are written


def _chapters(_: argparse.Namespace) -> None:
    for path in sorted(notebooks.folder().glob("*.ipynb")):
        print(f"{path.stem:24} {notebooks.title(path)}")


def _run(arguments: argparse.Namespace) -> None:
    path = notebooks.find(arguments.chapter)
    if arguments.scale:
        os.environ["LCBOOK_SCALE"] = arguments.scale
    scale = runtime.scale()
    started = time.perf_counter()
    notebooks.run(path)
    session = runtime.session
    _print(session.verdicts)
    if scale in FULL:
        stored = [verdict.to_dict() for verdict in session.verdicts]
        seconds = time.perf_counter() - started
        print(f"wrote {references.save_reference(session, stored, seconds)}")


def _print(verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        claim = claims.find(verdict.claim)
        print(f"{verdict!r}: {verdict.why or f'{verdict.measured} ({claim.threshold})'}")


def _at_full_scale() -> None:
    """Let claims be judged at full scale, which is what they are about, on any machine."""
    os.environ.setdefault("LCBOOK_SCALE", "full")
    if runtime.scale() != "full":
        raise ValueError(f"LCBOOK_SCALE is {runtime.scale()!r}; allowed to judge claims is 'full'.")


def _confirm(arguments: argparse.Namespace) -> None:
    path = notebooks.find(arguments.chapter)
    _at_full_scale()
    where, verdicts = confirm.confirm(path)
    _print(verdicts)
    print(f"wrote {where}")


def _replicate(arguments: argparse.Namespace) -> None:
    _at_full_scale()
    verdict, where = confirm.replicate(arguments.claim, arguments.seeds)
    kinds = ("exploratory", "confirmatory") if where else ("exploratory",)
    known = [
        (kind, one)
        for kind, one in page.committed_verdicts(claims.find(verdict.claim).chapter)
        if one.claim == verdict.claim and kind in kinds
    ]
    print(confirm.in_words(claims.card(verdict.claim, verdict, known)))
    if where:
        print(f"wrote {where}; it can be sent as a pull request")


def _rejudge(arguments: argparse.Namespace) -> None:
    for where, verdicts in confirm.rejudge(notebooks.find(arguments.chapter)):
        _print(verdicts)
        print(f"wrote {where}")


def _freeze(_: argparse.Namespace) -> None:
    print(f"frozen: {', '.join(claims.freeze()) or 'nothing new'}")


def _designs(arguments: argparse.Namespace) -> int:
    """Store the digests of a chapter's tables at every scale in its committed runs; 1 if one has none at its own."""
    path, missing = notebooks.find(arguments.chapter), []
    for run in references.exploratory(path.stem):
        for scale in runtime.SCALES:
            os.environ["LCBOOK_SCALE"] = scale
            session, _ = notebooks.replay(path, runtime.Session(replayed=run.tables))
            references.save_designs(path.stem, run.device, scale, session.designs)
            if scale == run.provenance["scale"]:
                missing += [
                    f"{run.device}, {scale}: {name}" for name in run.tables if name not in session.designs
                ]
    for line in missing:
        print(f"no design for {line}", file=sys.stderr)
    return 1 if missing else 0


def _claims(_: argparse.Namespace) -> None:
    print(page.ledger().frame.drop(columns=["sentence"]).to_string(index=False))


def _bench(arguments: argparse.Namespace) -> None:
    {"recall": bench.recall}[arguments.what]()


def _recall(arguments: argparse.Namespace) -> int:
    matplotlib.use("agg")
    return command.recall(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 with one sentence for bad input, 130 after ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lcbook", description="Run the book without Jupyter.")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("chapters", help="list the chapters").set_defaults(do=_chapters)
    running = commands.add_parser(
        "run", help="run a chapter's experiments; at full and gpu scale, write results/"
    )
    running.add_argument("chapter", help="its number or name, such as 01")
    running.add_argument(
        "--scale", help=f"{', '.join(runtime.SCALES)}; LCBOOK_SCALE or the device decides if not given"
    )
    running.set_defaults(do=_run)
    confirming = commands.add_parser(
        "confirm", help="judge a chapter's claims on seeds of their own, at full scale; resumable"
    )
    confirming.add_argument("chapter", help="its number or name, such as 01")
    confirming.set_defaults(do=_confirm)
    repeating = commands.add_parser(
        "replicate",
        help="repeat one claim on this machine, on fresh seeds, and write what came out to results/",
    )
    repeating.add_argument("claim", help="its id, such as P1a")
    repeating.add_argument(
        "--seeds",
        default="",
        help="six or more that nobody looked at, such as 2000:2012, which is the default; "
        "committed: those of the exploratory run",
    )
    repeating.set_defaults(do=_replicate)
    rejudging = commands.add_parser(
        "rejudge",
        help="judge a chapter's claims anew from the rows of its committed runs; nothing is trained",
    )
    rejudging.add_argument("chapter", help="its number or name, such as 01")
    rejudging.set_defaults(do=_rejudge)
    commands.add_parser(
        "freeze", help="lock new claims of claims.toml, before their experiment"
    ).set_defaults(do=_freeze)
    designing = commands.add_parser(
        "designs", help="store in a chapter's committed runs what its tables are made of, without running it"
    )
    designing.add_argument("chapter", help="its number or name, such as 01")
    designing.set_defaults(do=_designs)
    commands.add_parser("claims", help="print the ledger of claims").set_defaults(do=_claims)
    timing = commands.add_parser("bench", help="time training on a published setting")
    timing.add_argument("what", choices=["recall"], help="multi-query recall to 99 percent")
    timing.set_defaults(do=_bench)
    asking = commands.add_parser("recall", help="test the recall of a real model, and write a report")
    command.add_arguments(asking)
    asking.set_defaults(do=_recall)
    arguments = parser.parse_args(argv)
    try:
        return arguments.do(arguments) or 0
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error}; the same command goes on when that is mended.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
