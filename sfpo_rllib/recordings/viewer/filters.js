// --- State: the filters and the group that is open, kept in the address. ---

const DEFAULTS = {
  q: "", run: "", stage: "", verdict: "", rewardFrom: "", rewardTo: "", iterationFrom: "",
  iterationTo: "", sort: "iteration", colour: "advantage", open: "",
};
const INPUTS = {
  q: "q", run: "run", stage: "stage", verdict: "verdict", rewardFrom: "reward-from", rewardTo: "reward-to",
  iterationFrom: "iteration-from", iterationTo: "iteration-to", sort: "sort", colour: "colour",
};
const state = { ...DEFAULTS };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(DEFAULTS)) if (given.has(name)) state[name] = given.get(name);
  for (const [name, id] of Object.entries(INPUTS)) {
    byId(id).value = state[name];
    if (byId(id).value !== state[name]) state[name] = byId(id).value = DEFAULTS[name];
  }
}

function writeAddress() {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) if (value !== DEFAULTS[name]) given.set(name, value);
  history.replaceState(null, "", `#${given}`);
}

// --- Filtering. ---

let matching = null; // episode -> 1 if it passes the filters
let shown = []; // groups with an episode that does, in order
let round = 0; // of filtering: an old one is given up when a new one begins

const bound = (text, otherwise) => (text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));

async function textMatches(query, mine) {
  const found = new Uint8Array(data.episodes.reward.length);
  for (let block = 0; block < data.blocks; block++) {
    const groups = await textsOf(block);
    if (mine !== round) return null;
    groups.forEach((content, i) => {
      const group = blockGroups[block][i];
      const inPrompt = content.prompt.some(([, text]) => text.toLowerCase().includes(query));
      content.members.forEach((member, m) => {
        const hit = inPrompt || member.turns.some(([, text]) => text.toLowerCase().includes(query));
        found[data.groups.first[group] + m] = hit ? 1 : 0;
      });
    });
  }
  return found;
}

async function applyFilters() {
  const mine = ++round;
  document.documentElement.dataset.busy = "yes";
  const query = state.q.trim().toLowerCase();
  const inText = query ? await textMatches(query, mine) : null;
  if (mine !== round) return;
  const { groups, episodes } = data;
  const rewardFrom = bound(state.rewardFrom, -Infinity), rewardTo = bound(state.rewardTo, Infinity);
  const from = bound(state.iterationFrom, -Infinity), to = bound(state.iterationTo, Infinity);
  const verdict = state.verdict === "" ? null : data.verdicts.indexOf(state.verdict);
  matching = new Uint8Array(episodes.reward.length);
  shown = [];
  let count = 0;
  for (let g = 0; g < groups.first.length; g++) {
    if (state.run !== "" && groups.run[g] !== Number(state.run)) continue;
    if (state.stage && groups.stage[g] !== state.stage) continue;
    if (groups.iteration[g] < from || groups.iteration[g] > to) continue;
    let hits = 0;
    for (const e of episodesOf(g)) {
      if (verdict !== null && episodes.verdict[e] !== verdict) continue;
      const reward = episodes.reward[e];
      if (reward === null ? rewardFrom > -Infinity || rewardTo < Infinity : reward < rewardFrom || reward > rewardTo) continue;
      if (inText && !inText[e]) continue;
      matching[e] = 1;
      hits++;
    }
    if (hits) shown.push(g);
    count += hits;
  }
  sortShown();
  byId("count").textContent = `${grouped(shown.length)} groups, ${grouped(count)} episodes match`;
  showChart();
  byId("list").scrollTop = 0;
  if (state.open !== "" && shown.includes(Number(state.open))) scrollTo(shown.indexOf(Number(state.open)));
  showList();
  markFound();
  document.documentElement.dataset.busy = "no";
}

const grouped = (number) => number.toLocaleString("en");
const signedText = (x) => (x === null ? "–" : `${x < 0 ? "−" : x > 0 ? "+" : ""}${Math.abs(x).toFixed(2)}`);
const rewardText = (x) => (x === null ? "–" : String(Math.round(x * 1000) / 1000));

let stats; // of each group: mean reward, spread, tokens
function computeStats() {
  stats = data.groups.first.map((_, g) => {
    const rewards = episodesOf(g).map((e) => data.episodes.reward[e] ?? 0);
    const mean = rewards.reduce((a, b) => a + b, 0) / rewards.length;
    const spread = Math.sqrt(rewards.reduce((a, b) => a + (b - mean) ** 2, 0) / rewards.length);
    const tokens = episodesOf(g).reduce((a, e) => a + data.episodes.tokens[e], 0) / rewards.length;
    return { reward: mean, spread, tokens, iteration: data.groups.iteration[g] };
  });
}

function sortShown() {
  const descending = state.sort.startsWith("-");
  const key = state.sort.replace("-", "");
  shown.sort((a, b) => (descending ? stats[b][key] - stats[a][key] : stats[a][key] - stats[b][key]) || a - b);
}
