// The figure of accuracy against cost: drawn in the page, so that it fits its width and its colours.

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Markers of about one area, around (0, 0). Those of figure.py, so that both read alike in grey.
function star(radius) {
  const corners = [];
  for (let i = 0; i < 10; i += 1) {
    const reach = i % 2 ? 0.42 * radius : radius, angle = (Math.PI * i) / 5;
    corners.push(`${(reach * Math.sin(angle)).toFixed(2)},${(-reach * Math.cos(angle)).toFixed(2)}`);
  }
  return `M${corners.join("L")}Z`;
}
const circle = (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`;
const square = (r) => `M${-r},${-r}h${2 * r}v${2 * r}h${-2 * r}Z`;
const plus = (r) =>
  `M${-r / 3},${-r}h${(2 * r) / 3}v${(2 * r) / 3}h${(2 * r) / 3}v${(2 * r) / 3}h${(-2 * r) / 3}v${(2 * r) / 3}h${(-2 * r) / 3}v${(-2 * r) / 3}h${(-2 * r) / 3}v${(-2 * r) / 3}h${(2 * r) / 3}Z`;
const diamond = (r) => `M0,${-r}L${r},0L0,${r}L${-r},0Z`;
const down = (r) => `M${-r},${-r}h${2 * r}L0,${r}Z`;
// With more members than this, each is a dot on the line and no longer a star.
const STARS = 40;

function markerOf(point, members, match) {
  if (point.series === "front") return members > STARS ? circle(members > 10 * STARS ? 1.6 : 2.2) : star(6);
  if (point.series === "ensemble") return square(4);
  if (point.series === "single") return circle(4);
  if (point.series === "chosen") return circle(11);
  return point.role === match ? star(9) : plus(7);
}

// From values to places along an axis, with its marks.
function costAxis(scales, from, to) {
  const linear = scales.linear_to;
  const bend = (value) => {
    if (linear === null) return value;
    if (linear === 0) return Math.log10(value);
    return value <= linear ? value / linear : 1 + Math.log10(value / linear);
  };
  const low = bend(scales.left), high = bend(scales.right);
  const place = (value) => from + ((bend(value) - low) / (high - low)) * (to - from);
  return { place, marks: costMarks(scales, to - from) };
}

function costMarks(scales, width) {
  if (scales.linear_to === null) return steps(scales.left, scales.right, width / 80);
  const least = scales.linear_to || scales.left;
  const decades = Math.log10(scales.right / least);
  const factors = decades > 3 || width / decades < 110 ? [1] : [1, 2, 5];
  const marks = scales.linear_to ? [0] : [];
  for (let power = Math.floor(Math.log10(least)); 10 ** power <= scales.right; power += 1) {
    for (const factor of factors) {
      const mark = Number((factor * 10 ** power).toPrecision(3));
      if (mark >= least && mark <= scales.right) marks.push(mark);
    }
  }
  // Within less than a decade there may be too few of these.
  return marks.length > 1 ? marks : steps(scales.left, scales.right, width / 80);
}

// Round numbers from low to high, at most about so many.
function steps(low, high, most) {
  const rough = (high - low) / Math.max(2, most), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const marks = [];
  for (let mark = Math.ceil(low / step) * step; mark <= high; mark += step) {
    marks.push(Number(mark.toPrecision(6)));
  }
  return marks;
}

// Draw everything into an empty <svg>; returns how to select, preview and move points.
function drawChart(svg, data, onSelect, onHover) {
  const width = Math.max(240, svg.parentElement.clientWidth);
  const height = Math.round(Math.min(520, Math.max(300, 0.66 * width)));
  const reported = data.test ?? data.val;
  const figuresOf = (point) => point.test ?? point.val;
  const left = 46, right = width - 12, top = 12, bottom = height - 24;
  const { scales } = data;
  const x = costAxis(scales, left, right);
  const yOf = (share) =>
    bottom - ((100 * share - scales.low) / (scales.high - scales.low)) * (bottom - top);
  const place = (figures) => {
    const y = yOf(figures.correct / reported.samples);
    // What is too weak for the range lies on the lower edge, what moved out of it on either.
    const inside = Math.min(Math.max(y, top), bottom);
    const across = x.place(figures.cost / scales.size);
    return { x: Math.min(Math.max(across, left), right), y: inside, below: y > bottom + 0.5 };
  };

  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.append(axes());
  const points = data.points.map((point, number) => ({ point, number, ...place(figuresOf(point)) }));
  svg.append(errorBars(), line("single"), line("front"), arrow(), ...names());
  const list = shape("g", { role: "listbox", "aria-label": "Committees; arrow keys move", class: "points" });
  const cursor = shape("path", { class: "cursor", d: circle(15), visibility: "hidden" });
  const trace = shape("line", { class: "trace", visibility: "hidden" });
  const ghost = shape("path", { class: "moved", d: diamond(8), visibility: "hidden" });
  const members = data.points.filter((point) => point.series === "front").length;
  const markers = points.map((each) => {
    const marker = shape("path", {
      class: `point ${each.point.series}`,
      d: each.below ? down(5) : markerOf(each.point, members, data.reference.match),
      transform: `translate(${each.x.toFixed(1)},${each.y.toFixed(1)})`,
      role: "option",
      tabindex: "-1",
      "aria-selected": "false",
      "aria-label": spoken(each.point, data),
    });
    list.append(marker);
    return marker;
  });
  svg.append(cursor, list, trace, ghost);

  // The pointer takes the nearest point, so that no dot has to be hit.
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const at = { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
    let best = null, least = 28 ** 2;
    for (const each of points) {
      const distance = (each.x - at.x) ** 2 + (each.y - at.y) ** 2;
      // Of equally near ones, that on top.
      if (distance <= least) [best, least] = [each.number, distance];
    }
    return best;
  };
  svg.onpointermove = (event) => event.pointerType === "mouse" && onHover(nearest(event));
  svg.onpointerleave = () => onHover(null);
  svg.onclick = (event) => {
    const found = nearest(event);
    if (found === null) return;
    onSelect(found);
    markers[found].focus({ preventScroll: true });
  };
  // Not one listener on the list: browsers let a part of a drawing that listens have the focus.
  markers.forEach((marker, number) => marker.addEventListener("focus", () => onSelect(number)));
  list.addEventListener("keydown", (event) => {
    const next = neighbour(event.key, markers.indexOf(document.activeElement));
    if (next === undefined) return;
    event.preventDefault();
    markers[next].focus();
  });

  // Left and right go along a series by cost, up and down to the nearest cost of another.
  function neighbour(key, number) {
    const { series } = data.points[number];
    const along = points.filter((each) => each.point.series === series).sort((a, b) => a.x - b.x);
    const here = along.findIndex((each) => each.number === number);
    if (key === "ArrowRight") return along[Math.min(here + 1, along.length - 1)].number;
    if (key === "ArrowLeft") return along[Math.max(here - 1, 0)].number;
    if (key === "Home") return along[0].number;
    if (key === "End") return along[along.length - 1].number;
    if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
    const order = [...new Set(data.points.map((point) => point.series))];
    const step = key === "ArrowUp" ? 1 : order.length - 1;
    const other = order[(order.indexOf(series) + step) % order.length];
    const distance = (each) => Math.abs(each.x - points[number].x);
    return points.filter((each) => each.point.series === other)
      .reduce((best, each) => (distance(each) < distance(best) ? each : best)).number;
  }

  function axes() {
    const group = shape("g", { class: "axes", "aria-hidden": "true" });
    for (const mark of steps(scales.low, scales.high, (bottom - top) / 48)) {
      const y = yOf(mark / 100);
      group.append(shape("line", { x1: left, x2: right, y1: y, y2: y, class: "grid" }));
      group.append(shape("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, `${mark}`));
    }
    for (const mark of x.marks) {
      const at = x.place(mark);
      group.append(shape("line", { x1: at, x2: at, y1: top, y2: bottom, class: "grid" }));
      group.append(shape("text", { x: at, y: bottom + 17, "text-anchor": "middle" }, `${mark}`));
    }
    group.append(shape("path", { d: `M${left},${top}V${bottom}H${right}`, class: "frame" }));
    return group;
  }

  function errorBars() {
    const bars = points.filter((each) => each.point.series === "single" && !each.below).map((each) => {
      const { low, high } = figuresOf(each.point);
      const from = Math.min(yOf(low), bottom), to = Math.max(yOf(high), top);
      return `M${each.x},${from}V${to}M${each.x - 3},${from}h6M${each.x - 3},${to}h6`;
    });
    return shape("path", { class: "bars", d: bars.join("") });
  }

  function line(series) {
    const along = points.filter((each) => each.point.series === series)
      .map((each) => `${each.x.toFixed(1)},${each.y.toFixed(1)}`);
    return shape("polyline", { class: `line ${series}`, points: along.join(" ") });
  }

  // From the reference to the committee that matches it.
  function arrow() {
    const to = points.find((each) => each.point.role === data.reference.match);
    const from = points.find((each) => each.point.series === "single"
      && each.point.name === data.reference.name);
    const group = shape("g", { class: "arrow", "aria-hidden": "true" });
    const ratio = to && from ? figuresOf(from.point).cost / figuresOf(to.point).cost : 0;
    const length = to && from ? Math.hypot(to.x - from.x, to.y - from.y) : 0;
    if (!(ratio > 1) || length < 40) return group;
    const [dx, dy] = [(to.x - from.x) / length, (to.y - from.y) / length];
    const tip = [to.x - 12 * dx, to.y - 12 * dy];
    group.append(shape("path", {
      d: `M${from.x + 6 * dx},${from.y + 6 * dy}L${tip}M${tip}l${-8 * dx - 4 * dy},${-8 * dy + 4 * dx}M${tip}l${-8 * dx + 4 * dy},${-8 * dy - 4 * dx}`,
    }));
    const hasRoom = to.x - 12 - 100 > left;
    const label = hasRoom ? { x: to.x - 12, y: to.y - 12, "text-anchor": "end" } : { x: to.x + 12, y: to.y + 24 };
    group.append(shape("text", label, `${times(ratio)} speedup`));
    return group;
  }

  // Names of the single models, where they cover neither one another nor a point.
  function names() {
    const taken = points.map(({ x: px, y: py }) => [px - 4, py - 4, px + 4, py + 4]);
    const placed = [];
    for (const each of points.filter(({ point }) => point.series === "single")) {
      const { name } = each.point;
      // Of what lies on the edge because it is weaker than all that is shown, the accuracy too.
      const text = each.below ? `${name} ${percent(figuresOf(each.point).correct / reported.samples)}` : name;
      const wide = 6.3 * text.length, tall = 12;
      const spots = [
        [each.x + 7, each.y + 14, "start"], [each.x + 7, each.y - 7, "start"],
        [each.x - 7, each.y - 7, "end"], [each.x - 7, each.y + 14, "end"],
      ].map(([px, py, anchor]) => {
        const from = anchor === "start" ? px : px - wide;
        return { px, py, anchor, box: [from, py - tall + 2, from + wide, py + 2] };
      });
      const overlaps = ([a, b, c, d], [e, f, g, h]) => a < g && e < c && b < h && f < d;
      const free = spots.find(({ box }) => box[0] > left && box[2] < width && box[3] < bottom
        && !taken.some((other) => overlaps(box, other)));
      if (!free) continue;
      taken.push(free.box);
      placed.push(shape("text", { x: free.px, y: free.py, "text-anchor": free.anchor, class: "name", "aria-hidden": "true" }, text));
    }
    return placed;
  }

  return {
    select(number) {
      markers.forEach((marker, each) => {
        marker.setAttribute("tabindex", each === number ? "0" : "-1");
        marker.setAttribute("aria-selected", String(each === number));
      });
      this.show(number);
    },
    show(number) {
      cursor.setAttribute("visibility", number === null ? "hidden" : "visible");
      if (number !== null) cursor.setAttribute("transform", `translate(${points[number].x},${points[number].y})`);
    },
    // Where the selected cascade would lie with other thresholds; null takes that away.
    move(number, figures) {
      for (const each of [ghost, trace]) each.setAttribute("visibility", figures ? "visible" : "hidden");
      if (!figures) return;
      const to = place(figures);
      ghost.setAttribute("transform", `translate(${to.x.toFixed(1)},${to.y.toFixed(1)})`);
      const ends = { x1: points[number].x, y1: points[number].y, x2: to.x, y2: to.y };
      for (const [key, value] of Object.entries(ends)) trace.setAttribute(key, value);
    },
  };
}

// What a screen reader says of a point.
function spoken(point, data) {
  const reported = data.test ?? data.val, figures = point.test ?? point.val;
  const figuresText = `${percent(figures.correct / reported.samples)} at ${humanCost(figures.cost, data.unit)}`;
  return `${capital(point.text)}: ${stagesText(data.stages[point.stages])}, ${figuresText}`;
}
