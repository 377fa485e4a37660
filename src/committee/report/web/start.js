// Put life into the page. What stands in it without this script, figure and tables, is whole too.

function start() {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  const data = JSON.parse(document.getElementById("data").textContent);
  const svg = document.getElementById("drawing"), panel = document.getElementById("details");
  let chart, selected = null, movedTo = null, away = null;

  const select = (number) => {
    comeBack();
    if (number === selected) return;
    selected = number;
    chart.select(number);
    showDetails(panel, data, data.points[number], (figures) => {
      movedTo = figures;
      chart.move(number, figures);
    });
  };
  // While the pointer is on another point, its details stand in place of those of the selected one,
  // whose sliders stay as they are.
  const hover = (number) => {
    if (number === null || number === selected) {
      comeBack();
      return;
    }
    if (away?.number === number) return;
    away ??= { nodes: [...panel.childNodes], focused: document.activeElement };
    away.number = number;
    chart.show(number);
    showDetails(panel, data, data.points[number], () => {});
  };
  function comeBack() {
    if (!away) return;
    panel.replaceChildren(...away.nodes);
    if (panel.contains(away.focused)) away.focused.focus({ preventScroll: true });
    away = null;
    chart.show(selected);
  }

  document.getElementById("chart").hidden = panel.hidden = false;
  document.getElementById("still").hidden = true;
  chart = drawChart(svg, data, select, hover);
  select(firstOf(data));
  let width = svg.parentElement.clientWidth;
  new ResizeObserver(() => {
    if (svg.parentElement.clientWidth === width) return;
    width = svg.parentElement.clientWidth;
    chart = drawChart(svg, data, select, hover);
    chart.select(selected);
    chart.move(selected, movedTo);
  }).observe(svg.parentElement);

  // A row of the front shows its point.
  document.querySelectorAll("#front tbody th").forEach((head, number) => {
    const button = element("button", { type: "button", class: "row", title: "Show in the figure" });
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      select(number);
      document.getElementById("figure").scrollIntoView();
      document.getElementById("details-title").focus({ preventScroll: true });
    };
  });
}

// Paper has no fold to open.
window.addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details.prints")) fold.open = true;
});

// What the user chose, else what matches the reference, else the last member of the front.
function firstOf(data) {
  const found = ["chosen", data.reference.match].map((role) => data.points.findIndex((point) => point.role === role));
  const front = data.points.filter((point) => point.series === "front").length - 1;
  return found.find((number) => number >= 0) ?? front;
}

start();
