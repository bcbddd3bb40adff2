"""Does alignment help a topic more, the nearer it lies to the topics trained on? A direct test, topic by topic."""
