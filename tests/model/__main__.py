"""``python -m tests.model``: explore everything and print the tables of README.md.

Words after it choose what to explore by name; CALOTYPE_MODEL=full adds the large models.
"""

from __future__ import annotations

import sys

from tests.model.cases import FAMILIES, case_row, chosen
from tests.model.mutants import MUTANTS, mutant_row
from tests.model.summary import Summary


def main(words: list[str]) -> int:
    """Print a row for each, as soon as it is known; traces of faults go to stderr."""
    summary, wrong = Summary(FAMILIES), 0
    print("| model | terms | states | steps | depth |\n|---|---|---:|---:|---:|")
    for case in chosen():
        if all(word in str(case) for word in words):
            outcome = case.run()
            print(case_row(case, outcome), flush=True)
            print(outcome, file=sys.stderr)
            summary.add(case.family, outcome.states, caught=False)
            wrong += not outcome.complete
    print("\n| model | mistake | breaks | trace |\n|---|---|---|---:|")
    for mutant in MUTANTS:
        if all(word in str(mutant) for word in words):
            outcome = mutant.run()
            print(mutant_row(mutant, outcome), flush=True)
            print(outcome, file=sys.stderr)
            if outcome.broken == mutant.breaks:
                summary.add(mutant.family, outcome.states, caught=True)
            else:
                wrong += 1
    print("", *summary.lines(), sep="\n")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
