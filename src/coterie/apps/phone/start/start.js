// The key stands behind "#", which is sent to nobody; the link takes it to the page.
"use strict";
const key = location.hash.slice(1);
const link = document.getElementById("open");
if (/^[\w-]{16,64}$/.test(key)) {
  link.href = link.dataset.to + key;
} else {
  document.getElementById("used").hidden = false;
  document.getElementById("steps").hidden = true;
}
