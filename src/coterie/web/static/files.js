// The page of files: choosing some of a folder.
"use strict";
(() => {
  const form = document.getElementById("getting");
  if (!form) return;
  const boxes = () => [...form.querySelectorAll('input[name="only"]')];
  const all = form.querySelector("[data-all]"), said = form.querySelector("[data-all-said]");
  function show() {
    const chosen = boxes().filter((box) => box.checked).length;
    if (all) {
      all.checked = chosen > 0 && chosen === boxes().length;
      all.indeterminate = chosen > 0 && !all.checked;
    }
    if (said) said.textContent = chosen ? said.dataset.someSaid : said.dataset.allSaid;
  }
  form.addEventListener("change", (event) => {
    if (event.target === all) for (const box of boxes()) box.checked = all.checked;
    show();
  });
  show();
})();
