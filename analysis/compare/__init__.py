"""Is one checkpoint more factual than another? Paired by question, clustered by topic, with what can fake a gain."""
