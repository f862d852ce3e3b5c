"use strict";
// What is shown is set as text, never as HTML: replies may contain anything.

const byId = (id) => document.getElementById(id);

function element(tag, className = "", text = null, attributes = {}) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// --- Data: parts of the page, gzip in base64, unpacked when they are needed. ---

async function unpacked(id) {
  const node = byId(id);
  const binary = atob(node.textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
const unpackedJson = async (id) => JSON.parse(new TextDecoder().decode(await unpacked(id)));

let data; // the index
const texts = new Map(); // block -> promise of its groups
const numbers = new Map(); // block -> promise of {bytes, places: group -> where its tokens begin}
let blockGroups = []; // block -> its groups

const textsOf = (block) => {
  if (!texts.has(block)) texts.set(block, unpackedJson(`texts-${block}`));
  return texts.get(block);
};

function numbersOf(block) {
  if (!numbers.has(block)) {
    numbers.set(block, unpacked(`numbers-${block}`).then((bytes) => {
      const places = new Map();
      let place = 0;
      for (const group of blockGroups[block]) {
        places.set(group, place);
        for (const e of episodesOf(group)) place += PLANES * data.episodes.tokens[e];
      }
      return { bytes, places };
    }));
    // Of many groups that were looked at the numbers of a few are kept.
    if (numbers.size > 24) numbers.delete(numbers.keys().next().value);
  }
  return numbers.get(block);
}

function episodesOf(group) {
  const first = data.groups.first[group];
  return Array.from({ length: data.groups.count[group] }, (_, i) => first + i);
}

// --- Numbers of tokens, as page.py packs them. ---

const PLANES = 5;
const ABSENT = 255;
const asNats = (byte) => (byte === ABSENT ? null : 16 * (byte / 254) ** 2);
const asDifference = (byte) => (byte === 0 ? null : Math.sign(byte - 128) * ((byte - 128) / 127) ** 2);

function readTokens(bytes, place, count) {
  const plane = (k) => bytes.subarray(place + k * count, place + (k + 1) * count);
  const [low, high, surprise, entropy, difference] = [0, 1, 2, 3, 4].map(plane);
  return Array.from({ length: count }, (_, i) => ({
    length: low[i] + 256 * high[i],
    surprise: asNats(surprise[i]),
    entropy: asNats(entropy[i]),
    difference: asDifference(difference[i]),
  }));
}
