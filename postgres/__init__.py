"""Sessions that outlive the process, in PostgreSQL, for any number of processes. Only with DATABASE_URL.

    tables       the tables, and every statement
    database     connections, migrations, and what is said when the database is not there
    encoding     what a member logged and decided as JSON, and back
    sharing      what all processes share: TMDB's answers, and the pace of asking
    store        sessions: who works on which, who reads, and `winner`, which decides between two outcomes

main.py enters here, by `open_store`, and knows nothing else of it.
"""

from postgres.store import open_store

__all__ = ["open_store"]
