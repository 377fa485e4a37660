// Run this folder's cascade with Node.js and onnxruntime-node; a recipe for any language.
//
//     npm install onnxruntime-node
//     node run.mjs 224x224x3=images.raw
//
// images.raw holds the bytes of images of 224 x 224 x 3 (height, width, channels), one after
// the other, resized and cut as `preprocessing` in cascade.json says. Models of other sizes take a
// file of their own each, of the same images. One line of JSON is printed an image.

import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readFileSync, readSync, realpathSync } from "node:fs";
import { dirname, isAbsolute, join, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import ort from "onnxruntime-node";

// Threads of one model that wait and spin would slow down the model that runs next.
const OPTIONS = { extra: { session: { intra_op: { allow_spinning: "0" } } } };
const SUREST = 3.4028234663852886e38; // the largest float32

export class Cascade {
  /** Check every checksum and load every model. */
  static async open(folder) {
    const vouched = checkSums(folder);
    const rule = JSON.parse(readFileSync(join(folder, "cascade.json"), "utf8"));
    checkSizes(rule.models);
    const sessions = {};
    for (const [name, model] of Object.entries(rule.models)) {
      const path = model.source.replace(/^onnx:/, "");
      if (!vouched.has(path)) throw new Error(`${path} has no line in SHA256SUMS`);
      sessions[name] = await ort.InferenceSession.create(join(folder, path), OPTIONS);
    }
    return new Cascade(rule, sessions);
  }

  constructor(rule, sessions) {
    this.rule = rule;
    this.sessions = sessions;
  }

  /** Decide on one image; `bytes` maps each size, as "224x224x3", to its bytes. */
  async decide(bytes) {
    const outputs = new Map();
    let stage = 0;
    for (; ; stage++) {
      const { models, threshold } = this.rule.stages[stage];
      for (const name of models) outputs.set(name, await this.#run(name, bytes));
      var [kind, values] = this.#combined(outputs);
      var score = SCORES[this.rule.confidence](values, kind);
      // The exit rule: leave when the score reaches the threshold.
      if (score >= asNumber(threshold)) break;
    }
    const predicted = leader(values);
    const name = this.rule.classes[predicted] ?? String(predicted);
    return { class_index: predicted, class_name: name, confidence: score, stage };
  }

  async #run(name, bytes) {
    const recipe = this.rule.models[name].preprocessing;
    const session = this.sessions[name];
    const shape = [1, recipe.channels, ...recipe.size];
    const input = new ort.Tensor("float32", normalised(bytes[sizeOf(recipe)], recipe), shape);
    const answer = await session.run({ [session.inputNames[0]]: input });
    const values = Array.from(answer[session.outputNames[0]].data);
    // Minus infinity is a class that is masked; the largest is NaN if any is.
    if (!Number.isFinite(Math.max(...values))) throw new Error(`model ${name}: NaN or infinite outputs`);
    const calibration = this.rule.calibrations[name];
    return calibration ? calibrated(values, this.rule.models[name].kind, calibration) : values;
  }

  #combined(outputs) {
    const kindOf = (name) => this.rule.models[name].kind;
    if (this.rule.combine === "last") {
      const newest = [...outputs.keys()].pop();
      return [kindOf(newest), outputs.get(newest)];
    }
    // Summed in the order of the names, so that every program computes the same bits.
    const names = [...outputs.keys()].sort();
    if (this.rule.combine === "mean_logits")
      return ["logits", mean(names.map((name) => outputs.get(name)))];
    return ["probabilities", mean(names.map((n) => softmax(outputs.get(n), kindOf(n))))];
  }
}

/** The name of a model's input size: height x width x channels. */
export function sizeOf(recipe) {
  return [...recipe.size, recipe.channels].join("x");
}

/** Images come by their size, so that models of one size must see the same of an image. */
function checkSizes(models) {
  const seen = {};
  for (const [name, { preprocessing }] of Object.entries(models)) {
    const { crop, resize, interpolation, exif } = preprocessing;
    const [size, own] = [sizeOf(preprocessing), JSON.stringify([crop, resize, interpolation, exif])];
    const first = (seen[size] ??= { name, own });
    if (first.own !== own)
      throw new Error(
        `models ${first.name} and ${name} see other parts of an image of ${size}; take run.py`,
      );
  }
}

/** Compare every file with its checksum; the names of the files. */
function checkSums(folder) {
  const names = new Set();
  for (const line of readFileSync(join(folder, "SHA256SUMS"), "utf8").trim().split("\n")) {
    const [expected, name] = [line.slice(0, 64), line.slice(66)];
    if (isAbsolute(name) || name.split("/").includes(".."))
      throw new Error(`${name} in SHA256SUMS leaves the folder`);
    if (!existsSync(join(folder, name))) throw new Error(`${name} is missing`);
    // Links are followed first.
    if (!realpathSync(join(folder, name)).startsWith(realpathSync(folder) + sep))
      throw new Error(`${name} in SHA256SUMS leaves the folder`);
    if (digestOf(join(folder, name)) !== expected) throw new Error(`${name} was altered`);
    names.add(name);
  }
  return names;
}

/** SHA-256 of a file, read piece by piece: one of 2 GB does not fit into a buffer. */
function digestOf(path) {
  const [hash, piece, file] = [createHash("sha256"), Buffer.alloc(1 << 20), openSync(path)];
  for (let count; (count = readSync(file, piece)) > 0; ) hash.update(piece.subarray(0, count));
  closeSync(file);
  return hash.digest("hex");
}

