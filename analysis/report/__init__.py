"""One self-contained page of results: leaderboard with intervals, figures, and a browser of responses.

The page asks the network nothing and works from the file system. Every response is model output and is only ever shown
as text; a content security policy allows no script but the page's own.
"""
