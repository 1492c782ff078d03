"""Texts of others, in linear time: `masking` takes secrets out, `foreign` reads numbers, words and
JSON of strangers."""