/** (byte / 255 - mean) / std in float32, channel by channel. */
function normalised(bytes, { channels, mean, std, order }) {
  const pixels = bytes.length / channels;
  const values = new Float32Array(bytes.length);
  for (let c = 0; c < channels; c++) {
    const deviation = Math.fround(std[c]);
    const scale = Math.fround(1 / Math.fround(255 * deviation));
    const shift = Math.fround(-Math.fround(mean[c]) / deviation);
    // The other order reads the image's channels from behind.
    const source = order === "bgr" ? channels - 1 - c : c;
    for (let i = 0; i < pixels; i++)
      values[c * pixels + i] = Math.fround(bytes[i * channels + source] * scale) + shift;
  }
  return values;
}

/** Outputs of one model, brought to the scale of its own errors. */
function calibrated(values, kind, calibration) {
  const made = applied(values, kind, calibration);
  const [before, after] = [leader(values), leader(made)];
  // Who led before stays ahead where rounding let another overtake.
  if (before !== after) made[before] = ahead(made[after]);
  return made;
}

/** The lowest index among the largest values. */
function leader(values) {
  return values.indexOf(largestOf(values));
}

function largestOf(values) {
  return values.reduce((a, b) => Math.max(a, b));
}

/** The next larger number. */
function ahead(value) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const step = value >= 0 ? 1n : -1n;
  // Zero may have a sign, which its bits must not.
  view.setBigInt64(0, value === 0 ? 1n : view.getBigInt64(0) + step);
  return view.getFloat64(0);
}

/** A temperature, or a rising function of the logarithms of the probabilities. */
function applied(values, kind, calibration) {
  const { method, slopes } = calibration;
  const logits = kind === "logits";
  const total = (each) => each.reduce((a, b) => a + b);
  if (method === "temperature" && logits) return values.map((value) => value * slopes[0]);
  if (method === "temperature") {
    const powers = values.map((value) => value ** slopes[0]);
    const scale = total(values) / total(powers);
    return powers.map((value) => value * scale);
  }
  const largest = largestOf(values);
  const sum = logits ? Math.log(total(values.map((value) => Math.exp(value - largest)))) : 0;
  const logarithms = values.map((value) => (logits ? value - largest - sum : Math.log(value)));
  const mapped = logarithms.map((value) => rising(value, calibration));
  return logits ? mapped : softmax(mapped, "logits");
}

/** A function made of straight pieces: what each contributes, summed from the left. */
function rising(value, { slopes, knots, offset }) {
  if (!knots.length) return value * slopes[0] + offset;
  let mapped = (Math.min(value, knots[0]) - knots[0]) * slopes[0] + offset;
  for (let i = 0; i < knots.length; i++)
    mapped += (Math.min(Math.max(value, knots[i]), knots[i + 1] ?? Infinity) - knots[i]) * slopes[i + 1];
  return mapped;
}

function mean(rows) {
  return rows[0].map((_, c) => rows.reduce((sum, row) => sum + row[c], 0) / rows.length);
}

function softmax(values, kind) {
  if (kind === "probabilities") return values;
  const largest = largestOf(values);
  const exponentials = values.map((value) => Math.exp(value - largest));
  const sum = exponentials.reduce((a, b) => a + b);
  return exponentials.map((value) => value / sum);
}

function twoLargest(values) {
  const ordered = [...values].sort((a, b) => b - a);
  return [ordered[0], ordered.length > 1 ? ordered[1] : -Infinity];
}

const SCORES = {
  max_prob: (values, kind) => largestOf(softmax(values, kind)),
  logit_gap: (values, kind) => {
    let [first, second] = twoLargest(values);
    if (kind === "probabilities") [first, second] = [Math.log(first), Math.log(Math.max(second, 0))];
    return Math.min(first - second, SUREST);
  },
  prob_gap: (values, kind) => {
    const [first, second] = twoLargest(softmax(values, kind));
    return first - Math.max(second, 0);
  },
  neg_entropy: (values, kind) =>
    softmax(values, kind).reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0),
};

function asNumber(threshold) {
  return { always: -Infinity, never: Infinity }[threshold] ?? threshold;
}

async function main(words) {
  const cascade = await Cascade.open(dirname(fileURLToPath(import.meta.url)));
  const files = Object.fromEntries(words.map((word) => word.split("=", 2)));
  const step = (size) => size.split("x").reduce((product, side) => product * Number(side), 1);
  for (const model of Object.values(cascade.rule.models)) {
    const size = sizeOf(model.preprocessing);
    if (!(size in files)) throw new Error(`images of ${size} are needed: ${size}=FILE`);
    files[size] = typeof files[size] === "string" ? readFileSync(files[size]) : files[size];
  }
  const [size] = Object.keys(files);
  for (let row = 0; row < files[size].length / step(size); row++) {
    const cut = ([s, bytes]) => [s, bytes.subarray(row * step(s), (row + 1) * step(s))];
    const decision = await cascade.decide(Object.fromEntries(Object.entries(files).map(cut)));
    console.log(JSON.stringify({ id: row, ...decision }));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href)
  main(process.argv.slice(2)).catch((error) => {
    console.error(`run.mjs: ${error.message}`);
    process.exitCode = 2;
  });
