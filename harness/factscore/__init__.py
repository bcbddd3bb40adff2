"""FActScore: atomic facts, a knowledge source and retrieval, verification, score.

scorer = evaluator.open_scorer("factscore@openai:http://host:8000/v1#model", "enwiki-20230401.db")
results = scorer.score([TopicResponse("Ada Lovelace", "Question: Tell me a bio of Ada Lovelace.", response)])
print(score.summarise_facts([r.counts() for r in results]))
"""
