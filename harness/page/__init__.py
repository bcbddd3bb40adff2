"""The page of coloured sentences."""
