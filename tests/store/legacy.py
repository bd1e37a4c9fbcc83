"""An application from before: its table of images, and the folder where their files lie."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.store.pictures import picture
from tests.store.places import Place

from calotype import Scope
from calotype.model import Imported
from calotype.progress import Progress, Run

TO_BLOB = "FOREIGN KEY (digest) REFERENCES calotype_blob (digest)"
TO_ASSET = "FOREIGN KEY (shop, digest) REFERENCES calotype_asset (scope, digest)"


class Application:
    """A database with legacy images, and the folder where their files lie."""

    def __init__(self, root: Path) -> None:
        self.root = root / "imagecache"
        self.database = root / "legacy.db"
        self.url = f"sqlite:///{self.database}"
        self.tell(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, result INT, path TEXT, data BLOB, "
            "digest CHAR(64))"
        )

    def add(
        self, number: int, name: str | None, data: bytes | None, *, inside: bool = False
    ) -> None:
        if name is not None and data is not None and not inside:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.tell(
            "INSERT INTO images VALUES (?, ?, ?, ?, NULL)",
            number,
            number * 10,
            name,
            data if inside else None,
        )

    def tell(self, sql: str, *values: object) -> list[tuple]:
        with closing(sqlite3.connect(self.database)) as raw, raw:
            return raw.execute(sql, values).fetchall()

    def digests(self) -> dict[int, str | None]:
        return dict(self.tell("SELECT id, digest FROM images ORDER BY id"))


def furnished(root: Path) -> Application:
    """Six rows: two name one file, two name equal files, one names none."""
    made = Application(root)
    made.add(1, "tx/CA/a.1.png", picture(0))
    made.add(2, "tx/CA/a.2.png", picture(0))
    made.add(3, "tx/NY/b.1.png", picture(1))
    made.tell("INSERT INTO images VALUES (4, 40, 'tx/NY/b.1.png', NULL, NULL)")
    made.add(5, "tx/FL/c.1.png", picture(2))
    made.add(6, None, None)
    return made


def pointing(shared: Place, key: str) -> Application:
    """An application in the store's own database, whose digests are foreign keys."""
    app = Application.__new__(Application)
    app.root, app.database = shared.root / "files", shared.database
    app.url = f"sqlite:///{app.database}"
    app.tell(
        "CREATE TABLE images (id INTEGER PRIMARY KEY, result INT, path TEXT, data BLOB, "
        f"digest CHAR(64), shop TEXT, {key})"
    )
    (app.root / "tx").mkdir(parents=True)
    for number, shop in ((1, "ana"), (2, "bob")):
        (app.root / f"tx/{number}").write_bytes(picture(number))
        app.tell("INSERT INTO images VALUES (?, 0, ?, NULL, NULL, ?)", number, f"tx/{number}", shop)
    return app


def moving(
    store: Scope, app: Application, table: str = "images", **more: object
) -> Run[Progress, Imported]:
    """The import that most tests run."""
    given = {
        "owner": "result/{result}",
        "role": "screenshot",
        "path_column": "path",
        "digest_column": "digest",
        "root": app.root,
    }
    return store.import_table(app.url, table, **(given | more))


def moved(store: Scope, app: Application, table: str = "images", **more: object) -> Imported:
    """What it did."""
    return moving(store, app, table, **more).result()
