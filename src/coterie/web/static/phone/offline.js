// Shows the text in the reader's language, and looks for the computer until it answers.
"use strict";
const german = navigator.language.toLowerCase().startsWith("de");
document.documentElement.lang = german ? "de" : "en";
for (const text of document.querySelectorAll("p[lang]")) text.hidden = (text.lang === "de") !== german;
const EVERY_MS = 3000;
async function look() {
  try {
    await fetch("/static/phone/manifest.webmanifest", { cache: "no-store" });
    location.reload();
  } catch {
    setTimeout(look, EVERY_MS);
  }
}
setTimeout(look, EVERY_MS);
