# The programs of others that the Jobs of the sample run, below what is the project's own: this part is large and seldom
# changes. BASE is Debian 12 with PostgreSQL's client programs and Python; programs.py makes the context.
ARG BASE
FROM ${BASE}
COPY bin/ /opt/programs/bin/
COPY lib/ /opt/programs/lib/
COPY node_modules/ /opt/runbook/node_modules/
