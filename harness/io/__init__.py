"""Files: JSONL, samples, manifests, exports, model folders."""
