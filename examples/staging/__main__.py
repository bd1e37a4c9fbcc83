"""The tour of the studio, or one of its daily commands.

python -m examples.staging [FOLDER]                    the tour; makes FOLDER (staging-demo) anew
python -m examples.staging FOLDER --work               run the queued jobs
python -m examples.staging FOLDER --cleanup            free what nobody has used for 24 hours
python -m examples.staging FOLDER --monitor [--json]   the numbers
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from calotype import CalotypeError

try:
    from examples.staging.monitoring import lines
    from examples.staging.studio import Studio
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing: pip install pillow scikit-image.") from None


def main() -> None:
    """Read the command line and do it; what went wrong in a line."""
    asked = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        _run(asked)
    except CalotypeError as error:
        raise SystemExit(f"{error} {error.hint}") from None
    except (SQLAlchemyError, OSError) as error:
        raise SystemExit(str(error)) from None


def _run(asked: argparse.Namespace) -> None:
    if not (asked.work or asked.cleanup or asked.monitor or asked.json):
        from examples.staging.tour import tour

        tour(asked.folder)
    elif not (asked.folder / "staging.db").is_file():
        raise SystemExit(f"No studio in {asked.folder}. Run the tour first.")
    else:
        with Studio.open(asked.folder) as studio:
            _command(studio, asked)


def _command(studio: Studio, asked: argparse.Namespace) -> None:
    if asked.work:
        print(json.dumps(studio.work()))
    elif asked.cleanup:
        print(f"{studio.cleanup_orphans()} originals freed")
    elif asked.json:
        print(json.dumps(studio.numbers()))
    else:
        print("\n".join(lines(studio.numbers())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.staging", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, nargs="?", default=Path("staging-demo"))
    what = parser.add_mutually_exclusive_group()
    for name in ("work", "cleanup", "monitor"):
        what.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    main()
