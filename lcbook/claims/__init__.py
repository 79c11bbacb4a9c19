"""Claims: frozen before their experiment, judged from the rows of a table alone, shown on cards and in the ledger."""

from lcbook.claims.cards import Card, Ledger, Statement, card, ledger, record, recorded, restored
from lcbook.claims.claim import Claim, claims, find, freeze
from lcbook.claims.judging import judge
from lcbook.claims.verdict import LOOKS, Verdict

__all__ = [
    "LOOKS", "Card", "Claim", "Ledger", "Statement", "Verdict", "card", "claims", "find", "freeze", "judge", "ledger",
    "record", "recorded", "restored",
]  # fmt: skip
