// Numbers as people read them, written as committee.report.tables writes them.

// Rounded to so many digits after the point; of two equally near, the even one, as in Python.
function fixed(value, digits) {
  const scaled = Math.abs(value) * 10 ** digits;
  const isTie = (value * 2 ** (digits + 1)) % 1 === 0 && scaled % 1 === 0.5;
  if (!isTie) return value.toFixed(digits);
  const even = 2 * Math.round(scaled / 2);
  return ((Math.sign(value) * even) / 10 ** digits).toFixed(digits);
}

const withCommas = (text) => text.replace(/\B(?=(\d{3})+$)/g, ",");
const count = (value) => withCommas(String(value));
const percent = (share) => `${fixed(100 * share, 2)} %`;
const interval = (low, high) => `${fixed(100 * low, 1)}–${fixed(100 * high, 1)} %`;
const shortPercent = (share) => `${+(100 * share).toPrecision(3)}`;
const exits = (leaving, samples) =>
  leaving.map((each) => shortPercent(each / samples)).join(" / ");

// Three digits, or all digits before the point.
function digits(value) {
  if (value >= 999.5 || value === 0) return withCommas(fixed(value, 0));
  if (value < 1e-4) return value.toExponential(2).replace(/e-(\d)$/, "e-0$1");
  return value.toPrecision(3);
}

const MULTIPLES = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]];
const COUNTED = ["macs", "params"];
const SHORT_UNITS = { latency_ms: "ms", ms_per_sample: "ms/sample" };

function humanCost(value, unit) {
  const name = SHORT_UNITS[unit] ?? unit;
  const rounded = Number(value.toPrecision(3));
  const multiple = COUNTED.includes(unit) && MULTIPLES.find(([size]) => rounded >= size);
  return multiple ? `${digits(rounded / multiple[0])}${multiple[1]} ${name}` : `${digits(value)} ${name}`;
}

function times(ratio) {
  if (!Number.isFinite(ratio)) return "–";
  return ratio >= 1 ? `${digits(ratio)}×` : `${fixed(ratio, 2)}×`;
}

const thresholdText = (value) => (typeof value === "string" ? value : String(+value.toPrecision(4)));
const stagesText = (stages) => stages.models.map((models) => models.join(" + ")).join(" → ");
const capital = (text) => text[0].toUpperCase() + text.slice(1);
