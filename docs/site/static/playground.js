// The playground: fronts of the embedded pool, from the counts in playground_data.js.

const SVG_NS = "http://www.w3.org/2000/svg";
const LEVELS = [0.8, 0.9, 0.95, 0.99, 0.999];

// What a row of the data says on one split: accuracy, and multiply-adds on average.
function onSplit(stages, [correct, ...exits], samples) {
  let cost = 0, ran = 0;
  exits.forEach((count, stage) => {
    ran += stages[stage].reduce((sum, model) => sum + PLAYGROUND.macs[model], 0);
    cost += (count / samples) * ran;
  });
  return { correct, samples, accuracy: correct / samples, cost, worst: ran, exits: exits.map((n) => n / samples) };
}

const COMMITTEES = PLAYGROUND.committees.map(([stages, thresholds, val, test, wins, losses]) => ({
  stages,
  thresholds,
  models: stages.flat(),
  val: onSplit(stages, val, PLAYGROUND.samples[0]),
  test: onSplit(stages, test, PLAYGROUND.samples[1]),
  wins,
  losses,
}));

// The committees of these models that no other beats on the images that choose, cheapest first. Of
// equals the first in the data stays.
function frontOf(models, most) {
  const known = new Set(models);
  const some = COMMITTEES.filter((each) => each.models.length <= most && each.models.every((m) => known.has(m)));
  const ranked = some.map((each, at) => ({ each, at }));
  ranked.sort((a, b) => a.each.val.cost - b.each.val.cost || b.each.val.correct - a.each.val.correct || a.at - b.at);
  let best = -1;
  return ranked.filter(({ each }) => each.val.correct > best && ((best = each.val.correct), true)).map(({ each }) => each);
}

const aloneOf = (model) =>
  COMMITTEES.find((each) => each.stages.length === 1 && each.models.length === 1 && each.models[0] === model);

// The cheapest that is as accurate as a model, less a margin, on the images that choose.
function choose(models, most, reference, within) {
  const front = frontOf(models, most), goal = aloneOf(reference).val.accuracy - within - 1e-9;
  const choice = front.find((each) => each.val.accuracy >= goal) || aloneOf(reference);
  return { front, choice, reference: aloneOf(reference) };
}

// Wilson's interval of a share at 95 %.
function wilson(correct, samples) {
  const z = 1.959963984540054, share = correct / samples, wide = 2 * (samples + z * z);
  const middle = (2 * correct + z * z) / wide;
  const half = (z / wide) * Math.sqrt(4 * correct * (1 - share) + z * z);
  return [correct ? middle - half : 0, correct < samples ? middle + half : 1];
}

const nameOf = ({ stages }) =>
  stages.map((stage) => stage.map((model) => PLAYGROUND.models[model]).join("+")).join(" -> ");
