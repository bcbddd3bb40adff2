"""Judging the judge: human labels, agreement, a judge's card, and scores corrected by it."""
