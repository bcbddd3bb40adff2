"""What lm_eval sees of the harness: task discovery, the judged task class, the replay model."""
