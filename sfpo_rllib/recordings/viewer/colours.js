// --- Colours. ---

const SCALES = {
  advantage: { most: 2, signed: true, ends: ["−2", "+2"], of: (token, advantage) => advantage },
  entropy: { most: 2, ends: ["0", "2 nats"], of: (token) => token.entropy ?? token.surprise },
  surprise: { most: 3, ends: ["0", "3 nats"], of: (token) => token.surprise },
  difference: { most: 0.2, signed: true, root: true, ends: ["engine higher", "learner higher"], of: (token) => token.difference },
  none: null,
};

function tint(value, scale) {
  if (value === null || value === undefined) return "";
  let strength = Math.min(Math.abs(value) / scale.most, 1);
  if (scale.root) strength = Math.sqrt(strength);
  if (strength < 0.02) return "";
  const colour = scale.signed ? (value > 0 ? "--plus" : "--minus") : "--heat";
  return `rgba(var(${colour}), ${(0.6 * strength).toFixed(3)})`;
}

function showLegend() {
  const scale = SCALES[state.colour];
  const legend = byId("legend");
  legend.replaceChildren();
  if (!scale) return;
  const bar = element("span", "scale");
  const side = (name) => `rgba(var(${name}), .6)`;
  bar.style.background = scale.signed
    ? `linear-gradient(90deg, ${side("--minus")}, transparent, ${side("--plus")})`
    : `linear-gradient(90deg, transparent, ${side("--heat")})`;
  legend.append(element("span", "", scale.ends[0]), bar, element("span", "", scale.ends[1]));
}
