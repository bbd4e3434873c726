"""The tables, and every statement. Times are the database's, so the processes' clocks do not matter.

A change of a session increases its `revision` and gives it to the films that it changed. Of two outcomes for
a film, `store.winner` says which one stands; its twin here is the condition of WRITE.
"""

from functools import partial
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    Executable,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    case,
    cast,
    delete,
    extract,
    func,
    literal,
    or_,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

import main

metadata = MetaData()
Moment = DateTime(timezone=True)


column = partial(Column, nullable=False)


sessions = Table(
    "sessions",
    metadata,
    column("id", Text, primary_key=True),
    column("created_at", Moment),
    column("begun_at", Moment),  # when its films began to be looked up, for the last time
    column("ended_at", Moment, nullable=True),  # NULL while they are
    column("status", Text),
    column("error_message", Text, nullable=True),
    column("revision", BigInteger, server_default="0"),
    column("uploaded", BigInteger, server_default="0"),  # the revision that its export came with
    column("to_look_up", Integer),  # how many films were pending at begun_at
    column("waiting_for", Text, nullable=True),  # why lookups are paused
    column("rows", JSON),  # how many rows of each file were used; json keeps their order
    column("warnings", JSON),
    column("lists", JSON, server_default="[]"),
    column("profile", JSON, nullable=True),
    column("memory_bytes", BigInteger),
    column("collections", ARRAY(Integer), server_default="{}"),
    column("lease_owner", Text, nullable=True),  # the process that looks its films up,
    column("lease_until", Moment, nullable=True),  # unless it has not been heard of since then
)
Index("sessions_ended_at", sessions.c.ended_at)
Index("sessions_at_work", sessions.c.created_at, postgresql_where=sessions.c.ended_at.is_(None))