const percent = (share) => `${(100 * share).toFixed(2)} %`;
const short = (number) => Number(number.toPrecision(3)).toString();
const macs = (cost) => (cost >= 1e6 ? `${short(cost / 1e6)} M` : `${short(cost / 1e3)} k`);
// Two digits, as in a terminal: a few thousand images support no more.
const times = (ratio) => (ratio >= 99.5 ? ratio.toFixed(0) : ratio.toPrecision(2)) + "×";
const saving = (ratio) => (ratio >= 1 ? `${times(ratio)} cheaper` : `${times(1 / ratio)} dearer`);
// A bound is rounded to the safe side.
const safePoints = (bound) => (Math.ceil(-bound * 1e4 - 1e-7) / 100).toFixed(2);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG_NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// Accuracy against cost: the front as it looked to the images that chose, and the choice on the others.
function draw(figure, { front, choice, reference }, models, goal) {
  const wide = Math.max(320, figure.clientWidth || 640), high = 300, left = 52, right = 14, top = 16, bottom = 44;
  const costs = [2.5e5, 6e7].map(Math.log10);
  const x = (cost) => left + ((Math.log10(cost) - costs[0]) / (costs[1] - costs[0])) * (wide - left - right);
  const y = (accuracy) => top + ((0.95 - accuracy) / 0.06) * (high - top - bottom);
  const svg = drawn("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-labelledby": "playground-figure" });
  svg.append(drawn("title", { id: "playground-figure" },
    `Accuracy against multiply-adds: ${front.length} committees on the front; chosen: ${nameOf(choice)}`));
  for (const accuracy of [0.9, 0.91, 0.92, 0.93, 0.94]) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: wide - right, y1: y(accuracy), y2: y(accuracy) }));
    svg.append(drawn("text", { x: left - 8, y: y(accuracy) + 4, "text-anchor": "end" }, `${Math.round(100 * accuracy)} %`));
  }
  for (const cost of [3e5, 1e6, 3e6, 1e7, 3e7]) {
    svg.append(drawn("text", { x: x(cost), y: high - bottom + 18, "text-anchor": "middle" }, macs(cost)));
  }
  svg.append(drawn("text", { x: (left + wide) / 2, y: high - 8, "text-anchor": "middle" }, "multiply-adds per image, on average"));
  svg.append(drawn("line", { class: "goal", x1: left, x2: wide - right, y1: y(goal), y2: y(goal) }));
  const path = front.map((each) => `${x(each.val.cost).toFixed(1)},${y(each.val.accuracy).toFixed(1)}`);
  svg.append(drawn("polyline", { class: "front", points: path.join(" ") }));
  for (const model of models) {
    const { val } = aloneOf(model);
    svg.append(drawn("circle", { class: "single", cx: x(val.cost), cy: y(val.accuracy), r: 4 }));
    svg.append(drawn("text", { x: x(val.cost), y: y(val.accuracy) + 18, "text-anchor": "middle" }, PLAYGROUND.models[model]));
  }
  const { val, test } = choice;
  svg.append(drawn("line", { class: "fall", x1: x(val.cost), y1: y(val.accuracy), x2: x(test.cost), y2: y(test.accuracy) }));
  svg.append(drawn("circle", { class: "chosen", cx: x(val.cost), cy: y(val.accuracy), r: 7 }));
  svg.append(drawn("circle", { class: "tested", cx: x(test.cost), cy: y(test.accuracy), r: 7 }));
  figure.replaceChildren(svg);
}

