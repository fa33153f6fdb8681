"use strict";
const form = document.querySelector("form");
const said = document.querySelector("output");
function count() {
  const marks = [...form.querySelectorAll("input:checked")].map((one) => one.value);
  const wrong = marks.filter((one) => one === "wrong").length;
  const judged = wrong + marks.filter((one) => one === "right").length;
  if (!judged) { said.textContent = "nothing marked yet"; return; }
  const z = 1.96, p = wrong / judged, n = judged;
  const middle = (p + z * z / (2 * n)) / (1 + z * z / n);
  const half = z * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
  const percent = (x) => (100 * Math.min(1, Math.max(0, x))).toFixed(1) + "%";
  said.textContent = `${judged} judged, ${wrong} wrong: error rate ${percent(p)} (95%: ${percent(middle - half)} to ${percent(middle + half)})`;
}
form.addEventListener("change", count);
count();
