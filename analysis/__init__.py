"""Tables, figures and experiments over result files. Not built yet; the evaluation core comes first."""
