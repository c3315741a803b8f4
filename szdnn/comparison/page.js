"use strict";
// Sorts a table by the column whose heading is clicked: numbers by their full value, empty cells last.
for (const heading of document.querySelectorAll("th button")) {
  heading.addEventListener("click", () => {
    const th = heading.closest("th"), table = th.closest("table"), column = th.cellIndex;
    const down = th.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  });
}
// Shows the layers of one method.
const choice = document.getElementById("method");
if (choice) {
  const show = () => {
    for (const row of document.querySelectorAll("#layers tbody tr")) row.hidden = row.dataset.method !== choice.value;
  };
  choice.addEventListener("change", show);
  show();
}
