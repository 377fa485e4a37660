// Numbers as people read them, written as committee.report.tables writes them.

// Of two equally near roundings Python takes the even one: what lies just between goes a hair there.
function even(value, digits) {
  const scaled = digits < 0 ? value / 10 ** -digits : value * 10 ** digits;
  const isExact = digits < 0 || (value * 2 ** (digits + 1)) % 1 === 0;
  if (!isExact || scaled % 1 !== 0.5) return value;
  return value * (Math.floor(scaled) % 2 ? 1 + 1e-9 : 1 - 1e-9);
}
const fixed = (value, digits) => even(value, digits).toFixed(digits);
function precise(value, digits) {
  const point = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)));
  return even(value, digits - 1 - point).toPrecision(digits);
}

const withCommas = (text) => text.replace(/\B(?=(\d{3})+$)/g, ",");
const count = (value) => withCommas(String(value));
const percent = (share) => `${fixed(100 * share, 2)} %`;
const interval = (low, high) => `${fixed(100 * low, 1)}–${fixed(100 * high, 1)} %`;
const shortPercent = (share) => `${+precise(100 * share, 3)}`;

// Three digits, or all digits before the point.
function digits(value) {
  if (value >= 999.5 || value === 0) return withCommas(fixed(value, 0));
  const text = precise(value, 3);
  return value < 1e-4 ? Number(text).toExponential(2).replace(/e-(\d)$/, "e-0$1") : text;
}

const MULTIPLES = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]];
const COUNTED = ["macs", "params"];
const SHORT_UNITS = { latency_ms: "ms", ms_per_sample: "ms/sample" };

function humanCost(value, unit) {
  const name = SHORT_UNITS[unit] ?? unit;
  const rounded = Number(precise(value, 3));
  const multiple = COUNTED.includes(unit) && MULTIPLES.find(([size]) => rounded >= size);
  return multiple ? `${digits(rounded / multiple[0])}${multiple[1]} ${name}` : `${digits(value)} ${name}`;
}

function times(ratio) {
  if (!Number.isFinite(ratio)) return "–";
  return ratio >= 1 ? `${digits(ratio)}×` : `${fixed(ratio, 2)}×`;
}

const thresholdText = (value) => (typeof value === "string" ? value : String(+precise(value, 4)));
const stagesText = (stages) => stages.models.join(" → ");
const capital = (text) => text[0].toUpperCase() + text.slice(1);
