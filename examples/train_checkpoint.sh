#!/usr/bin/env bash
# For who wants a more factual checkpoint: from questions to a model trained with Mask-DPO, and whether it helped.
#
#     examples/train_checkpoint.sh                       # in the fact world: minutes on two cores, no download
#     BASE=models/smollm2-135m QUESTIONS=mini:train JUDGE=lexical RECIPE=smollm2-135m/mask_dpo.yaml \
#       TASK=anah_factuality_mini METADATA='{"judge": "lexical"}' examples/train_checkpoint.sh
#     BASE=meta-llama/Llama-3.1-8B-Instruct QUESTIONS=anah:train ENGINE=vllm JUDGE='anah_v2@vllm:opencompass/anah-v2' …
#
# Every step is a command with files in and out; sampling and labelling go on where they stopped. For whole tables over
# several seeds take the sweep (examples/rerun_table.sh).
set -euo pipefail
OUT=${OUT:-out/examples/train_checkpoint}
BASE=${BASE:-$OUT/base}                      # what is trained; without one, a fact world's base model is made
QUESTIONS=${QUESTIONS:-world:$BASE:train}    # never the test questions: training refuses to share topics with them
ENGINE=${ENGINE:-hf}                         # hf or vllm: who generates
JUDGE=${JUDGE:-world}                        # who labels sentences
RECIPE=${RECIPE:-world/mask_dpo.yaml}        # a shipped recipe, or a file of your own
TASK=${TASK:-world_factuality_sampled}       # what is measured before and after
METADATA=${METADATA:-"{\"world\": \"$BASE\"}"}
SAMPLES=${SAMPLES:-3}                        # answers per question; the paper takes 8
MAX_TOKENS=${MAX_TOKENS:-64}
STEPS=${STEPS:-}                             # optimiser steps; empty: as the recipe says
BASE_STEPS=${BASE_STEPS:-1500}               # of a fact world's base model
mkdir -p "$OUT"

# 1. A model to train. A fact world is a test bed: facts that are made up, a tiny model that remembers some of them, and a
#    judge that knows them all.
if [ "$BASE" = "$OUT/base" ]; then factuality world base --steps "$BASE_STEPS" --out "$BASE"; fi

# 2. Several answers to every training question: some truer than others.
factuality sample --questions "$QUESTIONS" --engine "$ENGINE:$BASE" --n "$SAMPLES" --temperature 1.0 --top-k 40 \
  --max-tokens "$MAX_TOKENS" --out "$OUT/samples.jsonl"

# 3. A label for every sentence of every answer.
factuality label "$OUT/samples.jsonl" --judge "$JUDGE" --out "$OUT/annotations.jsonl"

# 4. The best answer to each question against the worst.
factuality pair --annotations "$OUT/annotations.jsonl" --out "$OUT/pairs.jsonl"

# 5. Mask-DPO: prefer the better answer, and learn from its true sentences and the worse one's false ones alone.
#    On several GPUs: accelerate launch -m factuality_harness.training.mask_dpo … (same options)
factuality train mask_dpo --config "$RECIPE" --model_name_or_path "$BASE" --pairs "$OUT/pairs.jsonl" \
  --output_dir "$OUT/trained" ${STEPS:+--max_steps "$STEPS"}

# 6. Both checkpoints on questions about topics that neither saw in training.
for MODEL in "$BASE" "$OUT/trained"; do
  lm_eval run --model hf --model_args "pretrained=$MODEL" --tasks "$TASK" --metadata "$METADATA" \
    --apply_chat_template --batch_size 128 --log_samples --output_path "$OUT/lm_eval/$(basename "$MODEL")"
done

# 7. Did it help? Paired by question, with an interval and a verdict; and the answers side by side.
factuality compare "$OUT/lm_eval/$(basename "$BASE")" "$OUT/lm_eval/trained"
factuality page "$OUT/lm_eval/$(basename "$BASE")" "$OUT/lm_eval/trained" --names before after --questions 3 \
  --out "$OUT/before_after.html"