films = Table(  # the free space lets an outcome be set where its row is
    "films",
    metadata,
    column("session_id", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    column("movie_id", Integer, primary_key=True, autoincrement=False),
    column("revision", BigInteger, server_default="0"),  # the session's, when the match last changed
    column("logged", JSONB),
    column("status", Text, server_default="pending"),
    column("reason", Text, server_default=""),
    column("movie", Text, nullable=True),  # such as movie/27205
    column("by_hand", Boolean, server_default="false"),
    column("replaced", JSONB, nullable=True),  # these four, before the last choice by hand
    postgresql_with={"fillfactor": "50"},
)

records = Table(  # TMDB's answers, see main.KeptAnswers
    "records",
    metadata,
    column("key", Text, primary_key=True),
    column("path", Text, Computed("split_part(key, '?', 1)", persisted=True), nullable=True),
    column("version", Text),
    column("body", JSON),
    column("fetched_at", Moment),
    column("usable_until", Moment),  # for further lookups
)
Index("records_path", records.c.path)
Index("records_fetched_at", records.c.fetched_at)

limiter = Table(  # one row; seconds since 1970
    "limiter",
    metadata,
    column("id", Integer, primary_key=True, autoincrement=False),
    column("next_slot", Double, server_default="0"),
    column("rate_after_cut", Double, server_default="Infinity"),
    column("cut_at", Double, server_default="0"),
    column("paused_until", Double, server_default="0"),
    column("sample", Text, server_default=""),  # 1 for each request since the cut that was refused, else 0
)

now = func.clock_timestamp(type_=Moment)
seconds_now = cast(extract("epoch", now), Double)
OWNER, LEASE = bindparam("owner", type_=Text), bindparam("lease", type_=Double)
TTL, ID, MOST = bindparam("ttl", type_=Double), bindparam("sid", type_=Text), bindparam("most", type_=Integer)


def after(seconds: Any) -> Any:
    """In so many seconds."""
    return now + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


lease = {"lease_owner": OWNER, "lease_until": after(LEASE)}
no_lease = {"lease_owner": None, "lease_until": None}
is_this = sessions.c.id == ID
is_alive = or_(sessions.c.ended_at.is_(None), sessions.c.ended_at > after(-TTL))
in_this = films.c.session_id == ID
is_pending = films.c.status == "pending"

# --- Reading

HEADS = select(sessions.c.id, sessions.c.revision).where(
    sessions.c.id == func.any(bindparam("ids", type_=ARRAY(Text))), is_alive
)
# What a poll answers, in one query: counting a few hundred films is faster than reading those that changed.
_statuses = (
    select(films.c.status, func.count().label("films"))
    .where(films.c.session_id == sessions.c.id)
    .group_by(films.c.status)
    .correlate(sessions)
    .subquery()
)
PROGRESS = HEADS.add_columns(
    *(column for column in sessions.c if column.name not in ("id", "revision")),
    extract("epoch", now - sessions.c.begun_at).label("seconds"),
    select(func.json_object_agg(_statuses.c.status, _statuses.c.films)).scalar_subquery().label("counts"),
)
# A subquery, because a join might scan the records of all sessions for the sake of a few films.
FILMS = text(
    """
    SELECT f.movie_id, f.status, f.reason, f.movie, f.by_hand, r.version, r.body,
        CASE WHEN :since < 0 THEN f.logged END AS logged
    FROM films AS f LEFT JOIN LATERAL (
        SELECT version, body FROM records WHERE path = f.movie ORDER BY fetched_at DESC LIMIT 1
    ) AS r ON true
    WHERE f.session_id = :sid AND f.revision > :since ORDER BY f.movie_id
    """
)
COUNT = select(func.count()).select_from(sessions)

# --- Making and deleting

CREATE = text(
    """
    WITH created AS (
        INSERT INTO sessions (
            id, created_at, begun_at, status, to_look_up, rows, warnings, lists, profile, memory_bytes,
            lease_owner, lease_until
        )
        SELECT id, created_at, clock_timestamp(), status, to_look_up, rows, warnings, lists, profile,
            memory_bytes, :owner, clock_timestamp() + make_interval(secs => :lease)
        FROM json_to_record(CAST(:session AS json)) AS given (
            id text, created_at timestamptz, status text, to_look_up int, rows json, warnings json,
            lists json, profile json, memory_bytes bigint
        )
        ON CONFLICT DO NOTHING RETURNING id
    )
    INSERT INTO films (session_id, movie_id, logged)
    SELECT created.id, given.movie_id, given.film FROM created, json_array_elements(CAST(:films AS json))
        WITH ORDINALITY AS given (film, movie_id)
    """
)


def _deleted(key: Any, condition: Any, oldest: Any, most: Any) -> Executable:
    """A few of those that nobody is changing, the oldest first."""
    some = select(key).where(condition).order_by(oldest).limit(most).with_for_update(skip_locked=True)
    return delete(key.table).where(key.in_(some)).returning(key)


DELETE = delete(sessions).where(is_this)
DELETE_EXPIRED = _deleted(sessions.c.id, ~is_alive, sessions.c.ended_at, MOST)
MAKE_ROOM = _deleted(
    sessions.c.id,
    sessions.c.ended_at.is_not(None),
    sessions.c.ended_at,
    func.greatest(COUNT.scalar_subquery() - MOST + 1, 0),
)
DELETE_RECORDS = _deleted(
    records.c.key,
    records.c.fetched_at < after(-bindparam("age", type_=Double)),
    records.c.fetched_at,
    MOST,
)

# --- Choices and further work: in a transaction that begins with LOCK

LOCK = (
    select(sessions.c.revision, sessions.c.uploaded, sessions.c.ended_at)
    .where(is_this, is_alive)
    .with_for_update()
)
TOUCH = (
    update(sessions).where(is_this).values(revision=sessions.c.revision + 1).returning(sessions.c.revision)
)
BEGIN_AGAIN = (
    update(sessions)
    .where(is_this)
    .values(
        status="enriching",
        error_message=None,
        ended_at=None,
        begun_at=now,
        to_look_up=select(func.count()).where(in_this, is_pending).scalar_subquery(),
        waiting_for=None,
        **lease,
    )
)
REVISION = bindparam("new_revision", type_=BigInteger)
_match = ("status", "reason", "movie", "by_hand")
_film = update(films).where(in_this, films.c.movie_id == bindparam("film", type_=Integer))
CHOOSE = _film.values(
    replaced=func.jsonb_build_object(*(part for name in _match for part in (literal(name), films.c[name]))),
    status=bindparam("new_status"),
    reason=bindparam("new_reason"),
    movie=bindparam("new_movie", type_=Text),
    by_hand=True,
    revision=REVISION,
)
UNDO = text(
    """
    UPDATE films SET status = replaced ->> 'status', reason = coalesce(replaced ->> 'reason', ''),
        movie = replaced ->> 'movie', by_hand = coalesce(CAST(replaced ->> 'by_hand' AS bool), false),
        replaced = NULL, revision = :new_revision
    WHERE session_id = :sid AND movie_id = :film AND replaced IS NOT NULL RETURNING status
    """
)
RETRY = (
    update(films)
    .where(in_this, films.c.movie.is_(None), ~films.c.by_hand)
    .values(status="pending", reason="", revision=REVISION)
    .returning(films.c.movie_id)
)
MOVE_ASIDE = update(films).where(in_this).values(movie_id=-films.c.movie_id)
TAKE_OVER = text(
    """
    INSERT INTO films (session_id, movie_id, revision, logged, status, reason, movie, by_hand, replaced)
    SELECT :sid, given.movie_id, :new_revision, given.film -> 'film', coalesce(old.status, 'pending'),
        coalesce(old.reason, ''), old.movie, coalesce(old.by_hand, false), old.replaced
    FROM json_array_elements(CAST(:films AS json)) WITH ORDINALITY AS given (film, movie_id)
    LEFT JOIN films AS old ON old.session_id = :sid AND old.movie_id = -CAST(given.film ->> 'before' AS int)
    """
)
FORGET_ASIDE = delete(films).where(in_this, films.c.movie_id < 0)
UPLOADED = (
    update(sessions)
    .where(is_this)
    .values(
        uploaded=REVISION,
        rows=bindparam("new_rows", type_=JSON),
        warnings=bindparam("new_warnings", type_=JSON),
        lists=bindparam("new_lists", type_=JSON),
        profile=bindparam("new_profile", type_=JSON),
        memory_bytes=bindparam("new_memory_bytes", type_=BigInteger),
    )
)
COLLECTIONS = (
    update(sessions)
    .where(is_this)
    .values(revision=sessions.c.revision + 1, collections=bindparam("new_collections", type_=ARRAY(Integer)))
)
RENEWED = text(
    """
    WITH touched AS (UPDATE sessions SET revision = revision + 1 WHERE id = :sid RETURNING id, revision)
    UPDATE films AS f SET revision = touched.revision FROM touched
    WHERE f.session_id = touched.id AND f.movie = ANY(:movies)
    """
)

# --- The work of who holds the lease

# All that one process has found, in one round trip. An outcome only fills a film that is pending.
WRITE = text(
    """
    WITH given AS (
        SELECT * FROM json_to_recordset(CAST(:sessions AS json)) AS given (
            id text, changes int, waiting_for text, collections int[]
        )
    ), written AS (
        UPDATE sessions AS s SET revision = s.revision + given.changes, status = 'enriching',
            waiting_for = given.waiting_for, collections = given.collections,
            lease_until = clock_timestamp() + make_interval(secs => :lease)
        FROM given WHERE s.id = given.id AND s.lease_owner = :owner
        RETURNING s.id, s.revision
    ), found AS (
        UPDATE films AS f SET status = film.status, reason = film.reason, movie = film.movie,
            revision = written.revision
        FROM written JOIN json_to_recordset(CAST(:films AS json)) AS film (
            session_id text, movie_id int, status text, reason text, movie text
        ) ON film.session_id = written.id
        WHERE f.session_id = film.session_id AND f.movie_id = film.movie_id AND f.status = 'pending'
    )
    SELECT id, revision FROM written
    """
)
_ended = {
    "status": bindparam("new_status"),
    "error_message": bindparam("new_reason", type_=Text),
    "ended_at": now,
}
_end = update(sessions).values(revision=sessions.c.revision + 1, waiting_for=None, **_ended, **no_lease)
# Not if anything has changed that the process has not seen, such as an undone choice.
END = _end.where(is_this, sessions.c.lease_owner == OWNER, sessions.c.revision == REVISION).returning(
    sessions.c.revision, sessions.c.ended_at
)
FAIL = text(
    """
    WITH ended AS (
        UPDATE sessions SET status = 'failed', error_message = :new_reason, ended_at = clock_timestamp(),
            lease_owner = NULL, lease_until = NULL, revision = revision + 1
        WHERE id = :sid AND lease_owner = :owner RETURNING id, revision
    )
    UPDATE films AS f SET status = 'failed', reason = :new_reason, revision = ended.revision
    FROM ended WHERE f.session_id = ended.id AND f.status = 'pending'
    """
)
CLAIM = (
    update(sessions)
    .where(
        sessions.c.id.in_(
            select(sessions.c.id)
            .where(
                sessions.c.ended_at.is_(None),
                or_(sessions.c.lease_until.is_(None), sessions.c.lease_until < now),
            )
            .order_by(sessions.c.created_at)
            .limit(MOST)
            .with_for_update(skip_locked=True)
        )
    )
    .values(**lease)
    .returning(sessions.c.id)
)
RELEASE = update(sessions).where(sessions.c.lease_owner == OWNER).values(**no_lease)

# --- TMDB's answers

READ_ANSWERS = text(
    "SELECT key, version, body FROM records WHERE key = ANY(:keys) AND usable_until > clock_timestamp()"
)
READ_BODIES = text("SELECT path, body FROM records WHERE path = ANY(:paths)")
PUT_ANSWERS = text(
    """
    INSERT INTO records (key, version, body, fetched_at, usable_until)
    SELECT key, version, body, clock_timestamp(), clock_timestamp() + make_interval(days => days)
    FROM json_to_recordset(CAST(:answers AS json)) AS answer (key text, version text, body json, days int)
    ON CONFLICT (key) DO UPDATE SET version = excluded.version, body = excluded.body,
        fetched_at = excluded.fetched_at, usable_until = excluded.usable_until
    """
)

# --- The pace, as in main.Pace: slots are taken and outcomes told in one statement

FULL, LATE = bindparam("full", type_=Double), bindparam("late", type_=Double)
_rate = func.least(
    FULL,
    limiter.c.rate_after_cut
    + FULL * func.greatest(seconds_now - limiter.c.cut_at, 0) / main.RECOVERY_SECONDS,
)
_sample = func.right(limiter.c.sample + bindparam("outcomes", type_=Text), main.SAMPLE)
_is_cut = func.length(func.replace(_sample, "0", "")) >= main.REFUSED_OF_SAMPLE
_paused_until = func.greatest(limiter.c.paused_until, seconds_now + bindparam("pause", type_=Double))
_first = func.greatest(limiter.c.next_slot, _paused_until, seconds_now - LATE)
TAKE = (
    update(limiter)
    .values(
        next_slot=_first + bindparam("slots", type_=Double) / _rate,
        sample=case((_is_cut, ""), else_=_sample),
        rate_after_cut=case((_is_cut, _rate * main.CUT_FACTOR), else_=limiter.c.rate_after_cut),
        cut_at=case((_is_cut, seconds_now), else_=limiter.c.cut_at),
        paused_until=_paused_until,
    )
    .returning(*limiter.c, seconds_now.label("now"), type_coerce(_rate, Double).label("rate"))
)
