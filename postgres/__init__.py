"""Sessions that outlive the process, in PostgreSQL, for any number of processes. Only with DATABASE_URL.

    database     connections, migrations, questions that are asked together
    encoding     films, matches and movies as JSON, and back
    sharing      what all processes share: TMDB's answers, members' corrections, the pace of asking
    store        sessions: memory is a cache of the tables; who works on which, and how others hear of it

main.py enters here, by `open_store`, and knows nothing else of it. The tables are in migrations/versions.
"""

from postgres.store import open_store

__all__ = ["open_store"]
