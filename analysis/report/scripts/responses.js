/* The responses. Data, unpacked from #data:
   {runs, tasks, topics, languages, judges, documents, quotes, labels, marks: tables of text,
    questions: [[text, topic, language, document]], findings: [[[quote…], detail]],
    responses: [[run, task, question, docId, sample, judge, text, [gap, length, label, finding, …]]]} */

async function loadData() {
  const text = $("data").textContent;
  const bytes = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); // slower
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** Responses whose keys tell apart the occurrences of a question in one run, by the order of its docs. */
function numbered(responses) {
  const seen = new Map();
  for (const r of [...responses].sort((x, y) => x.doc - y.doc)) {
    const asked = `${r.key} ${r.run}`;
    seen.set(asked, (seen.get(asked) || 0) + 1);
    r.key += ` ${seen.get(asked)}`;
  }
  return responses;
}

/** The packed responses as objects, with what filters need. */
function unpack(data) {
  const named = (list, place) => list[place];
  return data.responses.map(([run, task, question, doc, sample, judge, text, flat], place) => {
    const [asked, topic, language, reference] = data.questions[question];
    const counts = data.labels.map(() => 0);
    for (let i = 2; i < flat.length; i += 4) counts[flat[i]] += 1;
    const checkable = counts[0] + counts[1] + counts[2];
    return {
      place, flat, text, counts, checkable, sample, doc, question: asked,
      run: named(data.runs, run), task: named(data.tasks, task), judge: named(data.judges, judge),
      topic: named(data.topics, topic), language: named(data.languages, language),
      document: named(data.documents, reference),
      key: `${task} ${question} ${sample}`, // `numbered` tells apart what a run was asked twice
      id: `${doc}~${sample}~${data.tasks[task]}~${data.runs[run]}`,
      share: checkable ? counts[0] / checkable : NaN,
    };
  });
}

function sentencesOf(response, data) {
  const sentences = [];
  let at = 0;
  for (let i = 0; i < response.flat.length; i += 4) {
    const [gap, length, label, finding] = response.flat.slice(i, i + 4);
    const start = at + gap;
    const [quotes, detail] = data.findings[finding];
    sentences.push({
      before: response.text.slice(at, start), text: response.text.slice(start, start + length),
      label: data.labels[label], mark: data.marks[label], quotes: quotes.map((quote) => data.quotes[quote]), detail,
    });
    at = start + length;
  }
  return { sentences, rest: response.text.slice(at) };
}

/** What stands outside of all sentences: white space, or text that must not turn its neighbours round. */
const between = (text) => (text.trim() ? make("bdi", {}, text) : text);

/** `text` as nodes, with every occurrence of one of `needles` marked (case is ignored). */
function marked(text, needles) {
  const wanted = needles.filter(Boolean).map((needle) => needle.toLowerCase());
  const lower = text.toLowerCase();
  if (!wanted.length || lower.length !== text.length) return [text];
  const nodes = [];
  let at = 0;
  for (;;) {
    let start = -1;
    let length = 0;
    for (const needle of wanted) {
      const found = lower.indexOf(needle, at);
      if (found >= 0 && (start < 0 || found < start || (found === start && needle.length > length))) {
        start = found;
        length = needle.length;
      }
    }
    if (start < 0) break;
    if (start > at) nodes.push(text.slice(at, start));
    nodes.push(make("mark", {}, text.slice(start, start + length)));
    at = start + length;
  }
  nodes.push(text.slice(at));
  return nodes.filter((node) => node !== "");
}
