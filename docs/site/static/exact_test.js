// The exact paired test of src/committee/certificates/exact_tests.py: what a difference of two
// accuracies on the same samples is at least on new data, at a level. Tests compare both.

const NUISANCE = 0.05, TRIED = 12, ROUNDING = 1e-3, REACH = 8;

// Log of the gamma function: upwards by its recurrence, then by Stirling's series.
function logGamma(x) {
  let below = 0, z = x;
  while (z < 15) {
    below += Math.log(z);
    z += 1;
  }
  const square = 1 / (z * z);
  const series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / z;
  return (z - 0.5) * Math.log(z) - z + 0.9189385332046727 + series - below;
}

// The continued fraction of the incomplete beta function, by Lentz's method.
function fraction(a, b, x) {
  const tiny = 1e-300, safe = (value) => (Math.abs(value) < tiny ? tiny : value);
  let c = 1, d = 1 / safe(1 - ((a + b) * x) / (a + 1)), result = d;
  for (let m = 1; m < 500; m += 1) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    for (const term of [even, odd]) {
      d = 1 / safe(1 + term * d);
      c = safe(1 + term / c);
      result *= d * c;
    }
    if (Math.abs(d * c - 1) < 1e-14) break;
  }
  return result;
}

const betaScale = (a, b) => logGamma(a + b) - logGamma(a) - logGamma(b);

function betaShare(a, b, x, scale = betaScale(a, b)) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const front = Math.exp(scale + a * Math.log(x) + b * Math.log1p(-x));
  return x < (a + 1) / (a + b + 2) ? (front * fraction(a, b, x)) / a : 1 - (front * fraction(b, a, 1 - x)) / b;
}

function betaQuantile(a, b, share) {
  let low = 0, high = 1;
  while (high - low > 1e-15) {
    const middle = (low + high) / 2;
    if (betaShare(a, b, middle) >= share) high = middle;
    else low = middle;
  }
  return high;
}

// Tango's score statistic; larger speaks more for the first committee.
function statistic(wins, losses, samples, within) {
  const linear = -(wins + losses) - within * (2 * samples - wins + losses);
  const root = Math.sqrt(Math.max(linear ** 2 - 8 * samples * losses * within * (1 + within), 0));
  const lost = (root - linear) / (4 * samples);
  const spread = Math.sqrt(Math.max(samples * (2 * lost - within * (1 + within)), 0));
  const above = wins - losses + samples * within;
  if (above === 0) return 0;
  return spread > 0 ? above / spread : Math.sign(above) * Infinity;
}

function leastWins(count, reached, samples, within) {
  let low = 0, high = count + 1;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (statistic(middle, count - middle, samples, within) >= reached - 1e-9) high = middle;
    else low = middle + 1;
  }
  return low;
}

const spaced = (low, high, many) =>
  Array.from({ length: many }, (_, i) => low + ((high - low) * i) / (many - 1));

// Tables of a number of discordant samples that reach the statistic: those with the least wins or more.
function cell(count, reached, samples, within) {
  const least = leastWins(count, reached, samples, within);
  const ways = logGamma(samples + 1) - logGamma(count + 1) - logGamma(samples - count + 1);
  const inside = least > 0 && least <= count;
  return { count, least, ways, scale: inside ? betaScale(least, count - least + 1) : 0 };
}

// The chance of reaching the statistic if this share of samples is discordant.
function chance(cells, samples, within, share) {
  const won = share > 0 ? Math.max((share - within) / (2 * share), 0) : 0;
  return cells.reduce((sum, { count, least, ways, scale }) => {
    const some = count ? count * Math.log(share) : 0;
    const none = samples - count ? (samples - count) * Math.log1p(-share) : 0;
    const drawn = Math.exp(ways + some + none);
    if (!(drawn > 1e-16) || least > count) return sum;
    return sum + drawn * (least <= 0 ? 1 : betaShare(least, count - least + 1, won, scale));
  }, 0);
}

function pairedPValue(wins, losses, samples, within, level) {
  const spent = NUISANCE * (1 - level), discordant = wins + losses;
  let low = discordant ? betaQuantile(discordant, samples - discordant + 1, spent / 2) : 0;
  let high = discordant < samples ? betaQuantile(discordant + 1, samples - discordant, 1 - spent / 2) : 1;
  low = Math.max(low, Math.abs(within));
  high = Math.max(high, Math.abs(within));
  if (high === 0) return 1;
  const reached = statistic(wins, losses, samples, within);
  const spread = REACH * Math.sqrt(samples * high) + REACH;
  const first = Math.max(0, Math.floor(samples * low - spread));
  const last = Math.min(samples, Math.ceil(samples * high + spread));
  const cells = Array.from({ length: last - first + 1 }, (_, i) =>
    cell(first + i, reached, samples, within));
  const tried = (shares) => shares.map((share) => chance(cells, samples, within, share));
  const shares = spaced(low, high, TRIED), chances = tried(shares);
  const worst = chances.indexOf(Math.max(...chances));
  const near = [shares[Math.max(worst - 1, 0)], shares[Math.min(worst + 1, TRIED - 1)]];
  const most = Math.max(...chances, ...tried(spaced(...near, 8)));
  return Math.min(1, most * (1 + ROUNDING) + spent);
}

// The difference of two accuracies on new data is at least this, at a level.
function pairedLowerBound(wins, losses, samples, level) {
  // So far from the estimate nothing has to be computed.
  const estimate = (wins - losses) / samples, far = (12 * Math.sqrt(wins + losses + 9)) / samples;
  const refused = (bound) =>
    Math.abs(bound - estimate) > far
      ? bound < estimate
      : pairedPValue(wins, losses, samples, -bound, level) <= 1 - level;
  let low = -1, high = 1;
  while (high - low > 1e-6) {
    const middle = (low + high) / 2;
    if (refused(middle)) low = middle;
    else high = middle;
  }
  return low;
}
