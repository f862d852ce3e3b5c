// --- What the user does. ---

function describeToken(token) {
  const parts = [];
  if (token.surprise !== null) parts.push(`p ${Math.exp(-token.surprise).toFixed(3)}`, `surprise ${token.surprise.toFixed(2)}`);
  if (token.entropy !== null) parts.push(`entropy ${token.entropy.toFixed(2)}`);
  if (token.difference !== null) parts.push(`learner − engine ${token.difference.toExponential(1)}`);
  if (token.advantage !== null) parts.push(`advantage ${signedText(token.advantage)}`);
  return parts.join(", ");
}

function listen() {
  let waiting = null;
  for (const [name, id] of Object.entries(INPUTS)) {
    byId(id).addEventListener("input", () => {
      state[name] = byId(id).value;
      writeAddress();
      if (name === "colour") return paint();
      clearTimeout(waiting);
      document.documentElement.dataset.busy = "yes";
      waiting = setTimeout(applyFilters, name === "q" ? 150 : 0);
    });
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", () => {
    Object.assign(state, DEFAULTS, { open: state.open, colour: state.colour });
    writeAddress();
    applyFilters();
  });
  const list = byId("list");
  list.addEventListener("scroll", showList, { passive: true });
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) open(Number(row.dataset.group));
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(step);
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing) { event.preventDefault(); byId("q").focus(); }
  });
  byId("detail").addEventListener("mouseover", (event) => {
    const token = tokenOf.get(event.target);
    byId("token").textContent = token ? describeToken(token) : "";
  });
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  });
  window.addEventListener("resize", showList);
  window.addEventListener("hashchange", () => { readAddress(); applyFilters(); if (state.open !== "") open(Number(state.open)); });
}

async function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  data = await unpackedJson("index");
  blockGroups = Array.from({ length: data.blocks }, () => []);
  data.groups.block.forEach((block, g) => blockGroups[block].push(g));
  for (const reward of data.episodes.reward) {
    if (reward !== null) { least = Math.min(least, reward); greatest = Math.max(greatest, reward); }
  }
  computeStats();
  data.runs.forEach((run, i) => {
    const letter = data.runs.length > 1 ? `${"AB"[i]} ` : "";
    byId("runs").append(element("span", `run run-${i}`, letter + run.name));
    byId("run").append(element("option", "", letter + run.name, { value: i }));
  });
  byId("run").prepend(element("option", "", "both", { value: "" }));
  byId("run-label").hidden = data.runs.length < 2;
  data.verdicts.forEach((name) => byId("verdict").append(element("option", "", name.replace(/_/g, " "), { value: name })));
  document.title = `Rollouts: ${data.runs.map((run) => run.name).join(" and ")}`;
  const count = data.episodes.reward.length;
  const left = data.recorded > count ? ` of ${grouped(data.recorded)}, evenly chosen to keep the page small` : "";
  byId("summary").textContent = `${grouped(count)} episodes${left}, ${grouped(data.groups.first.length)} groups` +
    ` · ${data.runs[0].algorithm} on ${data.runs[0].env}`;
  readAddress();
  listen();
  await applyFilters();
  if (state.open !== "" && Number(state.open) < data.groups.first.length) await open(Number(state.open));
  else showLegend();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
  // The rest is unpacked while nothing else is to do, so that a search finds it there.
  for (let block = 0; block < data.blocks; block++) {
    await textsOf(block);
    await new Promise((resume) => setTimeout(resume, 0));
  }
}

start();
