"""The bare sides of an S3 service, run in their own environment: NAME ENDPOINT PREFIX < paths.

``obstore`` keeps ``IN_FLIGHT`` requests going; ``boto3`` is the loop that its manual shows. Neither
hashes, keeps rows or reads anything back. Credentials come from the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from time import perf_counter

BUCKET = "calotype-test"
IN_FLIGHT = 16


async def obstore(endpoint: str, prefix: str, paths: list[Path]) -> None:
    """Every file as an object, so many at a time."""
    from obstore.store import S3Store  # type: ignore[import-not-found]

    store = S3Store(
        BUCKET, prefix=prefix, endpoint=endpoint, region="us-east-1",
        client_options={"allow_http": True},
    )  # fmt: skip
    free = asyncio.Semaphore(IN_FLIGHT)

    async def put(path: Path) -> None:
        async with free:
            await store.put_async(path.name, path.read_bytes(), use_multipart=False)

    await asyncio.gather(*map(put, paths))


def boto3(endpoint: str, prefix: str, paths: list[Path]) -> None:
    """Every file as an object, one after another."""
    import boto3 as library  # type: ignore[import-not-found]

    client = library.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    for path in paths:
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path.name}", Body=path.read_bytes())


def main(name: str, endpoint: str, prefix: str) -> None:
    """Put every file named on standard input; the time leaves imports and the list out."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    paths = [Path(line) for line in sys.stdin.read().splitlines()]
    started = perf_counter()
    if name == "obstore":
        asyncio.run(obstore(endpoint, prefix, paths))
    else:
        boto3(endpoint, prefix, paths)
    print(json.dumps({"seconds": perf_counter() - started}), flush=True)
    os._exit(0)  # obstore's threads may abort a process that takes its interpreter down


if __name__ == "__main__":
    main(*sys.argv[1:])
