"""The dress rehearsal: tiny models of the same architectures, data in the same formats, a scripted judge."""
