"use strict";
// Example slices: two sliders choose slice and cell, a list chooses what stands beside them.
const store = document.getElementById("examples-data");
if (store) {
  const data = JSON.parse(store.textContent);
  const find = (name) => document.getElementById(`viewer-${name}`);
  const [slice, cell, chosen, beside] = ["slice", "cell", "chosen", "beside"].map(find);
  const percent = (share) => (share === null ? "" : `, relative error ${(100 * share).toFixed(1)} %`);

  function show(place, image, i) {
    find(place).src = image.pictures[i];
    find(place).alt = `${image.name}, ${data.slices[i]}`;
    find(`${place}-name`).textContent = image.name + percent(image.relative[i]);
    find(`${place}-error`).src = image.errors[i];
    find(`${place}-error`).alt = `error of ${image.name}, ${data.slices[i]}`;
  }

  function update() {
    const i = Number(slice.value);
    const k = Number(cell.value);
    find("slice-name").textContent = data.slices[i];
    find("cell-name").textContent = data.images[k].name;
    find("target").src = data.target[i];
    find("scale").textContent = data.scales[i];
    find("bar").src = data.bars[i];
    show("left", data.images[Number(beside.value)], i);
    show("right", data.images[k], i);
    chosen.querySelectorAll("button").forEach((button, n) => {
      button.setAttribute("aria-pressed", String(n === k));
      const [picture, error] = button.querySelectorAll("img");
      picture.src = data.images[n].pictures[i];
      error.src = data.images[n].errors[i];
    });
  }

  chosen.querySelectorAll("button").forEach((button, n) =>
    button.addEventListener("click", () => {
      cell.value = String(n);
      update();
    })
  );
  for (const control of [slice, cell]) control.addEventListener("input", update);
  beside.addEventListener("change", update);
  update();
}
