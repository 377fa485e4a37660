// Tables that sort by a click or a key on a heading.

function makeSortable(table) {
  const status = element("p", { role: "status", class: "hidden" });
  table.parentElement.after(status);
  for (const head of table.tHead.rows[0].cells) {
    const button = element("button", { type: "button", class: "sort" });
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      sortRows(table, head.cellIndex, up);
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      status.textContent = `Sorted by ${head.textContent.trim()}, ${up ? "rising" : "falling"}`;
    };
  }
}

// By number where there is one, else by text; what has neither number nor text comes last.
function sortRows(table, column, up) {
  const [body] = table.tBodies, sign = up ? 1 : -1;
  const keyed = [...body.rows].map((row) => {
    const { dataset, textContent } = row.cells[column];
    const number = dataset.value === undefined ? NaN : Number(dataset.value);
    return { row, number, text: textContent.trim() };
  });
  const compare = (a, b) => {
    if (!isNaN(a.number) && !isNaN(b.number)) return sign * (a.number - b.number);
    if (isNaN(a.number) !== isNaN(b.number)) return isNaN(a.number) ? 1 : -1;
    return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
  };
  body.append(...keyed.sort(compare).map(({ row }) => row));
}
