"""Lists by pages: the objects under a prefix, and the uploads that were begun there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from calotype.backends import Key, Listed
from calotype.backends.s3.answers import SERVICE, plain
from calotype.backends.s3.asking import Bucket, Call
from calotype.errors import Misconfigured, NotFound
from calotype.quantities import Instant, at


def objects(bucket: Bucket, prefix: str) -> Iterator[Listed]:
    """The objects whose names in ``bucket`` begin with ``prefix``, as the service orders them.

    Their names come percent-encoded, for XML cannot hold every character of one.
    """
    last = ""
    query = [
        ("list-type", "2"),
        ("encoding-type", "url"),
        ("prefix", bucket.place.named(prefix)),
    ]
    for page in _pages(bucket, "list", "s3:ListBucket", query, _OBJECTS):
        encoded = _texts(page)["EncodingType"] == "url"
        for each in _all(page, "Contents"):
            said = _texts(each)
            name = bucket.place.known(unquote_plus(said["Key"]) if encoded else said["Key"])
            if name < last and Key.parse(name) and Key.parse(last):
                raise Misconfigured(
                    f"{bucket.place.url} lists its objects in no order.",
                    hint="Use a general purpose bucket, not a directory bucket.",
                )
            last = name
            yield Listed(name, int(said["Size"]), _instant(said["LastModified"]))


def uploads(bucket: Bucket, older_than: Instant) -> Iterator[tuple[str, str]]:
    """Name and id of uploads of ours that nobody has begun or sent a part to since then."""
    query = [("uploads", ""), ("prefix", bucket.place.named("sha256/"))]
    right = "s3:ListBucketMultipartUploads"
    for page in _pages(bucket, "list the uploads of", right, query, _UPLOADS):
        for each in _all(page, "Upload"):
            said = _texts(each)
            name, ident = bucket.place.known(said["Key"]), said["UploadId"]
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
        page = bucket.xml(call, is_list)
        yield page
        said = _texts(page)
        if said["IsTruncated"] == "false":
            return
        before, further = further, [(key, said[word]) for key, word in marks.items() if said[word]]
        if further in ([], before):
            raise Misconfigured(
                f"{bucket.place.url} does not say where its list goes on.", hint=SERVICE
            )


def is_list(page: Element) -> bool:
    """True for a page of S3's that is whole: it says whether it is the last, and its count fits.

    A page of anything else would be taken for an empty one, and all that it should list for gone.
    """
    said = _texts(page)
    if plain(page.tag) not in _CONTENTS or said["IsTruncated"] not in ("true", "false"):
        return False
    wanted = _CONTENTS[plain(page.tag)]
    found = [_texts(each) for each in _all(page, wanted)]
    return said["KeyCount"] in ("", str(len(found))) and all(map(_CHECKS[wanted], found))


def _is_object(said: Mapping[str, str]) -> bool:
    return bool(said["Key"]) and said["Size"].isdecimal() and _is_instant(said["LastModified"])


def _is_upload(said: Mapping[str, str]) -> bool:
    return bool(said["Key"] and said["UploadId"]) and _is_instant(said["Initiated"])


def _is_part(said: Mapping[str, str]) -> bool:
    return _is_instant(said["LastModified"])


_CONTENTS = {
    "ListBucketResult": "Contents",
    "ListMultipartUploadsResult": "Upload",
    "ListPartsResult": "Part",
}
_CHECKS = {"Contents": _is_object, "Upload": _is_upload, "Part": _is_part}


def _all(page: Element, name: str) -> Iterator[Element]:
    return (each for each in page if plain(each.tag) == name)


def _texts(element: Element) -> defaultdict[str, str]:
    """What stands in its parts by their names; an empty text for those that are not there."""
    return defaultdict(str, {plain(each.tag): each.text or "" for each in element})


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _instant(text: str) -> Instant:
    return at(datetime.fromisoformat(text))
