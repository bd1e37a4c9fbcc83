"""Masking: URLs as people are shown them, without the passwords and keys that they hold."""

from __future__ import annotations

import re

_OF_POSTGRES = re.compile(r"^(postgres[\w+]*+:?+/*+[^/:@]*):.*@")
"""A password of PostgreSQL's may have a slash that nobody has escaped."""
_AFTER_SLASHES = re.compile(r"((?::/{1,2}|//)(?!/)[^/:@]*):[^/]*@")
_OF_NO_SCHEME = re.compile(r"^(?!file:|sqlite:)([^/:@?]+):(?!/)[^/]*@")
_ENCODED = re.compile(r"(?i)(%3A(?:%2F){1,2}[^%&]*)%3A[^&]*?%40")
_OPTION = re.compile(
    r"(?i)((?:[?&]|%3F|%26)[\w-]*(?:password|passwd|passfile|pwd|secret|token|key)(?:=|%3D))[^&]*"
)


def masked(url: str) -> str:
    """``url`` with ``***`` for its secrets, also where it is one only nearly."""
    for secret in (_OF_POSTGRES, _AFTER_SLASHES, _OF_NO_SCHEME, _ENCODED):
        url = secret.sub(r"\1:***@", url)
    return _OPTION.sub(r"\1***", url)
