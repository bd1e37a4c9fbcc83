"""What tells a folder from any other: in place of it, beside it, mounted, made anew."""

from __future__ import annotations

import errno
import os
import shutil
import sys

import pytest

from calotype.backends import folders
from calotype.backends.folders import mark_of
from calotype.backends.local import LocalBackend
from calotype.errors import Unavailable

if sys.platform != "linux":
    pytest.skip("asks the file system what Linux alone passes on", allow_module_level=True)

import fcntl


@pytest.fixture
def answers(monkeypatch):
    """What the file system answers to each question: bytes, or the number of an error."""
    told: dict[int, bytes | int] = {}
    real = fcntl.ioctl

    def ioctl(descriptor, question, *given):
        told_now = told.get(question)
        if isinstance(told_now, int):
            raise OSError(told_now, os.strerror(told_now))
        return real(descriptor, question, *given) if told_now is None else told_now

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return told


def test_a_folder_keeps_its_mark_where_it_is_moved_and_a_copy_has_another(tmp_path):
    (tmp_path / "one").mkdir()
    before = mark_of(str(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    (tmp_path / "one").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert mark_of(str(tmp_path / "moved")) == mark_of(str(tmp_path / "link")) == before
    assert mark_of(str(tmp_path / "copy")) != before


def test_a_folder_that_is_made_with_the_inode_of_one_that_went_has_another_mark(tmp_path, answers):
    answers[folders._GENERATION] = b"\x01\x02\x03\x04" + bytes(4)
    before = mark_of(str(tmp_path))
    answers[folders._GENERATION] = b"\x01\x02\x03\x05" + bytes(4)
    assert mark_of(str(tmp_path)) != before
    answers[folders._GENERATION] = b"\x01\x02\x03\x04" + b"\xff" * 4  # what was in the room before
    assert mark_of(str(tmp_path)) == before


@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_does_not_know_the_question_has_marks_all_the_same(
    tmp_path, answers, code
):
    answers[folders._GENERATION] = answers[folders._XFS_GEOMETRY] = code
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    marks = {mark_of(str(tmp_path / name)) for name in ("one", "two", "one")}
    assert len(marks) == 2
    assert all(mark.endswith(":") for mark in marks)


@pytest.mark.parametrize("asked", ["_XFS_GEOMETRY", "_GENERATION"])
def test_who_may_not_ask_is_told_so_and_not_that_it_is_another_place(tmp_path, answers, asked):
    answers[getattr(folders, asked)] = errno.EACCES
    with pytest.raises(Unavailable, match="Permission denied"):
        LocalBackend(tmp_path).stand()


def test_without_a_descriptor_left_no_other_mark_is_told(tmp_path, monkeypatch):
    def opened(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(Unavailable, match="Too many open files"):
        LocalBackend(tmp_path).stand()
