"""Results with their pictures: the query, the page, and how the archive is doing."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from calotype import Store
from calotype.catalog.tables import blob
from calotype.errors import Unavailable
from examples.screenshots.tables import datasets, search_results


@dataclass(frozen=True, slots=True)
class Result:
    """A search result and what is known of its picture."""

    id: int
    tag: str
    state: str
    search_name: str
    license_name: str
    license_status: str
    image_hash: str | None
    width: int | None
    height: int | None
    file_size: int | None


def results(engine: Engine, tag: str | None = None) -> list[Result]:
    """Results joined to the blobs of their pictures; those without one too."""
    statement = (
        select(
            search_results.c.id,
            datasets.c.tag,
            search_results.c.state,
            search_results.c.search_name,
            search_results.c.license_name,
            search_results.c.license_status,
            search_results.c.image_hash,
            blob.c.width,
            blob.c.height,
            blob.c.size,
        )
        .join(datasets, datasets.c.id == search_results.c.dataset_id)
        .outerjoin(blob, blob.c.digest == search_results.c.image_hash)
        .order_by(search_results.c.id)
    )
    if tag is not None:
        statement = statement.where(datasets.c.tag == tag)
    with Session(engine) as session:
        return [Result(*tuple(row)) for row in session.execute(statement)]


def get_image_url_for_result(
    engine: Engine, store: Store, result_id: int, expires: int = 3600
) -> str | None:
    """The URL of a result's picture; None where it has none."""
    with Session(engine) as session:
        mine = search_results.c.id == result_id
        digest = session.scalar(select(search_results.c.image_hash).where(mine))
    return store.url(digest, expires=expires) if digest is not None else None


def write_page(engine: Engine, store: Store, tag: str, file: Path) -> int:
    """A page of a dataset's results, each with its picture; how many."""
    found = results(engine, tag)
    cards = "".join(_card(engine, store, each) for each in found)
    file.write_text(
        f"""<!doctype html><meta charset="utf-8"><title>{escape(tag)}</title><style>
        body {{ font: 14px/1.4 sans-serif; margin: 24px }} h1 {{ font-size: 20px }}
        main {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: 16px }}
        figure {{ margin: 0; border: 1px solid #ddd; border-radius: 6px; overflow: hidden }}
        img {{ width: 100%; display: block }} figcaption {{ padding: 8px 12px }}
        small {{ color: #777 }}</style><h1>{escape(tag)}: {len(found)} results</h1>
        <main>{cards}</main>"""
    )
    return len(found)


def _card(engine: Engine, store: Store, result: Result) -> str:
    url = get_image_url_for_result(engine, store, result.id)
    picture = f'<img src="{escape(url)}" alt="the page as it was">' if url else "<p>no picture</p>"
    facts = f"{result.width} x {result.height}" if result.width else ""
    return (
        f"<figure>{picture}<figcaption><b>{escape(result.license_name)}</b> "
        f"{escape(result.license_status)}<br><small>{escape(result.state)}, "
        f"{escape(result.search_name)} "
        f"· {(result.image_hash or '')[:8]} {facts}</small></figcaption></figure>"
    )


def delete_dataset(engine: Engine, tag: str) -> int:
    """Delete a dataset and its results in one transaction; how many datasets that were.

    Pictures that only its results named are orphans from then on; others stay.
    """
    with Session(engine) as session, session.begin():
        return session.execute(delete(datasets).where(datasets.c.tag == tag)).rowcount  # type: ignore[attr-defined,no-any-return]


def health(engine: Engine, store: Store) -> list[str]:
    """What is wrong: pictures that cannot be read as they were; an empty list is well."""
    shown = {each.image_hash for each in results(engine) if each.image_hash}
    gone = [digest for digest, asset in store.check(shown).items() if asset is None]
    found = [f"{digest} is not there" for digest in gone]
    try:
        for each in store.fsck(read_data=True, budget="30s"):
            found += [f"{each.kind}: {each.note}"] if each.is_problem else []
    except Unavailable as error:
        found.append(f"{error.code}: {error}")
    return found


def most_viewed(store: Store, limit: int = 5) -> list[tuple[str, int]]:
    """(hash, views) of the pictures that were opened or linked to most."""
    page = store.assets(sort="views").page(limit=limit)
    return [(str(asset.digest), asset.access_count) for asset in page.items]
