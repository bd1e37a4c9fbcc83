"""The operation in its own process, and how that process tells what became of it."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

from tests.crash.scenario import Scenario

from calotype import Store
from calotype.errors import CalotypeError


class Voice:
    """A pipe across a fork; heard without waiting, so a killed speaker just falls silent."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._heard: dict[str, str] = {}

    def say(self, word: str, more: str = "") -> None:
        """Tell one thing, in one write."""
        os.write(self._writer, json.dumps([word, more[:2000]]).encode() + b"\n")

    def heard(self) -> dict[str, str]:
        """Everything that was told until now, in order."""
        try:
            told = os.read(self._reader, 65536)
        except BlockingIOError:
            return self._heard
        self._heard.update(json.loads(line) for line in told.splitlines())
        return self._heard

    def close(self) -> None:
        """Let go of both ends."""
        os.close(self._reader)
        os.close(self._writer)


def operate(scenario: Scenario, path: Path, voice: Voice) -> None:
    """The operation; once more after a failure, with the same store; and the store's end."""
    store = scenario.store(path)
    try:
        voice.say("acked", str(scenario.act(store)))
    except CalotypeError as error:
        voice.say("failed", f"{error.code} {error} | {error.hint}")
        _again(scenario, store, voice)
    except BaseException as error:
        voice.say("broken", _told(error))
    try:
        store.close()
        voice.say("closed")
    except BaseException as error:
        voice.say("broken-close", _told(error))


def _again(scenario: Scenario, store: Store, voice: Voice) -> None:
    try:
        voice.say("again", str(scenario.act(store)))
    except BaseException as error:
        voice.say("broken-again", _told(error))


def _told(error: BaseException) -> str:
    """The error, and the last place in the package that it passed."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/calotype/" in frame.filename
    ]
    return f"{type(error).__name__}: {error} at {places[-1] if places else 'nowhere of ours'}"
