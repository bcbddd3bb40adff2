"""Loaders: ANAH, biographies, and the small bilingual corpus shipped here."""
