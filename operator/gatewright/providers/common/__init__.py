"""What several vendors share, and nothing that knows a vendor.

To understand a request, read in this order:

1. `client.py`              one request over HTTP, and what can go wrong with it;
                            `replies.py`: what its answer means
2. `rest.py`                what vendors' JSON APIs have in common: limits, refusals, paths
3. `addresses.py`           where a Connection may lead; below it `address_rules.py`, `networks.py`
                            and `names.py`
4. `transport.py`           how aiohttp carries it, by `tls.py`; `intake.py` counts what comes in
5. `client_pool.py`         clients are kept by Connection, and closed
6. `context.py`             what all of them share, and where a module keeps what it keeps

What every request passes: `permit.py` (may this process act?), `pace.py` and `meter.py` (what did
it cost?), `secrets.py` (values of Secrets, and keeping them hidden), `concurrency.py`.

What providers inherit: `present_gate.py` (gates that tell of now only), `deeds.py` (actions),
`flag_switches.py` (flags; `flag_changes.py` tells which a run has set).
What checks share beside it: `queries.py`, `jsonpath.py`, `sqlstates.py`.
"""
