// Progress of uploads, dropped files, copying, and pending files that become final. Without this script everything else works.
"use strict";
(() => {
  const form = document.getElementById("upload");
  const list = document.getElementById("uploads");

  const line = (name) => {
    const item = document.createElement("li");
    const text = document.createElement("span");
    const bar = document.createElement("progress");
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", "Sending " + name);
    text.textContent = name + ": sending";
    item.append(text, bar);
    list.append(item);
    return {
      part: (percent) => { bar.value = percent; },
      wait: () => { text.textContent = name + ": sent; waiting for the nodes to confirm"; bar.removeAttribute("value"); },
      end: (words) => { text.textContent = name + ": " + words; bar.remove(); },
    };
  };

  // One file, as the form would send it; the answer is the page that the form would lead to.
  const send = (file, address) => new Promise((done) => {
    const shown = line(file.name);
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("file", file);
    request.open("POST", address);
    request.responseType = "document";
    request.upload.onprogress = (event) => { if (event.lengthComputable) shown.part(100 * event.loaded / event.total); };
    request.upload.onload = () => shown.wait();
    request.onload = () => {
      const answer = request.response;
      if (request.responseURL.endsWith("/login")) { location.assign("/login"); return; }
      if (request.status !== 200 || !answer) {
        const why = answer && answer.querySelector("[role=alert]");
        shown.end("not stored. " + (why ? why.textContent : request.statusText));
        done(false);
        return;
      }
      const pending = answer.querySelector("p[data-status=pending]");
      shown.end(pending ? pending.textContent : "final");
      done(true);
    };
    request.onerror = () => { shown.end("not stored: the connection broke"); done(false); };
    request.send(body);
  });

  const sendAll = async (files, address) => {
    let all = true;
    for (const file of files) { all = await send(file, address) && all; }
    // What failed stays to be read.
    if (all) location.reload();
  };

  if (form && list) {
    const input = form.querySelector("input[type=file]");
    input.multiple = true;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const address = event.submitter && event.submitter.hasAttribute("formaction") ? event.submitter.formAction : form.action;
      if (input.files.length > 0) sendAll([...input.files], address);
    });
    form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
    form.addEventListener("dragleave", () => form.classList.remove("over"));
    form.addEventListener("drop", (event) => {
      event.preventDefault();
      form.classList.remove("over");
      sendAll([...event.dataTransfer.files], form.action);
    });
  }

  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("[data-copies]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const field = document.getElementById(button.dataset.copies);
        field.select();
        const said = await navigator.clipboard.writeText(field.value).then(() => "Copied", () => "Selected: copy it by hand");
        button.textContent = said;
        button.setAttribute("aria-label", said);
      });
    }
  }

  const pending = [...document.querySelectorAll("[data-status=pending]")];
  const look = async () => {
    for (const place of pending) {
      const answer = await fetch("/v1/files/" + place.dataset.file + "/info").catch(() => null);
      if (answer && answer.ok && (await answer.json()).status !== "pending") { location.reload(); return; }
    }
    setTimeout(look, 3000);
  };
  if (pending.length > 0) setTimeout(look, 3000);
})();
