
"use strict";
// Tables read well unsorted; with this, each sortable column's heading becomes a button.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const status = document.getElementById("sort-status");
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };
  headings.forEach((heading, column) => {
    if (heading.dataset.sort === undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const numeric = heading.dataset.sort === "number";
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const direction = heading.getAttribute("aria-sort") === first ? second : first;
      const sign = direction === "ascending" ? 1 : -1;
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [left, right] = [valueOf(a, column), valueOf(b, column)];
        if (!numeric) return sign * left.localeCompare(right, undefined, { numeric: true });
        if (left === "" || right === "") return (left === "") - (right === "");
        return sign * (Number(left) - Number(right));
      });
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", direction);
      body.append(...rows);
      status.textContent = `Sorted by ${button.textContent.trim()}, ${direction}`;
    });
  });
}
// A link to a student's row opens what is folded around it.
const unfold = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
