"""Reports that a Job's container leaves behind, one file a format: pure functions from text to a
Finding.

A report is looked for in the text of a termination message or a log, among whatever else was
printed there. Every report of the format that is found counts, and one that fails fails the whole;
what is cut off, malformed, unknown or empty is never good. Of a report's text only the names of
tests, audits, thresholds and packages are ever repeated.
"""
