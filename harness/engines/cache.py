"""One persistent, content-addressed cache under all engines.

A row is the SHA-256 of (engine and model, messages, sampling) and the answer. Whose answers they are stands in tables
of their own, so that old files are read and old versions read these. SQLite in WAL mode: several processes may share
the file, and a killed process loses nothing that was committed. Requests that failed are never stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factuality_harness.harness.engines.base import Batch, Conversation, Engine, Reply, Sampling
from factuality_harness.harness.errors import HarnessError

log = logging.getLogger(__name__)

_OWNERS = (
    "CREATE TABLE IF NOT EXISTS owners (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)",
    "CREATE TABLE IF NOT EXISTS owned (key BLOB PRIMARY KEY, owner INTEGER NOT NULL) WITHOUT ROWID",
)
_STEP = 2000  # answers deleted in one transaction
_LOOKUP = 500  # keys a query; SQLite's default limit on variables is 999 in old builds


def cache_path() -> Path:
    """`$HARNESS_CACHE` (a folder), else `~/.cache/factuality-harness`; the file is `answers.sqlite`."""
    folder = os.environ.get("HARNESS_CACHE") or Path.home() / ".cache" / "factuality-harness"
    return Path(folder) / "answers.sqlite"


def request_key(
    identity: str, conversation: Conversation, sampling: Sampling, settings: Mapping[str, Any] | None = None
) -> bytes:
    """SHA-256 of the canonical JSON of everything that decides the answer: engine and model, messages, sampling, and
    the engine's own settings where there are any."""
    content: list[Any] = [identity, list(conversation), sampling.to_dict()]
    if settings:
        content.append(settings)
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def usable(_index: int, reply: Reply) -> bool:
    """What is stored unless a caller knows better: an answer with some text that ended by itself."""
    return reply.text is not None and bool(reply.text.strip()) and not reply.cut


