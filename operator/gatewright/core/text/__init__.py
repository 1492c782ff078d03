"""Texts of others, in linear time.

`masking` takes secrets out, with a module for each kind of them (`secret_...`); `foreign` reads
numbers, words and JSON of strangers; `lines` makes one line of a text that can be shown.
"""