function tableOf({ choice, reference }) {
  const rows = [
    ["", "chosen", PLAYGROUND.models[reference.models[0]]],
    ["accuracy on the images that chose", percent(choice.val.accuracy), percent(reference.val.accuracy)],
    ["accuracy on the others", ...[choice, reference].map(({ test }) => {
      const [low, high] = wilson(test.correct, test.samples);
      return `${percent(test.accuracy)} (${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)})`;
    })],
    ["multiply-adds, average", macs(choice.test.cost), macs(reference.test.cost)],
    ["multiply-adds, worst case", macs(choice.test.worst), macs(reference.test.worst)],
    ["confidence thresholds", choice.thresholds.join(", ") || "none", "none"],
    ["exits by stage", choice.test.exits.map((share) => `${(100 * share).toFixed(1)} %`).join(", "), "100 %"],
  ];
  const body = rows.slice(1).map(([head, ...cells]) =>
    element("tr", {}, element("th", { scope: "row" }, head), ...cells.map((cell) => element("td", {}, cell))));
  const head = element("tr", {}, ...rows[0].map((cell) => element("th", { scope: "col" }, cell)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function sentence(state, found) {
  const { choice, reference } = found, name = PLAYGROUND.models[state.reference];
  const gain = 100 * (choice.test.accuracy - reference.test.accuracy);
  if (choice === reference) return `Nothing cheaper is as accurate: the choice is ${name} itself.`;
  const cheaper = saving(reference.test.cost / choice.test.cost);
  const differs = gain < 0 ? `${(-gain).toFixed(2)} points less` : `${gain.toFixed(2)} points more`;
  return `${nameOf(choice)} is ${cheaper} than ${name} and, on the ${PLAYGROUND.samples[1].toLocaleString("en")} images that did not choose it, ${differs} accurate.`;
}

function promise(state, { choice, reference }) {
  const name = PLAYGROUND.models[state.reference], level = `${+(100 * state.level).toFixed(1)} %`;
  if (choice === reference) return "";
  const wins = choice.wins[state.reference], losses = choice.losses[state.reference];
  const bound = pairedLowerBound(wins, losses, PLAYGROUND.samples[1], state.level);
  const least = bound < 0 ? `at most ${safePoints(bound)} points less accurate` : "not less accurate";
  const images = PLAYGROUND.samples[1].toLocaleString("en");
  const asked = `${(100 * state.within).toFixed(1)} points`;
  const more = bound < -state.within ? ` That is more than the ${asked} asked, so certify refuses it.` : "";
  return `With ${level} certainty it is ${least} than ${name} on new images like these.${more} Of the ${images}, only the cascade is right on ${wins} and only ${name} on ${losses}.`;
}

function python(state) {
  const names = state.models.map((model) => `"${PLAYGROUND.models[model]}"`).join(", ");
  const all = state.models.length === PLAYGROUND.models.length;
  const pool = all ? "val" : `val.only([${names}])`, reference = `"${PLAYGROUND.models[state.reference]}"`;
  const most = Math.min(state.most, state.models.length);
  const within = `within=${+state.within.toFixed(4)}`;
  return `front = cm.search(${pool}, max_models=${most})\n` +
    `choice = front.matching(${reference}, ${within})\n` +
    `cm.evaluate(choice.cascade, test)\n` +
    `cm.certify(test, match=${reference}, ${within}, level=${state.level}, cascade=choice.cascade)`;
}

function controls() {
  const boxes = PLAYGROUND.models.map((name, at) => {
    const box = element("input", { type: "checkbox", value: at, id: `model-${name}`, checked: "" });
    const about = ` ${name} (${macs(PLAYGROUND.macs[at])}, ${percent(aloneOf(at).test.accuracy)})`;
    return [box, element("label", { for: box.id }, box, about)];
  });
  const field = (id, text, input) => element("p", {}, element("label", { for: id }, text), input);
  const reference = element("select", { id: "reference" });
  const most = element("select", { id: "most" }, ...[3, 2, 1].map((n) => element("option", { value: n }, `${n}`)));
  const within = element("input", { type: "range", id: "within", min: 0, max: 3, step: 0.1, value: 0.5 });
  const level = element("input", { type: "range", id: "level", min: 0, max: LEVELS.length - 1, step: 1, value: 2 });
  const form = element("form", {},
    element("fieldset", {}, element("legend", {}, "Models that you have: multiply-adds, accuracy"), ...boxes.map(([, label]) => label)),
    field("reference", "The model to replace", reference),
    field("most", "Models in a cascade, at most", most),
    element("p", {}, element("label", { for: "within" }, "It may be less accurate by ", element("output", { id: "within-text" })), within),
    element("p", {}, element("label", { for: "level" }, "Certainty ", element("output", { id: "level-text" })), level));
  return { form, boxes: boxes.map(([box]) => box), reference, most, within, level };
}

function start(root) {
  const own = controls(), answer = element("p", { class: "answer" }), certain = element("p", { class: "certain" });
  const figure = element("div", { class: "figure" }), table = element("div", { class: "table" }), code = element("pre", { tabindex: 0 });
  const live = element("div", { "aria-live": "polite" }, answer, certain);
  const key = element("p", { class: "key" },
    "Line: the front on the images that chose. Ring: the choice there; full dot: the same on the other images. Dashes: the target.");
  root.replaceChildren(own.form, element("div", {}, live, figure, key, table,
    element("p", {}, "The same in Python:"), code));
  let waiting = 0;

  function update() {
    const models = own.boxes.filter((box) => box.checked).map((box) => Number(box.value));
    const before = Number(own.reference.value || PLAYGROUND.models.length - 1);
    own.reference.replaceChildren(...models.map((model) => element("option", { value: model }, PLAYGROUND.models[model])));
    own.reference.value = models.includes(before) ? before : models[models.length - 1];
    // One model always stays.
    for (const box of own.boxes) box.disabled = box.checked && models.length === 1;
    const state = {
      models, reference: Number(own.reference.value), most: Number(own.most.value),
      within: Number(own.within.value) / 100, level: LEVELS[Number(own.level.value)],
    };
    own.form.querySelector("#within-text").value = `${Number(own.within.value).toFixed(1)} points`;
    own.form.querySelector("#level-text").value = `${+(100 * state.level).toFixed(1)} %`;
    own.level.setAttribute("aria-valuetext", `${+(100 * state.level).toFixed(1)} %`);
    const found = choose(models, state.most, state.reference, state.within);
    answer.textContent = sentence(state, found);
    certain.textContent = "…";
    draw(figure, found, models, found.reference.val.accuracy - state.within);
    table.replaceChildren(tableOf(found));
    code.textContent = python(state);
    clearTimeout(waiting);
    waiting = setTimeout(() => { certain.textContent = promise(state, found); }, 120);
  }

  own.form.addEventListener("input", update);
  own.form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("resize", update);
  update();
}

if (typeof document !== "undefined") {
  document.addEventListener("DOMContentLoaded", () => start(document.getElementById("playground")));
}
