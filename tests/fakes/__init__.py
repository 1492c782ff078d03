"""Small stand-ins of vendors, for contract and end-to-end tests; each speaks the vendor's API on a
free port."""
