"""The schema's history, one revision a file. A revision that has been released is never edited."""
