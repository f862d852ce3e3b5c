// --- A group. ---

const tokenOf = new WeakMap(); // its element -> what is known of it

function tokenSpans(text, tokens, advantage) {
  const place = element("div", "text");
  let at = 0;
  for (const token of tokens) {
    const piece = text.slice(at, at + token.length);
    at += token.length;
    const span = element("span", "tok", piece);
    tokenOf.set(span, { ...token, advantage });
    place.append(span);
  }
  return place;
}

function paint() {
  const scale = SCALES[state.colour];
  for (const span of document.querySelectorAll(".tok")) {
    const token = tokenOf.get(span);
    span.style.backgroundColor = scale ? tint(scale.of(token, token.advantage), scale) : "";
  }
  showLegend();
}

function verdictPill(verdict) {
  const name = data.verdicts[verdict];
  const sign = name === "correct" ? "✓ " : name === "wrong" ? "✗ " : "";
  const kind = name === "correct" || name === "wrong" ? ` ${name}` : "";
  return element("span", `pill${kind}`, sign + name.replace(/_/g, " "));
}

function memberCard(e, content, bytes, place) {
  const { episodes } = data;
  const advantage = episodes.advantage[e];
  const card = element("article", matching[e] ? "card" : "card out");
  const head = element("div", "head");
  head.append(element("b", "", `#${episodes.member[e]}`));
  if (episodes.verdict[e] >= 0) head.append(verdictPill(episodes.verdict[e]));
  const reward = element("span", "", "reward ");
  reward.append(element("b", "", rewardText(episodes.reward[e])));
  head.append(reward);
  if (advantage !== null) {
    const sign = advantage > 0 ? "plus" : advantage < 0 ? "minus" : "";
    const span = element("span", "", "advantage ");
    span.append(element("b", sign, signedText(advantage)));
    head.append(span);
  }
  head.append(element("span", "", `${grouped(episodes.tokens[e])} tokens`));
  if (episodes.truncated[e]) head.append(element("span", "pill", "cut"));
  const turns = element("div", "turns");
  const several = content.turns.length > 1;
  for (const [role, text, count] of content.turns) {
    const isReply = role === "assistant";
    if (several) turns.append(element("div", "role", isReply ? "model" : role === "tool" ? "tool" : `environment (${role})`));
    if (count) {
      turns.append(tokenSpans(text, readTokens(bytes, place, count), advantage));
      place += PLANES * count;
    } else turns.append(element("div", isReply ? "text" : "text env", text));
  }
  if (!content.turns.some(([, text]) => text)) turns.append(element("div", "role", "an empty reply"));
  card.append(head, turns, moreOf(content));
  return card;
}

function moreOf(content) {
  const more = element("details");
  more.append(element("summary", "", "info and metrics"));
  const lines = [`weights version ${content.versions.join(", ")}`];
  if (content.rewards) lines.push(`rewards by turn: ${content.rewards.join(", ")}`);
  for (const [name, value] of Object.entries(content.metrics)) lines.push(`${name}: ${value}`);
  more.append(element("pre", "", lines.join("\n")));
  if (content.info && content.info !== "{}") more.append(element("pre", "", JSON.stringify(JSON.parse(content.info), null, 1)));
  return more;
}

async function groupView(g) {
  const block = data.groups.block[g], { groups } = data;
  const [all, { bytes, places }] = await Promise.all([textsOf(block), numbersOf(block)]);
  const content = all[blockGroups[block].indexOf(g)];
  const view = element("section", "group");
  const head = element("div", "head");
  if (data.runs.length > 1) {
    head.append(element("span", `run run-${groups.run[g]}`, `${"AB"[groups.run[g]]} ${data.runs[groups.run[g]].name}`));
  }
  head.append(element("h2", "", `Iteration ${groups.iteration[g]}, ${groups.stage[g]}`));
  head.append(element("span", "", `problem ${groups.seed[g]}`), element("span", "", `mean reward ${rewardText(stats[g].reward)}`));
  const prompt = element("div", "prompt", null, { tabindex: 0, role: "region", "aria-label": "Prompt" });
  for (const [role, text] of content.prompt) {
    prompt.append(element("div", "role", role === "user" ? "prompt" : role), element("div", "text", text));
  }
  const members = element("div", "members");
  let place = places.get(g);
  episodesOf(g).forEach((e, m) => {
    members.append(memberCard(e, content.members[m], bytes, place));
    place += PLANES * data.episodes.tokens[e];
  });
  if (!members.querySelector(".card:not(.out)")) members.classList.add("none-match");
  view.append(head, prompt, members);
  return view;
}

// The same problem in the other run, of the nearest iteration.
async function counterpart(g) {
  const { groups } = data;
  const mine = await promptText(g);
  let best = null;
  for (let other = 0; other < groups.first.length; other++) {
    if (groups.run[other] === groups.run[g] || groups.stage[other] !== groups.stage[g]) continue;
    if (groups.prompt[other] !== groups.prompt[g]) continue; // its end; the whole is compared below
    const distance = Math.abs(groups.iteration[other] - groups.iteration[g]);
    if (best !== null && distance >= best.distance) continue;
    if ((await promptText(other)) === mine) best = { group: other, distance };
  }
  return best === null ? null : best.group;
}

async function promptText(g) {
  const block = data.groups.block[g];
  return JSON.stringify((await textsOf(block))[blockGroups[block].indexOf(g)].prompt);
}

let opening = 0;
async function open(g) {
  const mine = ++opening;
  state.open = String(g);
  writeAddress();
  showList();
  const views = [await groupView(g)];
  if (data.runs.length > 1) {
    const other = await counterpart(g);
    views.push(other === null ? element("p", "empty", `The other run has no group of this problem in ${data.groups.stage[g]}.`) : await groupView(other));
    if (data.groups.run[g] === 1) views.reverse();
  }
  if (mine !== opening) return;
  const detail = byId("detail");
  if (views.length > 1) {
    const pair = element("div", "pair");
    pair.append(...views);
    detail.replaceChildren(pair);
  } else detail.replaceChildren(views[0]);
  detail.scrollTop = 0;
  paint();
  markFound();
  document.documentElement.dataset.open = state.open;
}

// --- What was searched for, in the group that is open. ---

function markFound() {
  if (!window.Highlight || !CSS.highlights) return;
  CSS.highlights.delete("found");
  const query = state.q.trim().toLowerCase();
  if (!query) return;
  const ranges = [];
  for (const place of document.querySelectorAll("#detail .text")) {
    const nodes = [];
    let whole = "";
    const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) { nodes.push([whole.length, walker.currentNode]); whole += walker.currentNode.data; }
    const lower = whole.toLowerCase();
    if (lower.length !== whole.length) continue; // a few characters change their length
    const locate = (at) => { const [start, node] = nodes.findLast(([begin]) => begin <= at); return [node, at - start]; };
    for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, at + query.length)) {
      const range = new Range();
      range.setStart(...locate(at));
      const [node, offset] = locate(at + query.length - 1);
      range.setEnd(node, offset + 1);
      ranges.push(range);
    }
  }
  if (ranges.length) CSS.highlights.set("found", new Highlight(...ranges));
}
