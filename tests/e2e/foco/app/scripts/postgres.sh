#!/bin/bash
# A PostgreSQL that initialises itself: cluster, roles, the schema of $BASELINE_VERSION, seed rows; then it serves.
#
# PGDATA and SOCKETS (in one writable directory), PORT, LISTEN; POSTGRES_PASSWORD, FOCO_{OWNER,APP,MONITOR}_PASSWORD.
# RUN_AS is for a test outside of a pod that runs as root, which the server refuses.
# Until all of that is there, it listens on its socket alone, so nobody meets half a database.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="/usr/lib/postgresql/15/bin:$PATH"
: "${PGDATA:?}" "${SOCKETS:?}" "${POSTGRES_PASSWORD:?}" "${FOCO_OWNER_PASSWORD:?}" "${FOCO_APP_PASSWORD:?}"
: "${FOCO_MONITOR_PASSWORD:?}" "${PORT:=5432}" "${LISTEN:=*}" "${BASELINE_VERSION:=2.3.1}"
umask 077
as_server=(${RUN_AS:+setpriv --reuid="$RUN_AS" --regid="$RUN_AS" --clear-groups})
server() { "${as_server[@]}" "$@"; }

if [[ ! -e "$PGDATA/ready" ]]; then
    # A start that was interrupted leaves half a cluster: begin again rather than serve it.
    server mkdir -p "$PGDATA"
    find "$PGDATA" -mindepth 1 -delete
    # A file, because the server's user may not open a pipe of ours.
    printf '%s' "$POSTGRES_PASSWORD" | server sh -c 'umask 077; cat >"$0"' "$SOCKETS/.password"
    server initdb --pgdata="$PGDATA" --username=postgres --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
        --pwfile="$SOCKETS/.password" >/dev/null
    rm "$SOCKETS/.password"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    cat >>"$PGDATA/postgresql.conf" <<CONF
port = $PORT
unix_socket_directories = '$SOCKETS'
max_connections = 40
shared_buffers = 32MB
max_parallel_workers_per_gather = 0
jit = off
# A throwaway database on a small machine: losing it in a crash costs nothing, waiting for disks does.
fsync = off
synchronous_commit = off
full_page_writes = off
deadlock_timeout = 500ms
log_min_messages = warning
log_statement = none
CONF
    server pg_ctl --pgdata="$PGDATA" --options="-c listen_addresses=''" --wait start >/dev/null
    export PGHOST="$SOCKETS" PGPORT="$PORT" PGOPTIONS='-c client_min_messages=warning'
    PGUSER=postgres PGPASSWORD="$POSTGRES_PASSWORD" psql --no-psqlrc --quiet --dbname=postgres --file=sql/roles.sql
    export PGUSER=foco_owner PGPASSWORD="$FOCO_OWNER_PASSWORD" PGDATABASE=foco
    DATABASE_URL='' APP_VERSION="$BASELINE_VERSION" TERMINATION_LOG=/dev/null ./scripts/database-migration-orchestrator.sh migrate
    psql --no-psqlrc --quiet --file=sql/seed.sql
    psql --no-psqlrc --quiet --command='ANALYZE foco.organizations, foco.workspaces, foco.tasks, foco.comments'
    server pg_ctl --pgdata="$PGDATA" --wait --mode=fast stop >/dev/null
    touch "$PGDATA/ready"
fi
# The server has no need of the passwords any more, and a child process could show them.
unset POSTGRES_PASSWORD FOCO_OWNER_PASSWORD FOCO_APP_PASSWORD FOCO_MONITOR_PASSWORD
unset PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGOPTIONS
exec "${as_server[@]}" postgres -D "$PGDATA" -c "listen_addresses=$LISTEN"
