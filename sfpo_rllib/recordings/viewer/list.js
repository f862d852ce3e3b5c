// --- The list: only what is in sight is in the document. ---

const ROW = 74;
let least = 0, greatest = 1; // of the rewards

function rewardColour(reward) {
  if (reward === null) return "transparent";
  const share = greatest > least ? (reward - least) / (greatest - least) : 1;
  return share >= 0.5 ? `rgba(var(--plus), ${(0.9 * (2 * share - 1) + 0.1).toFixed(2)})`
    : `rgba(var(--minus), ${(0.9 * (1 - 2 * share) + 0.1).toFixed(2)})`;
}

function listRow(place) {
  const g = shown[place], { groups, episodes } = data;
  const open = String(g) === state.open;
  const row = element("div", "row", null, {
    role: "option", id: `group-${g}`, "aria-selected": open, "aria-setsize": shown.length, "aria-posinset": place + 1,
  });
  row.style.top = `${place * ROW}px`;
  row.dataset.group = g;
  const top = element("div", "top");
  if (data.runs.length > 1) top.append(element("span", `run run-${groups.run[g]}`, "AB"[groups.run[g]]));
  top.append(element("b", "", `iteration ${groups.iteration[g]}`), element("span", "", groups.stage[g]));
  top.append(element("span", "mean", `mean ${rewardText(stats[g].reward)}`));
  const cells = element("div", "cells", null, { "aria-hidden": "true" });
  for (const e of episodesOf(g)) {
    const cell = element("span", matching[e] ? "cell" : "cell out");
    cell.style.background = rewardColour(episodes.reward[e]);
    cells.append(cell);
  }
  row.append(top, element("div", "preview", groups.prompt[g].replace(/\s+/g, " ")), cells);
  return row;
}

function showList() {
  const list = byId("list"), spacer = byId("spacer");
  spacer.style.height = `${shown.length * ROW}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  spacer.replaceChildren(...Array.from({ length: Math.max(0, last - first) }, (_, i) => listRow(first + i)));
  if (state.open !== "") list.setAttribute("aria-activedescendant", `group-${state.open}`);
}

function scrollTo(place) {
  const list = byId("list"), top = place * ROW;
  byId("spacer").style.height = `${shown.length * ROW}px`;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
}

function move(step) {
  if (!shown.length) return;
  const now = shown.indexOf(Number(state.open));
  const next = state.open === "" || now < 0 ? 0 : Math.min(Math.max(now + step, 0), shown.length - 1);
  scrollTo(next);
  open(shown[next]);
}

// --- The chart: mean reward of what matches, by iteration; a click filters. ---

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes, text = null) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

function showChart() {
  const { groups, episodes } = data;
  const lines = new Map(); // run and stage -> iteration -> [sum, count]
  for (const g of shown) {
    const key = `${groups.run[g]} ${groups.stage[g]}`;
    if (!lines.has(key)) lines.set(key, new Map());
    const line = lines.get(key), at = groups.iteration[g];
    const entry = line.get(at) ?? [0, 0];
    for (const e of episodesOf(g)) {
      if (matching[e] && episodes.reward[e] !== null) { entry[0] += episodes.reward[e]; entry[1]++; }
    }
    line.set(at, entry);
  }
  const iterations = shown.map((g) => groups.iteration[g]);
  const [from, to] = iterations.reduce(([a, b], i) => [Math.min(a, i), Math.max(b, i)], [Infinity, -Infinity]);
  const [w, h, left, bottom] = [310, 62, 26, 12];
  const x = (i) => left + (to > from ? (i - from) / (to - from) : 0.5) * (w - left - 6);
  const y = (r) => 6 + (greatest > least ? 1 - (r - least) / (greatest - least) : 0.5) * (h - bottom - 10);
  const chart = svg("svg", { viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "none", role: "img" });
  chart.append(svg("title", {}, "Mean reward of the episodes that match, by iteration; dashed: evaluation"));
  if (shown.length) {
    for (const r of [least, greatest]) {
      chart.append(svg("line", { x1: left, x2: w - 6, y1: y(r), y2: y(r), stroke: "var(--line)" }));
      chart.append(svg("text", { x: left - 3, y: y(r) + 3, "text-anchor": "end" }, rewardText(r)));
    }
    chart.append(svg("text", { x: left, y: h - 1 }, `iteration ${from}`));
    chart.append(svg("text", { x: w - 6, y: h - 1, "text-anchor": "end" }, String(to)));
  }
  for (const [key, line] of lines) {
    const [run, stage] = key.split(" ");
    const points = [...line].filter(([, [, n]]) => n).sort(([a], [b]) => a - b).map(([i, [sum, n]]) => `${x(i).toFixed(1)},${y(sum / n).toFixed(1)}`);
    const shape = { fill: "none", stroke: `var(--run-${run})`, "stroke-width": 1.5, "stroke-dasharray": stage === "training" ? "none" : "4 3" };
    if (points.length > 1) chart.append(svg("polyline", { points: points.join(" "), ...shape }));
    else if (points.length) chart.append(svg("circle", { cx: points[0].split(",")[0], cy: points[0].split(",")[1], r: 2.5, fill: `var(--run-${run})` }));
  }
  byId("chart").replaceChildren(chart);
}
