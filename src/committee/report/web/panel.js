// Details of one committee: its stages with sliders, its figures on every split, its command.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Fill the panel with one point. onMove receives the figures at the sliders' thresholds, or null.
function showDetails(panel, data, point, onMove) {
  const stages = data.stages[point.stages];
  const reported = data.test ?? data.val;
  const canMove = Boolean(stages.counts);
  const own = canMove ? choicesOf(stages, point.thresholds) : [];
  const choices = [...own];
  const sliders = [];
  const columns = [
    ...(data.test ? [{ heading: data.test.name, small: "evaluates", samples: data.test.samples, figures: point.test }] : []),
    { heading: data.val.name, small: "chose", samples: data.val.samples, figures: point.val },
  ];
  const movedCells = [];

  const reset = element("button", { type: "button", class: "reset", hidden: "" }, "Back to its own thresholds");
  const status = element("output", { class: "hidden", "aria-live": "polite" });
  const note = element("p", { class: "note small", hidden: "" },
    `Thresholds moved by hand on ${reported.name}, the test split, are exploration, not a choice: `
    + "whoever picks the best of them picks its luck too. The command below saves the cascade as it was chosen.");
  const noteWithout = element("p", { class: "note small", hidden: "" },
    `Thresholds moved by hand are exploration, not a choice: whoever picks the best of them on ${reported.name} picks its luck too.`);

  panel.replaceChildren(
    element("h3", { id: "details-title", tabindex: "-1" }, ...broken(stagesText(stages))),
    element("p", { class: "soft" }, rolesOf(point, data)),
    stageTable(),
    reset,
    figureTable(),
    status,
    data.test ? note : noteWithout,
    commandOf(),
  );
  reset.onclick = () => {
    own.forEach((choice, stage) => {
      choices[stage] = choice;
      sliders[stage].value = choice;
    });
    update();
    sliders[0].focus();
  };
  update();

  function stageTable() {
    const body = element("tbody");
    stages.models.forEach((models, stage) => {
      const last = stage === stages.models.length - 1;
      const threshold = element("td", { class: "threshold" }, last ? (stages.models.length > 1 ? "takes the rest" : "–") : thresholdText(point.thresholds[stage]));
      if (!last && canMove) threshold.replaceChildren(slider(stage, models), element("span", { class: "value" }));
      body.append(element("tr", {},
        element("th", { scope: "row" }, `${stage} `, ...broken(models)),
        threshold,
        element("td", { class: "num" }, humanCost(stages.costs[stage], data.unit)),
      ));
    });
    const head = element("tr", {},
      element("th", { scope: "col" }, "Stage"),
      element("th", { scope: "col" }, "Threshold"),
      element("th", { scope: "col", class: "num" }, "Cost"));
    return element("table", { class: "stages" }, element("caption", { class: "hidden" }, "Stages"), element("thead", {}, head), body);
  }

  function slider(stage, models) {
    const made = element("input", {
      type: "range",
      min: "0",
      max: String(stages.grid[stage].length + 1),
      step: "1",
      value: String(own[stage]),
      "aria-label": `Threshold after stage ${stage}, ${models}`,
    });
    made.oninput = () => {
      choices[stage] = Number(made.value);
      update();
    };
    sliders.push(made);
    return made;
  }

  function figureTable() {
    const head = element("tr", {}, element("th", { scope: "col" }, ""));
    for (const { heading, small } of columns) {
      head.append(element("th", { scope: "col", class: "num" }, heading, element("small", {}, small)));
    }
    head.append(element("th", { scope: "col", class: "num moved-column", hidden: "" }, "moved", element("small", {}, `on ${reported.name}`)));
    movedCells.push(head.lastChild);
    const rows = figureRows(columns.map(({ figures, samples }) => ({ figures, samples })));
    const body = element("tbody");
    for (const [name, texts] of rows) {
      const cell = element("td", { class: "num moved-column", hidden: "" });
      movedCells.push(cell);
      body.append(element("tr", {}, element("th", { scope: "row" }, name), ...texts.map((text) => element("td", { class: "num" }, text)), cell));
    }
    return element("table", { class: "figures" }, element("caption", { class: "hidden" }, "Figures"), element("thead", {}, head), body);
  }

  function figureRows(each) {
    const worst = stages.costs.reduce((sum, cost) => sum + cost, 0);
    const rows = [
      [data.heading, ({ figures, samples }) => percent(figures.correct / samples)],
      ["95 % interval", ({ figures }) => interval(figures.low, figures.high)],
      [capital(data.samples), ({ samples }) => count(samples)],
      ["Average cost", ({ figures }) => humanCost(figures.cost, data.unit)],
      ["Worst case", ({ figures }) => humanCost(figures.worst ?? worst, data.unit)],
      [`Speedup over ${data.reference.name}`, ({ figures }) => times((figures.reference ?? data.reference.cost) / figures.cost)],
    ];
    if (stages.models.length > 1) {
      rows.push(...stages.models.map((_, stage) => [
        `${data.exit_heading} at stage ${stage}`, ({ figures }) => `${shortPercent(figures.exits[stage])} %`,
      ]));
    }
    return rows.map(([name, text]) => [name, each.map(text)]);
  }

  function update() {
    const isMoved = choices.some((choice, stage) => choice !== own[stage]);
    const figures = isMoved ? moved(stages, choices) : point.test ?? point.val;
    sliders.forEach((each, stage) => {
      const text = thresholdText(thresholdOf(stages, stage, choices[stage]));
      each.nextSibling.textContent = text;
      const share = shortPercent(figures.exits[stage]);
      each.setAttribute("aria-valuetext", `${text}: ${share} % exit`);
    });
    const texts = isMoved ? figureRows([{ figures, samples: reported.samples }]).map(([, [text]]) => text) : [];
    movedCells.forEach((cell, number) => {
      cell.hidden = !isMoved;
      if (number > 0) cell.textContent = texts[number - 1] ?? "";
    });
    reset.hidden = !isMoved;
    note.hidden = noteWithout.hidden = !isMoved;
    status.textContent = isMoved
      ? `Moved: ${percent(figures.correct / reported.samples)} at ${humanCost(figures.cost, data.unit)}` : "";
    onMove(isMoved ? figures : null);
  }

  function commandOf() {
    const line = data.saving.before + point.save + data.saving.after;
    const copy = element("button", { type: "button", class: "copy" }, "Copy");
    const done = element("span", { role: "status", class: "soft" });
    copy.onclick = async () => {
      try {
        await navigator.clipboard.writeText(line);
        done.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(code);
        done.textContent = "selected; copy it with your keys";
      }
    };
    const code = element("code", { class: "command" }, line);
    return element("div", { class: "save" }, element("p", {}, "Find it again and save it: ", copy, " ", done), element("pre", { tabindex: "0" }, code));
  }
}

// Why a committee is in the figure, in one line.
function rolesOf(point, data) {
  const roles = data.points
    .filter((each) => each.stages === point.stages && String(each.thresholds) === String(point.thresholds))
    .map((each) => (each.series === "front" ? "on the front" : each.text));
  const kind = data.stages[point.stages].models.length > 1 ? "cascade" : "";
  return capital([kind, ...new Set(roles)].filter(Boolean).join(", "));
}

// Text that may break after an arrow, a plus, and the usual joints of names.
function broken(text) {
  return text.split(/(?<=[-_./@+→])/).flatMap((part, number) => (number ? [element("wbr"), part] : [part]));
}
