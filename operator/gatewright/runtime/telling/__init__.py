"""What the operator says: `events` and `notifications` of Releases, `readiness` of Connections;
`metrics`, health and the ports they are on (`server`, `listener`); `log_limits` keeps one namespace
from filling the log."""
