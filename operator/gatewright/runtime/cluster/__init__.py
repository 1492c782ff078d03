"""The API server: `kube` sends requests, `watch` follows, `cached` remembers what is followed;
`wire` and `outline` read what comes back within bounds; `leader` holds the Lease, `revisions` keeps
what runs have pinned."""
