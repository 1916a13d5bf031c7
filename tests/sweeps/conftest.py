"""Records of sweeps are not waited for until they are on the disk."""

from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "connect")
def _without_waiting(connection, _):
    connection.execute("PRAGMA synchronous = OFF")