class AnswerCache:
    """Answers by key. A full or failing disk stops the storing, with one warning, and not the run."""

    def __init__(self, path: str | Path | None = None, *, max_pages: int | None = None) -> None:
        """path: the SQLite file (made if missing). max_pages: size limit in 4 KiB pages, for tests of a full disk.

        Raises HarnessError when the file cannot be opened or is no cache.
        """
        self.path = Path(path) if path is not None else cache_path()
        self.writable = True
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            if max_pages is not None:
                self._db.execute(f"PRAGMA max_page_count={max_pages}")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise HarnessError(
                f"{self.path}: cannot open the answer cache ({error}). "
                "Remove the file if it is damaged, or point HARNESS_CACHE at another folder."
            ) from error

    def get(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """The stored answers among `keys`."""
        found: dict[bytes, str] = {}
        with self._lock:
            for start in range(0, len(keys), _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ",".join("?" * len(part))
                found.update(self._db.execute(f"SELECT key, text FROM answers WHERE key IN ({marks})", part))
        return found

    def put(self, rows: Sequence[tuple[bytes, str]], owner: str = "") -> None:
        """Store and commit. Keeps the first answer to a key, so that processes sharing the cache agree afterwards.

        owner: whose answers they are, for `owners` and `prune`.
        """
        if not rows or not self.writable:
            return
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
                if owner:
                    for table in _OWNERS:
                        self._db.execute(table)
                    self._db.execute("INSERT OR IGNORE INTO owners (name) VALUES (?)", (owner,))
                    (number,) = self._db.execute("SELECT id FROM owners WHERE name = ?", (owner,)).fetchone()
                    self._db.executemany("INSERT OR IGNORE INTO owned VALUES (?, ?)", [(k, number) for k, _ in rows])
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self.writable = False
                log.warning(
                    "%s: cannot store answers (%s). The run goes on without storing new ones; what is stored stays. "
                    "Free some space or point HARNESS_CACHE elsewhere to make this run resumable again.",
                    self.path,
                    error,
                )

    def drop(self, keys: Sequence[bytes]) -> None:
        """Forget answers, where the file can be written."""
        if self.writable:
            with self._lock, contextlib.suppress(sqlite3.Error):
                self._db.executemany("DELETE FROM answers WHERE key = ?", [(key,) for key in keys])

    def owners(self) -> dict[str, tuple[int, int]]:
        """Whose answers are stored: name to number of answers and bytes of text; "" for those of which it is not known
        (stored before it was noted)."""
        with self._lock:
            known = self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'owned'").fetchone()[0]
            name, tables = "''", "answers"
            if known:
                name, tables = (
                    "coalesce(name, '')",
                    "answers LEFT JOIN owned USING (key) LEFT JOIN owners ON id = owner",
                )
            rows = self._db.execute(f"SELECT {name}, count(*), sum(length(text)) FROM {tables} GROUP BY 1 ORDER BY 1")
            return {owner: (count, size) for owner, count, size in rows if count}

    def prune(self, owner: str) -> int:
        """Delete an owner's answers ("": those of unknown owners); returns how many. Other processes may read and write
        meanwhile: it is done in small steps, each whole. The room is used again, the file does not shrink.

        Raises HarnessError where the file cannot be written.
        """
        chosen = "SELECT key FROM owned JOIN owners ON id = owner WHERE name = ?"
        if not owner:
            chosen = "SELECT key FROM answers WHERE ? = '' AND key NOT IN (SELECT key FROM owned)"
        deleted = 0
        with self._lock:
            try:
                for table in _OWNERS:
                    self._db.execute(table)
                while keys := self._db.execute(f"{chosen} LIMIT {_STEP}", (owner,)).fetchall():
                    self._db.execute("BEGIN IMMEDIATE")
                    deleted += self._db.executemany("DELETE FROM answers WHERE key = ?", keys).rowcount
                    self._db.executemany("DELETE FROM owned WHERE key = ?", keys)
                    self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise HarnessError(
                    f"{self.path}: cannot be written ({error}); {deleted} answers are deleted"
                ) from error
        return deleted

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


class CachedEngine:
    """An engine with the cache in front: asks only what is not stored, stores every answer as it arrives."""

    def __init__(self, engine: Engine, cache: AnswerCache | None, judge: str = "") -> None:
        """cache: None to ask everything anew and store nothing. judge: the judge that asks, for the cache's records."""
        self.engine = engine
        self.cache = cache
        self.judge = judge
        self.asked = 0
        """Requests sent to the engine so far."""
        self.hits = 0
        """Requests answered from the cache (or by a twin in the same batch)."""

    @property
    def owner(self) -> str:
        """Whose answers these are: judge, engine and model, as annotations name their judge."""
        return f"{self.judge}@{self.engine.identity}" if self.judge else self.engine.identity

    def wave(self, window: int) -> int:
        """How many requests to ask for together: `window`, or as many as the engine wants at least."""
        return max(window, getattr(self.engine, "wave", 0))

    def usage(self) -> dict[str, Any]:
        """What was asked so far, for the records: requests, answers from the cache, tokens where the server counts
        them, and what was changed about the requests."""
        counted = getattr(self.engine, "usage", {})
        adapted = getattr(getattr(self.engine, "parameters", None), "learned", [])
        found = {"engine": self.engine.identity, "requests": self.asked, "from_cache": self.hits, **counted}
        return found | ({"adapted": [*adapted]} if adapted else {})

    def uncached(self) -> CachedEngine:
        """The same engine without the cache, to try whether it works now."""
        for_trial = getattr(self.engine, "for_trial", None)
        return CachedEngine(self.engine if for_trial is None else for_trial(), None)

    def key(self, conversation: Conversation, sampling: Sampling) -> bytes:
        """The cache's key of a request."""
        return request_key(self.engine.identity, conversation, sampling, self.engine.settings)

    def cached(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """The stored answers among `keys`."""
        return {} if self.cache is None else self.cache.get(keys)

    def announce(self, parts: Sequence[tuple[Sequence[Conversation], Sampling]]) -> None:
        """Say what will be asked for one part after the other, so that an engine that makes one wait submits all at
        once."""
        submit = getattr(self.engine, "submit", None)
        if submit is None or len(parts) < 2:
            return
        new = []
        for conversations, sampling in parts:
            keys = [self.key(c, sampling) for c in conversations]
            found = self.cached(keys)
            new.append(([c for c, key in zip(conversations, keys, strict=True) if key not in found], sampling))
        submit(new)

    def complete(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling,
        on_reply: Callable[[int, Reply], None] | None = None,
        keep: Callable[[int, Reply], bool] = usable,
        typical: Callable[[int], str] | None = None,
    ) -> list[Reply]:
        """Answers in the order of `conversations`; equal conversations are asked once.

        on_reply is called with (index, reply) the moment an answer is known. keep says of each whether it is worth
        storing: what is empty, cut or of no use is asked for again by the next run. typical: what an answer looks like,
        for a dry run that asks nothing. Raises EngineError when the engine fails as a whole; the answers that came
        before are stored.
        """
        keys = [self.key(c, sampling) for c in conversations]
        replies: dict[int, Reply] = {}

        def finish(index: int, reply: Reply) -> None:
            replies[index] = reply
            if on_reply is not None:
                on_reply(index, reply)

        # What an earlier run stored and is of no use now is asked for again, and replaced.
        found = self.cached(keys)
        if bad := {key for i, key in enumerate(keys) if key in found and not keep(i, Reply(found[key]))}:
            self._drop(bad)
            found = {key: text for key, text in found.items() if key not in bad}
        if found and (settle := getattr(self.engine, "settle", None)):
            settle(found)
        waiting: dict[bytes, list[int]] = {}
        for index, key in enumerate(keys):
            if key in found:
                finish(index, Reply(found[key]))
            else:
                waiting.setdefault(key, []).append(index)
        order = list(waiting)
        self.asked += len(order)
        self.hits += len(keys) - len(order)
        if order:
            firsts = [waiting[key][0] for key in order]
            answers = self._answers(
                [conversations[i] for i in firsts], sampling, lambda i: (typical or _nothing)(firsts[i])
            )
            for batch in answers:
                good = [(order[i], r.text) for i, r in batch if keep(firsts[i], r) and r.text is not None]
                self._store(good)
                for i, reply in batch:
                    for index in waiting[order[i]]:
                        finish(index, reply)
        return [replies[index] for index in range(len(keys))]

    def _answers(
        self, conversations: Sequence[Conversation], sampling: Sampling, typical: Callable[[int], str]
    ) -> Iterator[Batch]:
        return self.engine.stream(conversations, sampling)

    def _store(self, rows: Sequence[tuple[bytes, str]]) -> None:
        if self.cache is not None:
            self.cache.put(rows, self.owner)

    def _drop(self, keys: Collection[bytes]) -> None:
        if self.cache is not None:
            self.cache.drop([*keys])


def _nothing(_index: int) -> str:
    return ""
