-- Run once by the superuser. Passwords are psql variables from the environment and are never printed.
\set ON_ERROR_STOP on
\getenv owner_password FOCO_OWNER_PASSWORD
\getenv app_password FOCO_APP_PASSWORD
\getenv monitor_password FOCO_MONITOR_PASSWORD

CREATE ROLE foco_owner LOGIN PASSWORD :'owner_password' NOSUPERUSER NOBYPASSRLS;
CREATE ROLE foco_app LOGIN PASSWORD :'app_password' NOSUPERUSER NOBYPASSRLS CONNECTION LIMIT 30;
CREATE ROLE foco_monitor LOGIN PASSWORD :'monitor_password' NOSUPERUSER NOBYPASSRLS CONNECTION LIMIT 10;

-- The owner ends other sessions before a restore, and acts as the service to verify what the service may see.
GRANT pg_signal_backend, foco_app TO foco_owner;
-- The monitor sees all sessions in pg_stat_activity; every transaction of its own is read-only.
GRANT pg_monitor TO foco_monitor;
ALTER ROLE foco_monitor SET default_transaction_read_only = on;
ALTER ROLE foco_monitor SET statement_timeout = '5s';

CREATE DATABASE foco OWNER foco_owner;
REVOKE ALL ON DATABASE foco FROM PUBLIC;
GRANT CONNECT ON DATABASE foco TO foco_app, foco_monitor;
