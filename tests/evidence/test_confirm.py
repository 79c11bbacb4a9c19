"""Claims on seeds of their own: what is run for them, what is chosen where, and rows that nobody can edit unnoticed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import own_claims
import pytest

from lcbook import claims, cli, notebooks, page, references, runtime, store
from lcbook.claims import claim as claim_module
from lcbook.evidence import confirm, replications
from lcbook.experiments import run as run_module
from lcbook.experiments.spec import Run, columns
from tests.test_cli import notebook

CLAIMS = """
[07_tiny.defaults]
factor = "none"
seeds = "0:8"
of = "mean"
statistic = "contrast"
using = { scale = 1 }
at_least = 0.5
test = "mean recall"

[07_tiny.Q1]
sentence = "A model with the key shift recalls."
tables = ["recall, all learning rates"]
where = { arm = "shifted" }
choose = "train.lr"

[07_tiny.Q2]
sentence = "So does one of two layers."
tables = ["deep"]

[07_tiny.Q3]
sentence = "So does one of three."
tables = ["deep"]
withdrawn = { verdict = "refuted", effect = "0", date = "2025-01-31", why = "It was wrong." }
"""
CELLS = [
    "import lcbook as lc\nlc.setup('07_tiny')",
    "base = lc.Spec(train=lc.TrainSpec(length=24, updates=1, batch=2))\n"
    "arms = {'model.key_shift': {'shifted': True, 'plain': False}}\n"
    "runs = lc.grid(base, arms, seeds=8, sweep={'train.lr': [1e-3, 1e-2]})\n"
    "asked = dict(lengths=(24,), questions=8, workers=1)\n"
    "every = lc.run(runs, name='recall, all learning rates', **asked)\n"
    "table = lc.best(every, name='recall')",
    "unclaimed = lc.run(runs[:8], name='unclaimed', **asked)",
    "lc.trained_model(runs[0])",
    "deep = lc.grid(base, {'model.layers': {'two': 2}}, seeds=[0, 1])\n"
    "deep += [lc.Run('two', deep[0].spec, seed) for seed in range(2, 8)]\n"
    "deep = lc.run(deep, name='deep', **asked)",
]
SLOW_IS_BEST = range(90, 100)  # the seeds on which the lower rate learns sooner


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A book of one chapter that is measured without training: (arm, rate, seed, probes) of each measurement.

    The lower rate recalls 3 of 4 questions, the higher one 1 of 4, but learns sooner on every seed but 90 to 99.
    """
    (tmp_path / "chapters").mkdir()
    notebook(tmp_path / "chapters" / "07_tiny.ipynb", [("code", [], cell) for cell in CELLS])
    own_claims.use(monkeypatch, tmp_path, CLAIMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCBOOK_SCALE", "full")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(references, "folder", lambda: tmp_path / "results")
    monkeypatch.setattr(runtime, "session", runtime.Session())
    found: list[tuple[str, float, int, int]] = []

    def rows(run: Run, probes) -> list[dict]:
        found.append((run.arm, run.spec.train.lr, run.seed, len(probes)))
        slow = run.spec.train.lr == 1e-3
        gate = 10.0 if slow == (run.seed in SLOW_IS_BEST) else 20.0
        about = {
            "arm": run.arm,
            **columns(run.spec),
            "seed": run.seed,
            "solved": True,
            "in_distribution": 1.0,
        }
        about |= {
            "updates": 30,
            "updates_to_gate": gate,
            "seconds": 3600.0 + run.seed + run.spec.model.layers / 8,
        }
        return (
            [{**about, "length": 24, "correct": 6 if slow else 2, "total": 8, "chance": 0.0}]
            if probes
            else [about]
        )

    monkeypatch.setattr(run_module, "_measured", rows)
    yield found
    claim_module.claims.cache_clear()


@pytest.fixture
def explored(measured):
    """The chapter's exploratory run is committed."""
    notebooks.run(notebooks.find("07"))
    session, runtime.session = runtime.session, runtime.Session()
    references.save_reference(session, [], 1.0)
    confirm.rejudge(notebooks.find("07"))
    measured.clear()
    return measured


def verdicts(kind: str) -> dict[str, str]:
    return {one.claim: one.verdict for which, one in page.committed_verdicts("07_tiny") if which == kind}


def test_claims_are_confirmed_on_their_own_seeds_at_rates_chosen_on_others(explored, capsys):
    assert verdicts("exploratory") == {"Q1": "refuted", "Q2": "refuted"}
    assert cli.main(["confirm", "07"]) == 0
    out = capsys.readouterr().out
    assert "07_tiny: 2 tables, about 44.0 hours" in out, (
        "12 of Q1 after 2 x 10 to choose, and 12 of Q2, an hour each"
    )
    choosing = {("shifted", rate, seed, 0) for rate in (1e-3, 1e-2) for seed in range(90, 100)}
    judging = {("shifted", 1e-3, seed, 1) for seed in range(1000, 1012)}
    deep = {("two", 1e-3, seed, 1) for seed in range(1000, 1012)}
    deep_rate = run_module.TrainSpec().lr
    assert set(explored) == choosing | judging | {(arm, deep_rate, *rest) for arm, _, *rest in deep}
    # The lower rate learned sooner on 90 to 99 alone: on the judged seeds the higher one would have been chosen.
    assert verdicts("confirmatory")["Q1"] == "supported"
    (run,) = (one for one in references.references("07_tiny") if one.kind == "confirmatory")
    assert set(run.tables) == {"recall, all learning rates", "recall, all learning rates, choice", "deep"}
    assert page.committed("deep") == {}, "figures draw the exploratory run"
    card = page.ledger().cards[0]
    assert (card.kind, card.counts.verdict, card.counts.seeds) == (
        "confirmatory",
        "supported",
        list(range(1000, 1012)),
    )
    # Again: everything is in the cache.
    explored.clear()
    assert cli.main(["confirm", "07"]) == 0
    assert explored == []


def test_what_is_made_anew_is_what_the_claims_name(measured):
    one, two = (claims.find(name) for name in ("Q1", "Q2"))
    on, table = (2000, 2001), one.tables[0]
    assert confirm.renewals([(one, on), (two, on)]) == {
        table: runtime.Renewal(on, ("shifted",), "train.lr"),
        "deep": runtime.Renewal(on),
    }
    other = replace(one, id="Q5", where={}, choose="")
    assert confirm.renewals([(one, on), (other, on)]) == {table: runtime.Renewal(on)}, "all arms, every rate"
    assert set(confirm.renewals([(replace(two, tables=["caps"]), on)])) == {
        "caps",
        "headline",
        "caps, new arms",
    }
    with pytest.raises(ValueError, match=f"table '{table}' is judged on different seeds"):
        confirm.renewals([(one, on), (other, (2000,))])


def test_a_claimed_table_that_no_cell_makes_is_named(explored):
    notebook(
        Path("chapters/07_tiny.ipynb"), [("code", [], cell) for cell in (*CELLS[:2], "1 / 0", *CELLS[2:4])]
    )
    with pytest.raises(
        ValueError, match=r"no cell of 07_tiny.ipynb made \['deep'\]; left out were .*ZeroDivisionError"
    ):
        confirm.confirm(notebooks.find("07"))


def test_what_fails_while_a_claimed_table_is_made_is_raised(explored, monkeypatch):
    def fails(run, probes):
        raise MemoryError("full")

    monkeypatch.setattr(run_module, "_measured", fails)
    with pytest.raises(MemoryError):
        confirm.confirm(notebooks.find("07"))


def test_claims_are_confirmed_at_full_scale_alone(explored, monkeypatch, capsys):
    monkeypatch.setenv("LCBOOK_SCALE", "live")
    assert cli.main(["confirm", "07"]) == 2
    assert capsys.readouterr().err == "LCBOOK_SCALE is 'live'; allowed to judge claims is 'full'.\n"


def test_a_claim_is_repeated_on_fresh_seeds_and_stored_as_a_row_that_anyone_can_judge(explored, capsys):
    assert cli.main(["replicate", "Q1"]) == 0
    out = capsys.readouterr().out
    assert "found:   supported" in out
    assert "12 of 12 seeds beyond" in out
    assert "book:    refuted (exploratory run): this machine disagrees" in out
    assert {arm for arm, *_ in explored} == {"shifted"}, "the table of another claim is not run"
    assert {seed for *_, seed, probes in explored if probes} == set(range(2000, 2012))
    (path,) = (references.folder() / "replications").glob("Q1-2000-2011-*.json")
    assert replications.read(path).verdict.verdict == "supported"
    assert page.ledger().repeats == {"Q1": (1, 0)}
    assert page.committed_runs("*").frame["chapter"].tolist() == ["07_tiny"], "a row is no run of a chapter"


def test_the_exploratory_run_is_repeated_with_its_verdict_and_is_no_new_row(explored, capsys):
    assert cli.main(["replicate", "Q1", "--seeds", "committed"]) == 0
    assert "book:    refuted (exploratory run): this machine agrees" in capsys.readouterr().out
    assert not (references.folder() / "replications").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Q9"], "id is 'Q9'; allowed are the claims of claims.toml, such as 'Q1'."),
        (["Q3"], "claim Q3 is withdrawn; allowed are claims that stand."),
        (["Q1", "--seeds", "95:101"], "seeds has 95, 96, 97, 98, 99; allowed are seeds that were neither explored "
         "(0 to 99) nor confirmed (1000 to 1011)."),
        (["Q1", "--seeds", "1011:1020"], "seeds has 1011; allowed are seeds that were neither explored (0 to 99) nor "
         "confirmed (1000 to 1011)."),
        (["Q1", "--seeds", "2000:2005"], "seeds names 5 of them; allowed are 6 or more."),
        (["Q1", "--seeds", "some"], "seeds is 'some'; allowed is a range such as '0:8', or different seeds such as "
         "'0,2,5'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_repeated_gets_one_sentence(measured, capsys, words, said):
    assert cli.main(["replicate", *words]) == 2
    assert capsys.readouterr().err == f"{said}\n"
    assert measured == []


@pytest.mark.parametrize("edited", ["text", "verdict", "rows", "name", "seeds", "words"])
def test_an_edited_row_is_noticed_and_does_not_count(explored, edited):
    _, path = confirm.replicate("Q1", "3000:3006")
    body = store.load_json(path)
    rows = body["tables"]["recall, all learning rates"]
    said = {
        "text": "was changed after it was written",
        "verdict": "was edited: its rows say Q1 supported",
        "rows": "was edited: its rows say Q1 refuted",
        "name": "does not hold what its name says",
        "seeds": "seeds has 7",
        "words": "judged other words",
    }[edited]
    if edited == "text":
        path.write_text(path.read_text().replace('"supported"', '"refuted"'))
    elif edited == "name":
        path = Path(shutil.copy(path, path.with_name(path.name.replace("3000", "3001"))))
    else:
        if edited == "verdict":
            body["verdict"] |= {"verdict": "refuted"}
        elif edited == "rows":
            rows["constant"]["correct"] = 0
        elif edited == "seeds":
            body["verdict"]["seeds"][0] = 7
        else:
            body["verdict"]["frozen"] = "0" * 16
        verdict = claims.Verdict.from_dict(body["verdict"])
        path = path.with_name(f"{replications._name(body, verdict)}.json")
        store.save_json(path, body)  # with a checksum and a name that fit
    with pytest.raises(ValueError, match=said):
        replications.read(path)
    for other in path.parent.glob("*.json"):
        if other != path:
            other.unlink()
    with pytest.warns(UserWarning, match=said):
        assert replications.repeats({"Q1": "supported"}) == {}


def test_committed_rows_are_judged_anew_without_training_and_edited_ones_refused(explored, capsys):
    path = references.folder() / "cpu" / "07_tiny.json"
    body = store.load_json(path)
    store.save_json(path, body | {"claims": [body["claims"][0] | {"verdict": "supported"}]})
    assert cli.main(["rejudge", "07"]) == 0
    assert "Q1 refuted: " in capsys.readouterr().out
    assert store.load_json(path) == body
    assert explored == []
    path.write_text(path.read_text().replace('"correct"', '"corrupt"'))
    assert cli.main(["rejudge", "07"]) == 2
    assert capsys.readouterr().err == "the exploratory run on cpu is damaged; allowed is a current one.\n"


def test_claims_are_frozen_once(measured, capsys):
    assert cli.main(["freeze"]) == 0
    assert capsys.readouterr().out == "frozen: nothing new\n"
    more = CLAIMS[CLAIMS.index("[07_tiny.Q2]") : CLAIMS.index("[07_tiny.Q3]")].replace("Q2", "Q4")
    claim_module.FILE.write_text(CLAIMS + more)
    assert cli.main(["freeze"]) == 0
    assert capsys.readouterr().out == "frozen: Q4\n"
    claim_module.FILE.write_text((CLAIMS + more).replace("recalls", "recalls well"))
    assert cli.main(["freeze"]) == 2
    assert "claim Q1 is not as it was frozen" in capsys.readouterr().err
