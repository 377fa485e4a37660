// Figures of a cascade at other thresholds, from the counts that the page carries.
// One record counts the samples whose scores reach equally many candidate thresholds at every stage.

// Whole numbers, seven bits a byte, lowest first; a last byte is below 128.
function unpacked(text) {
  const numbers = [];
  let value = 0, place = 1;
  for (const character of atob(text)) {
    const byte = character.charCodeAt(0);
    value += (byte % 128) * place;
    place *= 128;
    if (byte < 128) {
      numbers.push(value);
      value = 0;
      place = 1;
    }
  }
  return numbers;
}

// A choice is the number of a candidate from 1: a sample exits if it reaches that many. So 0 is
// "always", and one more than there are candidates is "never".
function choicesOf(stages, thresholds) {
  return thresholds.map((value, stage) => {
    if (value === "always") return 0;
    return value === "never" ? stages.grid[stage].length + 1 : stages.grid[stage].indexOf(value) + 1;
  });
}

function thresholdOf(stages, stage, choice) {
  if (choice === 0) return "always";
  return stages.grid[stage][choice - 1] ?? "never";
}

// The share that exits at each stage, how many are correct, and the average cost.
function moved(stages, choices) {
  stages.numbers ??= unpacked(stages.counts);
  const exitsBefore = choices.length, width = 2 * exitsBefore + 2;
  const exits = new Array(exitsBefore + 1).fill(0);
  let correct = 0;
  for (let start = 0; start < stages.numbers.length; start += width) {
    let stage = 0;
    while (stage < exitsBefore && stages.numbers[start + stage] < choices[stage]) stage += 1;
    exits[stage] += stages.numbers[start + exitsBefore];
    correct += stages.numbers[start + exitsBefore + 1 + stage];
  }
  const samples = exits.reduce((sum, each) => sum + each, 0);
  let reaching = samples, total = 0;
  exits.forEach((each, stage) => {
    total += stages.costs[stage] * reaching;
    reaching -= each;
  });
  const [low, high] = wilson(correct / samples, samples);
  return { correct, exits: exits.map((each) => each / samples), low, high, cost: total / samples };
}

// 95 % interval of a share of n samples, Wilson's.
function wilson(share, n) {
  const z = 1.959963984540054;
  const middle = (share + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const half = (z / (1 + (z * z) / n)) * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n));
  return [share === 0 ? 0 : middle - half, share === 1 ? 1 : middle + half];
}
