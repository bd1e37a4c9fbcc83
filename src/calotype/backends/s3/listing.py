"""Lists by pages: the objects under a prefix, and the uploads that were begun there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from calotype.backends import Key, Listed
from calotype.backends.s3.answers import plain
from calotype.backends.s3.asking import Bucket, Call
from calotype.errors import Misconfigured, NotFound
from calotype.quantities import Instant, at


def objects(bucket: Bucket, prefix: str) -> Iterator[Listed]:
    """The objects whose names in ``bucket`` begin with ``prefix``, as the service orders them.

    Their names come percent-encoded, for XML cannot hold every character of one.
    """
    start = len(bucket.place.prefix)
    last = ""
    query = [
        ("list-type", "2"),
        ("encoding-type", "url"),
        ("prefix", bucket.place.prefix + prefix),
    ]
    for page in _pages(bucket, "list", "s3:ListBucket", query, _OBJECTS):
        encoded = _texts(page).get("EncodingType") == "url"
        for each in _all(page, "Contents"):
            said = _texts(each)
            name = (unquote_plus(said["Key"]) if encoded else said["Key"])[start:]
            if name < last and Key.parse(name) and Key.parse(last):
                raise Misconfigured(
                    f"{bucket.place.url} lists its objects in no order.",
                    hint="Use a general purpose bucket, not a directory bucket.",
                )
            last = name
            yield Listed(name, int(said["Size"]), _instant(said["LastModified"]))


def uploads(bucket: Bucket, older_than: Instant) -> Iterator[tuple[str, str]]:
    """Name and id of uploads of ours that nobody has begun or sent a part to since then."""
    start = len(bucket.place.prefix)
    query = [("uploads", ""), ("prefix", bucket.place.prefix + "sha256/")]
    right = "s3:ListBucketMultipartUploads"
    for page in _pages(bucket, "list the uploads of", right, query, _UPLOADS):
        for each in _all(page, "Upload"):
            said = _texts(each)
            name, ident = said["Key"][start:], said["UploadId"]
            old = _instant(said["Initiated"]) < older_than
            if old and Key.parse(name) and not _goes_on(bucket, name, ident, older_than):
                yield name, ident


def _goes_on(bucket: Bucket, name: str, ident: str, since: Instant) -> bool:
    """True where a part came in since then: somebody is at work, however long it takes."""
    right = "s3:ListMultipartUploadParts"
    query = [("uploadId", ident)]
    try:
        return any(
            _instant(_texts(part)["LastModified"]) >= since
            for page in _pages(bucket, "look at an upload to", right, query, _PARTS, name=name)
            for part in _all(page, "Part")
        )
    except NotFound:  # it came to its end meanwhile
        return True


_OBJECTS = {"continuation-token": "NextContinuationToken"}
_UPLOADS = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
_PARTS = {"part-number-marker": "NextPartNumberMarker"}


def _pages(
    bucket: Bucket,
    doing: str,
    right: str,
    query: list[tuple[str, str]],
    marks: dict[str, str],
    *,
    name: str | None = None,
) -> Iterator[Element]:
    """Page after page; ``marks`` says which of a page's words the next one is asked with."""
    further: list[tuple[str, str]] = []
    while True:
        call = Call("GET", name, doing, right, (*query, *further))
        page = bucket.xml(call)
        yield page
        said = _texts(page)
        if said.get("IsTruncated") != "true":
            return
        further = [(key, said[word]) for key, word in marks.items() if said.get(word)]
        if not further:
            raise Misconfigured(
                f"{bucket.place.url} does not say where its list goes on.",
                hint="Does the endpoint in its URL lead to an S3 service?",
            )


def _all(page: Element, name: str) -> Iterator[Element]:
    return (each for each in page if plain(each.tag) == name)


def _texts(element: Element) -> dict[str, str]:
    return {plain(each.tag): each.text or "" for each in element}


def _instant(text: str) -> Instant:
    return at(datetime.fromisoformat(text))
