"""PostgreSQL: one query, read-only, its answer counted below the driver.

1. `connection.py`      one question within a time, always rolled back
2. `url.py`             what a URL may say, and where it leads
3. `relay.py`           the way to the server, which is cut when too much comes back
4. `login.py`           TLS, the certificate, the password; spoken here and not by libpq
5. `session.py`         one connection, by libpq's pipeline mode
6. `gate.py`            `sql`: one value by one query; `catalogs.py`: four questions of its own

`errors.py` says what went wrong, `column_types.py` which values can be read.
"""
